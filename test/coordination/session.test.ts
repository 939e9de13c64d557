import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Session, type SessionChange, type Tenure } from '../../src/coordination/session.js';
import { type Clock, sleep, type WakeUp } from '../../src/core/clock.js';
import { seededRandom } from '../../src/core/random.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/index.js';
import { FaultyStore } from '../support/faulty-store.js';
import { codeOf, track } from './world.js';

const TTL_MS = 15_000;
/** ttl less ten percent. */
const FENCE_MS = 13_500;

async function setup(ttlMs = TTL_MS) {
  const clock = new VirtualClock();
  const store = new FaultyStore(await memoryStore().open({ clock }), clock);
  const session = new Session(clock, seededRandom(1), store, ttlMs);
  const changes: SessionChange[] = [];
  session.onChange((change) => changes.push(change));
  await session.start();
  await clock.settle();
  const tenure = await session.live();
  return { clock, store, session, tenure, kinds: () => changes.map(({ kind }) => kind), changes };
}

test('keeps its lease for as long as the store answers', async () => {
  const { clock, session, tenure, kinds } = await setup();
  await clock.advance(10 * TTL_MS);
  assert.equal(session.isLive(tenure), true);
  assert.deepEqual(kinds(), ['granted']);
});

test('fences itself before the store can end the lease, counted from when the last renewal was sent', async () => {
  const { clock, store, session, tenure, kinds } = await setup();
  await clock.advance(5_001);
  store.isCut = true;
  // The renewal at 5 s was the last one answered.
  await clock.advance(FENCE_MS - 10);
  assert.equal(session.isLive(tenure), true);
  await clock.advance(10);
  assert.equal(session.isLive(tenure), false);
  assert.equal(session.state, 'fenced');
  assert.deepEqual(kinds(), ['granted', 'fenced']);
  assert.equal(tenure.signal.aborted, false);
});

test('a renewal counts from when it was sent, however late its answer came', async () => {
  const { clock, store, session, tenure } = await setup();
  const renewLease = store.renewLease.bind(store);
  store.renewLease = async (leaseId) => {
    const lease = await renewLease(leaseId);
    await sleep(clock, 4_000);
    return lease;
  };
  // Sent after 5 s, answered after 9.
  await clock.advance(9_001);
  store.isCut = true;
  await clock.advance(5_000 + FENCE_MS - 9_001 - 10);
  assert.equal(session.isLive(tenure), true);
  await clock.advance(10);
  assert.equal(session.isLive(tenure), false);
});

test('a fence lifts when a renewal of the same lease is answered, and only then', async () => {
  const { clock, store, session, tenure, kinds } = await setup();
  store.isCut = true;
  await clock.advance(FENCE_MS + 100);
  assert.equal(session.state, 'fenced');
  // The store had not ended the lease yet.
  store.isCut = false;
  const live = track(session.live());
  await clock.advance(0);
  assert.equal(live.state, 'open');
  await store.renewLease(tenure.leaseId);
  await clock.advance(5_000);
  assert.equal(live.value, tenure);
  assert.deepEqual(kinds(), ['granted', 'fenced', 'lifted']);
});

test('a lease that ended is replaced by a new one, and everybody is told', async () => {
  const { clock, store, session, tenure, kinds, changes } = await setup();
  store.isCut = true;
  await clock.advance(2 * TTL_MS);
  const live = track<Tenure>(session.live());
  store.isCut = false;
  await clock.advance(6_000);
  assert.deepEqual(kinds(), ['granted', 'fenced', 'ended', 'granted']);
  assert.equal(codeOf(tenure.signal.reason), 'ERR_MILLRACE_LEASE_LOST');
  assert.notEqual(live.value?.leaseId, tenure.leaseId);
  assert.equal(changes.at(-1)?.tenure, live.value);
  assert.equal(session.isLive(tenure), false);
});

test('a lease that somebody revoked is replaced at the next renewal', async () => {
  const { clock, store, session, tenure, kinds } = await setup();
  await store.revokeLease(tenure.leaseId);
  await clock.advance(5_001);
  assert.deepEqual(kinds(), ['granted', 'ended', 'granted']);
  assert.equal(session.state, 'live');
});

test('when the wall clock jumps, nothing starts until a renewal sent after it was answered', async () => {
  for (const jumpMs of [2_000, -2_000]) {
    const { clock, store, session, tenure, kinds } = await setup();
    await clock.advance(7_000);
    store.isCut = true;
    clock.jumpWall(jumpMs);
    assert.equal(session.isLive(tenure), false);
    assert.equal(session.state, 'doubtful');
    assert.equal(session.isHeld(tenure), true);
    store.isCut = false;
    await clock.advance(3_001);
    assert.equal(session.state, 'live');
    assert.deepEqual(kinds(), ['granted', 'lifted']);
  }
});

test('half a second between the clocks is no reason to doubt', async () => {
  const { clock, session, tenure } = await setup();
  clock.jumpWall(499);
  assert.equal(session.isLive(tenure), true);
  clock.jumpWall(2);
  assert.equal(session.isLive(tenure), false);
});

