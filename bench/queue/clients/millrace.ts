/**
 * Millrace as a contender: a runtime per space, with everything at its default but the number of threads. On etcd the
 * producer is a client in a process of its own; an embedded store has one process.
 */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type Client, createClient, createRuntime, fileStore } from '../../../src/index.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import type { StoreFactory } from '../../../src/store/factory.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import { EtcdCluster } from '../../../test/support/etcd/index.js';
import { noop } from '../inline-tasks.js';
import { type Contestant, type Item, itemOf, type Producer, type Worker } from '../queue.js';

type Exec = 'inline' | 'thread';

const QUEUE = { maxTasks: 2_000_000 };

export function embedded(directory: string): Contestant {
  const open = (space: string): Promise<Worker> =>
    openWorker('inline', fileStore(join(directory, space)));
  return {
    producer: 'worker',
    openProducer: open,
    openWorker: open,
    commitTimesMs: (count) => commitTimesMs(fileStore(join(directory, 'bare')), count),
    notes: async () => ({}),
    close: async () => {},
  };
}

function storeAt(url: string, namespace: string): StoreFactory {
  return etcdStore({ endpoints: url.split(','), namespace });
}

/** @param url - the etcd's endpoints, with commas between them */
export async function openProducer(url: string, space: string): Promise<Producer> {
  const client = await createClient({ store: storeAt(url, space), tasks: [noop], queue: QUEUE });
  return { ...handingIn(client), close: () => client.close() };
}

/** Starts a cluster of its own. @param nodes - of etcd, all on this machine */
export async function onEtcd(
  exec: Exec,
  nodes: number,
): Promise<Contestant & { readonly url: string }> {
  const etcd = await EtcdCluster.start({ nodes });
  const { version } = etcd;
  const url = etcd.endpoints.join(',');
  return {
    url,
    producer: 'process',
    openProducer: (space) => openProducer(url, space),
    openWorker: (space) => openWorker(exec, storeAt(url, space)),
    commitTimesMs: (count) => commitTimesMs(storeAt(url, 'bare'), count),
    async notes() {
      const bytes = await etcd.nodes[0]?.metric('etcd_mvcc_db_total_size_in_bytes');
      return { etcd: version, etcdMiB: (bytes ?? Number.NaN) / 2 ** 20 };
    },
    close: () => etcd.close(),
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
    queue: QUEUE,
    shutdown: { soft: '1s', hard: '2s' },
  });
  return { ...handingIn(runtime), settled: () => runtime.drain(), close: () => runtime.close() };
}

function handingIn(
  client: Pick<Client, 'submit' | 'submitMany'>,
): Pick<Producer, 'bulk' | 'submitAll' | 'submit'> {
  return {
    bulk: { items: 5_000, lanes: 4 },
    async submitAll(items, dueAtMs) {
      await client.submitMany(noop, items, dueAtMs === undefined ? {} : { at: dueAtMs });
    },
    async submit(item: Item) {
      await client.submit(noop, item);
    },
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
