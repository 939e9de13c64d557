/**
 * Dead letters that run again: in their segment, in one that is gone, after a restart, and from other nodes.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { FrameKind, openFrame } from '../../src/core/frame.js';
import { taskId } from '../../src/core/ids.js';
import { readTask } from '../../src/core/records.js';
import { TaskState } from '../../src/core/states.js';
import { segmentKey } from '../../src/engine/keys.js';
import { readStoredTask, storedState } from '../../src/engine/stored-task.js';
import type { Accepted } from '../../src/engine/submission.js';
import { FaultyStore } from '../support/faulty-store.js';
import { within } from '../support/runtime.js';
import { CLUSTER_TTL_MS, idOf, scriptedCluster } from '../support/scripted-cluster.js';
import { type ScriptedEngine, scriptedEngine } from '../support/scripted-engine.js';
import { Outcome, type ScriptedPool } from '../support/scripted-pool.js';

const ERROR = '{"name":"Error","message":"no"}';

/** What was handed to a pool since the last call: payloads by what becomes of them. */
function finish(pool: ScriptedPool, fails: (payload: string) => boolean): string[] {
  return pool.batches.splice(0).flatMap((batch) => {
    const payloads = batch.tasks.map(({ payload }) => Buffer.from(payload).toString());
    payloads.forEach((payload, slot) => {
      if (fails(payload)) batch.report([slot], Outcome.FAILED_FOR_GOOD, ERROR);
      else batch.report([slot], Outcome.COMPLETED, JSON.stringify(payload));
    });
    const told = batch.tasks.map(
      ({ version, attempt }, i) => `${payloads[i]} v${version} a${attempt}`,
    );
    batch.end();
    return told;
  });
}

async function setup(limits: { readonly operationsMax?: number } = {}) {
  const scripted = await scriptedEngine({ retry: { attempts: 1 } }, 64, [], limits);
  const { clock } = scripted;
  const keys = async (prefix: string): Promise<string[]> => {
    const { entries } = await within(
      clock,
      1_000,
      scripted.store.range({ from: prefix, to: `${prefix}\x7f` }),
    );
    return entries.map(({ key }) => key.slice(0, 2));
  };
  const soon = <T>(promise: Promise<T>): Promise<T> => within(clock, 10_000, promise);
  const run = async (
    { pool }: Pick<ScriptedEngine, 'pool'>,
    fails: (payload: string) => boolean,
  ): Promise<string[]> => {
    await clock.advance(1);
    const told = finish(pool, fails);
    await clock.advance(5);
    return told;
  };
  return { ...scripted, keys, soon, run };
}

/** A worker and a producer, and a task of the producer that has failed for good on the worker. */
async function deadFromAfar(t: TestContext) {
  const cluster = await scriptedCluster(t, { retry: { attempts: 1 } });
  const worker = await cluster.join();
  const producer = await cluster.join([]);
  await cluster.clock.advance(1_000);
  const accepted = await cluster.within(producer.submit(cluster.newTask('x')));
  await cluster.until('it runs', () => worker.pool.batches.length === 1);
  assert.deepEqual(
    finish(worker.pool, () => true),
    ['x v0 a1'],
  );
  await cluster.until('it is dead', async () => (await cluster.keys('d/')).length === 1);
  await cluster.clock.advance(1_000);
  return { cluster, worker, producer, accepted, id: idOf(accepted) };
}

const ids = (accepted: readonly Accepted[]) =>
  accepted.map(({ segment, index }) => taskId(segment, index));

