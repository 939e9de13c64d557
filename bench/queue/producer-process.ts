/**
 * The producer's process, and the end of it that the worker's process holds.
 *
 *   worker --argv: Address--> producer;   worker --Order--> producer --Answer--> worker, one at a time
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type Handed, inBulk, oneByOne, type Singles } from './load.js';
import type { Address, Producer } from './queue.js';

/** Hands in the tasks of a load, wherever that happens. */
export interface Loader {
  inBulk(space: string, count: number, dueAtMs?: number): Promise<Handed>;
  oneByOne(space: string, load: Parameters<typeof oneByOne>[1]): Promise<Singles>;
  close(): Promise<void>;
}

/** Hands in from this process. */
export function loaderOf(open: (space: string) => Promise<Producer>): Loader {
  const producers = new Map<string, Promise<Producer>>();
  const producerOf = (space: string): Promise<Producer> => {
    let producer = producers.get(space);
    if (producer === undefined) {
      producer = open(space);
      producers.set(space, producer);
    }
    return producer;
  };
  return {
    inBulk: async (space, count, dueAtMs) => inBulk(await producerOf(space), count, dueAtMs),
    oneByOne: async (space, load) => oneByOne(await producerOf(space), load),
    async close() {
      for (const producer of producers.values()) await (await producer).close();
    },
  };
}

interface Order {
  readonly method: 'inBulk' | 'oneByOne' | 'close';
  readonly args: readonly unknown[];
}
interface Answer {
  readonly value?: unknown;
  readonly error?: string;
}

/** Hands in from a process of its own, which ends with this one. */
export function startProducer(address: Address): Loader {
  const child = fork(new URL(import.meta.url), [JSON.stringify(address)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    execArgv: [],
    // An argument that is absent stays so; in JSON it would be null.
    serialization: 'advanced',
  });
  const call = <Value>(method: Order['method'], ...args: readonly unknown[]): Promise<Value> =>
    ask(child, { method, args }) as Promise<Value>;
  return {
    inBulk: (space, count, dueAtMs) => call('inBulk', space, count, dueAtMs),
    oneByOne: (space, load) => call('oneByOne', space, load),
    async close() {
      await call('close');
      child.kill();
    },
  };
}

async function ask(child: ChildProcess, order: Order): Promise<unknown> {
  child.send(order);
  const ended = once(child, 'exit').then(() => {
    throw new Error('the producer ended');
  });
  ended.catch(() => {});
  const [answer] = (await Promise.race([once(child, 'message'), ended])) as [Answer];
  if (answer.error !== undefined) throw new Error(`producer: ${answer.error}`);
  return answer.value;
}

async function openerOf({
  contender,
  url,
}: Address): Promise<(space: string) => Promise<Producer>> {
  if (contender.startsWith('millrace')) {
    const { openProducer } = await import('./clients/millrace.js');
    const kind = contender.endsWith('-features') ? 'featured' : 'inline';
    return (space) => openProducer(url, space, kind);
  }
  const module = contender.startsWith('bullmq')
    ? await import('./clients/bullmq.js')
    : contender === 'pg-boss'
      ? await import('./clients/pg-boss.js')
      : await import('./clients/graphile.js');
  return (space) => module.openProducer(url, space);
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const loader = loaderOf(await openerOf(JSON.parse(process.argv[2] ?? '{}') as Address));
  process.on('message', async ({ method, args }: Order) => {
    const answer: Answer = await (
      loader[method] as (...all: readonly unknown[]) => Promise<unknown>
    )(...args).then(
      (value) => ({ value }),
      (error: Error) => ({ error: error.stack ?? error.message }),
    );
    process.send?.(answer);
  });
  process.on('disconnect', () => process.exit());
}
