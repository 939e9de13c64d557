/**
 * How far a task is and what it says, from its handler to its handle: on virtual time, on the main thread.
 */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type TestContext, test } from 'node:test';
import type { TaskLine } from '../../src/core/channels.js';
import { defineTask, defineTasks, type ExecutionContext } from '../../src/core/task.js';
import type { Runtime } from '../../src/runtime.js';
import { testBed, within } from '../support/runtime.js';

/** A task that does what the test says, step by step. */
async function setup(t: TestContext) {
  const ctxs: ExecutionContext[] = [];
  const ends: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  const talk = defineTask({
    name: 'talk',
    exec: 'inline',
    retry: { min: 10, jitter: 'none' },
    run: (_: unknown, ctx) => {
      ctxs.push(ctx);
      return new Promise<unknown>((resolve, reject) => ends.push({ resolve, reject }));
    },
  });
  const bed = testBed(defineTasks({ talk }));
  const runtime: Runtime = await bed.start();
  t.after(() => within(bed.clock, 60_000, runtime.close()));
  const handle = await within(
    bed.clock,
    1_000,
    runtime.submit(talk, undefined, { tenant: 'acme' }),
  );
  await bed.clock.advance(1);
  const soon = <T>(promise: Promise<T>): Promise<T> => within(bed.clock, 1_000, promise);
  return { ...bed, runtime, talk, handle, ctxs, ends, soon };
}

test('progress() yields what the handler says, the newest first of all, and ends with the task', async (t) => {
  const { handle, ctxs, ends, clock, soon } = await setup(t);
  ctxs[0]!.progress(0.1);
  await clock.advance(100);
  const values = handle.progress();
  assert.deepEqual(await soon(values.next()), { done: false, value: 0.1 });
  const next = values.next();
  ctxs[0]!.progress({ pages: 2 });
  assert.deepEqual(await soon(next), { done: false, value: { pages: 2 } });
  // Two that nobody waited for: the newest counts.
  ctxs[0]!.progress(3);
  await clock.advance(100);
  ctxs[0]!.progress(4);
  await clock.advance(100);
  assert.deepEqual(await soon(values.next()), { done: false, value: 4 });
  ctxs[0]!.progress(5);
  ends[0]!.resolve('done');
  const rest: unknown[] = [];
  await soon(
    (async () => {
      for await (const value of values) rest.push(value);
    })(),
  );
  assert.deepEqual(rest, [5]);
  assert.equal(await soon(handle.result()), 'done');
  assert.deepEqual(await soon(handle.progress().next()), { done: true, value: undefined });
});

test('progress() goes on over a retry, and forgets what the failed attempt said', async (t) => {
  const { handle, ctxs, ends, clock, soon } = await setup(t);
  const values = handle.progress();
  ctxs[0]!.progress('first attempt');
  assert.deepEqual(await soon(values.next()), { done: false, value: 'first attempt' });
  ends[0]!.reject(new Error('again'));
  await clock.advance(100);
  assert.equal(ctxs.length, 2);
  const late = handle.progress().next();
  ctxs[0]!.progress('from beyond');
  ctxs[1]!.progress('second attempt');
  assert.deepEqual(await soon(late), { done: false, value: 'second attempt' });
  assert.deepEqual(await soon(values.next()), { done: false, value: 'second attempt' });
  ends[1]!.resolve(undefined);
  assert.deepEqual(await soon(values.next()), { done: true, value: undefined });
});

test('progress() can be left, aborted, and is cut by a close; a task nobody knows is gone', async (t) => {
  const { runtime, talk, handle, clock, soon } = await setup(t);
  const left = handle.progress();
  const waiting = left.next();
  await left.return?.();
  assert.deepEqual(await soon(waiting), { done: true, value: undefined });

  const abort = new AbortController();
  const aborted = handle.progress({ signal: abort.signal }).next();
  abort.abort(new Error('enough'));
  await assert.rejects(soon(aborted), /enough/);
  await assert.rejects(
    soon(handle.progress({ signal: AbortSignal.abort(new Error('late')) }).next()),
    /late/,
  );

  const gone = runtime.handle(
    talk,
    handle.id.replace(/.$/, (digit) => (digit === '5' ? '6' : '5')),
  );
  await assert.rejects(soon(gone.progress().next()), { code: 'ERR_MILLRACE_TASK_GONE' });

  const cut = handle.progress().next();
  cut.catch(() => {});
  await within(clock, 60_000, runtime.close());
  await assert.rejects(cut, { code: 'ERR_MILLRACE_CLOSED' });
});

test('lines of a task name it, its attempt and its tenant', async (t) => {
  const { handle, ctxs, ends, clock, soon } = await setup(t);
  const heard: TaskLine[] = [];
  const listener = (line: unknown): void => void heard.push(line as TaskLine);
  subscribe('millrace:task:log', listener);
  t.after(() => unsubscribe('millrace:task:log', listener));
  const atMs = clock.wallMs();
  ctxs[0]!.log.warn({ left: 3 }, 'slow');
  ends[0]!.resolve(undefined);
  await soon(handle.result());
  assert.deepEqual(heard, [
    {
      taskId: handle.id,
      type: 'talk',
      attempt: 1,
      tenant: 'acme',
      level: 'warn',
      atMs,
      message: 'slow',
      dropped: 0,
      fields: { left: 3 },
    },
  ]);
});
