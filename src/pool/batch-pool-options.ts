/**
 * What users of BatchPool say and see: options, and figures.
 */
import type { ResourceLimits } from 'node:worker_threads';
import type { Duration } from '../core/durations.js';
import { knownOptions } from '../core/options.js';
import type { Size } from '../core/sizes.js';
import type { TaskLog } from '../core/task.js';
import type { Timeout } from '../core/timeouts.js';
import type { ThreadCounts } from './thread-pool.js';

/**
 * The default export of the module that BatchPool loads. Items and results travel as JSON; a Uint8Array (a Buffer
 * arrives as one) or ArrayBuffer as the bytes it is, copied.
 */
export type ItemHandler<Input = unknown, Output = unknown> = (
  item: Input,
  ctx: ItemContext,
) => Output | Promise<Output>;

/** What a handler gets beside its item. */
export interface ItemContext {
  /** Aborted when nobody waits for the result any more, or the item's time is over; `reason` is an Error. */
  readonly signal: AbortSignal;
  /**
   * Lines about this item, published on the main thread's channel `millrace:task:log` with the type `item`. Never
   * waits and never throws; an item has 500 lines a second, and says when it had more.
   */
  readonly log: TaskLog;
  /**
   * How far the item is, for `onProgress`: any JSON value of at most 16 KiB. Only the newest counts, and about 20 a
   * second are sent.
   *
   * @throws ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE, _TOO_LARGE, _TOO_DEEP
   */
  progress(value: unknown): void;
}

export interface BatchOptions {
  /** Items in one message; 1 to 4096. Larger ones cost less each and come home later. @defaultValue 64 */
  readonly max?: number;
  /** How long an item may wait for company although a thread is free; at most 1 s. @defaultValue 0 */
  readonly linger?: Duration;
}

/** What `BatchPool.tune()` changes while the pool works. */
export interface PoolTuning {
  /** What is not named stays as it is. */
  readonly batch?: BatchOptions;
}

export interface AdmissionOptions {
  /** Items between being accepted and their end. @defaultValue 65536 */
  readonly maxTasks?: number;
  /** The same in encoded bytes. @defaultValue '64MB' */
  readonly maxBytes?: Size;
  /** Above the limits, `run` waits its turn or rejects with ERR_MILLRACE_QUEUE_FULL. @defaultValue 'wait' */
  readonly onFull?: 'wait' | 'reject';
}

/** When a thread is replaced by a new one; whichever comes first. */
export interface RecycleOptions {
  /** Items it has run. @defaultValue no limit */
  readonly tasks?: number;
  /** Growth of its heap since its module was loaded. @defaultValue no limit */
  readonly heap?: Size;
  /** Time since it was ready. @defaultValue no limit */
  readonly age?: Duration;
}

export interface BatchPoolOptions {
  /** Module whose default export handles an item: a URL, or a path that counts from the working directory. */
  readonly filename: URL | string;
  /** How many threads. @defaultValue as many as the machine runs at once */
  readonly threads?: number | ThreadCounts;
  readonly batch?: BatchOptions;
  readonly admission?: AdmissionOptions;
  /**
   * How long an item may run, from the call of its handler: a duration, or `adaptive` to take it from the times
   * measured. Then its signal is aborted; after a grace period (1 s) its thread is ended, and what else ran there
   * runs again. Its error is ERR_MILLRACE_TASK_TIMEOUT. @defaultValue no limit
   */
  readonly timeout?: Timeout;
  /**
   * What to do with items whose thread died while they ran: `retry` runs them again, from the second time on with
   * nothing beside them, and gives up after the third; `fail` rejects them at once, so that none begins twice.
   * @defaultValue 'retry'
   */
  readonly onLost?: 'retry' | 'fail';
  /**
   * Change the number of threads between `threads.min` and `threads.max` with the load: CPU, memory, and what waits.
   * Starts with the most. @defaultValue false
   */
  readonly autoscale?: boolean;
  /**
   * Replace worn threads, one at a time, each when its successor is ready: a remedy for modules that leak.
   * Looked at when a batch ends; the age also of idle threads. @defaultValue never
   */
  readonly recycle?: RecycleOptions;
  /** Of each thread, as node:worker_threads has them. @defaultValue none */
  readonly resourceLimits?: ResourceLimits;
}

export interface RunOptions {
  /** Rejects with its reason at once; the handler's own signal is aborted too. */
  readonly signal?: AbortSignal;
  /** How long the item may run, instead of what the pool's `timeout` says. At least 1 ms. */
  readonly timeout?: Duration;
  /**
   * Hears what the handler says of its progress, and for which item, from 0. The newest value counts: those in
   * between may be left out. What it throws is the item's error.
   */
  readonly onProgress?: (value: unknown, index: number) => void;
}

