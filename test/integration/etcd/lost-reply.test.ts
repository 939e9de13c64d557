// A client that repeats transactions, as etcd3 does by default, fails these: it tells a lost compare-and-set as refused.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { prefixRange } from '../../../src/core/store.js';
import { ALL, apply, isAbsent, keys, put, text } from '../../conformance/store/harness.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace, openEtcd } from '../../support/etcd/store.js';
import { soon, until } from '../../support/limit.js';
import type { TcpProxy } from '../../support/tcp-proxy.js';

let etcd: EtcdCluster;
before(async () => {
  etcd = await EtcdCluster.start({ hasProxies: true });
});
after(() => etcd.close());

/** Two stores on the same keys: one behind a proxy, one that sees what really happened. */
async function setup(t: Parameters<typeof openEtcd>[0]) {
  const namespace = freshNamespace();
  const proxy = etcd.proxies[0] as TcpProxy;
  const store = await openEtcd(t, { endpoints: etcd.proxiedEndpoints, namespace });
  const direct = { endpoints: etcd.endpoints, followMembers: false };
  const witness = await openEtcd(t, { ...direct, namespace });
  await apply(store, put('warm'));
  return { store, witness, proxy };
}

test('a reply lost after a compare-and-set was applied: unknown, applied once, and found out by reading', async (t) => {
  const { store, witness, proxy } = await setup(t);
  proxy.dropDown();
  const pending = store.txn({ compares: [isAbsent('cas')], success: [put('cas', 'mine')] });
  await until('it is applied', async () => text(await witness.get('cas')) === 'mine');
  proxy.stopDropping();
  const outcome = await soon('an outcome', pending);
  assert.equal(outcome.kind, 'unknown');
  const entry = await store.get('cas');
  assert.deepEqual([text(entry), entry?.version], ['mine', 1]);
});

test('a hundred transactions in flight when replies get lost: none applied twice, none told wrongly', async (t) => {
  const { store, witness, proxy } = await setup(t);
  const names = Array.from({ length: 100 }, (_, index) => `k/${index}`);
  proxy.dropDown();
  const pending = names.map((key) => store.txn({ compares: [isAbsent(key)], success: [put(key)] }));
  await until('some are applied', async () => (await keys(witness, prefixRange('k/'))).length > 10);
  proxy.stopDropping();
  const outcomes = await soon('all outcomes', Promise.allSettled(pending));
  // What was still under way when its connection was cut arrives now or never.
  await apply(store, put('barrier'));
  const there = new Map((await witness.range(ALL)).entries.map((entry) => [entry.key, entry]));
  for (const [index, outcome] of outcomes.entries()) {
    const entry = there.get(names[index] as string);
    assert.ok(entry === undefined || entry.version === 1, `${names[index]} was written again`);
    if (outcome.status === 'rejected') {
      // Thrown means: certainly not applied, because nothing was sent.
      assert.equal(outcome.reason.code, 'ERR_MILLRACE_STORE_UNAVAILABLE');
      assert.equal(entry, undefined);
    } else {
      assert.notEqual(outcome.value.kind, 'refused');
      if (outcome.value.kind === 'done') assert.ok(entry);
    }
  }
  assert.ok(outcomes.some((each) => each.status === 'fulfilled' && each.value.kind === 'unknown'));
});

test('reads go on by themselves when their connection is cut', async (t) => {
  const { store, proxy } = await setup(t);
  await apply(store, put('there', 'yes'));
  for (let round = 0; round < 5; round++) {
    const reads = Array.from({ length: 20 }, () => store.get('there'));
    proxy.cut();
    for (const entry of await soon('the reads', Promise.all(reads))) {
      assert.equal(text(entry), 'yes');
    }
  }
});

test('while nobody listens a transaction is refused as unavailable, not unknown; later all is well', async (t) => {
  const { store, proxy } = await setup(t);
  proxy.refuse();
  t.after(() => proxy.accept());
  const closed = until('the connections are gone', () => proxy.connections.size === 0);
  proxy.cut();
  await closed;
  await assert.rejects(
    soon('a refusal', store.txn({ compares: [], success: [put('never')] }, { deadlineMs: 1_000 })),
    { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' },
  );
  proxy.accept();
  await until('it writes again', async () => {
    try {
      await apply(store, put('again'));
      return true;
    } catch {
      return false;
    }
  });
  assert.equal(await store.get('never'), undefined);
});
