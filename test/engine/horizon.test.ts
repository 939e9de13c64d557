import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hasCode } from '../../src/core/errors.js';
import type { Accepted, NewTask } from '../../src/engine/submission.js';
import { within } from '../support/runtime.js';
import {
  CLUSTER_TTL_MS,
  completing,
  type ScriptedCluster,
  scriptedCluster,
} from '../support/scripted-cluster.js';
import { type ScriptedSetup, scriptedEngine } from '../support/scripted-engine.js';
import { Outcome, type ScriptedPool } from '../support/scripted-pool.js';

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
/** Beyond, and no more: sessions and heartbeats make an hour of a cluster long. */
const LATER_MS = 18 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** A task that is due so much later. */
function later(bed: ScriptedSetup, ms: number, changes: Partial<NewTask> = {}): NewTask {
  const task = bed.newTask('x');
  return { ...task, dueAtMs: task.dueAtMs + ms, dueMonoMs: task.dueMonoMs + ms, ...changes };
}

/** Submits without time passing. */
async function put(bed: ScriptedSetup, task: NewTask): Promise<Accepted> {
  const accepted = bed.submitOne(task);
  await bed.clock.settle();
  return accepted;
}

/** Nobody holds it by a number. */
const named = (accepted: Accepted): Accepted => ({ ...accepted, task: 0 as never });

/** Completes whatever comes to a pool, for good. @returns how many it were */
function finish(pool: ScriptedPool): () => number {
  let count = 0;
  let done = 0;
  return () => {
    for (const batch of pool.batches.slice(done)) {
      count += batch.tasks.length;
      batch.report(
        batch.tasks.map((_, slot) => slot),
        Outcome.COMPLETED,
        '"done"',
      );
      batch.end();
    }
    done = pool.batches.length;
    return count;
  };
}

async function storedKeys(bed: ScriptedSetup, prefix: string): Promise<string[]> {
  const { entries } = await bed.store.range({ from: prefix, to: `${prefix}\x7f` });
  return entries.map(({ key }) => key);
}

const bytesOf = (bed: ScriptedSetup): number => bed.engine.load.bytes;

