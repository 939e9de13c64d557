// A client that repeats whatever is "resource exhausted", as etcd3 does, fails this: it hammers a full server and hides why.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALL, apply, bytes, del, put } from '../../conformance/store/harness.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace, openEtcd } from '../../support/etcd/store.js';
import { until } from '../../support/limit.js';

const QUOTA_BYTES = 16 << 20;
const VALUE = bytes('v'.repeat(512 << 10));

test('a full server: writes are refused as full, nothing is applied, and it recovers', async (t) => {
  const etcd = await EtcdCluster.start({ quotaBytes: QUOTA_BYTES });
  t.after(() => etcd.close());
  const store = await openEtcd(t, {
    endpoints: etcd.endpoints,
    namespace: freshNamespace(),
    quota: QUOTA_BYTES,
  });
  await apply(store, put('small', 'here'));
  const { leaseId } = await store.grantLease(60_000);

  let written = 0;
  let full: unknown;
  while (full === undefined && written < 64) {
    try {
      const outcome = await store.txn({ compares: [], success: [put(`big/${written}`, VALUE)] });
      // The one that crosses the quota may have been applied although it is told as failed.
      if (outcome.kind === 'done') written++;
      else full = (await refusal(store)) ?? undefined;
    } catch (error) {
      full = error;
    }
  }
  assert.equal((full as { code: string; kind: string }).code, 'ERR_MILLRACE_STORE_FULL');
  assert.equal((full as { kind: string }).kind, 'capacity');

  // Full is not broken: reads, renewals and deletions go on.
  assert.ok(await store.get('small'));
  await store.renewLease(leaseId);
  await apply(store, del('small'));
  const code = await refusal(store);
  assert.equal((code as { code: string }).code, 'ERR_MILLRACE_STORE_FULL');
  const { entries } = await store.range(ALL, { keysOnly: true });
  assert.ok(entries.every(({ key }) => key.startsWith('big/')));

  const revision = await apply(store, { type: 'deleteRange', range: ALL });
  await store.compact(revision);
  // Compaction goes on in the background, and what it has not freed yet, defragmentation cannot give back.
  await until('it writes again', async () => {
    await etcd.etcdctl('defrag');
    await etcd.etcdctl('alarm', 'disarm');
    return (await refusal(store)) === undefined;
  });
});

/** What a small write is refused with; undefined when it is not. */
async function refusal(store: Parameters<typeof apply>[0]): Promise<unknown> {
  return store.txn({ compares: [], success: [put('one-more', 'x')] }).then(
    () => undefined,
    (error: unknown) => error,
  );
}
