/**
 * A process that reads from its cache, and keeps when it came to know something.
 *
 * It says so when it is asked, which is when everything has been written: ten processes that tell a measurement at once would
 * be what the last of them waits for.
 */
import { createMetadata } from '../../src/create-metadata.js';
import { etcdStore } from '../../src/store/etcd/index.js';
import { monotonicMs } from './times.js';

export interface ReaderOptions {
  readonly endpoint: string;
  readonly namespace: string;
  /** Of configuration. */
  readonly subscribers: number;
}

/** What there is to know of. */
export type Kind = 'seen' | 'pushed';

/** When numbers up to one of a kind are known, their times are wanted. */
export interface ReaderQuestion {
  readonly kind: Kind;
  readonly last: number;
}

export type ReaderNews =
  | { readonly kind: 'ready' }
  | {
      readonly kind: Kind;
      /** The n-th belongs to the number n. */
      readonly timesMs: readonly number[];
    };

const { endpoint, namespace, subscribers } = JSON.parse(process.argv[2] ?? '{}') as ReaderOptions;
const timesMs: Record<Kind, number[]> = { seen: [], pushed: [] };
const questions = new Set<ReaderQuestion>();
process.on('message', (message) => {
  questions.add(message as ReaderQuestion);
  answer();
});
const metadata = await createMetadata(etcdStore({ endpoints: endpoint, namespace }));

function tell(news: ReaderNews): void {
  process.send?.(news);
}

/** Numbers below zero only warm up. */
function note(kind: Kind, number: number): void {
  if (number < 0) return;
  timesMs[kind][number] = monotonicMs();
  if (questions.size > 0) answer();
}

function answer(): void {
  for (const question of questions) {
    const { kind, last } = question;
    if (timesMs[kind][last] === undefined) continue;
    questions.delete(question);
    tell({ kind, timesMs: timesMs[kind] });
  }
}

const isFirst = new Promise<void>((resolve) => {
  metadata.watch<{ readonly number: number }>('acme', 'probe', '1', (entry) => {
    // It is in the cache before anybody is told.
    if (entry === undefined) resolve();
    else note('seen', entry.value.number);
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
      if (count === subscribers) note('pushed', limit);
    });
  }
});
await Promise.all([isFirst, areSubscribed]);
tell({ kind: 'ready' });
