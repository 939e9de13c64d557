/**
 * What rests: on one node and across starts, and on several nodes, also on those that have not heard of it.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hasCode } from '../../src/core/errors.js';
import { PAUSES_KEY } from '../../src/engine/keys.js';
import type { PauseTarget } from '../../src/engine/pauses.js';
import { within } from '../support/runtime.js';
import { completing, scriptedCluster } from '../support/scripted-cluster.js';
import { scriptedEngine } from '../support/scripted-engine.js';
import { Outcome, type ScriptedPool } from '../support/scripted-pool.js';

const OTHER = { name: 'other', queue: 'second' };

async function setup() {
  const scripted = await scriptedEngine({}, 64, [OTHER]);
  const { clock, newTask, submitOne } = scripted;
  const submit = async (type: string, tenant = ''): Promise<void> => {
    await within(clock, 1_000, submitOne({ ...newTask(`${type} ${tenant}`, type), tenant }));
    await clock.advance(1);
  };
  const { pauses } = scripted.engine;
  return {
    ...scripted,
    submit,
    pause: (kind: PauseTarget['kind'], name: string) =>
      within(clock, 10_000, pauses.pause({ kind, name })),
    resume: (kind: PauseTarget['kind'], name: string) =>
      within(clock, 10_000, pauses.resume({ kind, name })),
  };
}

/** Payloads that were handed to a pool since the last call. */
function begun(pool: ScriptedPool): string[] {
  return pool.batches
    .splice(0)
    .flatMap(({ tasks }) => tasks.map(({ payload }) => Buffer.from(payload).toString()));
}

describe('what rests on one node', () => {
  test('tasks of a type wait, and nobody else does', async () => {
    const { engine, pool, clock, submit, pause, resume } = await setup();
    await pause('task', 'work');
    await submit('work');
    await submit('other');
    assert.deepEqual(begun(pool), ['other ']);
    assert.equal(engine.stats.ready, 1);
    await resume('task', 'work');
    await clock.advance(1);
    assert.deepEqual(begun(pool), ['work ']);
  });

  test('a queue is all types whose contract names it, and two pauses of one type end one by one', async () => {
    const { pool, clock, submit, pause, resume } = await setup();
    await pause('queue', 'second');
    await pause('task', 'other');
    await submit('other');
    await submit('work');
    assert.deepEqual(begun(pool), ['work ']);
    await resume('queue', 'second');
    await clock.advance(1);
    assert.deepEqual(begun(pool), []);
    await resume('task', 'other');
    await clock.advance(1);
    assert.deepEqual(begun(pool), ['other ']);
  });

  test('a pause without an answer that comes later all the same is known to be there', async () => {
    const { engine, pool, clock, store, submit, pause } = await setup();
    store.fates.push('late', ...Array.from({ length: 20 }, () => 'request lost' as const));
    const asked = pause('task', 'work');
    await assert.rejects(asked, (error) => hasCode(error, 'ERR_MILLRACE_STORE_UNAVAILABLE'));
    await store.applyLate();
    store.fates.length = 0;
    await clock.advance(3_000);
    assert.deepEqual(
      engine.pauses.all.map(({ name }) => name),
      ['work'],
    );
    await submit('work');
    assert.deepEqual(begun(pool), []);
  });

  test('a tenant waits, and the others of the same type do not', async () => {
    const { pool, clock, submit, pause, resume } = await setup();
    await submit('work', 'acme');
    assert.deepEqual(begun(pool), ['work acme']);
    await pause('tenant', 'acme');
    await submit('work', 'acme');
    await submit('other', 'acme');
    await submit('work', 'zoo');
    await submit('work');
    assert.deepEqual(begun(pool), ['work zoo', 'work ']);
    await resume('tenant', 'acme');
    await clock.advance(1);
    assert.deepEqual(begun(pool).sort(), ['other acme', 'work acme']);
  });

  test('a pause outlives the process, and says since when', async () => {
    const { engine, clock, pause, open, newTask } = await setup();
    const sinceMs = clock.wallMs();
    await pause('tenant', 'acme');
    await pause('task', 'work');
    await clock.advance(5);
    await pause('tenant', 'acme');
    await within(clock, 10_000, engine.stop());
    const next = await within(clock, 10_000, open());
    assert.deepEqual(next.engine.pauses.all, [
      { kind: 'tenant', name: 'acme', sinceMs },
      { kind: 'task', name: 'work', sinceMs },
    ]);
    const accepted = new Promise((resolve, reject) => {
      next.engine.submit({ ...newTask('x', 'other'), tenant: 'acme' }, resolve, reject);
      next.engine.submit(newTask('y'), resolve, reject);
      next.engine.submit(newTask('z', 'other'), resolve, reject);
    });
    await clock.advance(1);
    await accepted;
    await clock.advance(1);
    assert.deepEqual(begun(next.pool), ['z']);
  });

  test('what runs goes on, and what it comes to is recorded; its next attempt waits', async () => {
    const { pool, clock, submit, pause, resume } = await setup();
    await submit('work');
    await pause('task', 'work');
    const [batch] = pool.batches.splice(0);
    batch!.report([0], Outcome.NOT_STARTED);
    batch!.end();
    await clock.advance(10);
    assert.deepEqual(begun(pool), []);
    await resume('task', 'work');
    await clock.advance(1);
    assert.deepEqual(begun(pool), ['work ']);
  });

  test('a type that a breaker has shut and somebody paused needs both to go on', async () => {
    const { engine, pool, clock, submit, pause, resume } = await setup();
    engine.limitType('work', 0);
    await pause('task', 'work');
    await submit('work');
    engine.limitType('work', Number.POSITIVE_INFINITY);
    await clock.advance(1);
    assert.deepEqual(begun(pool), []);
    engine.limitType('work', 0);
    await resume('task', 'work');
    await clock.advance(1);
    assert.deepEqual(begun(pool), []);
    engine.limitType('work', 5);
    await clock.advance(1);
    assert.deepEqual(begun(pool), ['work ']);
  });

  test('a process that was given up for dead pauses nothing, and says why', async () => {
    const { engine, clock, open, newTask, pause, resume, store } = await setup();
    const next = await within(clock, 10_000, open());
    const submitted = new Promise((resolve, reject) => {
      next.engine.submit(newTask('of the next'), resolve, reject);
    });
    await clock.advance(1);
    await submitted;
    const isLocked = (error: unknown): boolean => hasCode(error, 'ERR_MILLRACE_STORE_LOCKED');
    await assert.rejects(pause('task', 'work'), isLocked);
    assert.equal(await store.get(PAUSES_KEY), undefined);
    assert.deepEqual([engine.pauses.all, next.engine.pauses.all], [[], []]);
    await within(clock, 10_000, next.engine.pauses.pause({ kind: 'task', name: 'work' }));
    await assert.rejects(resume('task', 'work'), isLocked);
    assert.equal(next.engine.pauses.all.length, 1);
  });

  test('two changes of one moment: both are there', async () => {
    const { engine, pause } = await setup();
    await Promise.all([pause('task', 'work'), pause('tenant', 'acme')]);
    assert.equal(engine.pauses.all.length, 2);
  });

  test('a pause that the store has not answered when the engine ends is told so', async () => {
    const { engine, clock, store, pause } = await setup();
    store.gate = new Promise(() => {});
    const asked = pause('task', 'work');
    asked.catch(() => {});
    await clock.advance(1);
    const stopped = within(clock, 10_000, engine.stop());
    await assert.rejects(asked, (error) => hasCode(error, 'ERR_MILLRACE_STORE_UNAVAILABLE'));
    await stopped;
  });

  test('an answer that is lost is found out, whichever way it went', async () => {
    for (const fate of ['request lost', 'answer lost'] as const) {
      const { engine, pause, store } = await setup();
      store.fates.push(fate);
      await pause('task', 'work');
      assert.equal(engine.pauses.all.length, 1, fate);
    }
  });

  test('a record that is no list of pauses keeps the node from starting, with its key', async () => {
    const { engine, clock, open, store } = await setup();
    await within(clock, 10_000, engine.stop());
    for (const [value, code] of [
      ['{"format":1,"pauses":[{}]}', 'ERR_MILLRACE_STORE_CORRUPT'],
      ['none', 'ERR_MILLRACE_STORE_CORRUPT'],
      ['{"format":2}', 'ERR_MILLRACE_STORE_FORMAT'],
    ] as const) {
      const put = { type: 'put', key: PAUSES_KEY, value: Buffer.from(value) } as const;
      await within(clock, 10_000, store.txn({ compares: [], success: [put] }));
      await assert.rejects(within(clock, 10_000, open()), (error) => hasCode(error, code), value);
    }
  });
});

