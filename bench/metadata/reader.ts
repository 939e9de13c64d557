/** A process that reads from its cache, and tells when it came to know something. */
import { createMetadata } from '../../src/create-metadata.js';
import { etcdStore } from '../../src/store/etcd/index.js';
import { monotonicMs } from './times.js';

export interface ReaderOptions {
  readonly endpoint: string;
  readonly namespace: string;
  /** Of configuration. */
  readonly subscribers: number;
}

export interface ReaderNews {
  readonly kind: 'ready' | 'seen' | 'pushed';
  readonly number: number;
  readonly atMs: number;
}

const { endpoint, namespace, subscribers } = JSON.parse(process.argv[2] ?? '{}') as ReaderOptions;
const metadata = await createMetadata(etcdStore({ endpoints: endpoint, namespace }));

function tell(kind: ReaderNews['kind'], number: number): void {
  process.send?.({ kind, number, atMs: monotonicMs() } satisfies ReaderNews);
}

const isFirst = new Promise<void>((resolve) => {
  metadata.watch<{ readonly number: number }>('acme', 'probe', '1', (entry) => {
    // It is in the cache before anybody is told.
    if (entry === undefined) resolve();
    else tell('seen', entry.value.number);
  });
});
const counts = new Map<number, number>();
const areSubscribed = new Promise<void>((resolve) => {
  let known = 0;
  for (let i = 0; i < subscribers; i++) {
    metadata.config.watch<number>('limit', (limit) => {
      if (limit === undefined) {
        if (++known === subscribers) resolve();
        return;
      }
      const count = (counts.get(limit) ?? 0) + 1;
      counts.set(limit, count);
      if (count === subscribers) tell('pushed', limit);
    });
  }
});
await Promise.all([isFirst, areSubscribed]);
tell('ready', 0);
