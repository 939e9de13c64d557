/** Idempotency keys that two processes submit at the same time. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace } from '../../support/etcd/store.js';
import { runKeyed } from '../../support/keyed-run.js';

const KEYS = 10_000;

let etcd: EtcdCluster;
before(async () => {
  etcd = await EtcdCluster.start();
});
after(() => etcd.close());

test('20 000 submits with 10 000 keys from two processes at once are 10 000 tasks', async (t) => {
  const run = await runKeyed(etcd, freshNamespace(), KEYS);
  t.diagnostic(`${run.perSecond} keyed submits a second`);
  assert.deepEqual([run.accepted, run.deduplicated], [KEYS, KEYS]);
  assert.deepEqual(run.stored, { keys: KEYS, tasks: KEYS });
});
