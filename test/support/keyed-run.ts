/** Two processes that submit tasks with the same keys at once (keyed-program.ts), and what the store has of them then. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { prefixRange } from '../../src/core/store.js';
import { tasksOf } from '../../src/engine/far-count.js';
import { entriesOf } from '../../src/engine/recovery.js';
import { etcdStore } from '../../src/store/etcd/index.js';
import { systemClock } from '../../src/timing/system-clock.js';
import type { EtcdCluster } from './etcd/index.js';

export interface KeyedRun {
  /** Of both. */
  readonly accepted: number;
  readonly deduplicated: number;
  /** Submits of both in a second, as of the slower. */
  readonly perSecond: number;
  /** Keys of idempotency that are in the store, and tasks. */
  readonly stored: { readonly keys: number; readonly tasks: number };
}

const PROGRAM = fileURLToPath(new URL('./keyed-program.js', import.meta.url));

/** @param count - of each process; a submit in two is a duplicate */
export async function runKeyed(
  etcd: EtcdCluster,
  namespace: string,
  count: number,
): Promise<KeyedRun> {
  const start = (): ChildProcess =>
    spawn(process.execPath, [PROGRAM, String(count), etcd.endpoints.join(), namespace], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
  const children = [start(), start()];
  const lines = children.map((child) =>
    createInterface({ input: child.stdout! })[Symbol.asyncIterator](),
  );
  const next = async (): Promise<string[]> =>
    (await Promise.all(lines.map((line) => line.next()))).map(({ value }) => String(value));
  const ended = Promise.all(children.map((child) => once(child, 'exit')));
  await next();
  for (const child of children) child.stdin?.end();
  const told = (await next()).map(
    (line) =>
      JSON.parse(line) as { accepted: number; deduplicated: number; readonly seconds: number },
  );
  await ended;
  const stored = await countStored(etcd, namespace);
  const sum = (name: 'accepted' | 'deduplicated'): number =>
    told.reduce((total, one) => total + one[name], 0);
  return {
    accepted: sum('accepted'),
    deduplicated: sum('deduplicated'),
    perSecond: Math.round((2 * count) / Math.max(...told.map(({ seconds }) => seconds))),
    stored,
  };
}

async function countStored(etcd: EtcdCluster, namespace: string): Promise<KeyedRun['stored']> {
  const store = await etcdStore({ endpoints: etcd.endpoints, namespace }).open({
    clock: systemClock,
  });
  let tasks = 0;
  for (const prefix of ['t/', 'i/']) {
    for await (const { value } of entriesOf(store, prefixRange(prefix))) tasks += tasksOf(value);
  }
  await store.close();
  // The server counts faster than a client reads.
  const range = [`/${namespace}/k/`, '--prefix', '--limit=1', '--write-out=fields'];
  const answer = await etcd.etcdctl('get', ...range);
  return { keys: Number(/"Count" : (\d+)/.exec(answer)?.[1]), tasks };
}
