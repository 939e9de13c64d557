import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { ShardKeeper } from '../../src/coordination/shard-keeper.js';
import { type QueueShards, shardRecord } from '../../src/coordination/shard-map.js';
import { MillraceError } from '../../src/core/errors.js';
import { seededRandom } from '../../src/core/random.js';
import type { Entry, Revision } from '../../src/core/store.js';
import type { Fate } from '../support/faulty-store.js';
import { Belief } from './keepers.js';
import { gate, type Process, TTL_MS, type World, world } from './world.js';

const SHARDS = 16;
const ONE_QUEUE = [{ queue: 'default', shardCount: SHARDS }];

interface Node extends Process {
  readonly keeper: ShardKeeper;
  readonly belief: Belief;
}

async function setup(t: TestContext) {
  const w: World = await world(t);
  const beliefs: Belief[] = [];
  const epochs = new Map<string, string>();
  /** @param fates - of the first claims */
  const add = async (
    queues: readonly QueueShards[] = ONE_QUEUE,
    weight = 1,
    fates: readonly Fate[] = [],
    ownersHeardAfter?: Promise<void>,
  ): Promise<Node> => {
    const process = await w.join(undefined, shardRecord(queues, weight));
    process.faults.fates.push(...fates);
    process.faults.watchGate = ownersHeardAfter;
    process.faults.isGated = ({ from }) => ownersHeardAfter === undefined || from === 'o/';
    const { c, faults } = process;
    const belief = new Belief(c.members.node, c.session, beliefs, epochs);
    beliefs.push(belief);
    const keeper = new ShardKeeper(
      {
        clock: w.clock,
        random: seededRandom(beliefs.length),
        store: faults,
        session: c.session,
        members: c.members,
      },
      { queues, owner: belief },
    );
    await keeper.start();
    t.after(() => keeper.stop());
    await w.clock.settle();
    return { ...process, keeper, belief };
  };
  const owners = async (): Promise<readonly Entry[]> =>
    (await w.store.range({ from: 'o/', to: 'o0' })).entries;
  /** Every shard is owned by one of these, who know it. */
  const sharedBy = async (...nodes: readonly Node[]): Promise<number[]> => {
    const entries = await owners();
    assert.equal(entries.length, SHARDS);
    for (const { key, value, createRevision } of entries) {
      const node = nodes.find(({ c }) => c.members.node === Buffer.from(value).toString());
      assert.ok(node, `${key} belongs to nobody of these`);
      assert.equal(node.belief.held.get(key)?.epoch, createRevision);
    }
    const counts = nodes.map(({ belief }) => belief.held.size);
    assert.equal(
      counts.reduce((a, b) => a + b),
      SHARDS,
    );
    return counts;
  };
  return { ...w, add, owners, sharedBy };
}

test('one process takes all shards at once, in one transaction', async (t) => {
  const s = await setup(t);
  const a = await s.add();
  assert.deepEqual(await s.sharedBy(a), [SHARDS]);
  const claims = a.faults.sent.filter((txn) => txn.success[0]?.type === 'txn');
  assert.equal(claims.length, 1);
});

test('the epoch is the create revision of the owner key', async (t) => {
  const s = await setup(t);
  const a = await s.add();
  for (const { key, createRevision } of await s.owners()) {
    assert.equal(a.belief.held.get(key)!.epoch, createRevision);
  }
});

test('more than one transaction holds are claimed in several', async (t) => {
  const s = await setup(t);
  const a = await s.add([
    { queue: 'q1', shardCount: 64 },
    { queue: 'q2', shardCount: 64 },
    { queue: 'q3', shardCount: 64 },
  ]);
  assert.equal(a.belief.held.size, 192);
});

test('who joins is given its share without time passing, who leaves gives it back', async (t) => {
  const s = await setup(t);
  const a = await s.add();
  const b = await s.add();
  const [left, right] = await s.sharedBy(a, b);
  assert.ok(left! > 0 && right! > 0);
  const c = await s.add();
  assert.equal((await s.sharedBy(a, b, c)).length, 3);
  await b.keeper.stop();
  await b.c.stop();
  await s.clock.settle();
  await s.sharedBy(a, c);
  assert.ok(!a.belief.log.some((line) => line.startsWith('-')), 'nothing was lost');
});

