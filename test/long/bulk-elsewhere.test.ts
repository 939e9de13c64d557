/** A producer with a small heap whose tasks all run elsewhere, on a real etcd. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createRuntime, defineTask, defineTasks } from '../../src/index.js';
import { etcdStore } from '../../src/store/etcd/index.js';
import { contract } from '../support/bulk-program.js';
import { runBulk } from '../support/bulk-run.js';
import { EtcdCluster } from '../support/etcd/index.js';
import { freshNamespace } from '../support/etcd/store.js';
import { until } from '../support/limit.js';

const ITEMS = 40_000;
const ROOM = 5_000;

let etcd: EtcdCluster;
before(async () => {
  etcd = await EtcdCluster.start();
});
after(() => etcd.close());

test('a producer of an endless stream goes as fast as other nodes run its tasks, in a heap of 64 MiB', async (t) => {
  const place = { endpoints: etcd.endpoints, namespace: freshNamespace() };
  let sum = 0;
  // Slower than the producer: about ten thousand a second.
  const add = defineTask<{ readonly n: number }, void>({
    name: contract.name,
    exec: 'inline',
    concurrency: 50,
  }).implement({
    run: async ({ n }) => {
      await delay(5);
      sum += n;
    },
  });
  const worker = await createRuntime({
    tasks: defineTasks({ add }),
    store: etcdStore({ endpoints: place.endpoints, namespace: place.namespace }),
    queue: { maxTasks: ROOM },
    session: { ttl: '3s' },
    retention: { completed: { age: 0 } },
  });
  t.after(() => worker.close());
  let openMax = 0;
  const watching = setInterval(() => {
    openMax = Math.max(openMax, worker.stats().open);
  }, 20);
  t.after(() => clearInterval(watching));
  await runBulk(t, ITEMS, 'stream', place);
  await until('all have run', () => sum === (ITEMS * (ITEMS + 1)) / 2, 60_000);
  // What it was heard to have room for, and ends in the time of two heartbeats.
  assert.ok(openMax < (ITEMS * 2) / 3, `${openMax} were open at once`);
});
