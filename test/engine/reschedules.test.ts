/**
 * Tasks that shall be due at another time: on one node and across its starts, beyond the horizon, and from other nodes.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hasCode, type MillraceError } from '../../src/core/errors.js';
import type { Engine } from '../../src/engine/engine.js';
import type { Accepted, NewTask } from '../../src/engine/submission.js';
import { NOT_HELD } from '../../src/engine/task-desk.js';
import { within } from '../support/runtime.js';
import { completing, idOf, scriptedCluster } from '../support/scripted-cluster.js';
import { scriptedEngine } from '../support/scripted-engine.js';
import { Outcome, type ScriptedPool } from '../support/scripted-pool.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

async function setup(contract = {}) {
  const scripted = await scriptedEngine(contract, 8);
  const { clock, newTask, submitOne } = scripted;
  const submit = (delayMs: number, changes: Partial<NewTask> = {}): Promise<Accepted> => {
    const task = newTask('x');
    return within(
      clock,
      1_000,
      submitOne({
        ...task,
        dueAtMs: task.dueAtMs + delayMs,
        dueMonoMs: task.dueMonoMs + delayMs,
        ...changes,
      }),
    );
  };
  const reschedule = (task: Accepted, inMs: number, engine: Engine = scripted.engine) => {
    const dueAtMs = clock.wallMs() + inMs;
    return within(
      clock,
      10_000,
      engine.reschedule({ ...task, task: NOT_HELD }, { dueAtMs, isByDate: false }),
    );
  };
  return { ...scripted, submit, reschedule };
}

/** When something begins, from now; not later than `withinMs`. */
async function beginsIn(
  { clock, pool }: { clock: Awaited<ReturnType<typeof setup>>['clock']; pool: ScriptedPool },
  withinMs: number,
): Promise<number | undefined> {
  const fromMs = clock.monoMs();
  while (clock.monoMs() - fromMs < withinMs && pool.batches.length === 0) {
    await clock.advance(Math.max(1, Math.min(withinMs / 1_000, 1_000)));
  }
  return pool.batches.length === 0 ? undefined : clock.monoMs() - fromMs;
}

const refusedAs = (status: string) => (error: unknown) =>
  hasCode(error, 'ERR_MILLRACE_CLAIM_LOST') && (error as MillraceError).details.status === status;

