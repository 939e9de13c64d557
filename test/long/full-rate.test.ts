/**
 * Ten minutes at full rate on one etcd with its default quota: the store does not grow, since what has ended is forgotten and
 * its history is compacted while everything runs.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createRuntime, defineTasks } from '../../src/index.js';
import { etcdStore } from '../../src/store/etcd/index.js';
import { contract } from '../support/bulk-program.js';
import { runBulk } from '../support/bulk-run.js';
import { EtcdCluster } from '../support/etcd/index.js';
import { freshNamespace, openEtcd } from '../support/etcd/store.js';
import { until } from '../support/limit.js';

const SECONDS = 600;
const ITEMS_PER_RUN = 1_000_000;
const LOOK_MS = 1_000;
const BYTES_MAX = 2 ** 30;

let etcd: EtcdCluster;
before(async () => {
  etcd = await EtcdCluster.start();
});
after(() => etcd.close());

test('ten minutes at full rate stay below 1 GiB in use', async (t) => {
  const options = { endpoints: etcd.endpoints, namespace: freshNamespace() };
  let ran = 0;
  const add = contract.implement({
    run: () => {
      ran++;
    },
  });
  const worker = await createRuntime({ tasks: defineTasks({ add }), store: etcdStore(options) });
  t.after(() => worker.close());
  const store = await openEtcd(t, options);
  let bytesMax = 0;
  let quotaBytes = 0;
  let isOver = false;
  const looking = (async () => {
    while (!isOver) {
      const usage = await store.usage!();
      bytesMax = Math.max(bytesMax, usage.bytes);
      quotaBytes = usage.bytesMax;
      await delay(LOOK_MS);
    }
  })();
  const beganAtMs = performance.now();
  const seconds = (): number => (performance.now() - beganAtMs) / 1_000;
  let accepted = 0;
  while (seconds() < SECONDS) {
    await runBulk(t, ITEMS_PER_RUN, 'call', options);
    accepted += ITEMS_PER_RUN;
    t.diagnostic(
      `${Math.round(accepted / seconds())}/s, ${Math.round(bytesMax / 2 ** 20)} MiB in use at most`,
    );
  }
  await until('all have run', () => ran === accepted, 120_000);
  isOver = true;
  await looking;
  assert.ok(bytesMax < BYTES_MAX, `${bytesMax} of ${quotaBytes} bytes were in use at once`);
});
