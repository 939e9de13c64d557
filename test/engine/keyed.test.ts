/** Tasks with idempotency keys that share segments: each is decided about by itself, whatever becomes of its neighbours. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { taskId } from '../../src/core/ids.js';
import { prefixRange, type Store } from '../../src/core/store.js';
import { tasksOf } from '../../src/engine/far-count.js';
import { entriesOf } from '../../src/engine/recovery.js';
import type { Accepted } from '../../src/engine/submission.js';
import { within } from '../support/runtime.js';
import { type ScriptedSetup, scriptedEngine } from '../support/scripted-engine.js';

const DAY_MS = 86_400_000;

/** Submits a task for each key at once, due on another day. */
function submitKeys(setup: ScriptedSetup, keys: readonly string[]): Promise<Accepted[]> {
  const { clock, newTask, submitOne } = setup;
  const times = { dueAtMs: clock.wallMs() + DAY_MS, dueMonoMs: clock.monoMs() + DAY_MS };
  const submitted = keys.map((key) =>
    submitOne({ ...newTask(`"${key}"`), ...times, idempotencyKey: key }),
  );
  return within(clock, 60_000, Promise.all(submitted));
}

const keysFrom = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => `key ${from + i}`);

const nameOf = ({ segment, index }: Accepted): string => `${segment}.${index}`;

async function storedTasks(store: Store): Promise<number[]> {
  const counts: number[] = [];
  for await (const { value } of entriesOf(store, prefixRange('t/'))) counts.push(tasksOf(value));
  return counts;
}

test('keyed tasks that come together share segments', async () => {
  const setup = await scriptedEngine();
  const accepted = await submitKeys(setup, keysFrom(0, 40));
  assert.ok(accepted.every(({ isCreated }) => isCreated));
  assert.equal(new Set(accepted.map(nameOf)).size, 40);
  const counts = await storedTasks(setup.store);
  assert.equal(counts.length, 3);
  assert.equal(
    counts.reduce((sum, count) => sum + count, 0),
    40,
  );
  await within(setup.clock, 60_000, setup.engine.stop());
});

test('what is there already refuses no neighbour: old and new ones mixed are found and created', async () => {
  const setup = await scriptedEngine();
  const before = await submitKeys(setup, keysFrom(0, 50));
  // Each group has some of both.
  const mixed = keysFrom(0, 50).flatMap((key, i) => [key, `key ${50 + i}`]);
  const after = await submitKeys(setup, mixed);
  assert.deepEqual(
    after.map(({ isCreated }) => isCreated),
    mixed.map((_, i) => i % 2 === 1),
  );
  assert.deepEqual(after.filter((_, i) => i % 2 === 0).map(nameOf), before.map(nameOf));
  const counts = await storedTasks(setup.store);
  assert.equal(
    counts.reduce((sum, count) => sum + count, 0),
    100,
  );
  await within(setup.clock, 60_000, setup.engine.stop());
});

for (const fate of ['answer lost', 'request lost'] as const) {
  test(`the same when a commit has its ${fate}`, async () => {
    const setup = await scriptedEngine();
    setup.store.fates.push(fate);
    const before = await submitKeys(setup, keysFrom(0, 10));
    assert.ok(before.every(({ isCreated }) => isCreated));
    setup.store.fates.push(fate, fate);
    const after = await submitKeys(setup, keysFrom(5, 15));
    assert.deepEqual(
      after.map(({ isCreated }) => isCreated),
      after.map((_, i) => i >= 5),
    );
    assert.deepEqual(after.slice(0, 5).map(nameOf), before.slice(5).map(nameOf));
    const counts = await storedTasks(setup.store);
    assert.equal(
      counts.reduce((sum, count) => sum + count, 0),
      15,
    );
    await within(setup.clock, 60_000, setup.engine.stop());
  });
}

test('one whose neighbours are found again and again goes alone in the end', async () => {
  const setup = await scriptedEngine();
  const { store } = setup;
  const [held] = await submitKeys(setup, ['held']);
  const send = store.txn.bind(store);
  // Of every group, somebody else is faster with the first key.
  store.txn = async (txn) => {
    for (const operation of txn.success) {
      const compares = operation.type === 'txn' ? operation.txn.compares : [];
      if (compares.length <= 3) continue;
      const value = Buffer.from(taskId(held!.segment, held!.index));
      await send({ compares: [], success: [{ type: 'put', key: compares[0]!.key, value }] });
    }
    return send(txn);
  };
  const accepted = await submitKeys(setup, keysFrom(0, 10));
  assert.equal(accepted.filter(({ isCreated }) => !isCreated).length, 2);
  assert.deepEqual(await storedTasks(store), Array(9).fill(1));
  await within(setup.clock, 60_000, setup.engine.stop());
});

test('a key that names no task fails its own submission and no other', async () => {
  const setup = await scriptedEngine();
  await submitKeys(setup, ['bad']);
  for await (const { key } of entriesOf(setup.store, prefixRange('k/'))) {
    await setup.store.txn({
      compares: [],
      success: [{ type: 'put', key, value: Buffer.from('nothing') }],
    });
  }
  const bad = assert.rejects(submitKeys(setup, ['bad']), { code: 'ERR_MILLRACE_STORE_CORRUPT' });
  const good = submitKeys(setup, keysFrom(0, 5));
  await bad;
  assert.ok((await good).every(({ isCreated }) => isCreated));
  await within(setup.clock, 60_000, setup.engine.stop());
});
