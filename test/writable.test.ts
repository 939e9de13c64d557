/** `runtime.writable(task)`: a stream that submits what is written to it, on virtual time. */
import assert from 'node:assert/strict';
import { ReadableStream, type WritableStream } from 'node:stream/web';
import { type TestContext, test } from 'node:test';
import type { MillraceError } from '../src/core/errors.js';
import { defineTask, defineTasks } from '../src/core/task.js';
import { testRuntime } from '../src/testing/test-runtime.js';

async function setup(t: TestContext, maxTasks = 1_000_000, onFull: 'wait' | 'reject' = 'wait') {
  const ran: number[] = [];
  const gates: (() => void)[] = [];
  const add = defineTask({ name: 'add', run: (n: number) => void ran.push(n) });
  const held = defineTask({
    name: 'held',
    run: (_n: number) => new Promise<void>((release) => gates.push(release)),
  });
  const rt = await testRuntime({
    tasks: defineTasks({ add, held }),
    runtime: { queue: { maxTasks, onFull }, shutdown: { soft: 0, hard: 0 } },
  });
  t.after(() => rt.close());
  return { rt, runtime: rt.runtime, add, held, ran, gates };
}

test('a stream that is piped into a task closes when everything is accepted', async (t) => {
  const { rt, runtime, add, ran } = await setup(t);
  const source = ReadableStream.from(Array.from({ length: 2_000 }, (_, n) => n));
  await source.pipeTo(runtime.writable(add));
  await rt.drain();
  assert.equal(ran.length, 2_000);
});

test('a source is read no further than there is room for its tasks', async (t) => {
  const { rt, runtime, held, gates } = await setup(t, 600);
  let read = 0;
  const source = new ReadableStream<number>(
    { pull: (controller) => controller.enqueue(read++) },
    { highWaterMark: 0 },
  );
  const stop = new AbortController();
  // A pipe that is aborted waits for what it has begun to write: the stream has to know, too.
  const { signal } = stop;
  const piped = source.pipeTo(runtime.writable(held, { signal }), { signal });
  piped.catch(() => {});
  let before = -1;
  while (read !== before) {
    before = read;
    await rt.clock.advance(10);
  }
  // Room for 600, a frame that waits for room, and what the two queues hold.
  assert.ok(read >= 600 && read < 3_000, `${read} were read`);
  stop.abort();
  await assert.rejects(piped);
  for (const release of gates) release();
});

test('an item that cannot be submitted ends the stream with its error, and what was before it stays', async (t) => {
  const { rt, runtime, add, ran } = await setup(t);
  const source = ReadableStream.from<number | bigint>([1, 2, 3n, 4]);
  const sink = runtime.writable(add) as WritableStream<unknown>;
  await assert.rejects(source.pipeTo(sink), (error: MillraceError) => {
    assert.equal(error.code, 'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE');
    assert.deepEqual([error.details.index, error.details.accepted], [2, 0]);
    return true;
  });
  await rt.drain();
  assert.deepEqual(ran, []);
});

test('what was written stays when the next item is refused later, and is told of', async (t) => {
  const { rt, runtime, add, ran } = await setup(t);
  const writer = (runtime.writable(add) as WritableStream<unknown>).getWriter();
  writer.closed.catch(() => {});
  await writer.write(1);
  // A turn of the event loop: what has gathered leaves, since nothing else comes.
  await rt.drain();
  assert.deepEqual(ran, [1]);
  await assert.rejects(writer.write(2n), (error: MillraceError) => error.details.accepted === 1);
});

test('delays count from when an item is written, however long the stream is open', async (t) => {
  const { rt, runtime, add, ran } = await setup(t);
  const writer = runtime.writable(add, { delay: '1m', ttl: '10s' }).getWriter();
  await writer.write(1);
  await rt.clock.advance('1h');
  await writer.write(2);
  await rt.clock.advance('59s');
  assert.deepEqual(ran, [1]);
  await rt.clock.advance('2s');
  assert.deepEqual(ran, [1, 2]);
  await writer.close();
});

test('keys hold in a stream as they do elsewhere', async (t) => {
  const { rt, runtime, add, ran } = await setup(t);
  const source = ReadableStream.from(Array.from({ length: 100 }, (_, n) => n % 10));
  await source.pipeTo(runtime.writable(add, { idempotencyKey: (n) => `n${n}` }));
  await rt.drain();
  assert.equal(ran.length, 10);
});

test('without room a stream fails when told so', async (t) => {
  const { rt, runtime, held, gates } = await setup(t, 300, 'reject');
  const source = ReadableStream.from(Array.from({ length: 2_000 }, (_, n) => n));
  await assert.rejects(source.pipeTo(runtime.writable(held)), (error: MillraceError) => {
    assert.equal(error.code, 'ERR_MILLRACE_QUEUE_FULL');
    assert.equal(error.details.accepted, 256);
    return true;
  });
  await rt.clock.advance(1);
  for (const release of gates) release();
});

test('a signal ends a stream, and what is no option is refused at once', async (t) => {
  const { runtime, add } = await setup(t);
  const stop = new AbortController();
  const writer = runtime.writable(add, { signal: stop.signal }).getWriter();
  writer.closed.catch(() => {});
  await writer.write(1);
  stop.abort(new Error('enough'));
  await assert.rejects(writer.write(2), /enough/);
  const wrong = { delay: 'soon' } as never;
  assert.throws(() => runtime.writable(add, wrong), { code: 'ERR_MILLRACE_INVALID_DURATION' });
  assert.throws(() => runtime.writable('nothing'), { code: 'ERR_MILLRACE_UNKNOWN_TASK' });
  await runtime.close();
  assert.throws(() => runtime.writable(add), { code: 'ERR_MILLRACE_CLOSED' });
});

test('what a test writes is recorded as what it submits is', async (t) => {
  const { rt, runtime, add } = await setup(t);
  await ReadableStream.from([1, 2]).pipeTo(runtime.writable(add, { tenant: 'acme' }));
  rt.expectSubmitted(add, undefined, { times: 2, options: { tenant: 'acme' } });
  await runtime.trySubmit(add, 3);
  rt.expectSubmitted(add, (n) => n === 3, { times: 1 });
});