export interface RunManyOptions extends RunOptions {
  /**
   * Yield `{ status: 'fulfilled', value }` or `{ status: 'rejected', reason }` for each item, as
   * Promise.allSettled does, instead of ending with the first error. @defaultValue false
   */
  readonly settled?: boolean;
}

export interface WritableOptions<Output = unknown> extends RunOptions {
  /**
   * Called with the outcome of each item as it ends, and which one it was, from 0. Without it results are dropped
   * and the first item that fails ends the stream with its error.
   */
  readonly onResult?: (outcome: PromiseSettledResult<Output>, index: number) => void;
}

export interface CloseOptions {
  /** How long to wait for accepted items; what then still runs is killed. @defaultValue '30s' */
  readonly grace?: Duration;
}

export interface BatchPoolStats {
  /** Threads that are ready. */
  readonly threads: number;
  /** Threads replaced by `recycle` since the start. */
  readonly recycled: number;
  /** Callers that wait for admission. */
  readonly waiting: number;
  /** Accepted and not ended; of these, `queued` wait for a thread and `running` are with one. */
  readonly pending: number;
  readonly pendingBytes: number;
  readonly queued: number;
  readonly running: number;
  /** Since the start. `failed` with their own error, `timedOut` of these because their time was over. */
  readonly completed: number;
  readonly failed: number;
  readonly timedOut: number;
  /** Given up because their thread died under them. */
  readonly lost: number;
  readonly batches: number;
  /** Items per batch since the start. */
  readonly meanBatch: number;
  /** Of an item, from the call of its handler to its end; recent ones count more. */
  readonly meanRunMs: number;
  /** Lines of `ctx.log` beyond what an item may say in a second. */
  readonly linesDropped: number;
  /** Lines and progress of items that had ended: ignored. */
  readonly notesLate: number;
}

const POOL_OPTIONS: Readonly<Record<keyof BatchPoolOptions, true>> = {
  filename: true,
  threads: true,
  batch: true,
  admission: true,
  timeout: true,
  onLost: true,
  autoscale: true,
  recycle: true,
  resourceLimits: true,
};
const BATCH_OPTIONS: Readonly<Record<keyof BatchOptions, true>> = { max: true, linger: true };
const RESOURCE_LIMITS: Readonly<Record<keyof ResourceLimits, true>> = {
  maxYoungGenerationSizeMb: true,
  maxOldGenerationSizeMb: true,
  codeRangeSizeMb: true,
  stackSizeMb: true,
};
const RUN_OPTIONS: Readonly<Record<keyof RunOptions, true>> = {
  signal: true,
  timeout: true,
  onProgress: true,
};

/** Refuses options that do not exist, on every level. @throws ERR_MILLRACE_INVALID_OPTION */
export function checkPoolOptions(options: BatchPoolOptions): void {
  knownOptions(options, '', POOL_OPTIONS);
  if (typeof options.threads !== 'number') {
    knownOptions(options.threads, 'threads.', { min: true, max: true });
  }
  knownOptions(options.batch, 'batch.', BATCH_OPTIONS);
  knownOptions(options.admission, 'admission.', { maxTasks: true, maxBytes: true, onFull: true });
  knownOptions(options.recycle, 'recycle.', { tasks: true, heap: true, age: true });
  knownOptions(options.resourceLimits, 'resourceLimits.', RESOURCE_LIMITS);
}

/** The same for those of `tune`. @throws ERR_MILLRACE_INVALID_OPTION */
export function checkTuning(tuning: PoolTuning): BatchOptions {
  return knownOptions(knownOptions(tuning, '', { batch: true }).batch, 'batch.', BATCH_OPTIONS);
}

/** The same for those of `run`. @throws ERR_MILLRACE_INVALID_OPTION */
export function checkRunOptions(options: RunOptions): void {
  knownOptions(options, '', RUN_OPTIONS);
}

/** The same for those of `runMany`. @throws ERR_MILLRACE_INVALID_OPTION */
export function checkRunManyOptions(options: RunManyOptions): void {
  knownOptions(options, '', { ...RUN_OPTIONS, settled: true });
}

/** The same for those of `writable`. @throws ERR_MILLRACE_INVALID_OPTION */
export function checkWritableOptions<Output>(options: WritableOptions<Output>): void {
  knownOptions(options, '', { ...RUN_OPTIONS, onResult: true });
}