test('a shard goes over only after its owner has let go', async (t) => {
  const s = await setup(t);
  const a = await s.add();
  a.belief.isObliging = false;
  const b = await s.add();
  await s.clock.advance(60_000);
  assert.equal(a.belief.held.size, SHARDS);
  assert.equal(b.belief.held.size, 0);
  assert.ok(a.belief.asked.size > 0 && a.belief.asked.size < SHARDS);
  const [[shard, letGo]] = [...a.belief.asked] as [[(typeof a.keeper.held)[0], () => void]];
  letGo();
  await s.clock.settle();
  assert.deepEqual([...b.belief.held.keys()], [shard.key]);
  assert.ok(b.belief.held.get(shard.key)!.epoch > shard.epoch);
  for (const [, go] of [...a.belief.asked]) go();
  await s.clock.settle();
  await s.sharedBy(a, b);
});

test('a queue goes only to those who have it', async (t) => {
  const s = await setup(t);
  const both = await s.add([...ONE_QUEUE, { queue: 'mail', shardCount: SHARDS }]);
  const one = await s.add();
  const queues = (node: Node): Set<string> => new Set(node.keeper.held.map(({ queue }) => queue));
  assert.deepEqual(queues(one), new Set(['default']));
  assert.equal(both.keeper.held.filter(({ queue }) => queue === 'mail').length, SHARDS);
  await both.keeper.stop();
  await both.c.stop();
  await s.clock.advance(TTL_MS);
  assert.equal((await s.owners()).length, SHARDS, 'nobody takes what it has no handlers for');
});

test('a member of no weight, and one that says nothing of queues, gets nothing', async (t) => {
  const s = await setup(t);
  const a = await s.add();
  await s.add(ONE_QUEUE, 0);
  await s.join('an observer');
  await s.clock.settle();
  await s.sharedBy(a);
});

test('shards of a process that is cut off are lost to it before anybody else has them', async (t) => {
  const s = await setup(t);
  const a = await s.add();
  const b = await s.add();
  const had = b.belief.held.size;
  b.faults.isCut = true;
  await s.clock.advance(TTL_MS - 2_000);
  assert.equal(a.belief.held.size, SHARDS - had);
  await s.clock.advance(3_000);
  await s.sharedBy(a);
  assert.notEqual(b.c.session.state, 'live');
  b.faults.isCut = false;
  await s.clock.advance(TTL_MS);
  assert.ok((await s.sharedBy(a, b)).every((count) => count > 0));
});

test('a lease that ends takes everything at once; under the next one epochs are new', async (t) => {
  const s = await setup(t);
  const a = await s.add();
  const before = Math.max(...a.keeper.held.map(({ epoch }) => epoch));
  await s.store.revokeLease(a.c.session.leaseId!);
  await s.clock.settle();
  assert.equal(a.belief.held.size, 0);
  await s.clock.advance(TTL_MS);
  await s.sharedBy(a);
  for (const { epoch } of a.keeper.held) assert.ok(epoch > before);
});

test('an owner key that is deleted is a loss, and the shard is claimed again', async (t) => {
  const s = await setup(t);
  const a = await s.add();
  const [shard] = a.keeper.held;
  await s.store.txn({ compares: [], success: [{ type: 'delete', key: shard!.key }] });
  await s.clock.settle();
  assert.deepEqual(a.belief.log.slice(SHARDS), ['-default/00', '+default/00']);
  await s.sharedBy(a);
});

