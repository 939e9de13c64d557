/**
 * Debounced submissions: which one runs and when, on one node and across its starts, and from several nodes at once.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Accepted, Debounce, NewTask } from '../../src/engine/submission.js';
import { NOT_HELD } from '../../src/engine/task-desk.js';
import { within } from '../support/runtime.js';
import { idOf, type ScriptedNode, scriptedCluster } from '../support/scripted-cluster.js';
import { scriptedEngine } from '../support/scripted-engine.js';
import { Outcome, type ScriptedPool } from '../support/scripted-pool.js';

const DEBOUNCE: Debounce = { key: 'k', waitMs: 5_000, maxMs: Number.POSITIVE_INFINITY };

/** Payloads that have begun since the last call. */
function begun(...pools: readonly ScriptedPool[]): string[] {
  return pools.flatMap((pool) =>
    pool.batches
      .splice(0)
      .flatMap(({ tasks }) => tasks.map(({ payload }) => Buffer.from(payload).toString())),
  );
}

async function setup() {
  const scripted = await scriptedEngine({}, 64);
  const { clock, newTask, submitOne } = scripted;
  const submit = (payload: string, changes: Partial<Debounce> = {}, task: Partial<NewTask> = {}) =>
    within(
      clock,
      2_000,
      submitOne({ ...newTask(payload), ...task, debounce: { ...DEBOUNCE, ...changes } }),
    );
  return { ...scripted, submit };
}

describe('on one node', () => {
  test('the last of several runs, once things are quiet for so long', async () => {
    const { clock, pool, submit } = await setup();
    for (const payload of ['a', 'b', 'c']) {
      await submit(payload);
      await clock.advance(4_000);
    }
    assert.deepEqual(begun(pool), []);
    await clock.advance(1_100);
    assert.deepEqual(begun(pool), ['c']);
    await clock.advance(60_000);
    assert.deepEqual(begun(pool), []);
  });

  test('those that were replaced end as cancelled, and say by which', async () => {
    const { clock, engine, submit } = await setup();
    const first = await submit('a');
    const second = await submit('b');
    assert.ok(first.isCreated && second.isCreated);
    const end = await within(clock, 1_000, engine.ended({ ...first, task: NOT_HELD }));
    assert.match(end.json, new RegExp(`was cancelled: replaced by ${idOf(second)}`));
  });

  test('other keys, and tasks without one, are not concerned', async () => {
    const { clock, pool, submit, submitOne, newTask } = await setup();
    await submit('a');
    await submit('b', { key: 'other' });
    await within(clock, 1_000, submitOne(newTask('c')));
    await clock.advance(5_100);
    assert.deepEqual(begun(pool).sort(), ['a', 'b', 'c']);
  });

  test('with a bound it runs then, however many come', async () => {
    const { clock, pool, submit } = await setup();
    for (let i = 0; i < 12; i++) {
      await submit(`${i}`, { maxMs: 12_000 });
      await clock.advance(1_900);
    }
    // The first was due at 12 s at the latest; the next one has begun a new span then.
    assert.equal(begun(pool).length, 1);
    await clock.advance(10_000);
    assert.deepEqual(begun(pool), ['11']);
  });

  test('one that has begun goes on, and the next submission is another task', async () => {
    const { clock, pool, engine, submit } = await setup();
    const first = await submit('a', { waitMs: 10 });
    await clock.advance(20);
    const [batch] = pool.batches;
    assert.deepEqual(begun(pool), ['a']);
    const second = await submit('b', { waitMs: 10 });
    await clock.advance(20);
    assert.deepEqual(begun(pool), ['b']);
    assert.deepEqual(batch!.cancelled, []);
    batch!.report([0], Outcome.COMPLETED, '1');
    batch!.end();
    await clock.advance(5);
    assert.equal(await engine.status({ ...first, task: NOT_HELD }), 'completed');
    assert.notEqual(idOf(first), idOf(second));
  });

  test('a burst is a few commits, and all but the last of it are told that they created nothing', async () => {
    const { clock, store, pool, newTask, engine } = await setup();
    const before = store.sent.length;
    const all = await within(
      clock,
      5_000,
      Promise.all(
        Array.from(
          { length: 1_000 },
          (_, i) =>
            new Promise<Accepted>((resolve, reject) => {
              engine.submit({ ...newTask(`${i}`), debounce: DEBOUNCE }, resolve, reject);
            }),
        ),
      ),
    );
    assert.ok(store.sent.length - before <= 6, `${store.sent.length - before}`);
    assert.equal(all.filter(({ isCreated }) => isCreated).length, 2);
    await clock.advance(5_100);
    assert.deepEqual(begun(pool), ['999']);
  });

  test('a process that dies right after the later one is stored leaves one task, not two', async () => {
    const { clock, store, submit, newTask, engine, open } = await setup();
    await submit('a');
    // The commit of the second is applied, and nothing after it.
    store.diesAfter = store.sent.length + 1;
    engine.submit(
      { ...newTask('b'), debounce: DEBOUNCE },
      () => {},
      () => {},
    );
    await clock.advance(100);
    store.isCut = true;
    const next = await within(clock, 10_000, open());
    await clock.advance(6_000);
    assert.deepEqual(begun(next.pool), ['b']);
  });

  test('an answer that is lost neither loses a task nor makes it two', async () => {
    const { clock, store, pool, submit } = await setup();
    await submit('a');
    store.fates.push('answer lost');
    await submit('b');
    store.fates.push('request lost');
    await submit('c');
    await clock.advance(5_100);
    assert.deepEqual(begun(pool), ['c']);
  });

  test('a time to live counts from when it is due', async () => {
    const { clock, pool, submit, newTask } = await setup();
    const { dueAtMs } = newTask('');
    await submit('a', {}, { dueAtMs: dueAtMs + 5_000, expiresAtMs: dueAtMs + 6_000 });
    await clock.advance(4_000);
    await submit('b', {}, { dueAtMs: dueAtMs + 9_000, expiresAtMs: dueAtMs + 10_000 });
    await clock.advance(5_100);
    assert.deepEqual(begun(pool), ['b']);
  });
});

