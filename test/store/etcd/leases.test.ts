import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { MillraceError } from '../../../src/core/errors.js';
import { seededRandom } from '../../../src/core/random.js';
import type { LeaseId, LeaseRenewal } from '../../../src/core/store.js';
import { ttlSecondsOf } from '../../../src/store/etcd/lease-codec.js';
import { Leases } from '../../../src/store/etcd/leases.js';
import {
  type FromSentinel,
  LeaseMemory,
  type ToSentinel,
} from '../../../src/store/etcd/sentinel-protocol.js';
import { SentinelWorker } from '../../../src/store/etcd/sentinel-worker.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import { encode, FakeLeases } from './fake-leases.js';

function setup(t: TestContext) {
  const clock = new VirtualClock();
  const server = new FakeLeases(clock);
  const leases = new Leases(server, clock, seededRandom(7), 5_000);
  t.after(() => leases.close(new MillraceError('ERR_MILLRACE_CLOSED', 'over')));
  return { clock, server, leases };
}

test('a ttl becomes whole seconds that are no less', () => {
  assert.deepEqual([1, 999, 1_000, 1_001, 15_000].map(ttlSecondsOf), [1, 1, 1, 2, 15]);
  for (const ttlMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e13]) {
    assert.throws(() => ttlSecondsOf(ttlMs), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  }
});

test('a lease is granted with the ttl the server says, and ids are 63 bits in hex', async (t) => {
  const { server, leases } = setup(t);
  const short = await leases.grant(100);
  assert.equal(short.ttlMs, 2_000);
  assert.match(short.leaseId, /^[0-7]?[0-9a-f]{1,15}$/);
  assert.ok(server.isAlive(short.leaseId));
  assert.notEqual((await leases.grant(1_000)).leaseId, short.leaseId);
});

test('a grant whose answer is lost is sent again under the same id: there is one lease', async (t) => {
  // Red with ids chosen by the server: the second try would leave a second lease behind.
  const { clock, server, leases } = setup(t);
  server.answersLost = 1;
  const granting = leases.grant(15_000);
  await clock.advance(1_000);
  const { leaseId, ttlMs } = await granting;
  assert.deepEqual([ttlMs, server.deadlines.size], [15_000, 1]);
  assert.ok(server.isAlive(leaseId));
});

test('a revocation whose answer is lost is sent again, and a lease that is gone is no error', async (t) => {
  const { clock, server, leases } = setup(t);
  const { leaseId } = await leases.grant(15_000);
  server.answersLost = 1;
  const revoking = leases.revoke(leaseId);
  await clock.advance(1_000);
  await revoking;
  await leases.revoke(leaseId);
  assert.equal(server.deadlines.size, 0);
});

test('renewals of many leases share one stream', async (t) => {
  const { server, leases } = setup(t);
  const granted = await Promise.all(Array.from({ length: 100 }, () => leases.grant(15_000)));
  const renewed = await Promise.all(granted.map(({ leaseId }) => leases.renew(leaseId)));
  assert.deepEqual(renewed, granted);
  assert.equal(server.streams.length, 1);
});

test('the renewal of an ended lease says so, and those around it are answered', async (t) => {
  const { leases } = setup(t);
  const [first, last] = await Promise.all([leases.grant(15_000), leases.grant(15_000)]);
  const middle = leases.renew('abc' as LeaseId);
  const around = [
    leases.renew(first.leaseId),
    middle.catch(() => first),
    leases.renew(last.leaseId),
  ];
  await assert.rejects(middle, { code: 'ERR_MILLRACE_LEASE_LOST', details: { leaseId: 'abc' } });
  assert.equal((await Promise.all(around)).length, 3);
});

