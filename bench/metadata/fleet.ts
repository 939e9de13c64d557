/**
 * A writer and ten readers, each a process with a cache, on one etcd.
 *
 *   writer --put {sent at}--> etcd --watch--> reader: now - sent at     (one monotonic clock for the whole machine)
 *   writer --set n----------> etcd --watch--> each of a reader's subscribers: told n; the last one's time counts
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { createMetadata } from '../../src/create-metadata.js';
import { etcdStore } from '../../src/store/etcd/index.js';
import { EtcdCluster } from '../../test/support/etcd/index.js';
import type { Sample } from '../lib/bench.js';
import type { Kind, ReaderNews, ReaderOptions, ReaderQuestion } from './reader.js';
import type { MetadataSettings } from './settings.js';
import { monotonicMs, percentile } from './times.js';

const TENANTS = 100;
const PAUSE_MS = 20;
/**
 * Of propagations: ten processes compile what they need, and all of them at the same event, since each comes to count it as
 * hot by the same one. A fleet does that once in its life.
 */
const WARM_UPS = 2_000;
/** The last ones are paced as those that count. */
const PACED_WARM_UPS = 30;
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

    const sentMs: number[] = [];
    const ackMs: number[] = [];
    for (let number = -WARM_UPS; number < settings.propagations; number++) {
      const sentAtMs = monotonicMs();
      await metadata.put('acme', 'probe', '1', { number });
      if (number >= 0) {
        sentMs.push(sentAtMs);
        ackMs.push(monotonicMs() - sentAtMs);
      }
      if (number >= -PACED_WARM_UPS) await sleep(PAUSE_MS);
    }
    const seenMs = (await timesOf(readers, 'seen', settings.propagations - 1)).flatMap((timesMs) =>
      timesMs.map((atMs, number) => atMs - sentMs[number]!),
    );
    const afterAckMs = seenMs.map((ms, i) => ms - ackMs[i % settings.propagations]!);

    const setMs: number[] = [];
    for (let number = 0; number < settings.pushes; number++) {
      setMs.push(monotonicMs());
      await metadata.config.set('limit', number);
      await sleep(PAUSE_MS);
    }
    const told = await timesOf(readers, 'pushed', settings.pushes - 1);
    const pushesMs = setMs.map(
      (atMs, number) => Math.max(...told.map((timesMs) => timesMs[number]!)) - atMs,
    );
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
        ackP99Ms: percentile(ackMs, 0.99),
        seenAfterAckP50Ms: percentile(afterAckMs, 0.5),
        seenAfterAckP99Ms: percentile(afterAckMs, 0.99),
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

/** When each reader came to know each number, 0 to `last`. */
async function timesOf(
  readers: readonly Reader[],
  kind: Kind,
  last: number,
): Promise<readonly number[][]> {
  return Promise.all(
    readers.map(async (reader) => {
      const timesMs = await reader.timesOf({ kind, last });
      for (let number = 0; number <= last; number++) {
        // What was not told has no time in JSON.
        if (!timesMs[number]) throw new Error(`a reader was not told of ${kind} ${number}`);
      }
      return timesMs;
    }),
  );
}

/** The writer's end of a reader's process. */
class Reader {
  readonly #child: ChildProcess;
  readonly #ended: Promise<never>;

  constructor(options: ReaderOptions) {
    this.#child = fork(new URL('./reader.js', import.meta.url), [JSON.stringify(options)], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      execArgv: [],
    });
    this.#ended = once(this.#child, 'exit').then(() => {
      throw new Error('a reader ended');
    });
    this.#ended.catch(() => {});
  }

  async ready(): Promise<void> {
    await this.#told('ready');
  }

  async timesOf(question: ReaderQuestion): Promise<number[]> {
    this.#child.send(question);
    const news = await this.#told(question.kind);
    return 'timesMs' in news ? [...news.timesMs] : [];
  }

  #told(kind: ReaderNews['kind']): Promise<ReaderNews> {
    const told = new Promise<ReaderNews>((resolve) => {
      const onMessage = (message: unknown): void => {
        const news = message as ReaderNews;
        if (news.kind !== kind) return;
        this.#child.off('message', onMessage);
        resolve(news);
      };
      this.#child.on('message', onMessage);
    });
    return Promise.race([told, this.#ended]);
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }
}
