/**
 * BullMQ on Redis: `addBulk` for many, `add` for one, one worker with many jobs at once; finished jobs are removed.
 * The sandbox runs the handler in worker threads, of which each takes one job at a time.
 */
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { importPeer } from '../../lib/peers.js';
import { Ledger } from '../ledger.js';
import { BULLMQ } from '../peers.js';
import { type Contestant, type Item, itemOf, type Producer, type Worker } from '../queue.js';
import { startRedis } from '../servers.js';

interface JobOptions {
  readonly removeOnComplete: boolean;
  readonly delay?: number;
}
interface Queue {
  add(name: string, data: Item, options: JobOptions): Promise<unknown>;
  addBulk(
    jobs: readonly { readonly name: string; readonly data: Item; readonly opts: JobOptions }[],
  ): Promise<unknown>;
  getJobCounts(...states: string[]): Promise<Record<string, number>>;
  close(): Promise<void>;
}
interface BullWorker {
  waitUntilReady(): Promise<unknown>;
  on(event: 'error', listener: (error: Error) => void): void;
  close(): Promise<void>;
}
type Processor = (job: { readonly data: Item }) => Promise<void>;
interface Package {
  readonly Queue: new (name: string, options: unknown) => Queue;
  readonly Worker: new (
    name: string,
    processor: Processor | string,
    options: unknown,
  ) => BullWorker;
}
interface Redis {
  set(key: string, value: string): Promise<unknown>;
  info(section: string): Promise<string>;
  disconnect(): void;
}

const CONCURRENCY = 200;
const JOB: JobOptions = { removeOnComplete: true };
const POLL_MS = 2;

export async function bullmq(
  folder: string,
  fsync: 'everysec' | 'always',
  isSandboxed: boolean,
): Promise<Contestant & { readonly url: string }> {
  const { default: Redis } = await importPeer<{ default: new (url: string) => Redis }>(
    BULLMQ,
    'ioredis',
  );
  const server = await startRedis(folder, fsync);
  const redis = new Redis(server.url);
  return {
    url: server.url,
    producer: 'process',
    openProducer: (space) => openProducer(server.url, space),
    openWorker: (space) => openWorker(server.url, space, isSandboxed),
    async commitTimesMs(count) {
      const value = JSON.stringify(itemOf(0));
      const times = new Float64Array(count);
      for (let index = 0; index < count; index++) {
        const sentAt = performance.now();
        await redis.set(`bare:${index}`, value);
        times[index] = performance.now() - sentAt;
      }
      return times;
    },
    async notes() {
      const peak = /used_memory_peak:(\d+)/.exec(await redis.info('memory'))?.[1];
      return { redis: server.version, redisPeakMiB: Number(peak) / 2 ** 20 };
    },
    async close() {
      redis.disconnect();
      await server.close();
    },
  };
}

export async function openProducer(url: string, space: string): Promise<Producer> {
  const { Queue } = await importPeer<Package>(BULLMQ);
  return producerOn(new Queue(space, { connection: connectionTo(url) }));
}

function producerOn(queue: Queue): Producer {
  return {
    bulk: { items: 1_000, lanes: 4 },
    async submitAll(items, dueAtMs) {
      const opts = dueAtMs === undefined ? JOB : { ...JOB, delay: dueAtMs - Date.now() };
      await queue.addBulk(items.map((data) => ({ name: 'noop', data, opts })));
    },
    async submit(item) {
      await queue.add('noop', item, JOB);
    },
    close: () => queue.close(),
  };
}

async function openWorker(url: string, space: string, isSandboxed: boolean): Promise<Worker> {
  const { Queue, Worker } = await importPeer<Package>(BULLMQ);
  const ledger = Ledger.inherited();
  const sandbox = fileURLToPath(new URL('../sandbox.js', import.meta.url));
  const queue = new Queue(space, { connection: connectionTo(url) });
  const worker = new Worker(
    space,
    isSandboxed ? sandbox : async ({ data }) => ledger.run(data.id),
    {
      connection: connectionTo(url),
      concurrency: isSandboxed ? availableParallelism() : CONCURRENCY,
      useWorkerThreads: isSandboxed,
    },
  );
  worker.on('error', () => {});
  await worker.waitUntilReady();
  return {
    ...producerOn(queue),
    async settled() {
      for (;;) {
        const counts = await queue.getJobCounts('wait', 'active', 'delayed', 'prioritized');
        if (Object.values(counts).every((count) => count === 0)) return;
        await sleep(POLL_MS);
      }
    },
    async close() {
      await worker.close();
      await queue.close();
    },
  };
}

function connectionTo(url: string): object {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port), maxRetriesPerRequest: null };
}
