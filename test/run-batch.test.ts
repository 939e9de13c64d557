/** `runBatch` through a whole runtime: how many come together, and what becomes of each. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BatchItem, defineTask, defineTasks } from '../src/core/task.js';
import { testRuntime } from '../src/testing/index.js';

test('tasks that are ready together come in one call, and an item without an outcome is tried again', async () => {
  const calls: number[][] = [];
  const many = defineTask({
    name: 'many',
    exec: 'inline',
    retry: { attempts: 2, jitter: 'none' },
    runBatch: (items: readonly BatchItem<number>[]) => {
      calls.push(items.map(({ input }) => input));
      return items
        .filter(({ input, execution }) => input < 3 || execution.attempt > 1)
        .map(() => 1);
    },
  });
  await using rt = await testRuntime({ tasks: defineTasks({ many }) });
  const { runtime } = rt;
  const handles = await runtime.submitMany(many, [0, 1, 2, 3]);
  await rt.drain();
  assert.deepEqual(calls, [[0, 1, 2, 3]]);
  await rt.clock.advance('10m');
  assert.deepEqual(calls, [[0, 1, 2, 3], [3]]);
  const outcomes = [];
  for await (const outcome of handles.results()) outcomes.push(outcome.status);
  assert.deepEqual(outcomes, ['completed', 'completed', 'completed', 'completed']);
});

test('what one item keeps failing with is its own dead letter', async () => {
  const many = defineTask<number, number>({ name: 'many', exec: 'inline', retry: { attempts: 1 } });
  const implemented = many.implement({
    runBatch: async (items) =>
      items.map(({ input }) => (input === 1 ? new Error('one is odd') : input)),
  });
  await using rt = await testRuntime({ tasks: defineTasks({ implemented }) });
  const { runtime } = rt;
  const [zero, one] = [await runtime.submit(many, 0), await runtime.submit(many, 1)];
  await rt.drain();
  assert.equal(await zero.result(), 0);
  const settled = await one.settled();
  assert.ok(settled.status === 'failed');
  assert.match((settled.error.cause as Error).message, /one is odd/);
});