describe('tasks beyond the horizon, in a store of one node', () => {
  test('100 000 tasks spread over a year take no memory, and each runs in its time', async () => {
    const bed = await scriptedEngine({}, 64);
    const before = bytesOf(bed);
    const count = 100_000;
    const spanMs = 365 * DAY_MS;
    let accepted = 0;
    for (let i = 0; i < count; i++) {
      bed.engine.submit(
        // In the order of a shuffle: 7919 is prime to the count.
        later(bed, (((i * 7_919) % count) / count) * spanMs + HOUR_MS, { isDueByDate: true }),
        () => accepted++,
        (cause) => assert.fail(cause),
      );
      if (i % 20_000 === 19_999) await bed.clock.settle();
    }
    await bed.clock.settle();
    assert.equal(accepted, count);
    assert.deepEqual([bed.engine.stats.open, bed.engine.stats.delayed], [count, count]);
    assert.ok(bytesOf(bed) - before < 16 * 2 ** 20, `${bytesOf(bed)} bytes`);
    const run = finish(bed.pool);
    // An hour in which nothing is due, and a day.
    for (let hour = 0; hour < 25; hour++) {
      await bed.clock.advance(HOUR_MS);
      run();
    }
    const perDay = count / 365;
    assert.ok(Math.abs(run() - perDay) < 3, `${run()} ran in a day`);
    await bed.clock.settle();
    assert.equal(bed.engine.stats.open, count - run());
    assert.ok(bytesOf(bed) - before < 16 * 2 ** 20, `${bytesOf(bed)} bytes`);
  });

  test('a task beyond is out of memory with its acknowledgement, is loaded before it is due, and starts in time', async () => {
    const bed = await scriptedEngine();
    const released: number[] = [];
    const recovered: number[] = [];
    bed.engine.room.onReleased = (_, tasks) => void released.push(tasks);
    bed.engine.room.onRecovered = (_, tasks) => void recovered.push(tasks);
    const accepted = await put(bed, later(bed, HOUR_MS));
    assert.equal(accepted.task, 0);
    assert.equal(bed.engine.find(accepted.segment, 0), 0);
    assert.deepEqual(released, [1], 'admission counts what is in memory');
    assert.equal(await bed.engine.status(accepted), 'pending');
    await bed.clock.advance(HOUR_MS - 16 * MINUTE_MS);
    assert.equal(bed.engine.find(accepted.segment, 0), 0);
    await bed.clock.advance(10 * MINUTE_MS);
    assert.notEqual(bed.engine.find(accepted.segment, 0), 0);
    assert.deepEqual(recovered, [1]);
    assert.deepEqual([bed.engine.stats.open, bed.engine.stats.delayed], [1, 1]);
    await bed.clock.advance(6 * MINUTE_MS - 1);
    assert.equal(bed.pool.batches.length, 0);
    await bed.clock.advance(2);
    assert.equal(bed.pool.batches.length, 1);
    const end = bed.engine.ended(named(accepted));
    finish(bed.pool)();
    assert.equal((await within(bed.clock, 1_000, end)).json, '"done"');
    assert.deepEqual(await storedKeys(bed, 't/'), []);
    assert.equal(bed.engine.stats.open, 0);
  });

  test('a store that does not answer when the time comes is asked again', async () => {
    const bed = await scriptedEngine();
    await put(bed, later(bed, HOUR_MS));
    bed.store.readsFail = true;
    await bed.clock.advance(HOUR_MS - 2 * MINUTE_MS);
    bed.store.readsFail = false;
    await bed.clock.advance(2 * MINUTE_MS + 1);
    assert.equal(bed.pool.batches.length, 1);
  });

  test('whoever waits for a task beyond hears its end', async () => {
    const bed = await scriptedEngine();
    const accepted = await put(bed, later(bed, HOUR_MS));
    const ends = [bed.engine.ended(accepted), bed.engine.ended(named(accepted))];
    const run = finish(bed.pool);
    await bed.clock.advance(HOUR_MS + 10);
    run();
    for (const end of await within(bed.clock, 1_000, Promise.all(ends))) {
      assert.equal(end.json, '"done"');
    }
  });

  test('cancelling a task beyond brings its segment in, and lets it go again', async () => {
    const bed = await scriptedEngine();
    // One segment.
    const [first, second] = await Promise.all([
      put(bed, later(bed, HOUR_MS)),
      put(bed, later(bed, HOUR_MS)),
    ]);
    assert.equal(first.segment, second.segment);
    const waits = bed.engine.ended(second);
    const end = bed.engine.ended(first);
    assert.equal(
      await within(bed.clock, 1_000, bed.engine.cancel(named(first), 'why')),
      'cancelled',
    );
    assert.match((await end).json, /why/);
    await bed.clock.settle();
    assert.equal(bed.engine.find(first.segment, 0), 0, 'gone again');
    assert.equal(bed.engine.stats.open, 1);
    assert.equal(await bed.engine.status(named(first)), 'cancelled');
    assert.equal(await bed.engine.status(named(second)), 'pending');
    assert.equal(await within(bed.clock, 1_000, bed.engine.cancel(named(first), 'again')), 'ended');
    const run = finish(bed.pool);
    await bed.clock.advance(HOUR_MS + 10);
    assert.equal(run(), 1);
    assert.equal((await within(bed.clock, 1_000, waits)).json, '"done"');
    assert.deepEqual([...(await storedKeys(bed, 't/')), ...(await storedKeys(bed, 's/'))], []);
  });

  test('a segment whose last task is cancelled is deleted, and does not come back', async () => {
    const bed = await scriptedEngine();
    const accepted = await put(bed, later(bed, HOUR_MS));
    await within(bed.clock, 1_000, bed.engine.cancel(accepted, undefined));
    await bed.clock.settle();
    assert.deepEqual(await storedKeys(bed, 't/'), []);
    assert.deepEqual([bed.engine.stats.open, bed.engine.stats.delayed], [0, 0]);
    await bed.clock.advance(2 * HOUR_MS);
    assert.equal(bed.pool.batches.length, 0);
  });

  test('a task that nobody knows is gone, wherever it would be', async () => {
    const bed = await scriptedEngine();
    const accepted = await put(bed, later(bed, HOUR_MS));
    const isGone = (error: unknown): boolean => hasCode(error, 'ERR_MILLRACE_TASK_GONE');
    for (const index of [1, 40]) {
      const other = { ...named(accepted), index };
      await assert.rejects(within(bed.clock, 1_000, bed.engine.ended(other)), isGone);
    }
  });

  test('after a restart what lies beyond stays there, is counted, and runs in its time', async () => {
    const bed = await scriptedEngine();
    const near = await put(bed, later(bed, MINUTE_MS));
    const far = await Promise.all([2, 2, 50].map((hours) => put(bed, later(bed, hours * HOUR_MS))));
    await within(bed.clock, 1_000, bed.engine.cancel(far[0]!, undefined));
    await within(bed.clock, 60_000, bed.engine.stop());
    const next = await bed.open();
    await bed.clock.settle();
    assert.notEqual(next.engine.find(near.segment, 0), 0);
    for (const { segment } of far) assert.equal(next.engine.find(segment, 0), 0);
    assert.deepEqual([next.engine.stats.open, next.engine.stats.delayed], [3, 3]);
    const drained = next.engine.drain();
    const run = finish(next.pool);
    await bed.clock.advance(2 * HOUR_MS + 10);
    assert.equal(run(), 2);
    await bed.clock.advance(48 * HOUR_MS + 10);
    assert.equal(run(), 3);
    await within(bed.clock, 1_000, drained);
    assert.equal(next.engine.stats.open, 0);
  });

  test('draining waits for what lies beyond', async () => {
    const bed = await scriptedEngine();
    await put(bed, later(bed, HOUR_MS));
    let isDrained = false;
    const drained = bed.engine.drain().then(() => {
      isDrained = true;
    });
    const run = finish(bed.pool);
    await bed.clock.advance(HOUR_MS - 1);
    assert.ok(!isDrained);
    await bed.clock.advance(10);
    run();
    await within(bed.clock, 1_000, drained);
  });

  test('what is put after hours of quiet is in memory when it is near, and not when it is far', async () => {
    const bed = await scriptedEngine();
    const run = finish(bed.pool);
    await put(bed, later(bed, HOUR_MS));
    await bed.clock.advance(5 * HOUR_MS);
    assert.equal(run(), 1);
    const near = await put(bed, later(bed, 10 * MINUTE_MS));
    const far = await put(bed, later(bed, 20 * MINUTE_MS));
    assert.notEqual(bed.engine.find(near.segment, 0), 0);
    assert.equal(bed.engine.find(far.segment, 0), 0);
    await bed.clock.advance(20 * MINUTE_MS + 10);
    run();
    await bed.clock.advance(10);
    assert.equal(run(), 3);
  });

  test('a task with an idempotency key stays beyond, and the same key finds it', async () => {
    const bed = await scriptedEngine();
    const first = await put(bed, later(bed, 2 * HOUR_MS, { idempotencyKey: 'k' }));
    assert.equal(bed.engine.find(first.segment, 0), 0);
    assert.equal(bed.engine.stats.open, 1);
    const again = await put(bed, later(bed, 2 * HOUR_MS, { idempotencyKey: 'k' }));
    assert.deepEqual([again.isCreated, again.segment], [false, first.segment]);
    const end = bed.engine.ended(again);
    const run = finish(bed.pool);
    await bed.clock.advance(2 * HOUR_MS + 10);
    run();
    assert.equal((await within(bed.clock, 1_000, end)).json, '"done"');
  });

  test('closing while somebody waits for a task beyond tells so', async () => {
    const bed = await scriptedEngine();
    const accepted = await put(bed, later(bed, HOUR_MS));
    const end = assert.rejects(bed.engine.ended(accepted), (error) =>
      hasCode(error, 'ERR_MILLRACE_CLOSED'),
    );
    await within(bed.clock, 60_000, bed.engine.stop());
    await end;
  });
});

