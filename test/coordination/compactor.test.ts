import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type TestContext, test } from 'node:test';
import { CompactionRule } from '../../src/coordination/compaction-rule.js';
import { Compactor } from '../../src/coordination/compactor.js';
import type { Heartbeat } from '../../src/coordination/heartbeats.js';
import { NeededRevisions } from '../../src/coordination/needed-revisions.js';
import type { Revision, StoreUsage } from '../../src/core/store.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/index.js';
import { FaultyStore } from '../support/faulty-store.js';

const MIB = 1024 ** 2;
const QUOTA = 2_048 * MIB;
const NEVER = { target: 0, head: 0 };
const rev = (revision: number): Revision => revision as Revision;

test('by revisions: nothing before 10 000, and the last 10 000 are kept', () => {
  const rule = new CompactionRule();
  const usage = { bytes: 0, bytesMax: QUOTA };
  rule.measure(rev(9_999), usage);
  assert.equal(rule.target(NEVER, []), undefined);
  rule.measure(rev(25_000), usage);
  assert.equal(rule.target(NEVER, []), 15_000);
  assert.equal(rule.target({ target: 15_001, head: 16_000 }, []), undefined);
});

test('by bytes: a sixteenth of the quota is time, and as much is kept', () => {
  const rule = new CompactionRule();
  // 8 MiB per revision: the quota is 256 revisions, a sixteenth 16.
  for (let i = 1; i <= 16; i++) rule.measure(rev(i), { bytes: i * 8 * MIB, bytesMax: QUOTA });
  assert.equal(rule.target(NEVER, []), undefined);
  rule.measure(rev(17), { bytes: 17 * 8 * MIB, bytesMax: QUOTA });
  assert.equal(rule.target(NEVER, []), 1);
  // What compaction frees is no negative writing.
  rule.measure(rev(18), { bytes: 2 * 8 * MIB, bytesMax: QUOTA });
  assert.equal(rule.target({ target: 1, head: 17 }, []), undefined);
  for (let i = 19; i <= 34; i++) {
    rule.measure(rev(i), { bytes: (i - 16) * 8 * MIB, bytesMax: QUOTA });
  }
  assert.equal(rule.target({ target: 1, head: 17 }, []), 18);
});

test('never past what somebody needs, unless that one is too far behind', () => {
  const rule = new CompactionRule();
  rule.measure(rev(150_000), { bytes: 0, bytesMax: QUOTA });
  assert.equal(
    rule.target({ target: 100_000, head: 110_000 }, [rev(149_000), rev(120_000)]),
    119_999,
  );
  assert.equal(rule.target({ target: 120_000, head: 130_000 }, [rev(120_000)]), undefined);
  assert.equal(rule.target(NEVER, [rev(50_000)]), 49_999);
  assert.equal(rule.target(NEVER, [rev(49_999)]), 140_000);
});

async function setup(t: TestContext) {
  const clock = new VirtualClock();
  const factory = memoryStore();
  const usage: { now: StoreUsage } = { now: { bytes: 0, bytesMax: QUOTA } };
  const heartbeats: Pick<Heartbeat, 'node' | 'neededRevision'>[] = [];
  const compacted: number[] = [];
  const server = await factory.open({ clock });
  const start = async () => {
    const store = Object.assign(new FaultyStore(await factory.open({ clock })), {
      usage: async () => usage.now,
    });
    store.compact = async (revision) => {
      compacted.push(revision);
      await new Promise<void>((resolve) => clock.wakeIn(tookMs.now, resolve));
    };
    const compactor = new Compactor({
      clock,
      store,
      needed: new NeededRevisions(store),
      heartbeats: async () => heartbeats,
    });
    await compactor.start();
    t.after(() => compactor.stop());
    return { compactor, store };
  };
  const tookMs = { now: 100 };
  const write = async (revisions: number): Promise<number> => {
    let revision = 0;
    for (let i = 0; i < revisions; i++) {
      const put = { type: 'put', key: 'data', value: new Uint8Array(1) } as const;
      const outcome = await server.txn({ compares: [], success: [put] });
      if (outcome.kind === 'done') revision = outcome.revision;
    }
    return revision;
  };
  return { clock, usage, heartbeats, compacted, start, write, tookMs };
}

test('of several processes one compacts', async (t) => {
  const w = await setup(t);
  await w.start();
  await w.start();
  await w.start();
  const head = await w.write(20_500);
  await w.clock.advance(10_200);
  assert.deepEqual(w.compacted, [head - 10_000]);
  await w.clock.advance(60_000);
  assert.equal(w.compacted.length, 1);
});

test('what a live process needs is kept', async (t) => {
  const w = await setup(t);
  await w.start();
  const head = await w.write(20_500);
  w.heartbeats.push({ node: 'slow', neededRevision: rev(head - 15_000) });
  await w.clock.advance(10_200);
  assert.deepEqual(w.compacted, [head - 15_001]);
});

test('not more often than the last compaction took', async (t) => {
  const w = await setup(t);
  await w.start();
  w.tookMs.now = 60_000;
  await w.write(20_500);
  await w.clock.advance(71_000);
  await w.write(20_500);
  await w.clock.advance(50_000);
  assert.equal(w.compacted.length, 1);
  await w.clock.advance(20_000);
  assert.equal(w.compacted.length, 2);
  await w.clock.advance(60_000);
});

test('a full store is compacted without the key, and a lost answer leaves it to the next round', async (t) => {
  const w = await setup(t);
  const { store } = await w.start();
  await w.write(20_500);
  store.fates.push('request lost');
  await w.clock.advance(10_200);
  assert.deepEqual(w.compacted, []);
  store.fates.push('full');
  await w.clock.advance(10_200);
  assert.equal(w.compacted.length, 1);
});

test('says when the store fills up, and when it has room again', async (t) => {
  const w = await setup(t);
  const { compactor } = await w.start();
  w.tookMs.now = 0;
  const seen: unknown[] = [];
  const listener = (payload: unknown): void => {
    seen.push((payload as { readonly pressure: string }).pressure);
  };
  subscribe('millrace:store:pressure', listener);
  t.after(() => unsubscribe('millrace:store:pressure', listener));
  for (const share of [0.5, 0.61, 0.79, 0.81, 0.7, 0.1]) {
    w.usage.now = { bytes: share * QUOTA, bytesMax: QUOTA };
    await w.clock.advance(10_000);
  }
  assert.deepEqual(seen, ['slow', 'refuse', 'slow', 'none']);
  assert.equal(compactor.pressure, 'none');
});

test('looks sooner while the server grows fast', async (t) => {
  const w = await setup(t);
  await w.start();
  await w.clock.advance(10_100);
  w.usage.now = { bytes: QUOTA / 64, bytesMax: QUOTA };
  await w.clock.advance(10_000);
  await w.write(20_500);
  await w.clock.advance(2_600);
  assert.equal(w.compacted.length, 1);
  await w.write(20_500);
  await w.clock.advance(2_600);
  assert.equal(w.compacted.length, 1);
});

test('a round that fails is reported, and the next one works', async (t) => {
  const w = await setup(t);
  const { store } = await w.start();
  let failures = 0;
  const listener = (): void => void failures++;
  subscribe('millrace:compaction:failed', listener);
  t.after(() => unsubscribe('millrace:compaction:failed', listener));
  await w.write(20_500);
  store.isCut = true;
  await w.clock.advance(10_200);
  assert.equal(failures, 1);
  store.isCut = false;
  await w.clock.advance(10_200);
  assert.equal(w.compacted.length, 1);
});