describe('a dead letter that is redriven', () => {
  test('runs again under its id, in the next version, with its attempts anew', async () => {
    const { engine, pool, submit, run, soon, keys } = await setup();
    const accepted = await submit(3);
    await run({ pool }, (payload) => payload === '1');
    assert.deepEqual(await keys('d/'), ['d/']);
    assert.deepEqual(await keys('t/'), []);
    const id = ids(accepted)[1]!;
    assert.deepEqual(await soon(engine.redrive([id])), [id]);
    assert.deepEqual(await keys('d/'), []);
    assert.deepEqual(await keys('t/'), ['t/']);
    const place = { ...accepted[1]!, task: 0 as never };
    const ended = engine.ended(place);
    assert.deepEqual(await run({ pool }, () => false), ['1 v1 a1']);
    assert.equal((await soon(ended)).json, '"1"');
    for (const prefix of ['d/', 't/', 's/']) assert.deepEqual(await keys(prefix), [], prefix);
    assert.equal(engine.stats.open, 0);
  });

  for (const look of [storedState, readStoredTask]) {
    test(`is known to whoever looks while it comes back: ${look.name}`, async () => {
      const { engine, store, pool, submit, run, soon } = await setup();
      const [accepted] = await submit(1);
      await run({ pool }, () => true);
      const reader = new FaultyStore(store);
      reader.beforeGet = async (key) => {
        if (!key.startsWith('d/')) return;
        reader.beforeGet = undefined;
        await soon(engine.redrive(ids([accepted!])));
      };
      const found = await look(reader, accepted!.segment, accepted!.index);
      const state = typeof found === 'object' ? found.state : found;
      assert.ok(state === TaskState.PENDING || state === TaskState.RUNNING, `${state}`);
      assert.equal(reader.beforeGet, undefined);
    });
  }

  test('is written whole or not at all by a runtime that closes meanwhile', async () => {
    const { engine, store, pool, submit, run, soon, keys, clock } = await setup();
    const accepted = await submit(1);
    await run({ pool }, () => true);
    store.fates.push('full');
    const redriven = engine.redrive(ids(accepted)).catch(() => []);
    // Its first commit has been refused, and the next one is that of the end.
    await clock.advance(50);
    await soon(engine.shutdown({ softMs: 0, hardMs: 0 }));
    const isBack = (await soon(redriven)).length > 0;
    assert.deepEqual([await keys('d/'), await keys('t/')], isBack ? [[], ['t/']] : [['d/'], []]);
    assert.equal((await keys('s/')).length <= (await keys('t/')).length, true);
  });

  test('comes back to its segment while others of it are open, and may fail again', async () => {
    const { engine, pool, submit, run, soon, keys, clock } = await setup();
    const accepted = await submit(3);
    await clock.advance(1);
    // One of three reports; the others run on.
    const batches = pool.batches.splice(0);
    const first = batches.find(({ tasks }) => Buffer.from(tasks[0]!.payload).toString() === '0')!;
    first.report([0], Outcome.FAILED_FOR_GOOD, ERROR);
    await clock.advance(5);
    const [id] = ids(accepted);
    assert.deepEqual(await soon(engine.redrive([id!])), [id]);
    assert.deepEqual(await run({ pool }, () => true), ['0 v1 a1']);
    assert.deepEqual(await keys('d/'), ['d/']);
    assert.deepEqual(await soon(engine.redrive([id!])), [id]);
    assert.deepEqual(await run({ pool }, () => false), ['0 v2 a1']);
    assert.deepEqual(await keys('d/'), []);
  });

  test('comes back beside one that fails while the segment is looked for', async () => {
    const { engine, store, pool, submit, run, soon, clock } = await setup();
    const accepted = await submit(2);
    await clock.advance(1);
    const [first, second] = pool.batches.splice(0);
    first!.report([0], Outcome.FAILED_FOR_GOOD, ERROR);
    first!.end();
    await clock.advance(5);
    store.beforeGet = async (key) => {
      if (!key.startsWith('t/')) return;
      store.beforeGet = undefined;
      second!.report([0], Outcome.FAILED_FOR_GOOD, ERROR);
      second!.end();
      await clock.advance(5);
    };
    const [one, other] = ids(accepted);
    await soon(engine.pauses.pause({ kind: 'task', name: 'work' }));
    assert.deepEqual(await soon(engine.redrive([one!])), [one]);
    assert.equal(store.beforeGet, undefined);
    const stored = await soon(store.get(segmentKey(accepted[0]!.segment)));
    const payloads = [0, 1].map((index) => {
      const { payload } = readTask(openFrame(stored!.value, FrameKind.TASKS), index);
      return Buffer.from(payload).toString();
    });
    assert.deepEqual(payloads, ['0', '1'], 'each is where it was');
    assert.deepEqual(await soon(engine.redrive([other!])), [other]);
    await soon(engine.pauses.resume({ kind: 'task', name: 'work' }));
    assert.deepEqual((await run({ pool }, () => false)).sort(), ['0 v1 a1', '1 v1 a1']);
  });

  test('comes back as it is by then, not as it was read, when its segment has come and gone meanwhile', async () => {
    const { engine, store, pool, submit, run, soon, clock } = await setup();
    const [one, last] = ids(await submit(2));
    // So many that they take commits between the two.
    const others = ids(await submit(47));
    await run({ pool }, () => true);
    const closed = () => {
      let open: () => void = () => {};
      store.gate = new Promise((resolve) => {
        open = resolve;
      });
      return open;
    };
    const openFirst = closed();
    const redriven = engine.redrive([one!, ...others, last!]);
    await clock.advance(1);
    const openSecond = closed();
    openFirst();
    // It has come back by the first commit, and fails again before the last of the others follow.
    assert.deepEqual((await run({ pool }, () => true)).slice(0, 1), ['0 v1 a1']);
    store.gate = undefined;
    openSecond();
    assert.equal((await soon(redriven)).length, 49);
    assert.deepEqual(await soon(engine.redrive([one!])), [one]);
    assert.ok((await run({ pool }, () => false)).includes('0 v2 a1'));
  });

  test('is known in its version after a restart, and its neighbours are still dead letters', async () => {
    const { engine, pool, submit, run, soon, open } = await setup();
    const accepted = await submit(4);
    await run({ pool }, (payload) => payload !== '2');
    const [zero, one, two, three] = ids(accepted);
    await soon(engine.pauses.pause({ kind: 'task', name: 'work' }));
    assert.deepEqual(await soon(engine.redrive([three!, one!])), [three, one]);
    // Twice, and what never failed.
    assert.deepEqual(await soon(engine.redrive([three!])), []);
    assert.deepEqual(await soon(engine.redrive([two!])), []);
    await soon(engine.stop());
    const next = await soon(open());
    await soon(next.engine.pauses.resume({ kind: 'task', name: 'work' }));
    assert.deepEqual((await run(next, () => false)).sort(), ['1 v1 a1', '3 v1 a1']);
    assert.deepEqual(await soon(next.engine.redrive([zero!])), [zero]);
    assert.deepEqual(await run(next, () => false), ['0 v1 a1']);
    assert.equal(next.engine.stats.open, 0);
  });

  test('is told to whoever else asks when it is durable, not before', async () => {
    const { engine, pool, store, submit, run, keys, clock } = await setup();
    const accepted = await submit(1);
    await run({ pool }, () => true);
    const [id] = ids(accepted);
    store.fates.push(...Array.from({ length: 100 }, () => 'full' as const));
    const told: (readonly string[])[] = [];
    for (let i = 0; i < 2; i++) void engine.redrive([id!]).then((redriven) => told.push(redriven));
    assert.deepEqual(await keys('d/'), ['d/']);
    assert.deepEqual(told, []);
    store.fates.length = 0;
    await clock.advance(10_000);
    assert.deepEqual(told, [[id], [id]]);
  });

  test('is not waited for when its engine closes before the store has answered', async () => {
    const { engine, store, clock } = await setup();
    store.range = () => new Promise<never>(() => {});
    const redriven = engine.redrive([taskId('default.00.0mjuohuhg.aaaaaaaa00000000' as never, 0)]);
    const told = assert.rejects(redriven, { code: 'ERR_MILLRACE_CLOSED' });
    await clock.advance(1);
    void engine.stop();
    await clock.advance(1);
    await told;
  });

  test('is a dead letter or open, whatever becomes of the commit', async () => {
    for (const fate of ['request lost', 'answer lost', 'full'] as const) {
      const { engine, pool, store, submit, run, soon, keys } = await setup();
      const accepted = await submit(1);
      await run({ pool }, () => true);
      store.fates.push(fate);
      const [id] = ids(accepted);
      assert.deepEqual(await soon(engine.redrive([id!])), [id], fate);
      assert.deepEqual(await keys('d/'), [], fate);
      assert.deepEqual(await run({ pool }, () => false), ['0 v1 a1'], fate);
    }
  });

  test('more than one commit takes are all redriven', async () => {
    const { engine, pool, submit, run, soon, keys } = await setup();
    const accepted = await submit(100);
    await run({ pool }, () => true);
    assert.equal((await keys('d/')).length, 100);
    assert.equal((await soon(engine.redrive(ids(accepted)))).length, 100);
    let ran = 0;
    for (let i = 0; i < 20; i++) ran += (await run({ pool }, () => false)).length;
    assert.equal(ran, 100);
    assert.deepEqual(await keys('d/'), []);
    assert.deepEqual(await keys('t/'), []);
  });

  test('and many others of segments of their own come back, however little a commit may hold', async () => {
    const { engine, pool, submit, run, soon, keys } = await setup({ operationsMax: 16 });
    const accepted: Accepted[] = [];
    for (let i = 0; i < 20; i++) accepted.push(...(await submit(1)));
    for (let i = 0; i < 20; i++) await run({ pool }, () => true);
    assert.equal((await keys('d/')).length, 20);
    const redriven = await Promise.all(ids(accepted).map((id) => soon(engine.redrive([id]))));
    assert.deepEqual(redriven.flat(), ids(accepted));
    assert.deepEqual(await keys('d/'), []);
  });

  test('is not gone for whoever asks here how it ends while it comes back', async () => {
    const { engine, pool, store, submit, run, soon } = await setup();
    const [accepted] = await submit(1);
    await run({ pool }, () => true);
    let isRedriven = false;
    store.beforeGet = async (key) => {
      if (!key.startsWith('d/') || isRedriven) return;
      isRedriven = true;
      await engine.redrive(ids([accepted!]));
    };
    const end = soon(engine.ended(accepted!));
    await run({ pool }, () => false);
    assert.equal((await end).json, '"0"');
  });

  test('is not gone for whoever asks its owner how it ends while it comes back', async (t) => {
    const cluster = await scriptedCluster(t);
    const worker = await cluster.join(['work'], 1);
    const producer = await cluster.join([]);
    await cluster.clock.advance(1_000);
    const accepted = await cluster.within(producer.submit(cluster.newTask('1')));
    await cluster.until('it runs', () => worker.pool.batches.length === 1);
    finish(worker.pool, () => true);
    await cluster.until('it has failed', async () => (await cluster.keys('d/')).length === 1);
    let isRedriven = false;
    worker.store.beforeGet = async (key) => {
      if (!key.startsWith('d/') || isRedriven) return;
      isRedriven = true;
      await worker.engine.redrive([idOf(accepted)]);
    };
    const end = cluster.within(producer.engine.ended({ ...accepted, task: 0 as never }));
    end.catch(() => {});
    await cluster.until('it runs again', () => worker.pool.batches.length === 1);
    finish(worker.pool, () => false);
    assert.equal((await end).json, '"1"');
  });

  test('is told of with its new end to whoever began to wait after it', async (t) => {
    const cluster = await scriptedCluster(t, { retry: { attempts: 1 } });
    const worker = await cluster.join(['work'], 1);
    const producer = await cluster.join([]);
    await cluster.clock.advance(1_000);
    const accepted = await cluster.within(producer.submit(cluster.newTask('x')));
    const place = { ...accepted, task: 0 as never };
    await cluster.until('it runs', () => worker.pool.batches.length === 1);
    const before = producer.engine.ended(place);
    await cluster.clock.advance(1_000);
    let heal = (): void => {};
    producer.store.isGated = ({ from }) => from.startsWith('r/');
    producer.store.watchGate = new Promise((resolve) => {
      heal = resolve;
    });
    finish(worker.pool, () => true);
    await cluster.until('it is dead', async () => (await cluster.keys('d/')).length === 1);
    await cluster.until('mail tells so', async () => (await cluster.keys('r/')).length === 1);
    const [mail] = (await cluster.store.range({ from: 'r/', to: 'r0' })).entries;
    await cluster.within(worker.engine.redrive([idOf(accepted)]));
    const after = producer.engine.ended(place);
    await cluster.clock.advance(1_000);
    producer.store.watchGate = undefined;
    heal();
    assert.equal((await cluster.within(before)).state, TaskState.FAILED);
    // An owner that comes after another one may answer once more what that one has answered.
    const twice = { type: 'put', key: `${mail!.key}-twice`, value: mail!.value } as const;
    await cluster.store.txn({ compares: [], success: [twice] });
    await cluster.clock.advance(1_000);
    await cluster.until('it runs again', () => worker.pool.batches.length === 1);
    finish(worker.pool, () => false);
    assert.equal((await cluster.within(after)).json, '"x"');
    await cluster.clock.advance(1_000);
    for (const prefix of ['c/', 'r/']) assert.deepEqual(await cluster.keys(prefix), [], prefix);
  });

  test('is brought back by the owner of its shard, whichever node asks', async (t) => {
    const { cluster, worker, producer, accepted, id } = await deadFromAfar(t);
    assert.deepEqual(await cluster.within(producer.engine.redrive([id])), [id]);
    assert.deepEqual(await cluster.within(producer.engine.redrive([id])), []);
    await cluster.until('it runs again', () => worker.pool.batches.length === 1);
    const end = producer.engine.ended({ ...accepted, task: 0 as never });
    assert.deepEqual(
      finish(worker.pool, () => false),
      ['x v1 a1'],
    );
    assert.equal((await cluster.within(end)).json, '"x"');
    await cluster.clock.advance(1_000);
    for (const prefix of ['d/', 't/', 'i/', 's/', 'c/', 'r/']) {
      assert.deepEqual(await cluster.keys(prefix), [], prefix);
    }
    assert.equal(worker.open, 0);
  });

  test('is told of by an owner that lost its shard and has it back while it looks', async (t) => {
    const { cluster, worker, producer, id } = await deadFromAfar(t);
    let answer = (): void => {};
    const answered = new Promise<void>((resolve) => {
      answer = resolve;
    });
    let isAsked = false;
    const range = worker.store.range.bind(worker.store);
    worker.store.range = async (...args) => {
      if (!args[0].from.startsWith('d/')) return range(...args);
      isAsked = true;
      await answered;
      return range(...args);
    };
    const redriven = producer.engine.redrive([id]);
    await cluster.until('its owner looks', () => isAsked);
    worker.store.range = range;
    await cluster.store.revokeLease(worker.coordination.session.leaseId!);
    await cluster.until('it has no shard', async () => (await cluster.keys('o/')).length === 0);
    await cluster.until('it has them again', async () => (await cluster.keys('o/')).length === 4);
    await cluster.clock.advance(1_000);
    answer();
    assert.deepEqual(await cluster.within(redriven), [id]);
    await cluster.until('it runs again', () => worker.pool.batches.length === 1);
    assert.deepEqual(await cluster.keys('c/'), []);
  });

  test('comes back as it is, though its shard went elsewhere and returned while it was read', async (t) => {
    const cluster = await scriptedCluster(t, { retry: { attempts: 1 } });
    const worker = await cluster.join(['work'], 64);
    await cluster.clock.advance(1_000);
    // Pairs, each in a segment of its own: `i` and its neighbour `n`.
    const pairs: (readonly [Accepted, Accepted])[] = [];
    for (let i = 0; i < 16; i++) {
      const pair = ['i', 'n'].map((payload) => worker.submit(cluster.newTask(payload)));
      pairs.push((await cluster.within(Promise.all(pair))) as [Accepted, Accepted]);
    }
    const dead = async (): Promise<boolean> => (await cluster.keys('d/')).length === 32;
    await cluster.until('all run', () => worker.pool.batches.flatMap((b) => b.tasks).length === 32);
    finish(worker.pool, () => true);
    await cluster.until('all are dead', dead);
    await cluster.clock.advance(1_000);
    assert.deepEqual(await cluster.keys('t/'), []);

    let tell = (): void => {};
    const told = new Promise<void>((resolve) => {
      tell = resolve;
    });
    const range = worker.store.range.bind(worker.store);
    worker.store.range = async (...args) => {
      const read = await range(...args);
      if (args[0].from.startsWith('d/')) await told;
      return read;
    };
    const redriven = pairs.map(([one]) => worker.engine.redrive([idOf(one)]));
    await cluster.clock.advance(10);
    worker.store.range = range;

    const other = await cluster.join(['work'], 64);
    await cluster.clock.advance(1_000);
    for (const [, neighbour] of pairs) {
      const id = idOf(neighbour);
      assert.deepEqual(await cluster.within(other.engine.redrive([id])), [id]);
    }
    let ranElsewhere = 0;
    await cluster.until('the neighbours have failed again', async () => {
      finish(worker.pool, () => true);
      ranElsewhere += finish(other.pool, () => true).length;
      return dead();
    });
    assert.ok(ranElsewhere > 0);
    await other.close();
    await cluster.clock.advance(CLUSTER_TTL_MS);

    tell();
    await cluster.within(Promise.all(redriven));
    for (const [, neighbour] of pairs)
      await cluster.within(worker.engine.redrive([idOf(neighbour)]));
    const ran: string[] = [];
    await cluster.until('all have run', () => {
      ran.push(...finish(worker.pool, () => false));
      return ran.length >= 32;
    });
    assert.deepEqual(
      ran.sort(),
      pairs.flatMap(() => ['i v1 a1']).concat(pairs.flatMap(() => ['n v2 a1'])),
    );
  });

  test('is written whole by an owner that is leaving its shard', async (t) => {
    // The addition must not be let go of before the shard is: the overlay would go alone.
    const cluster = await scriptedCluster(t, { retry: { attempts: 1 } });
    const worker = await cluster.join(['work'], 64);
    await cluster.clock.advance(1_000);
    const count = 16;
    const accepted: Accepted[] = [];
    for (let i = 0; i < count; i++) {
      accepted.push(await cluster.within(worker.submit(cluster.newTask(`${i}`))));
    }
    await cluster.until('all run', () => worker.pool.batches.length === count);
    finish(worker.pool, () => true);
    await cluster.until('all are dead', async () => (await cluster.keys('d/')).length === count);
    await cluster.clock.advance(1_000);
    assert.deepEqual(await cluster.keys('s/'), []);

    worker.store.fates.push(...Array.from({ length: 1_000 }, () => 'full' as const));
    const told = worker.engine.redrive(accepted.map(idOf));
    await cluster.clock.advance(200);
    const other = await cluster.join(['work'], 64);
    const sentBefore = worker.store.sent.length;
    await cluster.clock.advance(1_000);
    worker.store.fates.length = 0;
    await cluster.within(told, 60_000);
    for (const { success } of worker.store.sent.slice(sentBefore)) {
      const keys = (type: 'put' | 'delete', kind: string): string[] =>
        success.flatMap((operation) =>
          operation.type === type && 'key' in operation && operation.key.startsWith(kind)
            ? [operation.key.slice(kind.length).replaceAll('/', '.')]
            : [],
        );
      const restored = keys('delete', 'd/').map((key) => key.replace(/^default\./, ''));
      for (const overlay of keys('put', 's/')) {
        assert.ok(
          restored.some((id) => id.startsWith(`${overlay}.`)),
          `${overlay} is pending, and its letter is there still`,
        );
      }
    }
    const ran = (): number => worker.pool.batches.length + other.pool.batches.length;
    await cluster.until('all run again', () => ran() >= count, 60_000);
    assert.deepEqual(await cluster.keys('d/'), []);
  });
});
