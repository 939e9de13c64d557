/** Millrace as a contender: a runtime per space, with everything at its default but the number of threads. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createRuntime, fileStore } from '../../../src/index.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import type { StoreFactory } from '../../../src/store/factory.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import { EtcdCluster } from '../../../test/support/etcd/index.js';
import { noop } from '../inline-tasks.js';
import { type Contestant, type Item, itemOf, type Worker } from '../queue.js';

type Exec = 'inline' | 'thread';

export function embedded(directory: string): Contestant {
  return contestant('inline', (space) => fileStore(join(directory, space)));
}

/** Starts a cluster of its own. @param nodes - of etcd, all on this machine */
export async function onEtcd(exec: Exec, nodes: number): Promise<Contestant> {
  const etcd = await EtcdCluster.start({ nodes });
  const { endpoints, version } = etcd;
  return {
    ...contestant(exec, (namespace) => etcdStore({ endpoints, namespace })),
    async notes() {
      const bytes = await etcd.nodes[0]?.metric('etcd_mvcc_db_total_size_in_bytes');
      return { etcd: version, etcdMiB: (bytes ?? Number.NaN) / 2 ** 20 };
    },
    close: () => etcd.close(),
  };
}

function contestant(exec: Exec, storeOf: (space: string) => StoreFactory): Contestant {
  const open = (space: string): Promise<Worker> => openWorker(exec, storeOf(space));
  return {
    producer: 'worker',
    openProducer: open,
    openWorker: open,
    commitTimesMs: (count) => commitTimesMs(storeOf('bare'), count),
    notes: async () => ({}),
    close: async () => {},
  };
}

async function openWorker(exec: Exec, store: StoreFactory): Promise<Worker> {
  const runtime = await createRuntime({
    tasks:
      exec === 'inline'
        ? new URL('../inline-tasks.js', import.meta.url)
        : new URL('../tasks.js', import.meta.url),
    store,
    threads: { max: availableParallelism() },
    queue: { maxTasks: 2_000_000 },
    shutdown: { soft: '1s', hard: '2s' },
  });
  return {
    bulk: { items: 5_000, lanes: 2 },
    async submitAll(items, dueAtMs) {
      const options = dueAtMs === undefined ? {} : { at: dueAtMs };
      await Promise.all(items.map((item) => runtime.submit(noop, item, options)));
    },
    async submit(item: Item) {
      await runtime.submit(noop, item);
    },
    settled: () => runtime.drain(),
    close: () => runtime.close(),
  };
}

async function commitTimesMs(factory: StoreFactory, count: number): Promise<Float64Array> {
  const store = await factory.open({ clock: systemClock });
  const value = new TextEncoder().encode(JSON.stringify(itemOf(0)));
  const times = new Float64Array(count);
  for (let index = 0; index < count; index++) {
    const sentAt = performance.now();
    await store.txn({ compares: [], success: [{ type: 'put', key: `bare/${index}`, value }] });
    times[index] = performance.now() - sentAt;
  }
  await store.close();
  return times;
}
