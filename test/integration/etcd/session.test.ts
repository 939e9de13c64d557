// A client that counts a lease from the last answer and on the wall clock, as etcd3 does, fails these: it acts after the end.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { prefixRange, type WatchBatch } from '../../../src/core/store.js';
import { createCoordination } from '../../../src/create-coordination.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { apply, iterate, put } from '../../conformance/store/harness.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace, openEtcd } from '../../support/etcd/store.js';
import { soon } from '../../support/limit.js';
import type { TcpProxy } from '../../support/tcp-proxy.js';
import type { FromHolder } from './holder.js';

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
  const factory = etcdStore({ endpoints: etcd.proxiedEndpoints, namespace });
  const coordination = await createCoordination(factory, { ttl: TTL_MS, node: 'cut-off' });
  t.after(() => {
    proxy.release();
    return coordination.close();
  });
  const order: string[] = [];
  const handle = await coordination.locks.tryLock('work');
  assert.ok(handle);
  handle.signal.addEventListener('abort', () => order.push('told'));
  const lockKeys = witness.lockSpace ?? { store: witness, prefix: '' };
  const watch = iterate(t, lockKeys.store.watch(prefixRange('work/')));
  const ended = (async () => {
    // The witness may hear of the lock being taken first.
    for (let isOver = false; !isOver; ) {
      const { done, value } = await watch.next();
      assert.ok(!done);
      isOver = (value as WatchBatch).events.some(({ type }) => type === 'delete');
    }
    assert.notEqual(coordination.session.state, 'live');
    order.push('ended');
  })();
  proxy.hold();
  await soon('the end of the lease', ended);
  assert.deepEqual(order, ['told', 'ended']);
});

test('a process stopped for twice the ttl: nothing it writes under its old lock is accepted', async (t) => {
  const namespace = freshNamespace();
  const { endpoints } = etcd;
  const direct = { endpoints, namespace, followMembers: false };
  const store = await openEtcd(t, direct);
  const holder = fork(fileURLToPath(new URL('./holder.js', import.meta.url)), [
    JSON.stringify({ endpoints, namespace, ttlMs: TTL_MS }),
  ]);
  t.after(() => holder.kill('SIGKILL'));
  const hears = async (kind: FromHolder['kind']): Promise<FromHolder> => {
    for (;;) {
      const [message] = (await once(holder, 'message')) as [FromHolder];
      if (message.kind === kind) return message;
    }
  };
  const writing = await soon('the holder writes', hears('writing'));
  holder.kill('SIGSTOP');
  const coordination = await createCoordination(etcdStore(direct), {
    ttl: TTL_MS,
  });
  t.after(() => coordination.close());
  await coordination.locks.withLock('guarded', { timeout: '30s' }, async ({ token, compare }) => {
    assert.ok(token > BigInt(writing.token));
    const space = store.lockSpace;
    assert.ok(space);
    // Under the lock, by whole keys: the lock's compare and the data are on the same server.
    const mine = await space.store.txn({
      compares: [compare],
      success: [put(`/${namespace}/data`, 'new holder')],
    });
    assert.equal(mine.kind, 'done');
    const refusal = hears('refused');
    // It was stopped in the middle of writing, and goes on where it was.
    holder.kill('SIGCONT');
    await soon('the old holder is refused', refusal);
  });
  const entry = await store.get('data');
  assert.equal(new TextDecoder().decode(entry?.value), 'new holder');
  await apply(store, put('end'));
});
