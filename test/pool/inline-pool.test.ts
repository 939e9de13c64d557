import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { sleep } from '../../src/core/clock.js';
import { MillraceError, NonRetryableError } from '../../src/core/errors.js';
import { type AnyTask, Cancel, defineTask, Snooze, tasksByName } from '../../src/core/task.js';
import { InlinePool, type InlinePoolOptions } from '../../src/pool/inline-pool.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { batchOf, runBatch, runFrame } from './batches.js';

async function setup(tasks: (clock: VirtualClock) => AnyTask[], options?: InlinePoolOptions) {
  const clock = new VirtualClock();
  const pool = new InlinePool(clock, tasksByName(tasks(clock)), options);
  await pool.start();
  return { clock, pool };
}

const sleeper = (clock: VirtualClock, options: { concurrency?: number } = {}): AnyTask =>
  defineTask({
    name: 'sleep',
    ...options,
    run: async (ms: number, ctx) => {
      await sleep(clock, ms, ctx.signal);
      return ms;
    },
  });

const echo: AnyTask = defineTask({ name: 'echo', run: (input: unknown) => input });

describe('InlinePool', () => {
  it('calls no handler from within run()', async () => {
    let calls = 0;
    const { clock, pool } = await setup(() => [defineTask({ name: 'count', run: () => ++calls })]);
    const batch = runBatch(pool, [{ type: 'count' }]);
    assert.equal(calls, 0);
    await clock.settle();
    assert.equal(calls, 1);
    assert.equal(batch.ends, 1);
  });

  it('runs sync handlers one after another and puts their results into one frame', async () => {
    const { clock, pool } = await setup(() => [echo]);
    const batch = runBatch(
      pool,
      Array.from({ length: 64 }, (_, input) => ({ type: 'echo', input })),
    );
    await clock.settle();
    assert.equal(batch.frames.length, 1);
    assert.deepEqual(
      [...batch.ended.values()].map((ended) => ended.value),
      Array.from({ length: 64 }, (_, i) => i),
    );
    assert.equal(batch.ends, 1);
  });

  it('overlaps async handlers and reports each when it ends', async () => {
    const { clock, pool } = await setup((at) => [sleeper(at), echo]);
    const batch = runBatch(pool, [
      { type: 'sleep', input: 30 },
      { type: 'sleep', input: 10 },
      { type: 'echo', input: 0 },
      { type: 'sleep', input: 10 },
    ]);
    await clock.settle();
    assert.deepEqual(batch.frames, [[2]]);
    await clock.advance(10);
    assert.deepEqual(batch.frames, [[2], [1], [3]]);
    assert.equal(batch.ends, 0);
    await clock.advance(20);
    assert.equal(batch.ends, 1);
    assert.equal(batch.ended.get(0)?.runMs, 30);
    assert.equal(batch.ended.get(1)?.runMs, 10);
  });

  it('what an async handler has done is reported although the next one hangs', async () => {
    const clock = new VirtualClock();
    let nowMs = 0;
    const driven = Object.assign(Object.create(clock) as VirtualClock, {
      monoMs: () => nowMs,
      wakeSoon: (wake: () => void) => clock.wakeSoon(wake),
    });
    const seen: number[] = [];
    const busy = defineTask({
      name: 'busy',
      run: async (ms: number) => {
        seen.push(batch.ended.size);
        nowMs += ms;
      },
    });
    const pool = new InlinePool(driven, tasksByName([busy]));
    await pool.start();
    const batch = runBatch(
      pool,
      [2, 2, 0.5, 3].map((input) => ({ type: 'busy', input })),
    );
    await clock.settle();
    assert.deepEqual(seen, [0, 1, 2, 3]);
    const runMs = [0, 1, 2, 3].map((slot) => batch.ended.get(slot)?.runMs);
    assert.deepEqual(runMs, [2, 2, 0.5, 3]);
  });

  it("overlaps no more handlers than the task's concurrency", async () => {
    let running = 0;
    let most = 0;
    const { clock, pool } = await setup((at) => [
      defineTask({
        name: 'limited',
        concurrency: 3,
        run: async () => {
          most = Math.max(most, ++running);
          await sleep(at, 10);
          running--;
        },
      }),
      echo,
    ]);
    const entries = Array.from({ length: 10 }, () => ({ type: 'limited' }));
    const batch = runBatch(pool, [...entries, { type: 'echo', input: 'free' }]);
    await clock.advance(10);
    assert.equal(batch.ended.get(10)?.value, 'free');
    assert.equal(batch.ended.size, 4);
    await clock.advance(30);
    assert.equal(most, 3);
    assert.equal(batch.ends, 1);
  });

  it('a sync handler that throws does not disturb its batch-mates', async () => {
    const thrown: unknown[] = [new TypeError('no'), null, undefined, 'text', { name: 'Odd' }];
    const { clock, pool } = await setup(() => [
      echo,
      defineTask({
        name: 'throw',
        run: (index: number) => {
          throw thrown[index];
        },
      }),
      defineTask({ name: 'reject', run: async (index: number) => Promise.reject(thrown[index]) }),
    ]);
    const batch = runBatch(pool, [
      ...thrown.map((_, input) => ({ type: 'throw', input })),
      { type: 'echo', input: 1 },
      ...thrown.map((_, input) => ({ type: 'reject', input })),
    ]);
    await clock.settle();
    assert.deepEqual(batch.outcomes(), [
      ...thrown.map(() => 'FAILED'),
      'COMPLETED',
      ...thrown.map(() => 'FAILED'),
    ]);
    assert.equal(batch.error(0).name, 'TypeError');
    assert.equal(batch.error(1).message, 'null');
    assert.equal(batch.error(8).message, 'undefined');
  });

  it('tells apart what cannot succeed by running again', async () => {
    class NonRetryableErrorOfAnotherCopy extends Error {
      override name = 'NonRetryableError';
    }
    const evil = {
      toJSON() {
        throw new Error('no json');
      },
    };
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    const results: Record<string, () => unknown> = {
      own: () => {
        throw new NonRetryableError('own');
      },
      other: () => {
        throw new NonRetryableErrorOfAnotherCopy('other');
      },
      evil: () => evil,
      cycle: () => cycle,
      bigint: () => 1n,
      function: () => () => {},
      thenTrap: () => ({
        // biome-ignore lint/suspicious/noThenProperty: the trap is what is tested.
        get then() {
          throw new Error('trap');
        },
      }),
    };
    const { clock, pool } = await setup(() => [
      defineTask({ name: 'do', run: (what: string) => results[what]?.() }),
    ]);
    const names = Object.keys(results);
    const batch = runBatch(
      pool,
      names.map((input) => ({ type: 'do', input })),
    );
    await clock.settle();
    assert.deepEqual(batch.outcomes(), [
      ...Array.from({ length: 6 }, () => 'FAILED_FOR_GOOD'),
      'FAILED',
    ]);
    const codes = names.map((_, slot) => batch.error(slot).code);
    assert.deepEqual(codes.slice(2, 6), Array(4).fill('ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE'));
  });

  it('knows snooze and cancel, also those of another installed copy', async () => {
    const other = {
      Snooze: class Snooze {
        readonly delayMs = 7;
      },
      Cancel: class Cancel {
        readonly reason = 'theirs';
      },
    };
    const results: Record<string, unknown> = {
      snooze: new Snooze(5),
      cancel: new Cancel('ours'),
      otherSnooze: new other.Snooze(),
      otherCancel: new other.Cancel(),
      plain: { delayMs: 7 },
    };
    const { clock, pool } = await setup(() => [
      defineTask({ name: 'do', run: (what: string) => results[what] }),
      defineTask({ name: 'ctx', run: (_: unknown, ctx) => ctx.snooze('1m') }),
    ]);
    const batch = runBatch(pool, [
      ...Object.keys(results).map((input) => ({ type: 'do', input })),
      { type: 'ctx' },
    ]);
    await clock.settle();
    const shown = [...batch.ended.values()].map(({ outcome, value }) => [outcome, value]);
    assert.deepEqual(shown, [
      ['SNOOZED', 5],
      ['CANCELLED', 'ours'],
      ['SNOOZED', 7],
      ['CANCELLED', 'theirs'],
      ['COMPLETED', { delayMs: 7 }],
      ['SNOOZED', 60_000],
    ]);
  });

  describe('input', () => {
    const schema = (validate: (value: unknown) => unknown): StandardSchemaV1<unknown, unknown> => ({
      '~standard': { version: 1, vendor: 'test', validate: validate as never },
    });

    it('that does not satisfy the schema fails for good, with the issues', async () => {
      let calls = 0;
      const issues = [{ message: 'too small', path: ['a', { key: 0 }] }];
      const task = (name: string, validate: (value: unknown) => unknown): AnyTask =>
        defineTask({ name, input: schema(validate), run: () => ++calls });
      const { clock, pool } = await setup(() => [
        task('sync', () => ({ issues })),
        task('async', async () => ({ issues })),
        task('throws', () => {
          throw new Error('schema broke');
        }),
        task('rejects', async () => {
          throw new Error('schema broke');
        }),
      ]);
      const types = ['sync', 'async', 'throws', 'rejects'];
      const batch = runBatch(
        pool,
        types.map((type) => ({ type, input: 1 })),
      );
      await clock.settle();
      assert.equal(calls, 0);
      assert.deepEqual(batch.outcomes(), Array(4).fill('FAILED_FOR_GOOD'));
      for (const [slot, type] of types.entries()) {
        const error = batch.error(slot);
        assert.equal(error.code, 'ERR_MILLRACE_INVALID_INPUT', type);
      }
      const { details } = batch.error(1);
      assert.deepEqual(details, { issues: [{ message: 'too small', path: 'a.0' }] });
    });

    it('reaches the handler as the schema made it', async () => {
      const run = (input: unknown): unknown => input;
      const { clock, pool } = await setup(() => [
        defineTask({ name: 'sync', input: schema((value) => ({ value: [value] })), run }),
        defineTask({ name: 'async', input: schema(async (value) => ({ value: [value] })), run }),
      ]);
      const batch = runBatch(pool, [
        { type: 'sync', input: 1 },
        { type: 'async', input: 2 },
      ]);
      await clock.settle();
      assert.deepEqual(batch.ended.get(0)?.value, [1]);
      assert.deepEqual(batch.ended.get(1)?.value, [2]);
    });

    it('that is not JSON, or lies outside its frame, fails that task alone', async () => {
      const { clock, pool } = await setup(() => [echo]);
      const frame = batchOf([
        { type: 'echo', payload: Buffer.from('{"half":') },
        { type: 'echo', input: 'far away' },
        { type: 'echo', input: 'fine' },
      ]);
      const view = new DataView(frame.buffer);
      const recordsOffset = view.getUint32(16, true);
      view.setUint32(recordsOffset + 48 + 32, 0xffff_fff0, true);
      const batch = runFrame(pool, frame, 3);
      await clock.settle();
      assert.deepEqual(batch.outcomes(), ['FAILED_FOR_GOOD', 'FAILED_FOR_GOOD', 'COMPLETED']);
      for (const slot of [0, 1]) {
        const error = batch.error(slot);
        assert.equal(error.code, 'ERR_MILLRACE_STORE_CORRUPT');
      }
    });
  });

  it('a frame that is none ends its batch with the reason', async () => {
    const { clock, pool } = await setup(() => [echo]);
    const batch = runFrame(pool, new Uint8Array(100), 0);
    const empty = runFrame(pool, batchOf([]), 0);
    await clock.settle();
    assert.equal(batch.loss?.code, 'ERR_MILLRACE_STORE_CORRUPT');
    assert.equal(batch.ends, 1);
    assert.equal(empty.loss, undefined);
    assert.equal(empty.ends, 1);
    assert.equal(pool.freePlaces, 8);
  });

  it('an unknown task, and one without a handler, fail for good', async () => {
    const { clock, pool } = await setup(() => [defineTask({ name: 'contract' })]);
    const batch = runBatch(pool, [{ type: 'contract' }, { type: 'nobody' }]);
    await clock.settle();
    for (const slot of [0, 1]) {
      assert.equal(batch.ended.get(slot)?.outcome, 'FAILED_FOR_GOOD');
      const error = batch.error(slot);
      assert.equal(error.code, 'ERR_MILLRACE_UNKNOWN_TASK');
    }
  });

  describe('cancel', () => {
    it('before a task begins ends it without calling its handler', async () => {
      let calls = 0;
      const { clock, pool } = await setup((at) => [
        sleeper(at, { concurrency: 1 }),
        defineTask({ name: 'count', run: () => ++calls }),
      ]);
      const batch = runBatch(pool, [
        { type: 'count' },
        { type: 'sleep', input: 10 },
        { type: 'sleep', input: 20 },
      ]);
      batch.running.cancel(0, 'never mind');
      await clock.settle();
      // Slot 2 waits for slot 1, which is the only one of its kind that may run.
      batch.running.cancel(2, 'nor that');
      await clock.advance(10);
      assert.equal(calls, 0);
      assert.deepEqual(batch.outcomes(), ['CANCELLED', 'COMPLETED', 'CANCELLED']);
      assert.equal(batch.ended.get(0)?.value, 'never mind');
      assert.equal(batch.ended.get(2)?.value, 'nor that');
      assert.equal(batch.ends, 1);
    });

    it('aborts the signal with an Error; a handler that then throws ends as cancelled', async () => {
      let reason: unknown;
      const { clock, pool } = await setup((at) => [
        defineTask({
          name: 'obedient',
          run: async (_: unknown, ctx) => {
            try {
              await sleep(at, 1_000, ctx.signal);
            } catch (error) {
              reason = error;
              throw new Error('whatever');
            }
          },
        }),
        // Never looked at its signal, and ends well.
        defineTask({ name: 'deaf', run: () => sleep(at, 50).then(() => 'done') }),
      ]);
      const batch = runBatch(pool, [{ type: 'obedient' }, { type: 'deaf' }]);
      await clock.settle();
      batch.running.cancel(0, 'enough');
      batch.running.cancel(0, 'twice');
      batch.running.cancel(1, 'enough');
      await clock.advance(50);
      batch.running.cancel(1, 'too late');
      assert.ok(reason instanceof MillraceError);
      assert.equal(reason.code, 'ERR_MILLRACE_TASK_CANCELLED');
      assert.deepEqual(batch.outcomes(), ['CANCELLED', 'COMPLETED']);
      assert.equal(batch.ended.get(0)?.value, 'enough');
    });

    it('a signal asked for after the cancel is aborted already', async () => {
      const { clock, pool } = await setup((at) => [
        defineTask({
          name: 'late',
          run: (_: unknown, ctx) => sleep(at, 10).then(() => ctx.signal.aborted),
        }),
      ]);
      const batch = runBatch(pool, [{ type: 'late' }]);
      await clock.settle();
      batch.running.cancel(0, 'enough');
      await clock.advance(10);
      assert.equal(batch.ended.get(0)?.value, true);
    });
  });

  it('gives other work a turn between slices of sync handlers', async () => {
    const clock = new VirtualClock();
    let busyMs = 0;
    let turns = 0;
    // Every look at the clock takes half a millisecond, so that handlers take time.
    const busy = Object.assign(Object.create(clock) as VirtualClock, {
      monoMs: () => {
        busyMs += 0.5;
        return busyMs;
      },
      wakeSoon: (wake: () => void) => {
        turns++;
        return clock.wakeSoon(wake);
      },
    });
    const pool = new InlinePool(busy, tasksByName([echo]));
    await pool.start();
    const batch = runBatch(
      pool,
      Array.from({ length: 64 }, (_, input) => ({ type: 'echo', input })),
    );
    await clock.settle();
    assert.equal(batch.ends, 1);
    // 64 handlers take 32 ms at least, and a slice 4.
    assert.ok(turns >= 8, `${turns} turns`);
  });

  it('reports what is done before a call that by experience takes long', async () => {
    const clock = new VirtualClock();
    let nowMs = 0;
    const driven = Object.assign(Object.create(clock) as VirtualClock, {
      monoMs: () => nowMs,
      wakeSoon: (wake: () => void) => clock.wakeSoon(wake),
    });
    const seen: number[] = [];
    let batch: ReturnType<typeof runBatch> | undefined;
    const slow = defineTask({
      name: 'slow',
      run: () => {
        seen.push(batch?.ended.size ?? 0);
        nowMs += 2;
      },
    });
    const pool = new InlinePool(driven, tasksByName([echo, slow]));
    await pool.start();
    for (let round = 0; round < 2; round++) {
      const kinds = ['echo', 'echo', 'slow', 'echo', 'slow'];
      batch = runBatch(
        pool,
        kinds.map((type) => ({ type })),
      );
      await clock.settle();
    }
    assert.deepEqual(seen, [2, 4, 2, 4]);
  });

  it('takes results larger than the room for them', async () => {
    const { clock, pool } = await setup(
      () => [defineTask({ name: 'grow', run: (length: number) => 'x'.repeat(length) })],
      { limits: { bytesMax: 1_000_000, depthMax: 64 } },
    );
    const lengths = [10, 100_000, 50_000, 500_000, 20, 1_000_001];
    const batch = runBatch(
      pool,
      lengths.map((input) => ({ type: 'grow', input })),
    );
    await clock.settle();
    const seen = lengths.map((_, slot) => batch.ended.get(slot));
    assert.deepEqual(
      seen.slice(0, 5).map((ended) => String(ended?.value).length),
      lengths.slice(0, 5),
    );
    assert.equal(batch.error(5).code, 'ERR_MILLRACE_PAYLOAD_TOO_LARGE');
    assert.equal(batch.ends, 1);
  });

  describe('places', () => {
    it('are taken by running batches; a batch that only waits leaves its place to another', async () => {
      const { clock, pool } = await setup((at) => [sleeper(at)], { places: 2, overlapMax: 3 });
      let frees = 0;
      pool.onFree = () => frees++;
      const sleeping = (): ReturnType<typeof runBatch> =>
        runBatch(pool, [{ type: 'sleep', input: 10 }]);
      const batches = [sleeping(), sleeping()];
      assert.equal(pool.freePlaces, 0);
      await clock.settle();
      assert.equal(frees, 1);
      assert.equal(pool.freePlaces, 2);
      batches.push(sleeping());
      // Three tasks wait, which is the limit: now all batches count.
      assert.equal(pool.freePlaces, 0);
      await clock.advance(10);
      assert.equal(pool.freePlaces, 2);
      assert.equal(frees, 2);
      for (const batch of batches) assert.deepEqual(batch.outcomes(), ['COMPLETED']);
    });

    it('are 0 before start() and after drain()', async () => {
      const pool = new InlinePool(new VirtualClock(), tasksByName([echo]));
      assert.equal(pool.freePlaces, 0);
      await pool.start();
      assert.equal(pool.freePlaces, 8);
      await pool.drain(0);
      assert.equal(pool.freePlaces, 0);
    });
  });

  describe('drain', () => {
    it('waits for what runs', async () => {
      const { clock, pool } = await setup((at) => [sleeper(at)]);
      const batch = runBatch(pool, [{ type: 'sleep', input: 10 }]);
      await clock.settle();
      let isDrained = false;
      const drained = pool.drain(100).then(() => {
        isDrained = true;
      });
      await clock.advance(9);
      assert.equal(isDrained, false);
      await clock.advance(1);
      await drained;
      assert.deepEqual(batch.outcomes(), ['COMPLETED']);
      assert.equal(clock.sleeping, 0);
    });

    it('gives up after the grace period: begun tasks are lost, the others not started', async () => {
      const { clock, pool } = await setup((at) => [sleeper(at, { concurrency: 1 })]);
      const batch = runBatch(pool, [
        { type: 'sleep', input: 500 },
        { type: 'sleep', input: 500 },
      ]);
      await clock.settle();
      const drained = pool.drain(100);
      await clock.advance(100);
      await drained;
      assert.equal(batch.loss?.code, 'ERR_MILLRACE_TASK_LOST');
      assert.equal(batch.loss?.details.reason, 'shutdown');
      assert.deepEqual(batch.outcomes(), ['LOST', 'NOT_STARTED']);
      assert.equal(clock.sleeping, 0);
    });

    it('stop(), twice, without start, and after start', async () => {
      const clock = new VirtualClock();
      const pool = new InlinePool(clock, tasksByName([echo]));
      await pool.stop();
      await pool.stop();
      const started = await setup(() => [echo]);
      await Promise.all([started.pool.stop(), started.pool.stop()]);
      assert.equal(started.pool.freePlaces, 0);
    });
  });
});
