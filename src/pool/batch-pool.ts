/**
 * BatchPool: a worker pool for many small items, by itself, without a runtime or a store.
 *
 *   run, runMany, writable -> admission (tasks, bytes) -> batcher -> ThreadPool <- autoscaler
 *
 * Items and results travel as JSON, a Uint8Array or ArrayBuffer as the bytes it is. Each item has its own result and error, although up to 64 share a message.
 */
import type { WritableStream } from 'node:stream/web';
import { Encoding, encodeInto, type PayloadLimits, payloadTooLarge } from '../core/codec.js';
import { durationMs } from '../core/durations.js';
import { MillraceError } from '../core/errors.js';
import { invalidOption, knownOptions, oneOf, wholeNumber } from '../core/options.js';
import { sizeBytes } from '../core/sizes.js';
import { limitMs, timeoutSpec } from '../core/timeouts.js';
import { Admission } from './admission.js';
import { Autoscaler, type Load } from './autoscaler.js';
import {
  type BatchOptions,
  type BatchPoolOptions,
  type BatchPoolStats,
  type CloseOptions,
  checkPoolOptions,
  checkRunManyOptions,
  checkRunOptions,
  checkTuning,
  checkWritableOptions,
  type PoolTuning,
  type RecycleOptions,
  type RunManyOptions,
  type RunOptions,
  type WritableOptions,
} from './batch-pool-options.js';
import { Batcher, type Item, ItemStage, type Packing } from './batcher.js';
import { Limits, nodeTimers, type Timers } from './deadlines.js';
import { itemSink, type SinkOptions } from './item-sink.js';
import { Machine } from './machine.js';
import { PayloadSlab } from './payload-slab.js';
import { type EntryToFill, ResultStream, type StreamPort } from './result-stream.js';
import { THREADS_MAX, ThreadPool } from './thread-pool.js';
import type { WearLimits } from './worker-thread.js';

/** One item, or its result: whatever fits admission by default. */
const ITEM_LIMITS: PayloadLimits = { bytesMax: 64 * 1_024 ** 2, depthMax: 64 };
const WAY_OUT = 'try again later, or raise admission.maxTasks and admission.maxBytes';
const NO_OPTIONS: RunOptions = {};
const KEEP_ALIVE_MS = 2 ** 30;
/** Work that waits for each thread when the queue counts as full. */
const QUEUE_FULL_MS = 1_000;
/** A thread's stack, code and buffers, beside the heap that it reports. */
const THREAD_BYTES_MIN = 8 * 1_024 ** 2;

/**
 * Runs items on worker threads.
 *
 * ```ts
 * const pool = new BatchPool({ filename: new URL('./resize.js', import.meta.url) });
 * const thumbnail = await pool.run({ path, width: 200 });
 * for await (const result of pool.runMany(paths)) ...
 * await pool.close();
 * ```
 *
 * Threads start at once, in the background. Pending items keep the process alive, an idle pool does not. When a
 * thread dies, items that had not begun run elsewhere; those that had begun run again too, see `onLost`.
 */
export class BatchPool<Input = unknown, Output = unknown> {
  readonly #threads: ThreadPool;
  readonly #batcher: Batcher;
  readonly #admission: Admission;
  readonly #onFull: 'wait' | 'reject';
  readonly #maxTasks: number;
  readonly #maxBytes: number;
  readonly #streams: StreamPort;
  readonly #slab = new PayloadSlab();
  readonly #keepAlive: NodeJS.Timeout;
  /** Whether it is referenced: while items are pending. */
  #isKept = false;
  readonly #autoscaler: Autoscaler | undefined;
  #isShedding = false;
  #isClosed = false;
  #closing: Promise<void> | undefined;
  #onIdle: (() => void) | undefined;
  /** Why there are no threads and never will be. */
  #broken: MillraceError | undefined;