describe('on one node', () => {
  test('what is delayed may be due earlier, later, and at once', async () => {
    const node = await setup();
    const task = await node.submit(10_000);
    await node.reschedule(task, 30_000);
    assert.equal(await beginsIn(node, 25_000), undefined);
    await node.reschedule(task, 10_000);
    assert.equal(await beginsIn(node, 9_900), undefined);
    await node.reschedule(task, 0);
    assert.ok((await beginsIn(node, 100))! <= 20);
    assert.deepEqual(
      node.pool.batches[0]!.tasks.map(({ attempt }) => attempt),
      [1],
    );
  });

  test('what is ready and waits for its turn leaves the queue, and comes back', async () => {
    const node = await setup({ concurrency: 1 });
    const [first, second] = await node.submit(0).then(async (one) => [one, await node.submit(0)]);
    await node.clock.advance(5);
    assert.equal(node.engine.stats.ready, 1);
    await node.reschedule(second!, 5_000);
    assert.deepEqual([node.engine.stats.ready, node.engine.stats.delayed], [0, 1]);
    const [batch] = node.pool.batches.splice(0);
    batch!.report([0], Outcome.COMPLETED, '1');
    batch!.end();
    assert.equal(await beginsIn(node, 4_900), undefined);
    assert.ok(await beginsIn(node, 200));
    assert.ok(first);
  });

  test('what waits for its next attempt keeps the attempts that are over', async () => {
    const node = await setup({ retry: { min: '1h', jitter: 'none' } });
    const task = await node.submit(0);
    await node.clock.advance(5);
    const [batch] = node.pool.batches.splice(0);
    batch!.report([0], Outcome.FAILED, '{"message":"no"}');
    batch!.end();
    await node.clock.advance(5);
    await node.reschedule(task, 0);
    await node.clock.advance(5);
    assert.deepEqual(
      node.pool.batches[0]!.tasks.map(({ attempt }) => attempt),
      [2],
    );
  });

  test('what runs, has ended, or is not known is refused, each with its error', async () => {
    const node = await setup();
    const task = await node.submit(0);
    await node.clock.advance(5);
    await assert.rejects(node.reschedule(task, 0), refusedAs('running'));
    const [batch] = node.pool.batches.splice(0);
    batch!.report([0], Outcome.COMPLETED, '1');
    batch!.end();
    await node.clock.advance(5);
    await assert.rejects(node.reschedule(task, 0), refusedAs('completed'));
    await assert.rejects(node.reschedule({ ...task, index: 7 }, 0), (error) =>
      hasCode(error, 'ERR_MILLRACE_TASK_GONE'),
    );
  });

  test('a time to live counts from the new due time', async () => {
    const node = await setup();
    const expiresAtMs = node.clock.wallMs() + 10_000 + 5_000;
    const task = await node.submit(10_000, { expiresAtMs });
    await node.reschedule(task, 30_000);
    assert.ok(await beginsIn(node, 31_000));
    const held = await setup({ concurrency: 1 });
    await held.submit(0);
    const other = await held.submit(1_000, { expiresAtMs: held.clock.wallMs() + 1_000 + 5_000 });
    await held.reschedule(other, 20_000);
    await held.clock.advance(24_000);
    assert.equal(await held.engine.status(other), 'pending');
    await held.clock.advance(2_000);
    assert.equal(await within(held.clock, 1_000, held.engine.status(other)), 'expired');
  });

  test('it is durable when it resolves: the next process holds to it', async () => {
    for (const inMs of [2_000, 60_000]) {
      const node = await setup();
      const task = await node.submit(20_000);
      await node.reschedule(task, inMs);
      node.store.isCut = true;
      const next = await within(node.clock, 10_000, node.open());
      assert.equal(await beginsIn({ ...node, pool: next.pool }, inMs * 0.9), undefined);
      assert.ok(await beginsIn({ ...node, pool: next.pool }, inMs * 0.2));
    }
  });

  test('an answer that is lost is no change that is lost', async () => {
    const node = await setup();
    const task = await node.submit(20_000);
    node.store.fates.push('answer lost');
    await node.reschedule(task, 1_000);
    assert.ok((await beginsIn(node, 2_000))! >= 700);
  });
});

describe('beyond the horizon', () => {
  test('a task that is days away may be due in a minute, also for the next process', async () => {
    for (const isRestarted of [false, true]) {
      const node = await setup();
      const task = await node.submit(3 * DAY);
      await node.reschedule(task, MINUTE);
      let { pool } = node;
      if (isRestarted) {
        node.store.isCut = true;
        ({ pool } = await within(node.clock, 10_000, node.open()));
      }
      const begunMs = await beginsIn({ ...node, pool }, 2 * MINUTE);
      assert.ok(begunMs && begunMs > MINUTE - 1_000 && begunMs < MINUTE + 1_000, `${begunMs}`);
    }
  });

  test('many that are days away may be due in a minute, though commits are refused meanwhile', async () => {
    const { clock, engine, store, submit } = await setup();
    const tasks: Accepted[] = [];
    for (let i = 0; i < 200; i++) tasks.push(await submit(3 * DAY + i * HOUR));
    store.fates.push(...Array.from({ length: 8 }, () => 'full' as const));
    const due = { dueAtMs: clock.wallMs() + MINUTE, isByDate: false };
    const changes = tasks.map((task) => engine.reschedule({ ...task, task: NOT_HELD }, due));
    await within(clock, 20_000, Promise.all(changes));
    assert.deepEqual(store.fates, []);
  });

  test('one that is days away may be due tomorrow: it goes out of memory, and comes in time', async () => {
    for (const isRestarted of [false, true]) {
      const node = await setup();
      const task = await node.submit(3 * DAY);
      await node.reschedule(task, DAY);
      await node.clock.advance(1_000);
      assert.equal(node.engine.find(task.segment, task.index), 0);
      let { pool } = node;
      if (isRestarted) {
        node.store.isCut = true;
        ({ pool } = await within(node.clock, 10_000, node.open()));
      }
      const begunMs = await beginsIn({ ...node, pool }, DAY + HOUR);
      assert.ok(begunMs && Math.abs(begunMs - DAY) < 10_000, `${begunMs}`);
    }
  });

  test('one that was to be soon may be due in days', async () => {
    const node = await setup();
    const task = await node.submit(MINUTE);
    await node.reschedule(task, 2 * DAY);
    const begunMs = await beginsIn(node, 3 * DAY);
    assert.ok(begunMs && Math.abs(begunMs - 2 * DAY) < 200_000, `${begunMs}`);
  });

  test('what is in the same segment stays due when it was', async () => {
    const node = await setup();
    const [a, b] = await within(
      node.clock,
      1_000,
      Promise.all([0, 1].map((i) => node.submit(2 * DAY + i))),
    );
    assert.equal(a!.segment, b!.segment);
    await node.reschedule(a!, MINUTE);
    assert.ok(await beginsIn(node, 2 * MINUTE));
    const [batch] = node.pool.batches.splice(0);
    assert.equal(batch!.tasks.length, 1);
    batch!.report([0], Outcome.COMPLETED, '1');
    batch!.end();
    const begunMs = await beginsIn(node, 2 * DAY);
    assert.ok(begunMs && begunMs > 1.9 * DAY, `${begunMs}`);
  });
});

