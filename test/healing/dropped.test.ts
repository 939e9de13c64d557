/** What callers open and do not close is told of by name. */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { it, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  createRuntime,
  defineTask,
  defineTasks,
  memoryStore,
  type Runtime,
} from '../../src/index.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const tasks = defineTasks({ idle: defineTask({ name: 'idle', exec: 'inline', run: () => {} }) });

async function setup(t: TestContext) {
  const dropped: string[] = [];
  const onDropped = (said: unknown): void => {
    const { kind, name } = said as { kind: string; name: string };
    dropped.push(`${kind} ${name}`);
  };
  subscribe('millrace:handle:dropped', onDropped);
  t.after(() => unsubscribe('millrace:handle:dropped', onDropped));
  const runtime = await createRuntime({ tasks, store: memoryStore() });
  t.after(() => runtime.close());
  return { runtime, dropped };
}

/** Takes a lock in a frame of its own, so that nothing of it stays on the stack. */
async function takeAndForget(runtime: Runtime, name: string): Promise<void> {
  assert.ok(await runtime.locks.tryLock(name));
}

it('a lock that nobody has any more and nobody released', async (t) => {
  const { runtime, dropped } = await setup(t);
  const kept = await runtime.locks.tryLock('kept');
  const released = await runtime.locks.tryLock('released');
  await released!.release();
  await takeAndForget(runtime, 'forgotten');
  for (let round = 0; dropped.length === 0 && round < 1_000; round++) {
    collect();
    await turn();
  }
  assert.equal(dropped.length, 1);
  assert.match(dropped[0]!, /^lock .*forgotten$/);
  await kept!.release();
});

it('a watcher that ends with its runtime and was not cancelled', async (t) => {
  const { runtime, dropped } = await setup(t);
  runtime.config.watch('speed', () => {});
  const stop = runtime.config.watch('colour', () => {});
  runtime.metadata.watch('acme', 'user', '01', () => {});
  stop();
  await runtime.close();
  assert.deepEqual(dropped.sort(), ['watcher config speed', 'watcher metadata user']);
});