  /**
   * @param timers - where deadlines take their time from
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION
   */
  constructor(options: BatchPoolOptions, timers: Timers = nodeTimers) {
    if (typeof options !== 'object' || options === null) {
      throw invalidOption('BatchPool options', options, 'an object with a filename');
    }
    checkPoolOptions(options);
    const { filename, threads, batch = {}, admission = {}, resourceLimits } = options;
    if (!(filename instanceof URL) && (typeof filename !== 'string' || filename === '')) {
      throw invalidOption('filename', filename, 'the URL or path of a module');
    }
    const packing = packingOf(batch, { max: 64, lingerMs: 0 });
    const { max } = packing;
    this.#maxTasks = wholeNumber(admission.maxTasks ?? 65_536, 'admission.maxTasks', 1, 1e9);
    this.#onFull = oneOf(admission.onFull ?? 'wait', 'admission.onFull', ['wait', 'reject']);
    this.#maxBytes = sizeBytes(admission.maxBytes ?? '64MB', 'admission.maxBytes');
    this.#admission = new Admission({
      tasksMax: this.#maxTasks,
      bytesMax: this.#maxBytes,
      nowMs: () => timers.monoMs(),
    });
    const limits = new Limits(
      options.timeout === undefined ? undefined : timeoutSpec(options.timeout),
    );
    const onLost = oneOf(options.onLost ?? 'retry', 'onLost', ['retry', 'fail']);
    const counts = typeof threads === 'number' ? { max: threads } : (threads ?? {});
    this.#threads = new ThreadPool({
      tasks: filename,
      kind: 'function',
      threads: counts,
      limits: ITEM_LIMITS,
      overlapMax: Math.max(256, max * 2),
      ...(options.recycle !== undefined && { recycle: wearLimits(options.recycle) }),
      ...(resourceLimits !== undefined && { resourceLimits }),
    });
    const sending = { packing, limits, onLost };
    this.#batcher = new Batcher(timers, this.#threads, sending, (items, bytes) => {
      this.#admission.release(bytes, items);
      this.#settleIdle();
    });
    // For each thread the batches it has before it, and as many more that wait or have results nobody took yet.
    const window = Math.min(this.#maxTasks, Math.max(64, 16 * max * this.#threads.size));
    this.#streams = {
      window,
      portion: Math.min(max, Math.ceil(window / 2)),
      submit: (input, entry, signal) => this.#submit(input, entry, signal, 'wait'),
      drop: (entry, reason) => this.#batcher.drop(entry, reason),
    };
    this.#keepAlive = setInterval(() => {}, KEEP_ALIVE_MS).unref();
    const { autoscale = false } = options;
    if (typeof autoscale !== 'boolean') {
      throw invalidOption('autoscale', autoscale, 'true or false');
    }
    if (autoscale) {
      this.#autoscaler = this.#scaled(timers, counts.min ?? 1);
    }
    this.#threads.start().then(
      () => this.#autoscaler?.start(),
      (error: MillraceError) => {
        this.#broken = error;
        this.#batcher.refuseQueued(error);
      },
    );
  }

  /**
   * Runs one item and resolves with its result. A rejection is what its handler threw (name, message, code, cause),
   * or ERR_MILLRACE_QUEUE_FULL, _TASK_TIMEOUT, _TASK_LOST, _TASKS_MODULE, _CLOSED, _PAYLOAD_NOT_SERIALIZABLE, _PAYLOAD_TOO_LARGE,
   * _PAYLOAD_TOO_DEEP, or the signal's reason.
   */
  run(item: Input, options: RunOptions = NO_OPTIONS): Promise<Output> {
    return new Promise((resolve, reject) => {
      if (options !== NO_OPTIONS) checkRunOptions(options);
      const { signal, timeout, onProgress } = options;
      const timeoutMs = timeout === undefined ? 0 : limitMs(timeout, 'timeout');
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const entry = new RunItem(resolve as (value: unknown) => void, reject, timeoutMs);
      if (onProgress !== undefined) entry.onProgress = (value) => onProgress(value, 0);
      if (signal !== undefined) entry.listen(signal, () => this.#batcher.drop(entry, 'aborted'));
      try {
        this.#submit(item, entry, signal, this.#onFull)?.catch((error) => entry.onError(error));
      } catch (error) {
        entry.onError(error);
      }
    });
  }

  /**
   * Runs many items and yields their results in the order of the items, reading `items` no further ahead than keeps
   * the threads busy. The first item that fails ends the iteration with its error; see `settled`. Leaving the loop
   * early gives up on the items that are under way.
   */
  runMany(
    items: Iterable<Input> | AsyncIterable<Input>,
    options: RunManyOptions & { readonly settled: true },
  ): AsyncIterableIterator<PromiseSettledResult<Output>>;
  runMany(
    items: Iterable<Input> | AsyncIterable<Input>,
    options?: RunManyOptions & { readonly settled?: false },
  ): AsyncIterableIterator<Output>;
  runMany(
    items: Iterable<Input> | AsyncIterable<Input>,
    options: RunManyOptions = {},
  ): AsyncIterableIterator<unknown> {
    checkRunManyOptions(options);
    const { settled = false, signal, timeout, onProgress } = options;
    const timeoutMs = timeout === undefined ? 0 : limitMs(timeout, 'timeout');
    return new ResultStream(this.#streams, items, {
      settled,
      signal,
      timeoutMs,
      onProgress,
    });
  }

  /**
   * A stream whose chunks are run: `await readable.pipeTo(pool.writable())`. A write is done when its item is
   * accepted, so a fast source waits for the workers; closing waits for every result. Aborting the stream, or the
   * signal, gives up on the items that are under way.
   */
  writable(options: WritableOptions<Output> = {}): WritableStream<Input> {
    checkWritableOptions(options);
    const { onResult, signal, timeout, onProgress } = options;
    const timeoutMs = timeout === undefined ? 0 : limitMs(timeout, 'timeout');
    return itemSink(this.#streams, {
      onResult: onResult as SinkOptions['onResult'],
      signal,
      timeoutMs,
      onProgress,
    });
  }

  stats(): BatchPoolStats {
    const { completed, failed, timedOut, lost, batches, batchedItems } = this.#batcher.counts;
    const { noteCounts } = this.#threads;
    return {
      threads: this.#threads.threadCount,
      recycled: this.#threads.recycled,
      waiting: this.#admission.waiting,
      pending: this.#admission.pendingTasks,
      pendingBytes: this.#admission.pendingBytes,
      queued: this.#batcher.queued,
      running: this.#batcher.running,
      completed,
      failed,
      timedOut,
      lost,
      batches,
      meanBatch: batches === 0 ? 0 : batchedItems / batches,
      meanRunMs: this.#batcher.times.meanMs,
      linesDropped: noteCounts.dropped,
      notesLate: noteCounts.late,
    };
  }

  /**
   * Changes the number of threads. New ones start at once; superfluous ones get no more items and end when they
   * have finished what they have. Resolves when that is done.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_CLOSED
   */
  async resize(threads: number): Promise<void> {
    wholeNumber(threads, 'threads', 1, THREADS_MAX);
    if (this.#isClosed) throw closed();
    await this.#threads.resize(threads);
  }

  /**
   * Changes how items are packed into batches, from the next batch on. This is how a pool follows its configuration:
   * `config.watch(batch, (value) => pool.tune({ batch: value ?? {} }))`.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION, ERR_MILLRACE_CLOSED; nothing has changed then
   */
  tune(tuning: PoolTuning): void {
    const packing = packingOf(checkTuning(tuning), this.#batcher.packing);
    if (this.#isClosed) throw closed();
    this.#batcher.packing = packing;
  }

  /** Takes nothing more, waits for accepted items within the grace period, then ends the threads. */
  close(options: CloseOptions = {}): Promise<void> {
    knownOptions(options, '', { grace: true });
    this.#closing ??= this.#close(durationMs(options.grace ?? '30s', 'grace'));
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(graceMs: number): Promise<void> {
    this.#isClosed = true;
    const scaled = this.#autoscaler?.stop();
    this.#admission.refuseWaiters(closed());
    let timer: NodeJS.Timeout | undefined;
    if (this.#admission.pendingTasks > 0 && graceMs > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
        timer = setTimeout(resolve, graceMs);
      });
    }
    clearTimeout(timer);
    this.#batcher.refuseQueued(closed());
    await this.#threads.stop();
    await scaled;
    this.#batcher.refuseQueued(closed());
    this.#batcher.close();
    clearInterval(this.#keepAlive);
  }

  /** Encodes, admits and sends; a promise when it has to wait. */
  #submit(
    input: unknown,
    entry: EntryToFill,
    signal: AbortSignal | undefined,
    onFull: 'wait' | 'reject',
  ): Promise<void> | undefined {
    if (this.#isClosed) throw closed();
    if (this.#broken !== undefined) throw this.#broken;
    if (input instanceof Uint8Array || input instanceof ArrayBuffer) this.#copyInto(entry, input);
    else if (!this.#slab.write(input, entry, ITEM_LIMITS.depthMax)) {
      encodeInto(entry, input, 'the item', ITEM_LIMITS);
    }
    const { byteLength } = entry;
    if (this.#isShedding && onFull === 'reject') throw this.#admission.full('items', WAY_OUT);
    if (this.#admission.tryAcquire(byteLength)) {
      this.#accept(entry);
      return undefined;
    }
    if (onFull === 'reject') throw this.#admission.full('items', WAY_OUT);
    return this.#wait(entry, signal);
  }

  /** Apart, because a function that makes a closure makes room for it in every call. */
  #wait(entry: EntryToFill, signal: AbortSignal | undefined): Promise<void> {
    return this.#admission.acquire(entry.byteLength, 1, signal).then(() => this.#accept(entry));
  }

  /** A buffer is copied now, as JSON is made now: what its owner does with it afterwards is not the item's affair. */
  #copyInto(entry: EntryToFill, input: Uint8Array | ArrayBuffer): void {
    const { byteLength } = input;
    if (byteLength > ITEM_LIMITS.bytesMax) {
      throw payloadTooLarge('the item', byteLength, ITEM_LIMITS);
    }
    const isView = input instanceof Uint8Array;
    const encoding = isView ? Encoding.BYTES : Encoding.ARRAY_BUFFER;
    this.#slab.copy(isView ? input : new Uint8Array(input), encoding, entry);
  }

  /** The permits are there. */
  #accept(entry: Item): void {
    if (entry.isDropped || this.#isClosed || this.#broken !== undefined) {
      this.#admission.release(entry.byteLength);
      if (!entry.isDropped) entry.onError(this.#broken ?? closed());
      return;
    }
    if (!this.#isKept) {
      this.#isKept = true;
      this.#keepAlive.ref();
    }
    this.#batcher.submit(entry);
  }

  #scaled(timers: Timers, min: number): Autoscaler {
    const machine = new Machine();
    const threads = this.#threads;
    const scaled = {
      get size() {
        return threads.size;
      },
      resize: (count: number) => threads.resize(count),
      shed: (isShedding: boolean) => {
        this.#isShedding = isShedding;
      },
    };
    const read = (): Load => ({
      ...machine.load(),
      busy: threads.busyCount / Math.max(1, threads.threadCount),
      queue: this.#queueFill(),
      threadBytes: Math.max(THREAD_BYTES_MIN, threads.threadBytes),
    });
    return new Autoscaler(timers, scaled, read, { min, max: threads.size });
  }

  /** How much waits, of what may; a second of work for every thread is as much as there should be. */
  #queueFill(): number {
    const { pendingTasks, pendingBytes } = this.#admission;
    const threads = Math.max(1, this.#threads.threadCount);
    const waitMs = (this.#batcher.queued * this.#batcher.times.meanMs) / threads;
    return Math.min(
      1,
      Math.max(
        pendingTasks / this.#maxTasks,
        pendingBytes / this.#maxBytes,
        waitMs / QUEUE_FULL_MS,
      ),
    );
  }

  #settleIdle(): void {
    if (this.#admission.pendingTasks > 0) return;
    this.#isKept = false;
    this.#keepAlive.unref();
    this.#onIdle?.();
  }
}

/** An item somebody waits for with a promise. */
class RunItem implements Item {
  text = '';
  memory: Uint8Array | undefined;
  offset = 0;
  encoding: Encoding = Encoding.JSON;
  byteLength = 0;
  stage: ItemStage = ItemStage.NEW;
  isDropped = false;
  flight: Item['flight'];
  slot = 0;
  readonly timeoutMs: number;
  onProgress: Item['onProgress'];
  readonly #resolve: (value: unknown) => void;
  readonly #reject: (error: unknown) => void;
  #unlisten: (() => void) | undefined;

  constructor(
    resolve: (value: unknown) => void,
    reject: (error: unknown) => void,
    timeoutMs: number,
  ) {
    this.timeoutMs = timeoutMs;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  listen(signal: AbortSignal, drop: () => void): void {
    const onAbort = (): void => {
      this.#reject(signal.reason);
      drop();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    this.#unlisten = () => signal.removeEventListener('abort', onAbort);
  }

  onValue(value: unknown): void {
    this.#unlisten?.();
    this.#resolve(value);
  }

  onError(error: unknown): void {
    this.#unlisten?.();
    this.#reject(error);
  }
}

/** @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION */
function packingOf({ max, linger }: BatchOptions, otherwise: Packing): Packing {
  const lingerMs = linger === undefined ? otherwise.lingerMs : durationMs(linger, 'batch.linger');
  if (lingerMs > 1_000) throw invalidOption('batch.linger', linger, 'at most 1 s');
  return { max: wholeNumber(max ?? otherwise.max, 'batch.max', 1, 4_096), lingerMs };
}

/** @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION */
function wearLimits({ tasks, heap, age }: RecycleOptions): WearLimits {
  const never = Number.POSITIVE_INFINITY;
  return {
    tasks: tasks === undefined ? never : wholeNumber(tasks, 'recycle.tasks', 1, 1e15),
    heapBytes: heap === undefined ? never : sizeBytes(heap, 'recycle.heap'),
    ageMs: age === undefined ? never : limitMs(age, 'recycle.age'),
  };
}

function closed(): MillraceError {
  return new MillraceError('ERR_MILLRACE_CLOSED', 'the pool is closed; make a new one');
}
