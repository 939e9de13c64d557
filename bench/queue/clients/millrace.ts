/**
 * Millrace as a contender: a runtime per space, with everything at its default but the number of threads. On etcd the
 * producer is a client in a process of its own; an embedded store has one process.
 */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import {
  type Client,
  createClient,
  createRuntime,
  fileStore,
  type SubmitOptions,
} from '../../../src/index.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import type { StoreFactory } from '../../../src/store/factory.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import { EtcdCluster } from '../../../test/support/etcd/index.js';
import { featured } from '../featured-tasks.js';
import { noop } from '../inline-tasks.js';
import { type Contestant, type Item, itemOf, type Producer, type Worker } from '../queue.js';

/** Which tasks: without anything, on the main thread or on others; or with priorities, tenants, and limits on the main thread. */
type Kind = 'inline' | 'thread' | 'featured';

const QUEUE = { maxTasks: 2_000_000 };
const MODULES = {
  inline: new URL('../inline-tasks.js', import.meta.url),
  thread: new URL('../tasks.js', import.meta.url),
  featured: new URL('../featured-tasks.js', import.meta.url),
} as const;
const TENANTS = 16;
const PRIORITIES = 4;

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
export async function openProducer(
  url: string,
  space: string,
  kind: Kind = 'inline',
): Promise<Producer> {
  const tasks = kind === 'featured' ? [featured] : [noop];
  const client = await createClient({ store: storeAt(url, space), tasks, queue: QUEUE });
  return { ...handingIn(client, kind), close: () => client.close() };
}

/** Starts a cluster of its own. @param nodes - of etcd, all on this machine */
export async function onEtcd(
  kind: Kind,
  nodes: number,
): Promise<Contestant & { readonly url: string }> {
  const etcd = await EtcdCluster.start({ nodes });
  const { version } = etcd;
  const url = etcd.endpoints.join(',');
  return {
    url,
    producer: 'process',
    openProducer: (space) => openProducer(url, space, kind),
    openWorker: (space) => openWorker(kind, storeAt(url, space)),
    commitTimesMs: (count) => commitTimesMs(storeAt(url, 'bare'), count),
    async notes() {
      const bytes = await etcd.nodes[0]?.metric('etcd_mvcc_db_total_size_in_bytes');
      return { etcd: version, etcdMiB: (bytes ?? Number.NaN) / 2 ** 20 };
    },
    close: () => etcd.close(),
  };
}

async function openWorker(kind: Kind, store: StoreFactory): Promise<Worker> {
  const runtime = await createRuntime({
    tasks: MODULES[kind],
    store,
    threads: { max: availableParallelism() },
    queue: QUEUE,
    shutdown: { soft: '1s', hard: '2s' },
  });
  return {
    ...handingIn(runtime, kind),
    settled: () => runtime.drain(),
    close: () => runtime.close(),
  };
}

function handingIn(
  client: Pick<Client, 'submit' | 'submitMany'>,
  kind: Kind,
): Pick<Producer, 'bulk' | 'submitAll' | 'submit'> {
  const task = kind === 'featured' ? featured : noop;
  let calls = 0;
  const options = (): Pick<SubmitOptions, 'tenant' | 'priority'> => {
    if (kind !== 'featured') return {};
    const call = calls++;
    return { tenant: `tenant-${call % TENANTS}`, priority: call % PRIORITIES };
  };
  return {
    bulk: { items: 5_000, lanes: 4 },
    async submitAll(items, dueAtMs) {
      const at = dueAtMs === undefined ? {} : { at: dueAtMs };
      await client.submitMany(task, items, { ...options(), ...at });
    },
    async submit(item: Item) {
      await client.submit(task, item, options());
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