describe('in a cluster', () => {
  test('from any node, and from one that only submits', async (t) => {
    const c = await scriptedCluster(t);
    const [a, b] = [await c.join(), await c.join()];
    const producer = await c.join([]);
    await c.until('both own shards', () => a.pool.freePlaces > 0);
    await c.clock.advance(2_000);
    const task = await c.within(
      a.submit(
        c.newTask('x', {
          dueAtMs: c.clock.wallMs() + 60_000,
          dueMonoMs: c.clock.monoMs() + 60_000,
        }),
      ),
    );
    for (const node of [a, b, producer]) {
      const due = { dueAtMs: c.clock.wallMs() + 30_000, isByDate: false };
      await c.within(node.engine.reschedule({ ...task, task: NOT_HELD }, due));
    }
    const fromMs = c.clock.monoMs();
    const now = { dueAtMs: c.clock.wallMs() + 1_000, isByDate: false };
    await c.within(producer.engine.reschedule({ ...task, task: NOT_HELD }, now));
    const begun = () => [a, b].some(({ pool }) => pool.batches.length > 0);
    await c.until('it begins', begun);
    assert.ok(c.clock.monoMs() - fromMs >= 900);
    for (const node of [a, b, producer]) {
      await assert.rejects(
        c.within(node.engine.reschedule({ ...task, task: NOT_HELD }, now)),
        refusedAs('running'),
      );
    }
    completing(a, b)();
    await c.clock.advance(200);
    for (const node of [a, b, producer]) {
      await assert.rejects(
        c.within(node.engine.reschedule({ ...task, task: NOT_HELD }, now)),
        (error) => hasCode(error, 'ERR_MILLRACE_CLAIM_LOST'),
      );
    }
    assert.ok(idOf(task));
  });

  test('it holds through a takeover, also of a task beyond the horizon', async (t) => {
    const c = await scriptedCluster(t);
    const a = await c.join();
    await c.clock.advance(1_000);
    const task = await c.within(
      a.submit(
        c.newTask('x', { dueAtMs: c.clock.wallMs() + DAY, dueMonoMs: c.clock.monoMs() + DAY }),
      ),
    );
    const b = await c.join();
    await c.clock.advance(2_000);
    const due = { dueAtMs: c.clock.wallMs() + MINUTE, isByDate: false };
    await c.within(b.engine.reschedule({ ...task, task: NOT_HELD }, due));
    a.die();
    await c.until('the other runs it', () => b.pool.batches.length > 0, 2 * MINUTE);
    assert.ok(c.clock.wallMs() >= due.dueAtMs);
  });
});
