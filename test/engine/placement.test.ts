import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { encodeHeartbeat, heartbeatKey } from '../../src/coordination/heartbeats.js';
import { LoadBoard } from '../../src/coordination/load-board.js';
import { ownerKey } from '../../src/coordination/shard-map.js';
import { ShardOwners } from '../../src/coordination/shard-owners.js';
import { encodeVerdict, type LateStage, verdictKey } from '../../src/coordination/verdicts.js';
import { seededRandom } from '../../src/core/random.js';
import type { Entry, Revision } from '../../src/core/store.js';
import { Placement } from '../../src/engine/placement.js';
import type { Shard } from '../../src/engine/shard.js';
import type { Shards } from '../../src/engine/shards.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { FaultyStore } from '../support/faulty-store.js';

const TTL_MS = 15_000;
const SHARDS = 64;

/**
 * A node that places tasks, and others as they appear in the store.
 *
 * @param owners - who owns the shards 0, 1, 2 ... of the queue
 */
async function setup(t: TestContext, owners: readonly string[], own: readonly number[] = []) {
  const clock = new VirtualClock();
  const store = new FaultyStore(await memoryStore().open({ clock }));
  t.after(() => store.close());
  const ownerKeys = new ShardOwners();
  const picture = owners.map((node, shard) => ({
    type: 'put' as const,
    entry: {
      key: ownerKey({ queue: 'q', shard }),
      value: Buffer.from(node),
      version: 1,
      createRevision: 1 as Revision,
      modRevision: 1 as Revision,
      leaseId: undefined,
    } satisfies Entry,
  }));
  ownerKeys.hear({ kind: 'list', revision: 1 as Revision, events: picture });
  const mine = own.map((shard) => ({ shard }) as Shard);
  const load = { open: 0, ready: 0, running: 0, threads: 2, freePlaces: 2, bytes: 0 };
  const placement = new Placement({
    clock,
    random: seededRandom(7),
    shards: { next: () => mine[0] } as unknown as Shards,
    owners: ownerKeys,
    board: new LoadBoard(clock, store, TTL_MS),
    node: 'self',
    shardCount: SHARDS,
    isHandled: (type) => type === 'work',
    // Only shards of even number are meant for others that run `rare`.
    shardsFor: (_, type) => (type === 'rare' ? [0, 2, 4] : []),
    load: () => load,
    readyAtMost: () => load.ready,
  });
  /** Where so many segments of `tasks` tasks go, by node. */
  const place = (count: number, tasks = 1, type = 'work'): Record<string, number> => {
    const placed: Record<string, number> = {};
    for (let i = 0; i < count; i++) {
      const { shard, owner } = placement.home({ queue: 'q', type, tasks });
      const node = owner === undefined ? (owners[shard] ?? 'nobody') : 'own';
      placed[node] = (placed[node] ?? 0) + 1;
    }
    return placed;
  };
  const put = async (key: string, value: Uint8Array): Promise<void> => {
    await store.txn({ compares: [], success: [{ type: 'put', key, value }] });
  };
  return {
    clock,
    store,
    placement,
    load,
    place,
    beat: (node: string, ready: number, threads = 1) =>
      put(
        heartbeatKey(node),
        encodeHeartbeat({
          atMs: 0,
          everyMs: 5_000,
          neededRevision: undefined,
          report: { load: { ...load, ready, threads }, shards: [] },
        }),
      ),
    say: (node: string, stage: LateStage) => put(verdictKey(node), encodeVerdict(stage, 'x')),
    /** Asks once, so that figures are read, and waits for them. */
    async read() {
      placement.home({ queue: 'q', type: 'work', tasks: 0 });
      await clock.settle();
    },
  };
}

test('a node keeps what it takes while little waits here, and reads nothing of others', async (t) => {
  const w = await setup(t, ['self', 'idle'], [0]);
  w.store.readsFail = true;
  w.load.ready = 4_096;
  assert.deepEqual(w.place(100), { own: 100 });
});

test('what waits and is gone within seconds is no reason to send tasks away', async (t) => {
  const w = await setup(t, ['self', 'idle'], [0]);
  w.load.ready = 100_000;
  w.placement.noteEnded(60_000);
  await w.clock.advance(1_000);
  assert.deepEqual(w.place(10), { own: 10 });
  w.load.ready = 130_000;
  assert.deepEqual(w.place(10), { idle: 10 });
});