test('a suspend longer than the lease fences at once, though the monotonic clock stood still', async () => {
  const { clock, session, tenure, kinds } = await setup();
  await clock.advance(1);
  clock.jumpWall(60_000);
  assert.equal(session.isLive(tenure), false);
  assert.equal(session.state, 'fenced');
  // The machine's store did not sleep with it: the lease is alive here, and the answer says so.
  await clock.advance(1);
  assert.deepEqual(kinds(), ['granted', 'fenced', 'lifted']);
});

test('a process that was stopped knows it at the first question, before any timer runs', async () => {
  const real = new VirtualClock();
  let stoppedMs = 0;
  // Both clocks went on while the process stood: the timers are late, the clocks are not.
  const clock: Clock = {
    wallMs: () => real.wallMs() + stoppedMs,
    monoMs: () => real.monoMs() + stoppedMs,
    wakeIn: (delayMs, wake): WakeUp => real.wakeIn(delayMs, wake),
    wakeSoon: (wake): WakeUp => real.wakeSoon(wake),
  };
  const store = new FaultyStore(await memoryStore().open({ clock: real }), clock);
  const session = new Session(clock, seededRandom(1), store, TTL_MS);
  await session.start();
  await real.settle();
  const tenure = await session.live();
  stoppedMs = 2 * TTL_MS;
  assert.equal(session.isLive(tenure), false);
  assert.equal(session.state, 'fenced');
});

test('a loop that was away for a third of the ttl doubts itself until the store has answered', async () => {
  const real = new VirtualClock();
  let stoppedMs = 0;
  const clock: Clock = {
    wallMs: () => real.wallMs() + stoppedMs,
    monoMs: () => real.monoMs() + stoppedMs,
    wakeIn: (delayMs, wake): WakeUp => real.wakeIn(delayMs, wake),
    wakeSoon: (wake): WakeUp => real.wakeSoon(wake),
  };
  const store = new FaultyStore(await memoryStore().open({ clock: real }), clock);
  const session = new Session(clock, seededRandom(1), store, TTL_MS);
  const states: string[] = [];
  session.onChange(({ kind }) => states.push(kind));
  await session.start();
  await real.settle();
  stoppedMs = 6_000;
  store.isCut = true;
  await real.advance(1_300);
  assert.equal(session.state, 'doubtful');
  store.isCut = false;
  await real.advance(5_000);
  assert.equal(session.state, 'live');
  assert.deepEqual(states, ['granted', 'lifted']);
});

test('close gives the lease back, and refuses who waits', async () => {
  const { clock, store, session, tenure } = await setup();
  await store.txn({
    compares: [],
    success: [{ type: 'put', key: 'mine', value: new Uint8Array(1), leaseId: tenure.leaseId }],
  });
  clock.jumpWall(2_000);
  const waiting = track(session.live());
  await session.stop();
  await clock.settle();
  assert.equal(codeOf(waiting.error), 'ERR_MILLRACE_CLOSED');
  assert.equal(codeOf(tenure.signal.reason), 'ERR_MILLRACE_CLOSED');
  assert.equal(await store.get('mine'), undefined);
  assert.equal(session.state, 'closed');
});

test('close does not wait for a store that is gone', async () => {
  const { clock, store, session } = await setup();
  store.revokeLease = () => new Promise(() => {});
  const stopped = track(session.stop());
  await clock.advance(2_001);
  assert.equal(stopped.state, 'done');
});

test('start fails when the store gives no lease', async () => {
  const clock = new VirtualClock();
  const store = new FaultyStore(await memoryStore().open({ clock }), clock);
  store.isCut = true;
  const session = new Session(clock, seededRandom(1), store, TTL_MS);
  await assert.rejects(session.start(), { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' });
  await session.stop();
});

test('short leases have short margins', async () => {
  const { clock, store, session, tenure } = await setup(600);
  store.isCut = true;
  await clock.advance(440);
  assert.equal(session.isLive(tenure), true);
  await clock.advance(11);
  assert.equal(session.isLive(tenure), false);
});

test('a renewal that was answered while this thread stood still counts, before its news arrives', async () => {
  const { clock, store, session, tenure, kinds } = await setup();
  const keepLease = store.keepLease.bind(store);
  let known: { sentAtMs: number; ttlMs: number } | undefined;
  store.keepLease = (lease, options) => {
    const keeper = keepLease(lease, options);
    keeper.lastRenewal = () => known;
    return keeper;
  };
  await store.revokeLease(tenure.leaseId);
  await clock.advance(5_001);
  const next = await session.live();
  store.isCut = true;
  known = { sentAtMs: clock.monoMs() + 10_000, ttlMs: TTL_MS };
  await clock.advance(FENCE_MS + 5_000);
  assert.equal(session.isLive(next), true);
  assert.deepEqual(kinds(), ['granted', 'ended', 'granted']);
});