describe('what rests in a cluster', () => {
  test('rests on every node, until any of them resumes it', async (t) => {
    const cluster = await scriptedCluster(t);
    const [a, b] = [await cluster.join(), await cluster.join()];
    const producer = await cluster.join([]);
    await cluster.clock.advance(1_000);
    await cluster.within(producer.engine.pauses.pause({ kind: 'task', name: 'work' }));
    for (let i = 0; i < 20; i++) await cluster.within(producer.submit(cluster.newTask(`${i}`)));
    await cluster.clock.advance(1_000);
    assert.deepEqual([a.pool.batches.length, b.pool.batches.length], [0, 0]);
    await cluster.within(a.engine.pauses.resume({ kind: 'task', name: 'work' }));
    const complete = completing(a, b);
    await cluster.until('all have run', async () => {
      complete();
      return (await cluster.keys('i/')).length === 0 && (await cluster.keys('t/')).length === 0;
    });
    assert.ok(a.pool.batches.length > 0 && b.pool.batches.length > 0);
  });

  test('a node that has not heard of a pause claims nothing of it, and goes on with the rest', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work', 'other']);
    const producer = await cluster.join([]);
    await cluster.clock.advance(1_000);
    // The watch of what rests is late; nothing else is.
    a.store.isGated = ({ from }) => from === PAUSES_KEY;
    a.store.watchGate = new Promise(() => {});
    await cluster.within(producer.engine.pauses.pause({ kind: 'task', name: 'work' }));
    assert.deepEqual(a.engine.pauses.all, []);
    await cluster.within(a.submit(cluster.newTask('1')));
    await cluster.within(a.submit(cluster.newTask('2', { type: 'other' })));
    await cluster.clock.advance(1_000);
    const types = a.pool.batches.flatMap(({ tasks }) => tasks.map(({ type }) => type));
    assert.deepEqual(types, ['other']);
    assert.equal(a.engine.pauses.all.length, 1);
  });
});