describe('a wall clock that jumps', () => {
  test('ahead: what is due by a date starts, a delay that was asked for here goes on', async () => {
    const bed = await scriptedEngine();
    await put(bed, later(bed, 10 * MINUTE_MS, { isDueByDate: true }));
    await put(bed, later(bed, 10 * MINUTE_MS));
    bed.clock.jumpWall(11 * MINUTE_MS);
    await bed.clock.advance(1_100);
    assert.equal(bed.pool.batches.flatMap(({ tasks }) => tasks).length, 1);
    await bed.clock.advance(9 * MINUTE_MS);
    assert.equal(bed.pool.batches.flatMap(({ tasks }) => tasks).length, 1);
    await bed.clock.advance(MINUTE_MS);
    assert.equal(bed.pool.batches.flatMap(({ tasks }) => tasks).length, 2);
  });

  test('back: what is due by a date waits longer', async () => {
    const bed = await scriptedEngine();
    await put(bed, later(bed, 10 * MINUTE_MS, { isDueByDate: true }));
    bed.clock.jumpWall(-5 * MINUTE_MS);
    await bed.clock.advance(14 * MINUTE_MS);
    assert.equal(bed.pool.batches.length, 0);
    await bed.clock.advance(MINUTE_MS + 10);
    assert.equal(bed.pool.batches.length, 1);
  });

  test('by less than half a second: nothing is timed anew', async () => {
    const bed = await scriptedEngine();
    await put(bed, later(bed, 10_000, { isDueByDate: true }));
    bed.clock.jumpWall(400);
    await bed.clock.advance(9_700);
    assert.equal(bed.pool.batches.length, 0);
    await bed.clock.advance(310);
    assert.equal(bed.pool.batches.length, 1);
  });

  test('over the horizon: what lay beyond is loaded and starts', async () => {
    const bed = await scriptedEngine();
    await put(bed, later(bed, 30 * DAY_MS));
    bed.clock.jumpWall(31 * DAY_MS);
    await bed.clock.advance(5_100);
    assert.equal(bed.pool.batches.length, 1);
  });

  test('what is claimed by the commit that puts it is held, though the clock has gone back a day since', async () => {
    const bed = await scriptedEngine();
    let open: () => void = () => {};
    bed.store.gate = new Promise((resolve) => {
      open = resolve;
    });
    const accepted = bed.submitOne(bed.newTask('x'));
    await bed.clock.advance(1);
    bed.clock.jumpWall(-DAY_MS);
    bed.store.gate = undefined;
    open();
    await within(bed.clock, 1_000, accepted);
    await bed.clock.advance(1);
    assert.equal(finish(bed.pool)(), 1);
    await bed.clock.advance(1);
    assert.deepEqual(await storedKeys(bed, 't/'), []);
    bed.clock.jumpWall(DAY_MS);
    await bed.clock.advance(11 * MINUTE_MS);
    assert.equal(bed.pool.batches.length, 1);
  });

  test('what came out of the store is due by the wall clock', async () => {
    const bed = await scriptedEngine();
    await put(bed, later(bed, 10 * MINUTE_MS));
    await within(bed.clock, 60_000, bed.engine.stop());
    const next = await bed.open();
    bed.clock.jumpWall(11 * MINUTE_MS);
    await bed.clock.advance(1_100);
    assert.equal(next.pool.batches.length, 1);
  });

  test('but not what has run here since: its retry waits as long as it was to wait', async () => {
    for (const jumpMs of [11 * MINUTE_MS, -5 * MINUTE_MS]) {
      const bed = await scriptedEngine();
      await put(bed, bed.newTask('x'));
      await within(bed.clock, 60_000, bed.engine.stop());
      const { pool } = await bed.open();
      await bed.clock.advance(10);
      pool.batches[0]!.report([0], Outcome.SNOOZED, `${10 * MINUTE_MS}`);
      pool.batches[0]!.end();
      await bed.clock.advance(10);
      bed.clock.jumpWall(jumpMs);
      await bed.clock.advance(10 * MINUTE_MS - 100);
      assert.equal(pool.batches.length, 1, `${jumpMs}`);
      await bed.clock.advance(200);
      assert.equal(pool.batches.length, 2, `${jumpMs}`);
    }
  });

  test('nor what begins to wait after the jump, before anybody has looked at the clock', async () => {
    for (const jumpMs of [11 * MINUTE_MS, -5 * MINUTE_MS]) {
      const bed = await scriptedEngine();
      await put(bed, bed.newTask('x'));
      await within(bed.clock, 60_000, bed.engine.stop());
      const { pool } = await bed.open();
      await bed.clock.advance(10);
      bed.clock.jumpWall(jumpMs);
      pool.batches[0]!.report([0], Outcome.SNOOZED, `${10 * MINUTE_MS}`);
      pool.batches[0]!.end();
      await bed.clock.advance(10 * MINUTE_MS - 100);
      assert.equal(pool.batches.length, 1, `${jumpMs}`);
      await bed.clock.advance(200);
      assert.equal(pool.batches.length, 2, `${jumpMs}`);
    }
  });
});

