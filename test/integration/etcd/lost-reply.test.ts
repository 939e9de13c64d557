// A client that repeats transactions, as etcd3 does by default, fails the first two, which is shown next to each.
import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import { prefixRange, type Store } from '../../../src/core/store.js';
import { ALL, apply, isAbsent, keys, put, text } from '../../conformance/store/harness.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace, openEtcd } from '../../support/etcd/store.js';
import { soon, until } from '../../support/limit.js';
import type { TcpProxy } from '../../support/tcp-proxy.js';
import { repeating } from './naive.js';

const UNAVAILABLE = 'ERR_MILLRACE_STORE_UNAVAILABLE';

let etcd: EtcdCluster;
before(async () => {
  etcd = await EtcdCluster.start({ hasProxies: true });
});
after(() => etcd.close());

/** Two stores on the same keys: one behind a proxy, one that sees what really happened. */
async function setup(t: TestContext) {
  const namespace = freshNamespace();
  const proxy = etcd.proxies[0] as TcpProxy;
  const store = await openEtcd(t, { endpoints: etcd.proxiedEndpoints, namespace });
  const direct = { endpoints: etcd.endpoints, followMembers: false };
  const witness = await openEtcd(t, { ...direct, namespace });
  await apply(store, put('warm'));
  return { store, witness, proxy };
}

/** A compare-and-set whose answer is lost after it was applied. */
async function loseOneReply(t: TestContext, clientOf: (store: Store) => Pick<Store, 'txn'>) {
  const { store, witness, proxy } = await setup(t);
  proxy.dropDown();
  const pending = clientOf(store).txn({
    compares: [isAbsent('cas')],
    success: [put('cas', 'mine')],
  });
  await until('it is applied', async () => text(await witness.get('cas')) === 'mine');
  proxy.stopDropping();
  const { kind } = await soon('an outcome', pending);
  const entry = await store.get('cas');
  return { kind, value: text(entry), version: entry?.version };
}

test('a reply lost after a compare-and-set was applied: unknown, applied once, and found out by reading', async (t) => {
  const told = await loseOneReply(t, (store) => store);
  assert.deepEqual(told, { kind: 'unknown', value: 'mine', version: 1 });
});

test('(naive) a client that repeats it is told that somebody else was first', async (t) => {
  const told = await loseOneReply(t, repeating);
  assert.deepEqual(told, { kind: 'refused', value: 'mine', version: 1 });
});

/** A hundred writes, each of its own key, that lose their answers. What they were told, and how often it was written. */
async function loseManyReplies(t: TestContext, clientOf: (store: Store) => Pick<Store, 'txn'>) {
  const { store, witness, proxy } = await setup(t);
  const names = Array.from({ length: 100 }, (_, index) => `k/${index}`);
  const client = clientOf(store);
  proxy.dropDown();
  const pending = names.map((key) => client.txn({ compares: [], success: [put(key)] }));
  await until('some are applied', async () => (await keys(witness, prefixRange('k/'))).length > 10);
  proxy.stopDropping();
  const outcomes = await soon('all outcomes', Promise.allSettled(pending));
  // What was still under way when its connection was cut arrives now or never.
  await apply(store, put('barrier'));
  const there = new Map((await witness.range(ALL)).entries.map((entry) => [entry.key, entry]));
  return outcomes.map((outcome, index) => ({
    told: outcome.status === 'rejected' ? (outcome.reason.code as string) : outcome.value.kind,
    writes: there.get(names[index] as string)?.version ?? 0,
  }));
}

test('a hundred transactions in flight when replies get lost: none applied twice, none told wrongly', async (t) => {
  const ends = await loseManyReplies(t, (store) => store);
  for (const { told, writes } of ends) {
    assert.ok(writes <= 1, 'written again');
    if (told === 'done') assert.equal(writes, 1);
    // Thrown means: certainly not applied, because nothing was sent.
    else if (told !== 'unknown') assert.deepEqual([told, writes], [UNAVAILABLE, 0]);
  }
  assert.ok(ends.some(({ told }) => told === 'unknown'));
});

test('(naive) a client that repeats them writes twice what it tells as done once', async (t) => {
  const ends = await loseManyReplies(t, repeating);
  assert.ok(ends.some(({ told, writes }) => told === 'done' && writes > 1));
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
    { code: UNAVAILABLE },
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