for (const fate of ['answer lost', 'request lost', 'full'] as const) {
  test(`claims survive: ${fate}`, async (t) => {
    const s = await setup(t);
    const a = await s.add();
    a.faults.fates.push(fate, fate);
    const { leaseId } = a.c.session;
    await s.store.revokeLease(leaseId!);
    await s.clock.advance(TTL_MS);
    await s.sharedBy(a);
  });

  test(`releases survive: ${fate}`, async (t) => {
    const s = await setup(t);
    const a = await s.add();
    a.faults.fates.push(fate, fate);
    const b = await s.add();
    await s.clock.advance(1_000);
    await s.sharedBy(a, b);
  });
}

test('a claim that applies after its shard has stopped to be wanted is given back', async (t) => {
  const s = await setup(t);
  const a = await s.add(ONE_QUEUE, 1, ['late']);
  a.faults.fates.length = 0;
  // A member whose keeper never comes: what is its share stays free.
  await s.join(undefined, shardRecord(ONE_QUEUE));
  await s.clock.advance(100);
  const share = new Set(a.belief.held.keys());
  assert.ok(share.size > 0 && share.size < SHARDS);
  await a.faults.applyLate();
  await s.clock.settle();
  assert.deepEqual(new Set((await s.owners()).map(({ key }) => key)), share);
});

test('news that is older than an answer does not undo it', async (t) => {
  const s = await setup(t);
  const { opened, open } = gate();
  // The first hears of members, but of owner keys only what its own transactions answer.
  const a = await s.add(ONE_QUEUE, 1, [], opened);
  const b = await s.add();
  const share = b.belief.held.size;
  assert.ok(share > 0);
  await b.keeper.stop();
  await b.c.stop();
  await s.clock.advance(2_000);
  await s.sharedBy(a);
  const told = a.belief.log.length;
  a.faults.watchGate = undefined;
  open();
  await s.clock.advance(100);
  assert.equal(a.belief.log.length, told);
  await s.sharedBy(a);
});

test("a key that came and went while the watch was away stands in nobody's way", async (t) => {
  const s = await setup(t);
  let lose!: (cause: MillraceError) => void;
  const isAway = new Promise<void>((_, reject) => {
    lose = reject;
  });
  // Of its own keys it knows by the answers to its claims only.
  const a = await s.add(ONE_QUEUE, 1, [], isAway);
  await s.sharedBy(a);
  await s.store.revokeLease(a.c.session.leaseId!);
  await s.clock.advance(TTL_MS);
  assert.equal(a.belief.held.size, 0);
  a.faults.watchGate = undefined;
  lose(new MillraceError('ERR_MILLRACE_COMPACTED', 'what the watch needs next is gone'));
  await s.clock.advance(1_000);
  await s.sharedBy(a);
});

test('a session that ends needs no watch to say what is lost', async (t) => {
  const s = await setup(t);
  const a = await s.add();
  const { opened, open } = gate();
  a.faults.watchGate = opened;
  await s.store.revokeLease(a.c.session.leaseId!);
  await s.clock.advance(TTL_MS);
  assert.equal(a.belief.held.size, 0);
  a.faults.watchGate = undefined;
  open();
  await s.clock.advance(1_000);
  await s.sharedBy(a);
  assert.equal(a.belief.log.length, 3 * SHARDS, 'lost once, acquired once');
});

test('start, stop: without start, twice, and with a link that is cut', async (t) => {
  const s = await setup(t);
  const a = await s.add();
  const { clock, store } = s;
  const { session, members } = a.c;
  const idle = new ShardKeeper(
    { clock, random: seededRandom(1), store, session, members },
    { queues: ONE_QUEUE, owner: a.belief },
  );
  await idle.stop();
  a.faults.isCut = true;
  const stopped = Promise.all([a.keeper.stop(), a.keeper.stop()]);
  await s.clock.advance(2_500);
  await stopped;
  assert.equal(a.belief.held.size, 0);
});

test('closing gives everything up at once', async (t) => {
  const s = await setup(t);
  const a = await s.add();
  await a.keeper.stop();
  assert.deepEqual(await s.owners(), []);
  const revision = (await s.store.range({ from: 'o/', to: 'o0' })).revision as Revision;
  await s.clock.advance(TTL_MS);
  assert.deepEqual(await s.owners(), []);
  assert.ok(revision > 0);
});
