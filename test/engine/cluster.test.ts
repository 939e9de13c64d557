import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, type TestContext, test } from 'node:test';
import { hasCode } from '../../src/core/errors.js';
import { TaskState } from '../../src/core/states.js';
import type { Accepted } from '../../src/engine/submission.js';
import {
  CLUSTER_TTL_MS,
  completing,
  idOf,
  type ScriptedCluster,
  type ScriptedNode,
  scriptedCluster,
  submitApart,
} from '../support/scripted-cluster.js';
import { lost } from '../support/scripted-engine.js';
import { Outcome } from '../support/scripted-pool.js';

/** A task as any node may name it: handles are good for the table they come from. */
function fromAfar(accepted: Accepted): Accepted {
  return { ...accepted, task: 0 as never };
}

/** Waits until the shards are shared and idle. */
async function settled(cluster: ScriptedCluster): Promise<void> {
  await cluster.clock.advance(1_000);
}

describe('a cluster of engines', () => {
  test('one node has all shards, and runs what it submits after one commit', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join();
    await settled(cluster);
    assert.equal((await cluster.keys('o/')).length, 4);
    const sent = a.store.sent.length;
    const accepted = await cluster.within(a.submit(cluster.newTask('1')));
    assert.equal(a.store.sent.length, sent + 1);
    assert.equal(a.pool.batches.length, 1);
    const end = a.engine.ended(accepted);
    completing(a)();
    assert.equal((await cluster.within(end)).json, '"done"');
    assert.deepEqual(await cluster.keys('t/'), []);
    assert.equal(a.open, 0);
  });

  test('what a producer without handlers submits goes through the inbox, and its end comes back', async (t) => {
    const cluster = await scriptedCluster(t);
    const worker = await cluster.join();
    const producer = await cluster.join([]);
    await settled(cluster);
    const accepted = await cluster.within(producer.submit(cluster.newTask('1')));
    assert.equal(producer.open, 0);
    const end = producer.engine.ended(accepted);
    await cluster.until('it runs', () => worker.pool.batches.length === 1);
    assert.equal(worker.open, 1);
    completing(worker)();
    assert.deepEqual(await cluster.within(end), { state: TaskState.COMPLETED, json: '"done"' });
    await settled(cluster);
    for (const prefix of ['i/', 's/', 'c/', 'r/', 't/']) {
      assert.deepEqual(await cluster.keys(prefix), [], prefix);
    }
    assert.equal(worker.open, 0);
  });

  test('what all nodes together keep of what has ended stays within the bound', async (t) => {
    const completedBytesMax = 8_192;
    const cluster = await scriptedCluster(t, {}, { completedBytesMax });
    const workers: ScriptedNode[] = [];
    for (let i = 0; i < 4; i++) workers.push(await cluster.join());
    const producer = await cluster.join([]);
    await settled(cluster);
    const complete = completing(...workers);
    let ended = 0;
    for (let round = 0; round < 36; round++) {
      const accepted = Array.from({ length: 20 }, () => producer.submit(cluster.newTask('1')));
      await cluster.within(Promise.all(accepted));
      await cluster.until('they run', () => {
        complete();
        const { length } = workers.flatMap(({ pool }) =>
          pool.batches.flatMap(({ tasks }) => tasks),
        );
        return length === 20 * (round + 1);
      });
      ended += 20;
      await cluster.clock.advance(10_000);
    }
    const { entries } = await cluster.store.range({ from: 'z/', to: 'z0' });
    const bytes = entries.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
    assert.ok(entries.length > 0 && bytes < 2 * completedBytesMax, `${bytes} of ${ended} tasks`);
  });

  test('asked for an end, or to cancel, the owner knows tasks that its watch has not told of', async (t) => {
    const cluster = await scriptedCluster(t);
    const worker = await cluster.join();
    const producer = await cluster.join([]);
    await settled(cluster);
    worker.store.isGated = ({ from }) => from.startsWith('i/');
    worker.store.watchGate = new Promise(() => {});
    const accepted = await cluster.within(producer.submit(cluster.newTask('1')));
    const end = producer.engine.ended(accepted);
    await cluster.until('it runs', () => worker.pool.batches.length === 1);
    completing(worker)();
    assert.equal((await cluster.within(end)).json, '"done"');
    worker.pool.freePlaces = 0;
    const waiting = await cluster.within(producer.submit(cluster.newTask('2')));
    assert.equal(await cluster.within(producer.engine.cancel(waiting, 'no')), 'cancelled');
    await assert.rejects(
      cluster.within(producer.engine.ended({ ...accepted, index: 17 })),
      (error) => hasCode(error, 'ERR_MILLRACE_TASK_GONE'),
    );
  });

  test('a task submitted while nobody owns its shard runs when somebody does', async (t) => {
    const cluster = await scriptedCluster(t);
    const producer = await cluster.join([]);
    const accepted = await cluster.within(producer.submit(cluster.newTask('1')));
    const end = producer.engine.ended(accepted);
    await settled(cluster);
    const worker = await cluster.join();
    await cluster.until('it runs', () => worker.pool.batches.length === 1);
    completing(worker)();
    assert.equal((await cluster.within(end)).json, '"done"');
  });

  test('a node that joins gets shards, and what waits in them; nothing runs twice', async (t) => {
    const cluster = await scriptedCluster(t);
    // Nothing fits: all of it waits.
    const a = await cluster.join(['work'], 0);
    await settled(cluster);
    const all = await submitApart(cluster, a, 8);
    const ends = all.map((accepted) => a.engine.ended(accepted));
    const b = await cluster.join();
    const complete = completing(b);
    await cluster.until('b runs some', () => b.pool.batches.length > 0);
    assert.ok(a.open < 8 && a.open > 0, `${a.open} are left to a`);
    a.pool.freePlaces = 2;
    a.pool.onFree?.();
    const completeA = completing(a);
    await cluster.until('all ran', () => {
      complete();
      completeA();
      return a.open + b.open === 0;
    });
    await cluster.within(Promise.all(ends));
    const ran = [a, b].flatMap(({ pool }) => pool.batches.flatMap(({ tasks }) => tasks));
    assert.equal(ran.length, 8);
    assert.equal(new Set(ran.map(({ segment, index }) => `${segment}.${index}`)).size, 8);
    assert.ok(ran.every(({ attempt }) => attempt === 1));
  });

  test('a task that runs while its shard moves is left alone, and its result is accepted', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 8);
    await settled(cluster);
    const all = await submitApart(cluster, a, 8);
    assert.equal(a.pool.batches.length, 8);
    const ends = all.map((accepted) => a.engine.ended(accepted));
    const b = await cluster.join();
    await cluster.until('b has some', () => b.open > 0);
    await settled(cluster);
    assert.equal(b.pool.batches.length, 0, 'nothing runs a second time');
    completing(a)();
    for (const end of await cluster.within(Promise.all(ends))) assert.equal(end.json, '"done"');
    await settled(cluster);
    assert.equal(b.pool.batches.length, 0);
    assert.equal(a.open + b.open, 0);
    for (const prefix of ['t/', 's/', 'c/', 'r/']) {
      assert.deepEqual(await cluster.keys(prefix), [], prefix);
    }
  });

  test('what a node reported before it went counts, though its going is heard of first', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 8);
    await settled(cluster);
    await submitApart(cluster, a, 8);
    const b = await cluster.join();
    await cluster.until('b has some', () => b.open > 0);
    await settled(cluster);
    b.store.isGated = ({ from }) => from.startsWith('c/');
    b.store.watchGate = new Promise(() => {});
    const closing = a.close(10_000);
    completing(a)();
    await closing;
    await cluster.until('all have ended', async () => (await cluster.keys('t/')).length === 0);
    assert.equal(b.pool.batches.length, 0, 'nothing runs a second time');
  });

  test('what was reported while nobody owned the shard counts', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 8);
    await settled(cluster);
    await submitApart(cluster, a, 8);
    const closing = a.close(10_000);
    await cluster.until('nobody owns', async () => (await cluster.keys('o/')).length === 0);
    completing(a)();
    await closing;
    const b = await cluster.join(['work'], 8);
    await cluster.until('all have ended', async () => (await cluster.keys('t/')).length === 0);
    assert.equal(b.pool.batches.length, 0, 'nothing runs a second time');
  });

  test('what failed where it ran is retried by the new owner', async (t) => {
    const cluster = await scriptedCluster(t, { retry: { attempts: 2, min: '1s', jitter: 'none' } });
    const a = await cluster.join(['work'], 8);
    await settled(cluster);
    await submitApart(cluster, a, 8);
    const b = await cluster.join(['work'], 8);
    await cluster.until('b has some', () => b.open > 0);
    await settled(cluster);
    const moved = b.open;
    for (const batch of a.pool.batches) {
      batch.report([0], Outcome.FAILED, '{"message":"no"}');
      batch.end();
    }
    await cluster.until('b runs its own', () => b.pool.batches.length === moved, 5_000);
    assert.ok(b.pool.batches.every(({ tasks }) => tasks[0]!.attempt === 2));
  });

  test('a dead node is replaced: what it ran is a loss and runs again, what waited runs', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 2);
    const b = await cluster.join(['work'], 0);
    await settled(cluster);
    const all = await submitApart(cluster, a, 6);
    const ran = a.pool.batches.length;
    assert.ok(ran > 0);
    a.die();
    b.pool.freePlaces = 8;
    const complete = completing(b);
    await cluster.until(
      'all of it ended',
      async () => {
        complete();
        return (await cluster.keys('t/')).length === 0;
      },
      4 * CLUSTER_TTL_MS,
    );
    for (const accepted of all) {
      const end = await cluster.within(b.engine.ended(fromAfar(accepted)));
      assert.equal(end.json, '"done"');
    }
    const tokens = (node: ScriptedNode) =>
      new Map(
        node.pool.batches.flatMap(({ tasks }) =>
          tasks.map(({ segment, index, token }) => [`${segment}.${index}`, token] as const),
        ),
      );
    for (const [id, token] of tokens(a)) assert.ok((tokens(b).get(id) ?? 0) > token, id);
  });

  test('a zombie cannot record a result: its commit is refused, and it lets go', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 2);
    await settled(cluster);
    const [accepted] = await submitApart(cluster, a, 1);
    // It is cut off for longer than its lease lives.
    a.store.isCut = true;
    a.store.readsFail = true;
    const b = await cluster.join(['work'], 2);
    await cluster.until('b runs it', () => b.pool.batches.length === 1, 4 * CLUSTER_TTL_MS);
    a.pool.batches[0]!.report([0], Outcome.COMPLETED, '"from the zombie"');
    a.pool.batches[0]!.end();
    a.store.isCut = false;
    a.store.readsFail = false;
    await settled(cluster);
    completing(b)();
    const end = await cluster.within(b.engine.ended(fromAfar(accepted!)));
    assert.equal(end.json, '"done"');
  });

  test('closing hands everything over at once, what runs included', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 1);
    const b = await cluster.join(['work'], 0);
    await settled(cluster);
    await submitApart(cluster, a, 4);
    const closing = a.close(20_000);
    await cluster.until('b has all shards', async () => {
      const owners = (await cluster.store.range({ from: 'o/', to: 'o0' })).entries;
      return (
        owners.length === 4 &&
        owners.every(({ value }) => Buffer.from(value).toString() === b.incarnation)
      );
    });
    for (const batch of a.pool.batches) {
      batch.report([0], Outcome.COMPLETED, '"done"');
      batch.end();
    }
    await closing;
    b.pool.freePlaces = 4;
    b.pool.onFree?.();
    const complete = completing(b);
    await cluster.until('all ended', async () => {
      complete();
      return (await cluster.keys('t/')).length === 0;
    });
    const ran = [a, b].flatMap(({ pool }) => pool.batches.flatMap(({ tasks }) => tasks));
    assert.equal(ran.length, 4, 'none of it ran twice');
  });

  test('what closing interrupts runs again elsewhere, and spends no attempt', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 4);
    await settled(cluster);
    await submitApart(cluster, a, 4);
    const b = await cluster.join(['work'], 4);
    a.pool.onDrain = () => {
      for (const batch of a.pool.batches) {
        batch.report([0], Outcome.CANCELLED, JSON.stringify(batch.cancelled[0]!.reason));
        batch.end();
      }
    };
    await a.close();
    await cluster.until('b runs all', () => b.pool.batches.length === 4);
    assert.ok(b.pool.batches.every(({ tasks }) => tasks[0]!.attempt === 1));
  });

  test('a cancel from any node: pending, running here or there, ended, unknown', async (t) => {
    const cluster = await scriptedCluster(t);
    const worker = await cluster.join(['work'], 1);
    const producer = await cluster.join([]);
    await settled(cluster);
    const running = await cluster.within(producer.submit(cluster.newTask('running')));
    await cluster.until('it runs', () => worker.pool.batches.length === 1);
    const pending = await cluster.within(producer.submit(cluster.newTask('pending')));
    const heard = producer.engine.ended(pending);
    assert.equal(await cluster.within(producer.engine.cancel(pending, 'no')), 'cancelled');
    assert.equal((await cluster.within(heard)).state, TaskState.CANCELLED);
    assert.equal(await cluster.within(producer.engine.cancel(running, 'stop')), 'signalled');
    assert.deepEqual(worker.pool.batches[0]!.cancelled, [{ slot: 0, reason: 'stop' }]);
    worker.pool.batches[0]!.report([0], Outcome.CANCELLED, '"stop"');
    worker.pool.batches[0]!.end();
    await settled(cluster);
    assert.equal(await cluster.within(producer.engine.cancel(running, 'late')), 'ended');
    const unknown = { ...running, index: 17 };
    await assert.rejects(cluster.within(producer.engine.cancel(unknown, 'x')), (error) =>
      hasCode(error, 'ERR_MILLRACE_TASK_GONE'),
    );
    await assert.rejects(cluster.within(producer.engine.ended(unknown)), (error) =>
      hasCode(error, 'ERR_MILLRACE_TASK_GONE'),
    );
  });

  test('a cancel reaches the node that runs a task whose shard has moved', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 8);
    await settled(cluster);
    const all = await submitApart(cluster, a, 8);
    const b = await cluster.join();
    await cluster.until('b has some', () => b.open > 0);
    await settled(cluster);
    for (const accepted of all) {
      assert.equal(await cluster.within(b.engine.cancel(fromAfar(accepted), 'stop')), 'signalled');
    }
    await settled(cluster);
    assert.deepEqual(
      a.pool.batches.map(({ cancelled }) => cancelled.length),
      all.map(() => 1),
    );
  });

  test('a thread that dies under a task whose shard has moved counts as a loss there', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 8);
    await settled(cluster);
    await submitApart(cluster, a, 8);
    const b = await cluster.join(['work'], 8);
    await cluster.until('b has some', () => b.open > 0);
    await settled(cluster);
    const moved = b.open;
    for (const batch of a.pool.batches) batch.end(lost({ reason: 'exit', begun: 1 }));
    await cluster.until('b runs them', () => b.pool.batches.length === moved);
    assert.ok(b.pool.batches.every(({ tasks }) => tasks[0]!.attempt === 1));
  });

  test('a node that lacks a handler never runs the task: its shard goes to one that has it', async (t) => {
    const cluster = await scriptedCluster(t);
    const old = await cluster.join(['work']);
    const producer = await cluster.join([]);
    await settled(cluster);
    const unhandled: unknown[] = [];
    const note = (event: unknown): void => void unhandled.push(event);
    subscribe('millrace:task:unhandled', note);
    t.after(() => unsubscribe('millrace:task:unhandled', note));
    const all: Accepted[] = [];
    for (let i = 0; i < 8; i++) {
      const task = cluster.newTask(`${i}`, { type: 'novelty' });
      all.push(await cluster.within(producer.submit(task)));
    }
    await settled(cluster);
    assert.equal(old.pool.batches.length, 0);
    assert.equal(unhandled.length, 16, 'who submits hears of it, and who has it');
    const ends = all.map((accepted) => producer.engine.ended(accepted));
    const young = await cluster.join(['work', 'novelty'], 8);
    const complete = completing(young);
    await cluster.until('all ended', () => {
      complete();
      return old.open + young.open === 0;
    });
    await cluster.within(Promise.all(ends));
    assert.equal(old.pool.batches.length, 0);
    assert.notDeepEqual(await cluster.keys('w/'), []);
    // What comes now goes to the young one at once, and what anybody runs to anybody.
    unhandled.length = 0;
    const ranBefore = young.pool.batches.length;
    for (let i = 0; i < 8; i++) {
      const task = cluster.newTask(`${i}`, { type: 'novelty' });
      await cluster.within(producer.submit(task));
    }
    await cluster.until('it runs them', () => young.pool.batches.length >= ranBefore + 8);
    assert.deepEqual(unhandled, []);
    complete();
    // With the last of the old, all run it.
    await old.close();
    await cluster.until('nothing waits', async () => (await cluster.keys('w/')).length === 0);
  });

  test('what a node submits and cannot run goes to one that can at once: no shard moves for it', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['a'], 8);
    const b = await cluster.join(['b'], 8);
    await settled(cluster);
    for (let i = 0; i < 8; i++) {
      await cluster.within(a.submit(cluster.newTask(`${i}`, { type: 'b' })));
    }
    await cluster.until('b runs them', () => b.pool.batches.length === 8);
    assert.deepEqual(await cluster.keys('w/'), []);
  });

  test('two nodes that run different types of a queue: shards go to and fro, and all ends', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['a'], 8);
    const b = await cluster.join(['b'], 8);
    await settled(cluster);
    const complete = completing(a, b);
    const submits: Promise<Accepted>[] = [];
    for (let i = 0; i < 40; i++) {
      const from = i % 2 ? a : b;
      // Due later, so that shards hold both when they move.
      const dueAtMs = cluster.clock.wallMs() + 50 * i;
      const dueMonoMs = cluster.clock.monoMs() + 50 * i;
      const type = i % 4 < 2 ? 'a' : 'b';
      submits.push(from.submit(cluster.newTask(`${i}`, { type, dueAtMs, dueMonoMs })));
    }
    await cluster.within(Promise.all(submits));
    await cluster.until('all ended', async () => {
      complete();
      const left = await Promise.all(['t/', 'i/'].map((prefix) => cluster.keys(prefix)));
      return left.flat().length === 0;
    });
    assert.equal(a.pool.batches.flatMap(({ tasks }) => tasks).length, 20);
    assert.equal(b.pool.batches.flatMap(({ tasks }) => tasks).length, 20);
  });

  test('a task that waits for its handler moves on when the only node that has it dies', async (t) => {
    const cluster = await scriptedCluster(t);
    const old = await cluster.join(['work']);
    const first = await cluster.join(['work', 'novelty'], 0);
    await settled(cluster);
    for (let i = 0; i < 4; i++) {
      await cluster.within(first.submit(cluster.newTask(`${i}`, { type: 'novelty' })));
    }
    first.die();
    await cluster.until('the old one has them', () => old.open === 4, 4 * CLUSTER_TTL_MS);
    const second = await cluster.join(['work', 'novelty'], 4);
    await cluster.until('they run', () => second.pool.batches.length === 4);
    assert.equal(old.pool.batches.length, 0);
  });

  test('keyed tasks: one task for a key, whichever node it is submitted to', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 0);
    const b = await cluster.join(['work'], 0);
    const producer = await cluster.join([]);
    await settled(cluster);
    const task = cluster.newTask('1', { idempotencyKey: 'one' });
    const all = await cluster.within(
      Promise.all([a, b, producer].map((node) => node.submit(task))),
    );
    assert.equal(new Set(all.map(idOf)).size, 1);
    assert.equal(all.filter(({ isCreated }) => isCreated).length, 1);
    assert.equal(a.open + b.open + producer.open, 1);
  });

  test('keyed tasks: clocks of nodes that differ where a window of keys ends make no second one', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 0);
    const b = await cluster.join(['work'], 0);
    await settled(cluster);
    const task = cluster.newTask('1', { idempotencyKey: 'one' });
    const endsInMs = 3_600_000 - (cluster.clock.wallMs() % 3_600_000);
    cluster.clock.jumpWall(endsInMs + 1_000);
    const first = await cluster.within(a.submit(task));
    cluster.clock.jumpWall(-2_000);
    const second = await cluster.within(b.submit(task));
    assert.equal(idOf(second), idOf(first));
    assert.equal(second.isCreated, false);
  });

  test('an owner that is lost between two commits: its submits go to another shard', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 0);
    await settled(cluster);
    // Somebody takes all owner keys away, and the watch does not tell.
    a.store.watchGate = new Promise(() => {});
    const { entries } = await cluster.store.range({ from: 'o/', to: 'o0' });
    await cluster.store.txn({
      compares: [],
      success: entries.map(({ key }) => ({ type: 'delete', key })),
    });
    const accepted = await cluster.within(a.submit(cluster.newTask('1')));
    assert.deepEqual(await cluster.keys('t/'), []);
    assert.equal((await cluster.keys('i/')).length, 1);
    assert.equal(accepted.isCreated, true);
  });

  test('the status of a task that another node holds', async (t) => {
    const cluster = await scriptedCluster(t);
    const worker = await cluster.join(['work'], 1);
    const producer = await cluster.join([]);
    await settled(cluster);
    const first = await cluster.within(producer.submit(cluster.newTask('1')));
    await cluster.until('it runs', () => worker.pool.batches.length === 1);
    const second = await cluster.within(producer.submit(cluster.newTask('2')));
    assert.equal(await producer.engine.status(first), 'running');
    assert.equal(await producer.engine.status(second), 'pending');
    completing(worker)();
    await settled(cluster);
    assert.equal(await producer.engine.status(first), 'completed');
  });

  test('what still runs here is not taken for dead when this node has lost its lease and has its shards back', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 2);
    await settled(cluster);
    await submitApart(cluster, a, 1);
    // Its record is the last to come back: until then it is no member, by anybody's list.
    a.store.isLost = ({ success }) => success.some((o) => o.type === 'put' && o.key[0] === 'n');
    await cluster.store.revokeLease(a.coordination.session.leaseId!);
    await cluster.until('it has shards again', async () => {
      const { entries } = await cluster.store.range({ from: 'o/', to: 'o0' });
      return entries.length === 4 && a.open === 1;
    });
    await cluster.clock.advance(3_000);
    assert.equal(a.pool.batches.length, 1, 'it does not run twice');
    a.store.isLost = () => false;
    completing(a)();
    await cluster.until('it ended', async () => (await cluster.keys('t/')).length === 0);
    assert.equal(a.open, 0);
  });

  test('nothing is begun by a node that has its shards back and is no member yet', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 2);
    await settled(cluster);
    a.store.isLost = ({ success }) => success.some((o) => o.type === 'put' && o.key[0] === 'n');
    await cluster.store.revokeLease(a.coordination.session.leaseId!);
    await cluster.until('it has no shard', async () => (await cluster.keys('o/')).length === 0);
    await cluster.until('it has them again', async () => (await cluster.keys('o/')).length === 4);
    await submitApart(cluster, a, 1);
    await cluster.clock.advance(1_000);
    // Whoever owns its shard next would take it for dead, and run again what it runs.
    assert.equal(a.pool.batches.length, 0);
    a.store.isLost = () => false;
    await cluster.until('it runs', () => a.pool.batches.length === 1);
    completing(a)();
  });

  test('a report of an execution that was lost is not taken for one of the next, which has its attempt again', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 1);
    await settled(cluster);
    const [task] = await submitApart(cluster, a, 1);
    // Cut off for longer than its lease lives, it is taken for dead; who takes over has no place for the task.
    a.store.isCut = true;
    a.store.readsFail = true;
    const b = await cluster.join(['work'], 0);
    await cluster.until('b has it', () => b.open === 1, 4 * CLUSTER_TTL_MS);
    a.store.isCut = false;
    a.store.readsFail = false;
    await settled(cluster);
    // It comes back to a, which runs it in the same attempt, beside what still runs of the first time.
    a.pool.freePlaces = 1;
    await cluster.within(b.close());
    await cluster.until('a runs it again', () => a.pool.batches.length === 2);
    assert.deepEqual(
      a.pool.batches.map(({ tasks }) => tasks[0]!.attempt),
      [1, 1],
    );
    const c = await cluster.join(['work'], 0);
    const closing = a.close(10_000);
    await cluster.until('c has it', () => c.open === 1);
    a.pool.batches[0]!.report([0], Outcome.COMPLETED, '"of the one that was lost"');
    a.pool.batches[0]!.end();
    await settled(cluster);
    assert.equal(c.open, 1, 'nothing is known of the second yet');
    completing(a)();
    await closing;
    const end = await cluster.within(c.engine.ended(fromAfar(task!)));
    assert.equal(end.json, '"done"');
  });

  describe('what was claimed under a lease that has ended', () => {
    /** A node whose claim of a task is in the store, and that does not hear of it: it is cut off. */
    async function cutOff(t: TestContext) {
      const cluster = await scriptedCluster(t);
      const a = await cluster.join(['work'], 2);
      await settled(cluster);
      a.store.fates.push('answer lost');
      a.submit(cluster.newTask('1')).catch(() => {});
      await cluster.clock.settle();
      assert.equal((await cluster.keys('s/')).length, 1, 'it is claimed');
      a.store.isCut = true;
      a.store.readsFail = true;
      const heal = (): void => {
        a.store.isCut = false;
        a.store.readsFail = false;
      };
      return { cluster, a, heal };
    }

    test('is not started beside its next owner, who took it for lost', async (t) => {
      const { cluster, a, heal } = await cutOff(t);
      const b = await cluster.join(['work'], 2);
      await cluster.until('b runs it', () => b.pool.batches.length === 1, 4 * CLUSTER_TTL_MS);
      heal();
      await settled(cluster);
      await settled(cluster);
      assert.equal(a.pool.batches.length, 0);
      completing(b)();
      await cluster.until('it ended', async () => (await cluster.keys('t/')).length === 0);
    });

    test('has not been started, and is no loss for whoever owns it next', async (t) => {
      const { cluster, a, heal } = await cutOff(t);
      let losses = 0;
      const onLost = (): void => {
        losses++;
      };
      subscribe('millrace:task:lost', onLost);
      t.after(() => unsubscribe('millrace:task:lost', onLost));
      await cluster.store.revokeLease(a.coordination.session.leaseId!);
      heal();
      await cluster.until('it runs', () => a.pool.batches.length === 1);
      completing(a)();
      await cluster.until('it ended', async () => (await cluster.keys('t/')).length === 0);
      assert.equal(losses, 0);
      assert.equal(a.open, 0);
      assert.deepEqual(await cluster.keys('c/'), []);
    });
  });

  for (const { how, outcome, json, told } of [
    { how: 'completed', outcome: Outcome.COMPLETED, json: '"done"', told: /^"done"$/ },
    {
      how: 'failed',
      outcome: Outcome.FAILED_FOR_GOOD,
      json: '{"name":"Error","message":"no such card"}',
      told: /ERR_MILLRACE_TASK_FAILED.*no such card/,
    },
    {
      how: 'cancelled',
      outcome: Outcome.CANCELLED,
      json: '"not worth it"',
      told: /TASK_CANCELLED.*not worth it/,
    },
  ]) {
    test(`what a node had in hand when it lost a shard counts with the next owner: ${how}`, async (t) => {
      const cluster = await scriptedCluster(t);
      const a = await cluster.join();
      await settled(cluster);
      const [task] = await submitApart(cluster, a, 1);
      const end = a.engine.ended(task!);
      a.store.isCut = true;
      a.pool.batches[0]!.report([0], outcome, json);
      a.pool.batches[0]!.end();
      await cluster.clock.advance(500);
      // The end could not be written, and the shard goes; nobody else is there to have it.
      await cluster.store.revokeLease(a.coordination.session.leaseId!);
      a.store.isCut = false;
      assert.match((await cluster.within(end)).json, told);
      await settled(cluster);
      assert.equal(a.pool.batches.length, 1, 'it does not run again');
      assert.equal(a.open, 0);
      assert.deepEqual(await cluster.keys('c/'), []);
    });
  }

  test('a cancel that was not written when its shard was lost is asked of the next owner', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 0);
    await settled(cluster);
    const [task] = await submitApart(cluster, a, 1);
    a.store.isCut = true;
    const answer = a.engine.cancel(task!, 'no');
    await cluster.clock.advance(500);
    await cluster.store.revokeLease(a.coordination.session.leaseId!);
    a.store.isCut = false;
    assert.equal(await cluster.within(answer), 'cancelled');
    assert.equal(await a.engine.status(fromAfar(task!)), 'cancelled');
    assert.equal(a.open, 0);
  });

  test('a node that was replaced holds nothing any more: others run what it had', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 1);
    const b = await cluster.join(['work'], 0);
    await settled(cluster);
    await submitApart(cluster, a, 4);
    // It had been gone for so long that its head was cleared away.
    await cluster.store.txn({
      compares: [],
      success: [{ type: 'delete', key: `h/${a.incarnation}` }],
    });
    await assert.rejects(cluster.within(a.submit(cluster.newTask('late'))), (error) =>
      hasCode(error, 'ERR_MILLRACE_STORE_LOCKED'),
    );
    b.pool.freePlaces = 8;
    b.pool.onFree?.();
    const complete = completing(b);
    await cluster.until('b has run all of it', async () => {
      complete();
      return (await cluster.keys('t/')).length === 0;
    });
    assert.deepEqual(await cluster.keys('n/'), [`n/${b.incarnation}`]);
  });

  describe('a shard that is being read', () => {
    /** A node that has read the segments of its new shards, and hears nothing of their inboxes yet. */
    async function reading(t: TestContext) {
      const cluster = await scriptedCluster(t);
      const b = await cluster.join(['work'], 0);
      await settled(cluster);
      const heir = await cluster.join(['work'], 0);
      await settled(cluster);
      const all = await submitApart(cluster, b, 3);
      heir.store.failsRead = ({ from }) => from.startsWith('i/');
      b.die();
      await cluster.clock.advance(3 * CLUSTER_TTL_MS);
      const { entries } = await cluster.store.range({ from: 'o/', to: 'o0' });
      assert.ok(entries.every(({ value }) => Buffer.from(value).toString() === heir.incarnation));
      const goOn = (): void => {
        heir.store.failsRead = () => false;
      };
      return { cluster, heir, all, goOn };
    }

    test('is not written to: a cancel waits until all of it is known', async (t) => {
      const { cluster, heir, all, goOn } = await reading(t);
      const cancel = heir.engine.cancel(fromAfar(all[0]!), 'no');
      await settled(cluster);
      assert.deepEqual(await cluster.keys('z/'), []);
      goOn();
      assert.equal(await cluster.within(cancel), 'cancelled');
      await settled(cluster);
      assert.equal(heir.open, 2);
    });

    test('and lost before that gives back no room that it never took', async (t) => {
      const { cluster, heir, goOn } = await reading(t);
      const { entries } = await cluster.store.range({ from: 'o/', to: 'o0' });
      await cluster.store.txn({
        compares: [],
        success: entries.map(({ key }) => ({ type: 'delete', key })),
      });
      await settled(cluster);
      goOn();
      await settled(cluster);
      assert.equal(heir.open, 3);
    });
  });

  test('a task that ends while its status is read is not gone', async (t) => {
    const cluster = await scriptedCluster(t);
    const worker = await cluster.join(['work'], 0);
    const producer = await cluster.join([]);
    await settled(cluster);
    const accepted = await cluster.within(producer.submit(cluster.newTask('1')));
    producer.store.beforeGet = async (key) => {
      if (!key.startsWith('t/')) return;
      producer.store.beforeGet = undefined;
      worker.pool.freePlaces = 1;
      worker.pool.onFree?.();
      await cluster.clock.advance(100);
      completing(worker)();
      await cluster.clock.advance(100);
      assert.deepEqual(await cluster.keys('i/'), []);
    };
    assert.equal(await cluster.within(producer.engine.status(accepted)), 'completed');
  });
});

