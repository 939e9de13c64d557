/**
 * The switch `experimental.off: ['batching']`, and BatchPool with batches of one: counted are the messages that go to
 * real threads.
 */
import assert from 'node:assert/strict';
import { it, type TestContext } from 'node:test';
import { MessagePort } from 'node:worker_threads';
import { createRuntime, memoryStore, type RuntimeOptions } from '../../../src/index.js';
import { BatchPool } from '../../../src/pool/index.js';
import type { Order } from '../../fixtures/workers/items.js';

const TASKS = new URL('../../fixtures/workers/tasks.js', import.meta.url);
const ITEMS = new URL('../../fixtures/workers/items.js', import.meta.url);
const COUNT = 300;

/** Counts batches sent from this thread. */
function countBatches(t: TestContext): () => number {
  let batches = 0;
  const { postMessage } = MessagePort.prototype;
  t.mock.method(
    MessagePort.prototype,
    'postMessage',
    function (this: MessagePort, ...args: Parameters<typeof postMessage>) {
      if (typeof args[0] === 'object' && args[0] !== null && 'batch' in args[0]) batches++;
      return postMessage.apply(this, args);
    },
  );
  return () => batches;
}

async function run(t: TestContext, options: Partial<RuntimeOptions>): Promise<void> {
  const runtime = await createRuntime({
    tasks: TASKS,
    store: memoryStore(),
    threads: { max: 1 },
    ...options,
  });
  t.after(() => runtime.close());
  const inputs = Array.from({ length: COUNT }, (_, i) => i);
  const handles = await Promise.all(inputs.map((input) => runtime.submit('echo', input)));
  assert.deepEqual(await Promise.all(handles.map((handle) => handle.result())), inputs);
}

it('on: tasks share messages', async (t) => {
  const batches = countBatches(t);
  await run(t, {});
  assert.ok(batches() < COUNT / 4, `${batches()} messages`);
});

it('off: one task per message', async (t) => {
  const batches = countBatches(t);
  await run(t, { experimental: { off: ['batching'] } });
  assert.equal(batches(), COUNT);
});

it('off: each task has a key of its own in the store, on: they share them', async (t) => {
  const segmentsOf = async (options: Partial<RuntimeOptions>): Promise<number> => {
    const runtime = await createRuntime({ tasks: TASKS, store: memoryStore(), ...options });
    t.after(() => runtime.close());
    const inputs = Array.from({ length: COUNT }, (_, i) => i);
    const handles = await Promise.all(inputs.map((input) => runtime.submit('echo', input)));
    // All but the last part of an id is the segment's.
    return new Set(handles.map(({ id }) => id.slice(0, id.lastIndexOf('.')))).size;
  };
  assert.equal(await segmentsOf({ experimental: { off: ['batching'] } }), COUNT);
  assert.ok((await segmentsOf({})) < COUNT / 4);
});

it('off: a lost thread, a retry and a close leave every task where it belongs', async (t) => {
  const store = memoryStore();
  const options = { tasks: TASKS, store, threads: { max: 1 } } as const;
  const runtime = await createRuntime({ ...options, experimental: { off: ['batching'] } });
  const lost = await runtime.submit('exit', { code: 3 });
  const echoes = await Promise.all(
    Array.from({ length: 50 }, (_, i) => runtime.submit<number, number>('echo', i)),
  );
  for (const [i, echo] of echoes.entries()) assert.equal(await echo.result(), i);
  await assert.rejects(lost.result(), { code: 'ERR_MILLRACE_TASK_LOST' });
  // Far more than a thread gets done before it is stopped.
  const slow = await Promise.all(
    Array.from({ length: 100 }, () => runtime.submit('echo.later', { ms: 1_000 })),
  );
  await runtime.close();
  const next = await createRuntime(options);
  t.after(() => next.close());
  const { open } = next.stats();
  assert.ok(open <= slow.length);
  await next.drain();
});

it('BatchPool: batches of one', async (t) => {
  const batches = countBatches(t);
  const pool = new BatchPool<Order, unknown>({
    filename: ITEMS,
    threads: 1,
    batch: { max: 1 },
    admission: { maxTasks: 1_000_000_000, maxBytes: '64GB' },
  });
  t.after(() => pool.close());
  await Promise.all(Array.from({ length: COUNT }, (_, echo) => pool.run({ echo })));
  assert.equal(batches(), COUNT);
  assert.equal(pool.stats().batches, COUNT);
});