describe('from several nodes', () => {
  test('the last one runs, wherever it was submitted and wherever the one before waits', async (t) => {
    const c = await scriptedCluster(t);
    const [a, b] = [await c.join(), await c.join()];
    const producer = await c.join([]);
    await c.clock.advance(2_000);
    const submit = (node: ScriptedNode, payload: string) =>
      c.within(node.submit({ ...c.newTask(payload), debounce: DEBOUNCE }));
    for (const [i, node] of [a, b, producer, b, producer, a].entries()) {
      await submit(node, `${i}`);
      await c.clock.advance(1_000);
    }
    await c.clock.advance(6_000);
    assert.deepEqual(begun(a.pool, b.pool), ['5']);
    assert.deepEqual(await c.keys('c/'), []);
  });

  test('submissions at the very same time are one after another: one of them runs', async (t) => {
    const c = await scriptedCluster(t);
    const [a, b] = [await c.join(), await c.join()];
    await c.clock.advance(2_000);
    const accepted = await c.within(
      Promise.all(
        [a, b, a, b].map((node, i) => node.submit({ ...c.newTask(`${i}`), debounce: DEBOUNCE })),
      ),
    );
    assert.ok(accepted.filter(({ isCreated }) => isCreated).length >= 2);
    await c.clock.advance(6_000);
    assert.equal(begun(a.pool, b.pool).length, 1);
  });

  test('it holds through the death of the node that had the one before', async (t) => {
    const c = await scriptedCluster(t);
    const [a, b] = [await c.join(), await c.join()];
    await c.clock.advance(2_000);
    const long = { ...DEBOUNCE, waitMs: 20_000 };
    await c.within(a.submit({ ...c.newTask('a'), debounce: long }));
    a.die();
    await c.within(b.submit({ ...c.newTask('b'), debounce: long }));
    await c.clock.advance(40_000);
    assert.deepEqual(begun(b.pool), ['b']);
  });

  test('also where it waits beyond the horizon', async (t) => {
    const c = await scriptedCluster(t);
    const [a, b] = [await c.join(), await c.join()];
    await c.clock.advance(2_000);
    const hour = { ...DEBOUNCE, waitMs: 3_000_000 };
    await c.within(a.submit({ ...c.newTask('a'), debounce: hour }));
    await c.clock.advance(1_000);
    await c.within(b.submit({ ...c.newTask('b'), debounce: hour }));
    await c.clock.advance(3_100_000);
    assert.deepEqual(begun(a.pool, b.pool), ['b']);
  });
});
