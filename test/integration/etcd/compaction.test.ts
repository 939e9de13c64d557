// A compactor that goes by the head of the store alone fails this: who still reads from further back finds it gone.
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { test } from 'node:test';
import { Compactor } from '../../../src/coordination/compactor.js';
import { NeededRevisions } from '../../../src/coordination/needed-revisions.js';
import { hasCode } from '../../../src/core/errors.js';
import type { Revision, Store } from '../../../src/core/store.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import { apply, bytes, del, put } from '../../conformance/store/harness.js';
import { closing } from '../../support/closing.js';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace, openEtcd } from '../../support/etcd/store.js';
import { until } from '../../support/limit.js';

const LIMITS = { due: 200, kept: 100, behindMax: 2_000 };
const ROUND_MS = 50;
const QUOTA_BYTES = 64 << 20;

test('of two compactors one compacts, and never past what the other still reads', async (t) => {
  const etcd = await EtcdCluster.start();
  const atEnd = closing(t);
  atEnd(() => etcd.close());
  const options = { endpoints: etcd.endpoints, namespace: freshNamespace() };
  const store = await openEtcd(t, options);
  const done: number[] = [];
  const listener = (payload: unknown): void => {
    done.push((payload as { readonly revision: number }).revision);
  };
  subscribe('millrace:compaction:done', listener);
  t.after(() => unsubscribe('millrace:compaction:done', listener));
  const first = await apply(store, put('data', 'first'));
  const needed = new NeededRevisions(store);
  const letGo = needed.keep(first);
  const heartbeats = async () => [{ node: 'reader', atMs: 0, neededRevision: needed.lowest() }];
  for (const at of [store, await openEtcd(t, options)]) {
    const parts = { clock: systemClock, store: at, needed: new NeededRevisions(at), heartbeats };
    const compactor = new Compactor({ ...parts, limits: LIMITS, roundMs: ROUND_MS });
    await compactor.start();
    atEnd(() => compactor.stop());
  }

  await write(store, 300);
  await until('a compaction', () => done.length > 0);
  assert.ok(done.every((revision) => revision < first));
  const old = await store.get('data', { revision: first });
  assert.equal(new TextDecoder().decode(old?.value), 'first');

  letGo();
  const before = done.length;
  const head = await write(store, 400);
  await until('a compaction up to what is kept', () => (done.at(-1) ?? 0) > first);
  await assert.rejects(store.get('data', { revision: first }), (error) =>
    hasCode(error, 'ERR_MILLRACE_COMPACTED'),
  );
  assert.ok((done.at(-1) as number) <= head + 10 - LIMITS.kept);
  // Each is one step forward: nobody repeated what the other had done.
  assert.ok(done.length - before <= 3, `${done}`);
  assert.deepEqual(
    done,
    [...new Set(done)].sort((a, b) => a - b),
  );
});

test('pressure rises before the quota is reached, and goes when space is free again', async (t) => {
  const etcd = await EtcdCluster.start({ quotaBytes: QUOTA_BYTES });
  const atEnd = closing(t);
  atEnd(() => etcd.close());
  const store = await openEtcd(t, {
    endpoints: etcd.endpoints,
    namespace: freshNamespace(),
    quota: QUOTA_BYTES,
  });
  const compactor = new Compactor({
    clock: systemClock,
    store,
    needed: new NeededRevisions(store),
    heartbeats: async () => [],
    limits: { due: 5, kept: 1, behindMax: 100 },
    roundMs: ROUND_MS,
  });
  await compactor.start();
  atEnd(() => compactor.stop());
  const seen = new Set<string>();
  const value = bytes('v'.repeat(64 << 10));
  let keys = 0;
  for (; compactor.pressure !== 'refuse' && keys < 1_600; keys++) {
    await apply(store, put(`big/${keys}`, value));
    // Asked anew each time: what was used a moment ago may be free by now.
    await until('the pressure is seen', async () => {
      const { bytes: used } = await store.usage!();
      return compactor.pressure !== 'none' || used < 0.6 * QUOTA_BYTES;
    });
    seen.add(compactor.pressure);
  }
  assert.deepEqual([...seen], ['none', 'slow', 'refuse']);
  // What ends still finds room.
  for (let key = 0; key < keys; key++) await apply(store, del(`big/${key}`));
  await write(store, 20);
  await until('the space of what was deleted is free', () => compactor.pressure === 'none');
});

/** @returns the newest revision */
async function write(store: Store, revisions: number): Promise<Revision> {
  let revision = 0 as Revision;
  for (let i = 0; i < revisions; i++) revision = await apply(store, put('data', `${i}`));
  return revision;
}
