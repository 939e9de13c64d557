import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Coordination } from '../../src/coordination/coordination.js';
import type { Member } from '../../src/coordination/members.js';
import { seededRandom } from '../../src/core/random.js';
import type { Revision } from '../../src/core/store.js';
import { TTL_MS, track, world } from './world.js';

const names = (members: readonly Member[] | undefined): string[] =>
  (members ?? []).map(({ node }) => node);

test('members see one another with what they say of themselves', async (t) => {
  const w = await world(t);
  const [a, b] = [await w.join('alpha'), await w.join('beta')];
  const list = await a.c.members.list();
  assert.deepEqual(list, [a.c.members.self, b.c.members.self]);
  assert.deepEqual(
    list.map(({ record }) => record),
    [{ label: 'alpha' }, { label: 'beta' }],
  );
});

test('a member that closes is gone at once, one that is cut off with its lease', async (t) => {
  const w = await world(t);
  const [a, b, c] = [await w.join(), await w.join(), await w.join()];
  const aborter = new AbortController();
  const seen: string[][] = [];
  const watching = (async () => {
    for await (const members of a.c.members.watch({ signal: aborter.signal })) {
      seen.push(names(members));
    }
  })();
  await w.clock.settle();
  await b.c.stop();
  await w.clock.settle();
  c.faults.isCut = true;
  await w.clock.advance(TTL_MS - 1_000);
  assert.deepEqual(seen, [
    ['node0', 'node1', 'node2'],
    ['node0', 'node2'],
  ]);
  await w.clock.advance(2_000);
  assert.deepEqual(seen.at(-1), ['node0']);
  c.faults.isCut = false;
  await w.clock.advance(TTL_MS);
  assert.deepEqual(seen.at(-1), ['node0', 'node2']);
  aborter.abort();
  await watching;
});

test('compare stands for one lease: it refuses once that is over, and holds again under the next', async (t) => {
  const w = await world(t);
  const { c } = await w.join();
  const before = c.members.compare;
  const kind = async (compare = c.members.compare) =>
    (await w.store.txn({ compares: [compare], success: [] })).kind;
  assert.equal(await kind(), 'done');
  await w.store.revokeLease(c.session.leaseId!);
  assert.equal(await kind(before), 'refused');
  await w.clock.advance(TTL_MS);
  assert.equal(await kind(before), 'refused');
  assert.equal(await kind(), 'done');
});

test('the answer to a join that was lost is found out', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  faults.fates.push('answer lost');
  await w.store.revokeLease(c.session.leaseId!);
  await w.clock.advance(TTL_MS);
  const [self] = await c.members.list();
  assert.deepEqual(self, c.members.self);
});

test('heartbeats carry the lowest revision that is needed', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  await w.clock.advance(TTL_MS);
  const needed = faults.neededRevision();
  const [beat] = await c.members.heartbeats();
  assert.deepEqual(beat, {
    node: 'node0',
    atMs: beat?.atMs,
    everyMs: TTL_MS / 3,
    neededRevision: needed,
    load: undefined,
    shards: [],
  });
  assert.ok(w.clock.wallMs() - beat!.atMs <= TTL_MS / 3);
  const release = c.needed.keep(3 as Revision);
  await w.clock.advance(TTL_MS / 3);
  assert.equal((await c.members.heartbeats())[0]?.neededRevision, 3);
  release();
  await w.clock.advance(TTL_MS / 3);
  assert.equal((await c.members.heartbeats())[0]?.neededRevision, needed);
});

test('a name that a live process has is refused, one of a dead process is waited for', async (t) => {
  const w = await world(t);
  const first = await w.join();
  const join = () => {
    const c = new Coordination(
      { clock: w.clock, random: seededRandom(9), store: w.store },
      { ttlMs: TTL_MS, label: '', node: 'node0', record: {}, isMember: true, locking: 'queueing' },
    );
    return { c, started: track(c.start()) };
  };
  const rival = join();
  await w.clock.advance(2 * TTL_MS + 2_000);
  assert.match(String(rival.started.error), /a process that lives has the node name 'node0'/);
  await rival.c.stop();
  const successor = join();
  await w.clock.advance(1_000);
  first.faults.isCut = true;
  await w.clock.advance(TTL_MS + 2_000);
  assert.equal(successor.started.state, 'done');
  await successor.c.stop();
});

test('a store that does not answer says nothing of a name: who has a new lease joins as soon as it can', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  faults.isLost = ({ success }) => success.some((o) => o.type === 'put' && o.key.startsWith('n/'));
  await w.store.revokeLease(c.session.leaseId!);
  // Longer than a predecessor of the same name is waited for.
  await w.clock.advance(3 * TTL_MS);
  assert.deepEqual(await c.members.list(), []);
  faults.isLost = () => false;
  await w.clock.advance(2_000);
  assert.deepEqual(names(await c.members.list()), ['node0']);
});
