/**
 * A writer and ten readers, each a process with a cache, on one etcd.
 *
 *   writer --put {sent at}--> etcd --watch--> reader: now - sent at     (one monotonic clock for the whole machine)
 *   writer --set n----------> etcd --watch--> each of a reader's subscribers: told n; the last one says so
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { createMetadata } from '../../src/create-metadata.js';
import { etcdStore } from '../../src/store/etcd/index.js';
import { EtcdCluster } from '../../test/support/etcd/index.js';
import type { Sample } from '../lib/bench.js';
import type { ReaderNews, ReaderOptions } from './reader.js';
import type { MetadataSettings } from './settings.js';
import { monotonicMs, percentile } from './times.js';

const TENANTS = 100;
const PAUSE_MS = 20;
/** Of propagations: ten processes compile what they need. */
const WARM_UPS = 30;
const NAMESPACE = 'bench';

export async function measureFleet(settings: MetadataSettings): Promise<Sample> {
  const etcd = await EtcdCluster.start();
  const { endpoint } = etcd.node;
  const readers: Reader[] = [];
  const metadata = await createMetadata(etcdStore({ endpoints: endpoint, namespace: NAMESPACE }));
  try {
    const value = new Uint8Array(settings.valueBytes).fill(7);
    const writesMs = await timed(settings.writes, (i) =>
      metadata.put(`tenant-${i % TENANTS}`, 'x', `${i}`, value),
    );
    const options: ReaderOptions = {
      endpoint,
      namespace: NAMESPACE,
      subscribers: settings.subscribers / settings.readers,
    };
    for (let i = 0; i < settings.readers; i++) readers.push(new Reader(options));
    await Promise.all(readers.map((reader) => reader.ready()));

    const seenMs: number[] = [];
    const ackMs: number[] = [];
    for (let i = -WARM_UPS; i < settings.propagations; i++) {
      const sentAtMs = monotonicMs();
      const seen = Promise.all(readers.map((reader) => reader.told('seen', i)));
      await metadata.put('acme', 'probe', '1', { number: i, sentAtMs });
      const acknowledgedMs = monotonicMs() - sentAtMs;
      const times = (await seen).map(({ atMs }) => atMs - sentAtMs);
      if (i >= 0) {
        ackMs.push(acknowledgedMs);
        seenMs.push(...times);
      }
      await sleep(PAUSE_MS);
    }
    const pushesMs: number[] = [];
    for (let i = 0; i < settings.pushes; i++) {
      const sentAtMs = monotonicMs();
      const told = Promise.all(readers.map((reader) => reader.told('pushed', i)));
      await metadata.config.set('limit', i);
      pushesMs.push(Math.max(...(await told).map(({ atMs }) => atMs)) - sentAtMs);
      await sleep(PAUSE_MS);
    }
    return {
      metrics: {
        writeP50Ms: percentile(writesMs, 0.5),
        propagationP99Ms: percentile(seenMs, 0.99),
        'configPushMs@1000': percentile(pushesMs, 0.5),
      },
      notes: {
        writeP99Ms: percentile(writesMs, 0.99),
        propagationP50Ms: percentile(seenMs, 0.5),
        propagationMaxMs: Math.max(...seenMs),
        ackP50Ms: percentile(ackMs, 0.5),
        configPushMaxMs: Math.max(...pushesMs),
      },
    };
  } finally {
    for (const reader of readers) reader.end();
    await metadata.close();
    await etcd.close();
  }
}

async function timed(count: number, write: (i: number) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const startAt = performance.now();
    await write(i);
    // The first calls open connections and compile.
    if (i >= count / 10) times.push(performance.now() - startAt);
  }
  return times;
}

/** The writer's end of a reader's process. */
class Reader {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<string, (news: ReaderNews) => void>();

  constructor(options: ReaderOptions) {
    this.#child = fork(new URL('./reader.js', import.meta.url), [JSON.stringify(options)], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      execArgv: [],
    });
    this.#child.on('message', (message) => {
      const news = message as ReaderNews;
      this.#waiting.get(`${news.kind} ${news.number}`)?.(news);
    });
  }

  async ready(): Promise<void> {
    const ended = once(this.#child, 'exit').then(() => {
      throw new Error('a reader ended');
    });
    ended.catch(() => {});
    await Promise.race([this.told('ready', 0), ended]);
  }

  told(kind: ReaderNews['kind'], number: number): Promise<ReaderNews> {
    return new Promise((resolve) => this.#waiting.set(`${kind} ${number}`, resolve));
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }
}
