/** `trySubmit`: submits if there is room, on virtual time. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { defineTask, defineTasks } from '../src/core/task.js';
import { testRuntime } from '../src/testing/test-runtime.js';

async function setup(t: TestContext, maxTasks = 1_000_000) {
  const gates: (() => void)[] = [];
  const held = defineTask({
    name: 'held',
    run: (_n: number) => new Promise<void>((release) => gates.push(release)),
  });
  const rt = await testRuntime({
    tasks: defineTasks({ held }),
    runtime: { queue: { maxTasks }, shutdown: { soft: 0, hard: 0 } },
  });
  t.after(() => rt.close());
  return { rt, runtime: rt.runtime, held, gates };
}

test('trySubmit answers at once when there is no room, and submits when there is', async (t) => {
  const { rt, runtime, held, gates } = await setup(t, 2);
  assert.ok(await runtime.trySubmit(held, 1));
  const second = await runtime.trySubmit(held, 2);
  assert.equal(await runtime.trySubmit(held, 3), undefined);
  await rt.clock.advance(1);
  for (const release of gates) release();
  await second!.result();
  await rt.drain();
  assert.ok(await runtime.trySubmit(held, 4));
  await assert.rejects(runtime.trySubmit('nothing', 1), { code: 'ERR_MILLRACE_UNKNOWN_TASK' });
});
