// A client that repeats whatever failed, behind a breaker for all calls, fails this, which is shown in the same run.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MillraceError } from '../../../src/core/errors.js';
import type { LeaseId, Store } from '../../../src/core/store.js';
import { ALL, apply, bytes, del, put } from '../../conformance/store/harness.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace, openEtcd } from '../../support/etcd/store.js';
import { soon, until } from '../../support/limit.js';
import { breaking } from './naive.js';

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
  const lease = await store.grantLease(60_000);
  let heard = (): void => {};
  store.keepLease(lease, {
    everyMs: 100,
    onRenewed: () => heard(),
    onLost: (cause) => assert.fail(cause),
  });

  let written = 0;
  let full: unknown;
  // Far more than the quota: the server looks at a size that it brings up to date ten times a second.
  while (full === undefined && written < 1_024) {
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
  const again = new Promise<void>((resolve) => {
    heard = resolve;
  });
  assert.ok(await store.get('small'));
  await store.renewLease(lease.leaseId);
  await soon('the next renewal', again);
  await apply(store, del('small'));
  const refused = (await refusal(store)) as MillraceError;
  assert.equal(refused.code, 'ERR_MILLRACE_STORE_FULL');
  assert.ok(Number((refused.details as { retryAfterMs?: number } | undefined)?.retryAfterMs) > 0);
  const { entries } = await store.range(ALL, { keysOnly: true });
  assert.ok(entries.every(({ key }) => key.startsWith('big/')));
  await showNaive(store, lease.leaseId);

  const revision = await apply(store, { type: 'deleteRange', range: ALL });
  await store.compact(revision);
  // Compaction goes on in the background, and what it has not freed yet, defragmentation cannot give back.
  await until('it writes again', async () => {
    await etcd.etcdctl('defrag');
    await etcd.etcdctl('alarm', 'disarm');
    return (await refusal(store)) === undefined;
  });
  assert.equal((await store.get('one-more'))?.version, 1);
});

/** The same server, full, by way of a client for which a failure is a failure: it can neither read nor renew. */
async function showNaive(store: Store, leaseId: LeaseId): Promise<void> {
  const naive = breaking(store);
  await assert.rejects(naive.txn({ compares: [], success: [put('one-more', 'x')] }));
  await assert.rejects(naive.get('small'), /breaker/);
  await assert.rejects(naive.renewLease(leaseId), /breaker/);
}

/** What a small write is refused with; undefined when it is not. */
async function refusal(store: Store): Promise<unknown> {
  return store.txn({ compares: [], success: [put('one-more', 'x')] }).then(
    () => undefined,
    (error: unknown) => error,
  );
}
