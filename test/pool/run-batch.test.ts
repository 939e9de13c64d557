/**
 * `runBatch`: several tasks in one call, an outcome for each.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { sleep } from '../../src/core/clock.js';
import { hasCode, NonRetryableError } from '../../src/core/errors.js';
import { type AnyTask, type BatchItem, defineTask, tasksByName } from '../../src/core/task.js';
import { InlinePool } from '../../src/pool/inline-pool.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { runBatch } from './batches.js';

async function setup(tasks: (clock: VirtualClock) => readonly AnyTask[]) {
  const clock = new VirtualClock();
  const pool = new InlinePool(clock, tasksByName(tasks(clock)));
  await pool.start();
  const run = async (inputs: readonly unknown[], type = 'many') => {
    const batch = runBatch(
      pool,
      inputs.map((input) => ({ type, input })),
    );
    await clock.settle();
    return batch;
  };
  return { clock, pool, run };
}

const many = (
  handler: (
    items: readonly BatchItem<number>[],
  ) => readonly unknown[] | Promise<readonly unknown[]>,
): AnyTask => defineTask({ name: 'many', runBatch: handler });

test('tasks of a batch come in one call, with what is of each', async () => {
  const calls: unknown[][] = [];
  const { run } = await setup(() => [
    many((items) => {
      calls.push(items.map(({ input, execution, tenant }) => [input, execution.attempt, tenant]));
      return items.map(({ input }) => input * 2);
    }),
  ]);
  const batch = await run([1, 2, 3]);
  assert.deepEqual(calls, [
    [
      [1, 2, 'acme'],
      [2, 2, 'acme'],
      [3, 2, 'acme'],
    ],
  ]);
  assert.deepEqual(
    [...batch.ended.values()].map(({ value }) => value),
    [2, 4, 6],
  );
  assert.equal(batch.ends, 1);
});

test('each item ends by its own outcome', async () => {
  const { run } = await setup(() => [
    many((items) => [
      undefined,
      new Error('no such row'),
      new NonRetryableError('never'),
      items[3]!.snooze('1m'),
      items[4]!.cancel('enough'),
      'fine',
    ]),
  ]);
  const batch = await run([0, 1, 2, 3, 4, 5]);
  assert.deepEqual(batch.outcomes(), [
    'COMPLETED',
    'FAILED',
    'FAILED_FOR_GOOD',
    'SNOOZED',
    'CANCELLED',
    'COMPLETED',
  ]);
  assert.match(batch.error(1).message, /no such row/);
});

test('an item without an outcome fails and says so, and the others are as they were told', async () => {
  const sparse: unknown[] = ['first'];
  sparse[2] = 'third';
  const { run } = await setup(() => [many(() => sparse)]);
  const batch = await run([1, 2, 3, 4]);
  assert.deepEqual(batch.outcomes(), ['COMPLETED', 'FAILED', 'COMPLETED', 'FAILED']);
  assert.match(batch.error(1).message, /no outcome for item 1 of 4; return an array with/);
  assert.match(batch.error(3).message, /no outcome for item 3 of 4/);
});

test('what is no list, or a longer one, says nothing about any item', async () => {
  for (const outcomes of [undefined, { 0: 'a' }, ['a', 'b', 'c']]) {
    const { run } = await setup(() => [many(() => outcomes as never)]);
    const batch = await run([1, 2]);
    assert.deepEqual(batch.outcomes(), ['FAILED', 'FAILED']);
    assert.match(batch.error(0).message, /returned (undefined|object|3 outcomes) for 2 items/);
  }
});

test('what is thrown is the error of every item', async () => {
  const { run } = await setup(() => [
    many(async () => {
      throw new Error('the bank is down');
    }),
  ]);
  const batch = await run([1, 2]);
  assert.deepEqual(batch.outcomes(), ['FAILED', 'FAILED']);
  assert.match(batch.error(1).message, /the bank is down/);
});

test('an input that does not satisfy the schema fails alone, and one that is checked for long comes later', async () => {
  const schema: StandardSchemaV1<unknown, number> = {
    '~standard': {
      version: 1,
      vendor: 'by-hand',
      validate: (value) => {
        if (value === 'bad') return { issues: [{ message: 'no number' }] };
        return value === 'slow' ? Promise.resolve({ value: 9 }) : { value: value as number };
      },
    },
  };
  const calls: number[][] = [];
  const { run } = await setup(() => [
    defineTask({
      name: 'many',
      input: schema,
      runBatch: (items) => {
        calls.push(items.map(({ input }) => input));
        return items.map(({ input }) => input);
      },
    }),
  ]);
  const batch = await run([1, 'bad', 'slow', 2]);
  assert.deepEqual(calls, [[1, 2], [9]]);
  assert.deepEqual(batch.outcomes(), ['COMPLETED', 'FAILED_FOR_GOOD', 'COMPLETED', 'COMPLETED']);
  assert.ok(hasCode(batch.error(1), 'ERR_MILLRACE_INVALID_INPUT'));
});

test('the signal of a call is aborted with the last of its items, and those are cancelled', async () => {
  const aborted: string[] = [];
  const { clock, run } = await setup((at) => [
    defineTask({
      name: 'many',
      runBatch: async (items: readonly BatchItem<number>[], { signal }) => {
        signal.addEventListener('abort', () => aborted.push('all'));
        items[0]!.signal.addEventListener('abort', () => aborted.push('first'));
        await sleep(at, 1_000, signal);
        return items.map(() => 1);
      },
    }),
  ]);
  const batch = await run([1, 2]);
  batch.running.cancel(0, 'stop');
  await clock.settle();
  assert.deepEqual(aborted, ['first']);
  batch.running.cancel(1, 'stop');
  await clock.settle();
  assert.deepEqual(aborted, ['first', 'all']);
  assert.deepEqual(batch.outcomes(), ['CANCELLED', 'CANCELLED']);
});

test('other types of the batch do not wait for the call', async () => {
  const { clock, pool } = await setup((at) => [
    many(async (items) => {
      await sleep(at, 100);
      return items.map(() => 1);
    }),
    defineTask({ name: 'echo', run: (input: unknown) => input }),
  ]);
  const batch = runBatch(pool, [
    { type: 'many', input: 1 },
    { type: 'echo', input: 2 },
    { type: 'many', input: 3 },
  ]);
  await clock.settle();
  assert.deepEqual([...batch.ended.keys()], [1]);
  await clock.advance(100);
  assert.deepEqual([...batch.ended.keys()].sort(), [0, 1, 2]);
  // The time of a call is shared by its items.
  assert.equal(batch.ended.get(0)!.runMs, 50);
});

test('a task has one handler, and it is a function', () => {
  const refused = (options: object) =>
    assert.throws(
      () => defineTask({ name: 'many', ...options } as never),
      (error) => hasCode(error, 'ERR_MILLRACE_INVALID_OPTION'),
    );
  refused({ runBatch: 'no' });
  refused({ run: () => 1, runBatch: () => [] });
  assert.throws(
    () => defineTask({ name: 'many' }).implement({} as never),
    (error) => hasCode(error, 'ERR_MILLRACE_INVALID_OPTION'),
  );
  const task = defineTask<number, number>({ name: 'many' }).implement({ runBatch: () => [1] });
  assert.equal(task.spec.isBatched, true);
});