describe('tasks beyond the horizon, on shards', () => {
  const due = (cluster: ScriptedCluster, ms: number): NewTask =>
    cluster.newTask('x', {
      dueAtMs: cluster.clock.wallMs() + ms,
      dueMonoMs: cluster.clock.monoMs() + ms,
    });

  test("an owner's own stay in the store, and run in their time", async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join();
    await cluster.clock.advance(1_000);
    const accepted = await cluster.within(a.submit(due(cluster, LATER_MS)));
    assert.equal(a.open, 0);
    assert.equal(a.engine.stats.delayed, 1);
    const end = a.engine.ended(accepted);
    await cluster.clock.advance(LATER_MS - 5 * MINUTE_MS);
    assert.equal(a.open, 1);
    await cluster.clock.advance(5 * MINUTE_MS + 10);
    completing(a)();
    assert.equal((await cluster.within(end)).json, '"done"');
  });

  test("a producer's go through the inbox and are not taken in before their time; it hears of their ends", async (t) => {
    const cluster = await scriptedCluster(t);
    const worker = await cluster.join();
    const producer = await cluster.join([]);
    await cluster.clock.advance(1_000);
    const accepted = await cluster.within(producer.submit(due(cluster, LATER_MS)));
    const other = await cluster.within(producer.submit(due(cluster, LATER_MS)));
    const end = producer.engine.ended(accepted);
    await cluster.clock.advance(1_000);
    assert.equal(worker.open, 0);
    assert.equal(worker.engine.stats.delayed, 2);
    assert.equal(await cluster.within(producer.engine.cancel(other, 'why')), 'cancelled');
    await cluster.clock.advance(1_000);
    assert.equal(worker.engine.stats.delayed, 1);
    assert.equal(worker.open, 0);
    await cluster.clock.advance(LATER_MS);
    completing(worker)();
    assert.equal((await cluster.within(end)).json, '"done"');
    await cluster.clock.advance(1_000);
    for (const prefix of ['t/', 'i/', 's/', 'c/', 'r/']) {
      assert.deepEqual(await cluster.keys(prefix), [], prefix);
    }
  });

  test('a subscription to a task beyond outlives a visit to its segment', async (t) => {
    const cluster = await scriptedCluster(t);
    const worker = await cluster.join();
    const producer = await cluster.join([]);
    await cluster.clock.advance(1_000);
    const both = await cluster.within(
      Promise.all([
        producer.submit(due(cluster, LATER_MS)),
        producer.submit(due(cluster, LATER_MS)),
      ]),
    );
    assert.equal(both[0].segment, both[1].segment);
    const end = producer.engine.ended(both[0]);
    await cluster.clock.advance(1_000);
    assert.equal(await cluster.within(producer.engine.cancel(both[1], 'why')), 'cancelled');
    await cluster.clock.advance(LATER_MS + 1_000);
    completing(worker)();
    assert.equal((await cluster.within(end)).json, '"done"');
  });

  test('the next owner finds them after a death, and whoever waited is told', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join();
    await cluster.clock.advance(1_000);
    const b = await cluster.join();
    await cluster.clock.advance(1_000);
    const all = await Promise.all(
      Array.from({ length: 8 }, () => cluster.within(b.submit(due(cluster, LATER_MS)))),
    );
    const ends = all.map((accepted) => b.engine.ended(accepted));
    a.die();
    await cluster.clock.advance(2 * CLUSTER_TTL_MS);
    assert.equal(b.engine.stats.delayed, 8);
    assert.equal(b.open, 0);
    const complete = completing(b);
    await cluster.clock.advance(LATER_MS);
    await cluster.until('all ran', () => {
      complete();
      return b.engine.stats.open === 0;
    });
    await cluster.within(Promise.all(ends));
  });

  test('a shard that moves takes those who wait along', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join();
    await cluster.clock.advance(1_000);
    const all: Accepted[] = [];
    for (let i = 0; i < 8; i++) all.push(await cluster.within(a.submit(due(cluster, LATER_MS))));
    const ends = all.map((accepted) => a.engine.ended(accepted));
    const b = await cluster.join();
    await cluster.clock.advance(2_000);
    assert.ok(b.engine.stats.delayed > 0 && a.engine.stats.delayed > 0);
    assert.equal(b.engine.stats.delayed + a.engine.stats.delayed, 8);
    const complete = completing(a, b);
    await cluster.clock.advance(LATER_MS);
    await cluster.until('all ran', () => {
      complete();
      return a.engine.stats.open + b.engine.stats.open === 0;
    });
    for (const end of await cluster.within(Promise.all(ends))) assert.equal(end.json, '"done"');
  });
});