describe('a node that hangs', () => {
  test('is evicted although its lease is renewed; its tasks run elsewhere, and what it says later is refused', async (t) => {
    const cluster = await scriptedCluster(t);
    const told: string[] = [];
    const listener = (_: unknown, name: string | symbol): void => void told.push(String(name));
    for (const kind of ['late', 'silent', 'evicted', 'reassigned']) {
      subscribe(`millrace:member:${kind}`, listener);
      t.after(() => unsubscribe(`millrace:member:${kind}`, listener));
    }
    const [a, b] = [await cluster.join(['work'], 8), await cluster.join(['work'], 8)];
    await settled(cluster);
    await submitApart(cluster, b, 4);
    assert.equal(b.pool.batches.length, 4);
    // It reads and renews, and nothing that it writes arrives.
    const before = b.coordination.session.leaseId;
    let open = (): void => {};
    b.store.gate = new Promise((resolve) => {
      open = resolve;
    });
    await cluster.until('a has its tasks', () => a.pool.batches.length === 4, 2 * CLUSTER_TTL_MS);
    assert.deepEqual(told.slice(0, 3), [
      'millrace:member:late',
      'millrace:member:silent',
      'millrace:member:evicted',
    ]);
    assert.ok(a.pool.batches.every(({ tasks }) => tasks[0]!.attempt === 1));
    completing(b)();
    b.store.gate = undefined;
    open();
    await settled(cluster);
    assert.notEqual(b.coordination.session.leaseId, before);
    assert.equal(a.open + b.open, 4, 'what b came to did not count');
    completing(a)();
    await cluster.until('all ended', () => a.open + b.open === 0);
    assert.equal(told.at(-1), 'millrace:member:reassigned');
  });

  test('what it said of its load and shards is there for all', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join(['work'], 1);
    await settled(cluster);
    await submitApart(cluster, a, 3);
    await cluster.clock.advance(CLUSTER_TTL_MS);
    const [beat] = await a.coordination.members.heartbeats();
    const { open, ready, running, threads, freePlaces, bytes } = beat!.load!;
    assert.deepEqual(
      { open, ready, running, threads, freePlaces },
      { open: 3, ready: 2, running: 1, threads: a.pool.threadCount, freePlaces: 0 },
    );
    assert.ok(bytes > 0);
    assert.deepEqual(
      beat!.shards.map(({ shard }) => shard),
      [0, 1, 2, 3],
    );
  });
});

