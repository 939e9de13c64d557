/** Leases kept by the sentinel's thread, on a real etcd. */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { after, before, type TestContext, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import type { KeepLeaseOptions, Lease, LeaseRenewal } from '../../../src/core/store.js';
import { Sentinel, startSentinelThread } from '../../../src/store/etcd/sentinel.js';
import type { SentinelConnection } from '../../../src/store/etcd/sentinel-protocol.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { TcpProxy } from '../../support/tcp-proxy.js';
import { ALL, type Client, client, put, write } from './client.js';

let etcd: EtcdCluster;
before(async () => {
  // Leases of one second, which etcd's default election timeout does not allow.
  etcd = await EtcdCluster.start({ electionMs: 500 });
});
after(() => etcd.close());

function keeping(t: TestContext, endpoint: string, more: Partial<SentinelConnection> = {}) {
  const threads: Worker[] = [];
  const sentinel = new Sentinel(systemClock, { endpoints: [endpoint], ...more }, (connection) => {
    const thread = startSentinelThread(connection);
    threads.push(thread);
    return thread;
  });
  t.after(() => sentinel.close());
  const renewals: LeaseRenewal[] = [];
  let onRenewal = (): void => {};
  let onLost = (_atMs: number): void => {};
  const lost = new Promise<number>((resolve) => {
    onLost = resolve;
  });
  const keep = (lease: Lease, options: KeepLeaseOptions = {}) =>
    sentinel.keep(lease, {
      ...options,
      onRenewed: (renewal) => {
        renewals.push(renewal);
        onRenewal();
      },
      onLost: () => onLost(performance.now()),
    });
  const renewed = (count: number): Promise<void> =>
    new Promise((resolve) => {
      onRenewal = () => {
        if (renewals.length >= count) resolve();
      };
      onRenewal();
    });
  return { sentinel, threads, keep, renewals, renewed, lost };
}

/** A lease with a key on it, and when the server has deleted the key. */
async function held(
  direct: Client,
  ttlMs: number,
): Promise<{ lease: Lease; deletedAt: Promise<number> }> {
  const lease = await direct.leases.grant(ttlMs);
  await write(direct, put('held', '', lease.leaseId));
  const watch = direct.watch(ALL);
  const deletedAt = (async () => {
    for (;;) {
      // The test's end ends the watch, with an error.
      const { value, done } = await watch.next().catch(() => ({ value: undefined, done: true }));
      if (done || value === undefined) return Number.NaN;
      if (value.events.some(({ type }: { type: string }) => type === 'delete')) {
        return performance.now();
      }
    }
  })();
  return { lease, deletedAt };
}

/** What a long garbage collection or a synchronous loop does to the main thread. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

test('a main thread that is blocked for three ttls keeps its lease, and knows it at once', async (t) => {
  // Red with renewals on the main thread: none is sent while it is blocked.
  const direct = client(t, etcd.node.endpoint);
  const { lease } = await held(direct, 1_000);
  const { keep, renewed } = keeping(t, etcd.node.endpoint);
  const keeper = keep(lease, { hangLimitMs: 10_000 });
  await renewed(1);
  block(lease.ttlMs * 3);
  const now = performance.now();
  const renewal = keeper.lastRenewal();
  assert.ok(renewal !== undefined && now - renewal.sentAtMs < lease.ttlMs, JSON.stringify(renewal));
  assert.equal(renewal.ttlMs, lease.ttlMs);
  assert.ok(await direct.kv.get('held'));
});

test('a main thread that hangs longer than the limit loses its lease, and learns it when it is back', async (t) => {
  // Red without the gate on progress: a hung process would hold its locks for ever.
  const direct = client(t, etcd.node.endpoint);
  const { lease } = await held(direct, 1_000);
  const { keep, renewed, lost } = keeping(t, etcd.node.endpoint);
  const keeper = keep(lease, { hangLimitMs: 500 });
  await renewed(1);
  keeper.progress();
  block(lease.ttlMs * 3 + 1_000);
  assert.equal(await direct.kv.get('held'), undefined);
  const timer = setInterval(() => keeper.progress(), 50);
  await lost;
  clearInterval(timer);
});

test('a black hole longer than the ttl: the last renewal runs out before the server ends the lease', async (t) => {
  // Red with a keeper that counts from the answer, or from the wall clock: the holder would believe in its lease after
  // the server has given it away.
  const direct = client(t, etcd.node.endpoint);
  const proxy = await TcpProxy.listen({ port: etcd.node.clientPort });
  t.after(() => proxy.close());
  proxy.delayMs = 150;
  const { lease, deletedAt } = await held(direct, 2_000);
  const { keep, renewals, renewed, lost } = keeping(t, `http://127.0.0.1:${proxy.port}`);
  const keeper = keep(lease, { hangLimitMs: 60_000 });
  await renewed(2);
  proxy.hold();
  const ended = await deletedAt;
  const { sentAtMs, ttlMs } = keeper.lastRenewal()!;
  assert.ok(sentAtMs + ttlMs <= ended, `fenced ${sentAtMs + ttlMs - ended} ms after the end`);
  assert.deepEqual(renewals.at(-1), keeper.lastRenewal());
  proxy.release();
  assert.ok((await lost) > ended);
});

test('a renewal is dated before the server counts it, on the clock of the main thread', async (t) => {
  const direct = client(t, etcd.node.endpoint);
  const { lease } = await held(direct, 1_000);
  const before = performance.now();
  const { keep, renewals, renewed } = keeping(t, etcd.node.endpoint);
  const keeper = keep(lease);
  await renewed(1);
  keeper.progress();
  const asked = performance.now();
  keeper.renewNow();
  await renewed(2);
  const [first, second] = renewals as [LeaseRenewal, LeaseRenewal];
  assert.ok(before <= first.sentAtMs && first.sentAtMs <= asked, `${before} ${first.sentAtMs}`);
  assert.ok(asked <= second.sentAtMs && second.sentAtMs <= performance.now());
});

test('a thread that dies is replaced, and the lease goes on', async (t) => {
  const direct = client(t, etcd.node.endpoint);
  const { lease } = await held(direct, 2_000);
  const lostThreads: unknown[] = [];
  const listen = (message: unknown): void => void lostThreads.push(message);
  subscribe('millrace:lease:sentinel-lost', listen);
  t.after(() => unsubscribe('millrace:lease:sentinel-lost', listen));
  const { keep, threads, renewals, renewed } = keeping(t, etcd.node.endpoint);
  keep(lease, { hangLimitMs: 60_000 });
  await renewed(1);
  await threads[0]!.terminate();
  await renewed(renewals.length + 2);
  assert.deepEqual([threads.length, lostThreads.length], [2, 1]);
  assert.ok(await direct.kv.get('held'));
});

test('closing ends the thread; what is kept is left to end or to be revoked', async (t) => {
  const direct = client(t, etcd.node.endpoint);
  const { lease } = await held(direct, 30_000);
  const { sentinel, keep, threads, renewed } = keeping(t, etcd.node.endpoint);
  const keeper = keep(lease);
  await renewed(1);
  const exit = once(threads[0]!, 'exit');
  await sentinel.close();
  assert.deepEqual(await exit, [0]);
  await sentinel.close();
  keeper.renewNow();
  await keeper.stop();
  assert.ok(await direct.kv.get('held'));
  await direct.leases.revoke(lease.leaseId);
  assert.equal(await direct.kv.get('held'), undefined);
});

test('certificates go along: the sentinel renews where a client certificate is demanded', async (t) => {
  const guarded = await EtcdCluster.start({ tls: { requiresClient: true } });
  t.after(() => guarded.close());
  const { authority, client: pair } = guarded.tls!;
  const tls = { ca: authority.ca, ...pair };
  // etcdctl fills an id up to 16 digits; ours have no zeros in front.
  const granted = /lease 0*([0-9a-f]+) granted/.exec(await guarded.etcdctl('lease', 'grant', '30'));
  const { keep, renewed, renewals } = keeping(t, guarded.node.endpoint, { tls });
  keep({ leaseId: granted![1] as Lease['leaseId'], ttlMs: 30_000 });
  await renewed(1);
  assert.equal(renewals[0]?.ttlMs, 30_000);
});