test('an overloaded node sends tasks to whoever has less to do, and to nobody who has more', async (t) => {
  const w = await setup(t, ['self', 'busy'], [0]);
  w.load.ready = 10_000;
  await w.beat('busy', 4_000);
  await w.read();
  assert.deepEqual(w.place(10), { busy: 10 });
  await w.beat('busy', 6_000);
  await w.clock.advance(TTL_MS / 3);
  await w.read();
  assert.deepEqual(w.place(10), { own: 10 }, '5000 per thread here, 6000 there');
});

test('of two others the less loaded one gets them', async (t) => {
  const w = await setup(t, ['a', 'b']);
  await w.beat('a', 1_000);
  await w.beat('b', 900);
  await w.read();
  assert.deepEqual(w.place(90), { b: 90 });
});

test('what was placed counts until the next heartbeat, so one that was idle is not flooded', async (t) => {
  const w = await setup(t, ['a', 'b']);
  await w.beat('a', 1_000);
  await w.beat('b', 0);
  await w.read();
  const placed = w.place(300, 10);
  assert.ok(Math.abs(placed.b! - placed.a! - 100) <= 1, JSON.stringify(placed));
  await w.beat('b', 0);
  await w.clock.advance(TTL_MS / 3);
  await w.read();
  assert.deepEqual(w.place(50, 10), { b: 50 });
});

test('threads count: more of them bear more', async (t) => {
  const w = await setup(t, ['big', 'small']);
  await w.beat('big', 1_000, 16);
  await w.beat('small', 100, 1);
  await w.read();
  assert.deepEqual(w.place(20), { big: 20 });
});

test('two are drawn by lot: among many nodes no pair takes all, and the most loaded one gets none', async (t) => {
  const nodes = ['a', 'b', 'c', 'd', 'e'];
  const w = await setup(t, nodes);
  for (const [i, node] of nodes.entries()) await w.beat(node, (i + 1) * 100_000);
  await w.read();
  const placed = w.place(1_000);
  // The i-th of five is the better one of two in (4 - i) of 10 pairs.
  assert.equal(placed.e, undefined);
  for (const [i, node] of nodes.slice(0, 4).entries()) {
    assert.ok(Math.abs(placed[node]! - (4 - i) * 100) < 60, JSON.stringify(placed));
  }
});

test('one that is late gets fewer, a silent one none, unless there is nobody else', async (t) => {
  const w = await setup(t, ['a', 'b']);
  await w.beat('a', 100);
  await w.beat('b', 300);
  await w.read();
  assert.deepEqual(w.place(10), { a: 10 });
  await w.say('a', 'late');
  await w.clock.advance(TTL_MS / 3);
  await w.read();
  assert.deepEqual(w.place(10), { b: 10 }, '100 count as 400');
  await w.say('b', 'silent');
  await w.clock.advance(TTL_MS / 3);
  await w.read();
  assert.deepEqual(w.place(10), { a: 10 });
  await w.say('a', 'evicting');
  await w.clock.advance(TTL_MS / 3);
  await w.read();
  const placed = w.place(100);
  assert.equal((placed.a ?? 0) + (placed.b ?? 0), 100);
});

test('where nobody owns a shard any will do: the next owner finds it in the inbox', async (t) => {
  const w = await setup(t, []);
  assert.deepEqual(w.place(10), { nobody: 10 });
});

test('without figures tasks go to everybody, and figures that cannot be read stay as they were', async (t) => {
  const w = await setup(t, ['a', 'b']);
  const placed = w.place(200);
  assert.ok(placed.a! > 60 && placed.b! > 60, JSON.stringify(placed));
  await w.clock.settle();
  await w.beat('a', 1_000);
  await w.beat('b', 0);
  await w.clock.advance(TTL_MS / 3);
  await w.read();
  assert.deepEqual(w.place(10), { b: 10 });
  w.store.readsFail = true;
  await w.clock.advance(TTL_MS);
  await w.read();
  assert.deepEqual(w.place(10), { b: 10 });
});

test('a type that does not run here goes to shards where it does, also while this node has capacity', async (t) => {
  const w = await setup(t, ['a', 'b', 'c', 'b'], [0]);
  const placed = w.place(100, 1, 'rare');
  assert.deepEqual(Object.keys(placed).sort(), ['a', 'c']);
});
