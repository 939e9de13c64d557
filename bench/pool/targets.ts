/**
 * The contenders: how each runs tasks, and how results are heard. Each is imported in the process that measures it.
 *
 * | kind | in flight | results |
 * |---|---|---|
 * | `single` | so many callers, each awaiting its task before the next | a promise per task |
 * | `batched` | so many tasks in arrays of 64, made by hand | an array per promise |
 * | `stream` | at most so many, read from an iterable | an async iterator |
 */
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { Unavailable } from '../lib/bench.js';
import { importPeer } from '../lib/peers.js';
import { POOLIFIER, TINYPOOL, WORKERPOOL } from './peers.js';
import type { Input } from './tasks.js';

export type Target = (
  | { readonly kind: 'single' }
  | { readonly kind: 'batched'; runAll(inputs: readonly Input[]): Promise<readonly number[]> }
  | { readonly kind: 'stream'; runMany(inputs: Iterable<Input>): AsyncIterable<number> }
) & {
  run(input: Input): Promise<number>;
  close(): Promise<unknown>;
};

/** Makes a contender with so many threads, for at most so many tasks in flight. */
export type Open = (threads: number, inFlight: number) => Promise<Target>;

export const BATCH = 64;
const TASKS = new URL('./tasks.js', import.meta.url);
const TASKS_FILE = fileURLToPath(TASKS);

const millrace: Open = async (threads, inFlight) => {
  const { BatchPool } = await import('../../src/pool/index.js');
  const pool = new BatchPool<Input, number>({
    filename: TASKS,
    threads,
    timeout: '30s',
    admission: { maxTasks: inFlight },
  });
  return {
    kind: 'stream',
    runMany: (inputs) => pool.runMany(inputs),
    run: (input) => pool.run(input),
    close: () => pool.close(),
  };
};

const millraceRun: Open = async (threads, inFlight) => ({
  ...(await millrace(threads, inFlight)),
  kind: 'single',
});

async function piscinaWith(
  threads: number,
  options: { readonly name?: string; readonly concurrentTasksPerWorker?: number },
): Promise<{ run(data: unknown): Promise<unknown>; close(): Promise<void> }> {
  const { Piscina } = await import('piscina').catch((error: Error) => {
    throw new Unavailable(`Piscina does not load: ${error.message}`);
  });
  return new Piscina({
    filename: TASKS_FILE,
    minThreads: threads,
    maxThreads: threads,
    ...options,
  });
}

function single(
  pool: { run(data: unknown): Promise<unknown> },
  close: () => Promise<unknown>,
): Target {
  return { kind: 'single', run: (input) => pool.run(input) as Promise<number>, close };
}

function batched(
  runAll: (inputs: readonly Input[]) => Promise<readonly number[]>,
  close: () => Promise<unknown>,
): Target {
  return { kind: 'batched', runAll, run: async (input) => (await runAll([input]))[0]!, close };
}

const piscina: Open = async (threads) => {
  const pool = await piscinaWith(threads, {});
  return single(pool, () => pool.close());
};

const TUNED_CONCURRENCY = 16;

const piscinaTuned: Open = async (threads) => {
  const pool = await piscinaWith(threads, { concurrentTasksPerWorker: TUNED_CONCURRENCY });
  return single(pool, () => pool.close());
};

const piscinaBatched: Open = async (threads) => {
  const pool = await piscinaWith(threads, { name: 'handleAll' });
  const runAll = (inputs: readonly Input[]) => pool.run(inputs) as Promise<readonly number[]>;
  return batched(runAll, () => pool.close());
};

interface TinypoolModule {
  readonly Tinypool: new (
    options: object,
  ) => { run(data: unknown): Promise<unknown>; destroy(): Promise<void> };
}

const tinypool: Open = async (threads) => {
  const { Tinypool } = await importPeer<TinypoolModule>(TINYPOOL);
  const pool = new Tinypool({
    filename: TASKS.href,
    minThreads: threads,
    maxThreads: threads,
  });
  return single(pool, () => pool.destroy());
};

interface PoolifierModule {
  readonly FixedThreadPool: new (
    threads: number,
    file: string,
    options?: object,
  ) => { execute(data: unknown): Promise<unknown>; destroy(): Promise<void> };
}

const poolifier: Open = async (threads) => {
  const { FixedThreadPool } = await importPeer<PoolifierModule>(POOLIFIER);
  const file = fileURLToPath(new URL('./poolifier-worker.js', import.meta.url));
  const pool = new FixedThreadPool(threads, file);
  return single({ run: (input) => pool.execute(input) }, () => pool.destroy());
};

interface WorkerpoolModule {
  readonly default: {
    pool(
      file: string,
      options: object,
    ): {
      exec(name: string, args: unknown[]): PromiseLike<unknown>;
      terminate(): PromiseLike<unknown>;
    };
  };
}

const workerpool: Open = async (threads) => {
  const { default: module } = await importPeer<WorkerpoolModule>(WORKERPOOL);
  const file = fileURLToPath(new URL('./workerpool-worker.js', import.meta.url));
  const pool = module.pool(file, {
    minWorkers: threads,
    maxWorkers: threads,
    workerType: 'thread',
  });
  const run = async (input: unknown): Promise<unknown> => pool.exec('handle', [input]);
  return single({ run }, async () => pool.terminate());
};

/** The least that a pool of one's own needs: a number per message, and who waits for it. Threads take turns. */
async function bare(threads: number): Promise<{
  run(data: unknown): Promise<unknown>;
  close(): Promise<unknown>;
}> {
  const waiting = new Map<number, (result: unknown) => void>();
  const workers = Array.from({ length: threads }, () => {
    const worker = new Worker(new URL('./bare-worker.js', import.meta.url));
    worker.on('message', ({ number, result }: { number: number; result: unknown }) => {
      const resolve = waiting.get(number);
      waiting.delete(number);
      resolve?.(result);
    });
    return worker;
  });
  let next = 0;
  return {
    run: (data) =>
      new Promise((resolve) => {
        const number = next++;
        waiting.set(number, resolve);
        workers[number % threads]!.postMessage({ number, data });
      }),
    close: () => Promise.all(workers.map((worker) => worker.terminate())),
  };
}

const workerThreads: Open = async (threads) => {
  const { run, close } = await bare(threads);
  return single({ run }, close);
};

const workerThreadsBatched: Open = async (threads) => {
  const { run, close } = await bare(threads);
  return batched((inputs) => run(inputs) as Promise<readonly number[]>, close);
};

export const TARGETS: Readonly<Record<string, Open>> = {
  millrace,
  'millrace-run': millraceRun,
  piscina,
  'piscina-tuned': piscinaTuned,
  'piscina-batched': piscinaBatched,
  tinypool,
  poolifier,
  workerpool,
  worker_threads: workerThreads,
  'worker_threads-batched': workerThreadsBatched,
};