describe('placement of new tasks', () => {
  test('a producer places them with who owns shards, and more with who has less to do', async (t) => {
    const cluster = await scriptedCluster(t);
    const [busy, idle] = [await cluster.join(['work'], 0), await cluster.join(['work'], 0)];
    await settled(cluster);
    await submitApart(cluster, busy, 40);
    const producer = await cluster.join([]);
    await cluster.clock.advance(CLUSTER_TTL_MS);
    const before = busy.open;
    assert.equal(before, 40);
    // The first question only sets off the reading.
    await submitApart(cluster, producer, 1);
    await settled(cluster);
    await submitApart(cluster, producer, 30);
    await settled(cluster);
    assert.ok(busy.open - before <= 1, `${busy.open - before} went to the busy one`);
    assert.ok(idle.open >= 30);
  });
});

describe('what a node leaves', () => {
  test('who leaves gently takes its head and mail along', async (t) => {
    const cluster = await scriptedCluster(t);
    const [a, b] = [await cluster.join(), await cluster.join()];
    await settled(cluster);
    await submitApart(cluster, b, 4);
    const complete = completing(a, b);
    await cluster.until('all ended', () => {
      complete();
      return a.open + b.open === 0;
    });
    const heads = await cluster.keys('h/');
    assert.ok(heads.includes(`h/${b.incarnation}`));
    await b.close();
    assert.ok(!(await cluster.keys('h/')).includes(`h/${b.incarnation}`));
    assert.deepEqual(await cluster.keys(`r/${b.incarnation}`), []);
  });

  test('a zombie whose head was cleared away cannot write, and says so', async (t) => {
    const cluster = await scriptedCluster(t);
    const a = await cluster.join();
    await settled(cluster);
    await cluster.within(a.submit(cluster.newTask('1')));
    const key = `h/${a.incarnation}`;
    await cluster.store.txn({ compares: [], success: [{ type: 'delete', key }] });
    await assert.rejects(cluster.within(a.submit(cluster.newTask('2'))), (error) =>
      hasCode(error, 'ERR_MILLRACE_STORE_LOCKED'),
    );
    assert.deepEqual(await cluster.keys('h/'), []);
  });

  test('a subscription that was cleared away is forgotten by the owner', async (t) => {
    const cluster = await scriptedCluster(t);
    const worker = await cluster.join();
    const producer = await cluster.join([]);
    await settled(cluster);
    const accepted = await cluster.within(producer.submit(cluster.newTask('1')));
    void producer.engine.ended(accepted).catch(() => {});
    await cluster.until('it runs', () => worker.pool.batches.length === 1);
    await settled(cluster);
    const [key] = await cluster.keys('c/');
    await cluster.store.txn({ compares: [], success: [{ type: 'delete', key: key! }] });
    await settled(cluster);
    completing(worker)();
    await settled(cluster);
    assert.equal(worker.open, 0);
    assert.deepEqual(await cluster.keys('r/'), [], 'nobody writes to the one that is gone');
  });
});
