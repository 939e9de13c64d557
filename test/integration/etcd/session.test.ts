// A session that counts from the last answer, and a holder that trusts its lock, act after the end, which is shown in the same runs.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { after, before, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { prefixRange, type WatchBatch } from '../../../src/core/store.js';
import {
  createCoordination,
  type LockHandle,
  type Locks,
} from '../../../src/create-coordination.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { apply, iterate, put, text } from '../../conformance/store/harness.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace, openEtcd } from '../../support/etcd/store.js';
import { soon, until } from '../../support/limit.js';
import type { TcpProxy } from '../../support/tcp-proxy.js';
import type { FromHolder, Order } from './holder.js';
import { believe } from './naive.js';

const TTL_MS = 2_000;

let etcd: EtcdCluster;
before(async () => {
  etcd = await EtcdCluster.start({ electionMs: 500, hasProxies: true });
});
after(() => etcd.close());

test('a black hole longer than the ttl: the session is fenced before the server ends its lease', async (t) => {
  const namespace = freshNamespace();
  const proxy = etcd.proxies[0] as TcpProxy;
  const direct = { endpoints: etcd.endpoints, followMembers: false };
  const witness = await openEtcd(t, { ...direct, namespace });
  const through = { endpoints: etcd.proxiedEndpoints, namespace };
  const coordination = await createCoordination(etcdStore(through), { ttl: TTL_MS });
  const naiveStore = await openEtcd(t, through);
  t.after(() => {
    proxy.release();
    return coordination.close();
  });
  const order: string[] = [];
  const handle = await coordination.locks.tryLock('work');
  assert.ok(handle);
  handle.signal.addEventListener('abort', () => order.push('told'));
  const { leaseId } = await naiveStore.grantLease(TTL_MS);
  await apply(naiveStore, put('naive', 'mine', leaseId));
  const naiveIsTold = new Promise<void>((resolve) => {
    const end = believe(naiveStore, leaseId, TTL_MS, () => {
      order.push('naive told');
      resolve();
    });
    t.after(end);
  });
  const lockKeys = witness.lockSpace ?? { store: witness, prefix: '' };
  const lockEnds = deletion(t, lockKeys.store.watch(prefixRange('work/'))).then(() => {
    assert.notEqual(coordination.session.state, 'live');
    order.push('ended');
  });
  const naiveEnds = deletion(t, witness.watch(prefixRange('naive'))).then(() =>
    order.push('naive ended'),
  );
  proxy.hold();
  await soon('the end of both', Promise.all([lockEnds, naiveEnds, naiveIsTold]));
  const of = (name: string): number => order.indexOf(name);
  assert.ok(of('told') < of('ended'), `${order}`);
  assert.ok(of('naive ended') < of('naive told'), `${order}: the black hole was too short`);
});

test('processes stopped for twice the ttl: fenced, none of their writes is accepted; naive, all of them are', async (t) => {
  const namespace = freshNamespace();
  const direct = { endpoints: etcd.endpoints, namespace, followMembers: false };
  const store = await openEtcd(t, direct);
  const order = { endpoints: etcd.endpoints, namespace, ttlMs: TTL_MS };
  const fenced = startHolder(t, { ...order, name: 'fenced', isFenced: true });
  const naive = startHolder(t, { ...order, name: 'naive', isFenced: false });
  const writing = await Promise.all([fenced.hears('writing'), naive.hears('writing')]);
  fenced.child.kill('SIGSTOP');
  naive.child.kill('SIGSTOP');
  // Time has to pass here: the pause is what is tested.
  const pause = new Promise((resolve) => setTimeout(resolve, 2 * TTL_MS));
  const coordination = await createCoordination(etcdStore(direct), { ttl: TTL_MS });
  t.after(() => coordination.close());
  const space = store.lockSpace;
  assert.ok(space);
  const locks = await Promise.all([
    take(coordination.locks, 'fenced'),
    take(coordination.locks, 'naive'),
  ]);
  for (const [index, { token }] of locks.entries()) {
    assert.ok(token > BigInt(writing[index]?.token ?? 0));
  }
  // Under the locks, by whole keys: the compares and the data are on the same server.
  const mine = await space.store.txn({
    compares: locks.map(({ compare }) => compare),
    success: ['fenced', 'naive'].map((name) => put(`/${namespace}/${name}`, 'new holder')),
  });
  assert.equal(mine.kind, 'done');
  await pause;
  const ends = [fenced.hears('over'), naive.hears('over')];
  // They were stopped in the middle of writing, and go on where they were.
  fenced.child.kill('SIGCONT');
  naive.child.kill('SIGCONT');
  const [stopped, zombie] = await Promise.all(ends);
  assert.deepEqual([stopped?.accepted, stopped?.refused], [0, 50]);
  assert.deepEqual([zombie?.accepted, zombie?.refused], [50, 0]);
  assert.equal(text(await store.get('fenced')), 'new holder');
  assert.equal(text(await store.get('naive')), 'old holder');
});

function startHolder(t: TestContext, order: Order) {
  const child = fork(fileURLToPath(new URL('./holder.js', import.meta.url)), [
    JSON.stringify(order),
  ]);
  t.after(() => child.kill('SIGKILL'));
  const hear = async (kind: FromHolder['kind']): Promise<FromHolder> => {
    for (;;) {
      const [message] = (await once(child, 'message')) as [FromHolder];
      if (message.kind === kind) return message;
    }
  };
  return { child, hears: (kind: FromHolder['kind']) => soon(`${order.name}: ${kind}`, hear(kind)) };
}

/** The lock, as soon as whoever has it has lost it. */
async function take(locks: Pick<Locks, 'tryLock'>, name: string): Promise<LockHandle> {
  let handle: LockHandle | undefined;
  await until(name, async () => {
    handle = await locks.tryLock(name);
    return handle !== undefined;
  });
  return handle as LockHandle;
}

/** Resolves when something in the range is deleted. It may first be told of puts. */
async function deletion(t: TestContext, batches: AsyncIterable<WatchBatch>): Promise<void> {
  const watch = iterate(t, batches);
  for (;;) {
    const { done, value } = await watch.next();
    assert.ok(!done);
    if (value.events.some(({ type }) => type === 'delete')) return;
  }
}