test('a cut rejects the renewals that wait, and the next one opens a stream', async (t) => {
  const { server, leases } = setup(t);
  const { leaseId } = await leases.grant(15_000);
  const waiting = leases.renew(leaseId);
  server.cut();
  await assert.rejects(waiting, { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' });
  assert.equal((await leases.renew(leaseId)).ttlMs, 15_000);
  assert.equal(server.streams.length, 2);
});

test('a stream that is silent for 3 s is left, and its connection is made to find out why', async (t) => {
  // Red without a limit: a renewal into a black hole would wait until the connection is found dead.
  const { clock, server, leases } = setup(t);
  const { leaseId } = await leases.grant(15_000);
  server.isBlackHole = true;
  const first = leases.renew(leaseId);
  const failed = assert.rejects(first, { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' });
  await clock.advance(2_000);
  const second = leases.renew(leaseId);
  const alsoFailed = assert.rejects(second, { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' });
  await clock.advance(1_001);
  await Promise.all([failed, alsoFailed]);
  assert.equal(server.calls.at(-1), `LeaseTimeToLive ${leaseId}`);
  server.isBlackHole = false;
  assert.equal((await leases.renew(leaseId)).ttlMs, 15_000);
});

test('an answer for another lease ends the stream', async (t) => {
  const { server, leases } = setup(t);
  const { leaseId } = await leases.grant(15_000);
  const waiting = leases.renew(leaseId);
  server.streams[0]!.options.onMessage(encode('abc', 15));
  await assert.rejects(waiting, { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' });
});

function sentinelSetup(t: TestContext) {
  const clock = new VirtualClock();
  const server = new FakeLeases(clock);
  const leases = new Leases(server, clock, seededRandom(7), 5_000);
  const posted: FromSentinel[] = [];
  const sentinel = new SentinelWorker(server, clock, (message) => posted.push(message));
  t.after(() => sentinel.close());
  const memory = new LeaseMemory();
  const keep = async (ttlMs: number, hangLimitMs: number) => {
    const { leaseId } = await leases.grant(ttlMs);
    const order: ToSentinel = {
      type: 'keep',
      number: 1,
      leaseId,
      everyMs: ttlMs / 3,
      hangLimitMs,
      memory: memory.buffer,
    };
    memory.noteProgress(clock.monoMs());
    sentinel.take(order);
    await clock.settle();
    return leaseId;
  };
  return { clock, server, posted, sentinel, memory, keep };
}

test('the sentinel renews at once and every third of the ttl while the process makes progress', async (t) => {
  const { clock, server, posted, memory, keep } = sentinelSetup(t);
  await keep(15_000, 15_000);
  assert.deepEqual(memory.renewal(), { sentAtMs: 0, ttlMs: 15_000 });
  for (let second = 1; second <= 60; second++) {
    await clock.advance(1_000);
    memory.noteProgress(clock.monoMs());
  }
  assert.equal(server.renewals, 13);
  assert.deepEqual(memory.renewal(), { sentAtMs: 60_000, ttlMs: 15_000 });
  assert.equal(posted.length, 13);
});

test('a pause below the hang limit costs no lease, a longer one does', async (t) => {
  // Red without the gate: the sentinel would keep what a hung process holds for ever.
  const { clock, server, posted, memory, keep } = sentinelSetup(t);
  const leaseId = await keep(15_000, 30_000);
  await clock.advance(29_000);
  assert.ok(server.isAlive(leaseId));
  memory.noteProgress(clock.monoMs());
  await clock.advance(30_000 + 15_000 + 5_000);
  assert.ok(!server.isAlive(leaseId));
  const renewals = server.renewals;
  memory.noteProgress(clock.monoMs());
  await clock.advance(5_000);
  assert.equal(server.renewals, renewals + 1);
  assert.equal(posted.at(-1)?.type, 'lost');
});

test('silence is retried sooner and is never a loss; the last renewal is the one that was answered', async (t) => {
  const { clock, server, posted, memory, keep } = sentinelSetup(t);
  await keep(15_000, 60_000);
  await clock.advance(5_000);
  server.isBlackHole = true;
  await clock.advance(9_000);
  assert.deepEqual(memory.renewal(), { sentAtMs: 5_000, ttlMs: 15_000 });
  server.isBlackHole = false;
  await clock.advance(300);
  // Asked at 10 s, given up at 13 s, asked again a quarter of the interval later.
  assert.equal(memory.renewal()?.sentAtMs, 14_250);
  assert.ok(posted.every(({ type }) => type === 'renewed'));
});

test('a keeping that is stopped renews no more; one that is told to renews out of turn', async (t) => {
  const { clock, server, sentinel, keep } = sentinelSetup(t);
  await keep(15_000, 60_000);
  sentinel.take({ type: 'renew', number: 1 });
  await clock.settle();
  assert.equal(server.renewals, 2);
  sentinel.take({ type: 'stop', number: 1 });
  sentinel.take({ type: 'renew', number: 1 });
  await clock.advance(60_000);
  assert.equal(server.renewals, 2);
});

test('progress is told right across the wrap of its clock', () => {
  const memory = new LeaseMemory();
  for (const atMs of [0, 2 ** 31 - 5, 2 ** 31 + 5, 2 ** 32 - 5, 2 ** 32 + 5, 1e13]) {
    memory.noteProgress(atMs);
    assert.equal(memory.progressAgeMs(atMs + 10), 10);
    assert.equal(memory.progressAgeMs(atMs - 1), 0);
  }
});

test('a renewal is read whole from the shared memory', () => {
  const memory = new LeaseMemory();
  assert.equal(memory.renewal(), undefined);
  const renewal: LeaseRenewal = { sentAtMs: 12.5, ttlMs: 15_000 };
  memory.noteRenewal(renewal);
  assert.deepEqual(new LeaseMemory(memory.buffer).renewal(), renewal);
});
