/**
 * The Pool over worker threads.
 *
 * A batch goes to the ready thread with the most free places. Nothing queues here: while no place is free, tasks
 * wait with the caller, where they can still be cancelled, reordered and packed into larger batches.
 *
 * A thread that dies is replaced: at once if it had been ready, after a growing delay while threads do not even
 * become ready, so that a broken module does not turn into a fork bomb.
 *
 * On request one thread more is kept in reserve: loaded, idle, and not counted. It takes the place of a thread that
 * dies, so that a death costs no cold start; and it is where a batch runs that must have nothing beside it.
 *
 * A thread that is worn (by tasks run, heap growth or age) is replaced without anything lost: its successor is ready
 * before it gets no more batches, and it ends with the last it has. One at a time, so the pool stays at its strength.
 * Threads are looked at when one of them has run a batch, and, since an idle thread ages too, when the oldest has
 * reached its age. The thread in reserve has nothing to hand over: it ends, and the next one starts.
 */
import type { ResourceLimits } from 'node:worker_threads';
import { publish } from '../core/channels.js';
import type { ChildDesk } from '../core/children.js';
import { DEFAULT_PAYLOAD_LIMITS, type PayloadLimits } from '../core/codec.js';
import { invariant, type MillraceError } from '../core/errors.js';
import { wholeNumber } from '../core/options.js';
import type { BatchListener, Pool, RunningBatch } from '../core/pool.js';
import { BaseService } from '../core/service.js';
import { usableCpus } from './machine.js';
import { moduleUrl } from './module-url.js';
import type { NoteCounts } from './task-notes.js';
import { checkEntry, type WearLimits, WorkerThread } from './worker-thread.js';

export interface ThreadCounts {
  /** Never fewer. A pool that does not scale by itself has the larger of both. @defaultValue 1 */
  readonly min?: number;
  /** `auto`: as many as the machine, or the CPU limit of its cgroup, runs at once. @defaultValue 'auto' */
  readonly max?: number | 'auto';
}

export interface ThreadPoolOptions {
  /** The tasks module: a URL, or a path that counts from the working directory. */
  readonly tasks: URL | string;
  readonly threads?: ThreadCounts;
  /**
   * Batches one thread has at once. With 2 the next one is there when one ends; more make cancelling and losing
   * tasks that have not begun more likely and gain nothing. @defaultValue 2
   */
  readonly placesPerThread?: number;
  /** Unreported tasks of one thread above which batches that only wait for I/O count too. @defaultValue 256 */
  readonly overlapMax?: number;
  /** When a thread is replaced by a new one. @defaultValue never */
  readonly recycle?: WearLimits;
  /** Of each thread, as node:worker_threads has them. @defaultValue none */
  readonly resourceLimits?: ResourceLimits;
  /** A thread that has not loaded the module by then is given up. @defaultValue 60000 */
  readonly loadTimeoutMs?: number;
  /** Names this process in execution ids. @defaultValue 'local' */
  readonly executor?: string;
  /** Of results. @defaultValue those of payloads */
  readonly limits?: PayloadLimits;
  /** What the module has: tasks, or a default function for single items. @defaultValue 'tasks' */
  readonly kind?: 'tasks' | 'function';
  /** URLs of modules that weave hooks around the handlers; see core/handler-hooks.ts. @defaultValue none */
  readonly preload?: readonly string[];
  /** Does what handlers ask for. @defaultValue none: they are told so */
  readonly children?: ChildDesk;
}

export const THREADS_MAX = 1_024;
const RESPAWN_MIN_MS = 100;
const RESPAWN_MAX_MS = 10_000;
/** A thread whose age could not be acted upon is looked at again, but not in a loop. */
const AGE_LOOK_MS_MIN = 100;
/** Node turns longer delays into 1 ms. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

export class ThreadPool extends BaseService implements Pool {
  onFree: (() => void) | undefined;
  /** Called when `isReserveFree` may have become true. */
  onReserve: (() => void) | undefined;
  readonly #options: ThreadPoolOptions;
  readonly #module: string;
  #target: number;
  readonly #threads = new Set<WorkerThread>();
  /** The thread beyond `#target`, if there is one. */
  #reserve: WorkerThread | undefined;
  #keepsReserve = false;
  #isRecycling = false;
  #recycleAtMs = 0;
  /** Until the oldest thread has its age. */
  #ageTimer: NodeJS.Timeout | undefined;
  #recycled = 0;
  readonly #notesOfGone: NoteCounts = { dropped: 0, late: 0 };
  readonly #respawns = new Set<NodeJS.Timeout>();
  #isOpen = false;
  #isDraining = false;
  #failedStarts = 0;
  #graceTimer: NodeJS.Timeout | undefined;
  #graceEndsMs = Number.POSITIVE_INFINITY;
  /** Shared by all threads. */
  readonly #placeLimits: { places: number; readonly overlapMax: number };
  /** Ends the wait of a drain. */
  #stopWaiting: (() => void) | undefined;

  /** @throws ERR_MILLRACE_INVALID_OPTION */
  constructor(options: ThreadPoolOptions) {
    super();
    this.#options = options;
    this.#module = moduleUrl(options.tasks);
    this.#target = threadCount(options.threads);
    this.#placeLimits = {
      places: wholeNumber(options.placesPerThread ?? 2, 'placesPerThread', 1, 64),
      overlapMax: options.overlapMax ?? 256,
    };
  }

  /** Batches one thread has at once, from now on. */
  set places(count: number) {
    this.#placeLimits.places = count;
  }

  /** Threads there should be. */
  get size(): number {
    return this.#target;
  }

  /** Threads that are ready. */
  get threadCount(): number {
    let ready = 0;
    for (const thread of this.#threads) if (thread.isReady) ready++;
    return ready;
  }

  get freePlaces(): number {
    if (!this.#isOpen) return 0;
    let free = 0;
    for (const thread of this.#threads) free += thread.freePlaces;
    return free;
  }

  run(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    invariant(this.#isOpen, 'thread-pool-not-open');
    invariant(batch.byteLength === batch.buffer.byteLength, 'thread-pool-shared-buffer');
    let best: WorkerThread | undefined;
    for (const thread of this.#threads) {
      if (thread.freePlaces > (best?.freePlaces ?? 0)) best = thread;
    }
    invariant(best !== undefined, 'thread-pool-no-place');
    return best.run(batch, listener);
  }

  /** Threads that have batches. */
  get busyCount(): number {
    let busy = 0;
    for (const thread of this.#threads) if (thread.batchCount > 0) busy++;
    return busy;
  }

  /** What the heap of a thread holds, on the average of those that have said so; 0 before. */
  get threadBytes(): number {
    const held = [...this.#threads].map((thread) => thread.heldBytes).filter((bytes) => bytes > 0);
    return held.reduce((sum, bytes) => sum + bytes, 0) / Math.max(1, held.length);
  }

  /** Threads replaced because they were worn, since the start. */
  get recycled(): number {
    return this.#recycled;
  }

  /** What tasks said too much or too late since the start. */
  get noteCounts(): Readonly<NoteCounts> {
    const counts = { ...this.#notesOfGone };
    for (const thread of this.#all()) add(counts, thread.noteCounts);
    return counts;
  }

  /** From now on there is a thread in reserve; it starts when the others have. */
  keepReserve(): void {
    this.#keepsReserve = true;
    if (this.#isOpen) void this.#spawnMissing();
  }

  /** Whether `runAlone` takes a batch now. */
  get isReserveFree(): boolean {
    return this.#isOpen && this.#reserve?.batchCount === 0 && this.#reserve.freePlaces > 0;
  }

  /** Runs a batch in the thread in reserve, with nothing beside it. REQUIRES: isReserveFree. */
  runAlone(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch {
    invariant(this.isReserveFree, 'thread-pool-no-reserve');
    return this.#reserve!.run(batch, listener);
  }

  /**
   * Changes how many threads there should be. New ones start at once; superfluous ones, those with the fewest
   * batches first, get no more batches and end when they have none. Resolves when that is done.
   *
   * @throws ERR_MILLRACE_TASKS_MODULE when a new thread cannot load the module any more
   */
  async resize(threads: number): Promise<void> {
    this.#target = wholeNumber(threads, 'threads', 1, THREADS_MAX);
    // Before start() and after drain() there is nothing to change.
    if (!this.#isOpen) return;
    await Promise.all([...this.#retireSuperfluous(), ...this.#spawnMissing()]);
  }

  /** Stops early when a successor does not load; waits for nothing while another thread is being replaced. */
  async replaceThreads(count: number, threadId?: number): Promise<void> {
    if (this.#isRecycling) return;
    this.#isRecycling = true;
    const oldest = [...this.#threads]
      .filter((thread) => thread.isReady && !thread.isRetired)
      .sort(
        (a, b) =>
          Number(b.threadId === threadId) - Number(a.threadId === threadId) || b.ageMs - a.ageMs,
      )
      .slice(0, count);
    for (const thread of oldest) {
      if (this.#isOpen && this.#threads.has(thread)) await this.#replace(thread);
    }
    this.#isRecycling = false;
    this.#recycleWorn();
  }

  inspectThreads(forMs: number): void {
    for (const thread of this.#all()) thread.inspect(forMs);
  }

  #retireSuperfluous(): Promise<void>[] {
    const staying = [...this.#threads].filter((thread) => !thread.isRetired);
    const superfluous = staying
      .sort((a, b) => a.batchCount - b.batchCount)
      .slice(0, Math.max(0, staying.length - this.#target));
    return superfluous.map((thread) => thread.retire());
  }

  #spawnMissing(): Promise<void>[] {
    let there = this.#respawns.size;
    for (const thread of this.#threads) if (!thread.isRetired) there++;
    const missing = Math.max(0, this.#target - there);
    const spawned = Array.from({ length: missing }, () => {
      const thread = this.#spawn();
      this.#threads.add(thread);
      return thread.ready;
    });
    // Its place is taken while one is on the way.
    if (this.#keepsReserve && this.#reserve === undefined && this.#respawns.size === 0) {
      this.#reserve = this.#spawn();
    }
    return spawned;
  }

  drain(graceMs: number): Promise<void> {
    this.#isOpen = false;
    this.#isDraining = true;
    clearTimeout(this.#ageTimer);
    for (const timer of this.#respawns) clearTimeout(timer);
    this.#respawns.clear();
    // A later call with less patience shortens the first one's.
    const endsMs = performance.now() + Math.max(0, graceMs);
    if (endsMs < this.#graceEndsMs) {
      this.#graceEndsMs = endsMs;
      if (this.#stopWaiting !== undefined) this.#armGrace();
    }
    return super.stop();
  }

  override stop(): Promise<void> {
    return this.drain(0);
  }

  protected async onStart(): Promise<void> {
    checkEntry();
    const keepsReserve = this.#keepsReserve;
    this.#keepsReserve = false;
    try {
      await Promise.all(this.#spawnMissing());
    } catch (error) {
      this.#isDraining = true;
      await this.#killAll();
      throw error;
    }
    if (this.#isDraining) return;
    this.#isOpen = true;
    this.#awaitAge();
    if (keepsReserve || this.#keepsReserve) this.keepReserve();
    this.onFree?.();
  }

  protected async onStop(): Promise<void> {
    if (!this.#isIdle && performance.now() < this.#graceEndsMs) {
      await new Promise<void>((resolve) => {
        this.#stopWaiting = resolve;
        this.#armGrace();
      });
      clearTimeout(this.#graceTimer);
    }
    await this.#killAll();
  }

  #armGrace(): void {
    clearTimeout(this.#graceTimer);
    const leftMs = Math.max(0, Math.ceil(this.#graceEndsMs - performance.now()));
    this.#graceTimer = setTimeout(() => this.#stopWaiting?.(), Math.min(leftMs, TIMEOUT_MS_MAX));
  }

  get #isIdle(): boolean {
    for (const thread of this.#all()) if (thread.batchCount > 0) return false;
    return true;
  }

  #all(): WorkerThread[] {
    return this.#reserve === undefined ? [...this.#threads] : [...this.#threads, this.#reserve];
  }

  async #killAll(): Promise<void> {
    await Promise.all(this.#all().map((thread) => thread.kill('shutdown')));
  }

  #spawn(): WorkerThread {
    const { resourceLimits, loadTimeoutMs, executor, limits, kind, preload, children } =
      this.#options;
    const thread = new WorkerThread(
      {
        module: this.#module,
        kind: kind ?? 'tasks',
        preload: preload ?? [],
        executor: executor ?? 'local',
        limits: limits ?? DEFAULT_PAYLOAD_LIMITS,
        placeLimits: this.#placeLimits,
        children,
        loadTimeoutMs: loadTimeoutMs ?? 60_000,
        resourceLimits,
      },
      {
        change: (apply) => this.#change(apply, thread),
        onGone: (loss) => this.#onGone(thread, loss),
      },
    );
    return thread;
  }

  /** Makes a change that may free places, and says so when there were none. */
  #change(apply: () => void, thread: WorkerThread): void {
    const wasFull = this.freePlaces === 0;
    apply();
    if (wasFull && this.freePlaces > 0) this.onFree?.();
    if (thread === this.#reserve && this.isReserveFree) this.onReserve?.();
    if (this.#options.recycle !== undefined) this.#recycle(thread);
    if (this.#isDraining && this.#isIdle) this.#stopWaiting?.();
  }

  /** The thread in reserve, if it is ready and idle, becomes one of the others when there are too few. */
  #promoteReserve(): void {
    const reserve = this.#reserve;
    if (!this.isReserveFree || reserve === undefined) return;
    let there = 0;
    for (const thread of this.#threads) if (!thread.isRetired) there++;
    if (there >= this.#target) return;
    this.#change(() => {
      this.#reserve = undefined;
      this.#threads.add(reserve);
    }, reserve);
  }

  /** Replaces a thread if it is worn, unless another one is being replaced. */
  #recycle(worn: WorkerThread): void {
    const { recycle } = this.#options;
    if (recycle === undefined || this.#isRecycling || !this.#isOpen) return;
    if (worn.isRetired || !worn.isReady || !worn.isWorn(recycle)) return;
    // Its successors do not load: not again at once.
    if (performance.now() < this.#recycleAtMs) return;
    if (this.#threads.has(worn)) this.#isRecycling = true;
    else if (worn === this.#reserve && worn.batchCount === 0) this.#isRecycling = true;
    else return;
    const replaced = worn === this.#reserve ? this.#replaceReserve(worn) : this.#replace(worn);
    void replaced.then(() => {
      this.#isRecycling = false;
      this.#recycleWorn();
    });
  }

  /** Replaces the first worn thread, if there is one, and comes back when the next one has its age. */
  #recycleWorn(): void {
    for (const thread of this.#all()) this.#recycle(thread);
    this.#awaitAge();
  }

  #awaitAge(): void {
    const ageMs = this.#options.recycle?.ageMs ?? Number.POSITIVE_INFINITY;
    if (ageMs === Number.POSITIVE_INFINITY || this.#isRecycling || !this.#isOpen) return;
    const ages = this.#all().map((thread) => (thread.isRetired ? 0 : thread.ageMs));
    const leftMs = Math.max(
      ageMs - Math.max(0, ...ages),
      this.#recycleAtMs - performance.now(),
      AGE_LOOK_MS_MIN,
    );
    clearTimeout(this.#ageTimer);
    const delayMs = Math.min(Math.ceil(leftMs), TIMEOUT_MS_MAX);
    this.#ageTimer = setTimeout(() => this.#recycleWorn(), delayMs).unref();
  }

  async #replace(worn: WorkerThread): Promise<void> {
    const successor = this.#spawn();
    this.#threads.add(successor);
    try {
      await successor.ready;
    } catch {
      this.#recycleAtMs = performance.now() + RESPAWN_MAX_MS;
      return;
    }
    await worn.retire();
    this.#recycled++;
    // A resize meanwhile counted both of them.
    if (this.#isOpen) void this.#spawnMissing();
  }

  /** It is idle and not counted: nothing has to be ready before it ends. */
  async #replaceReserve(worn: WorkerThread): Promise<void> {
    await worn.retire();
    this.#recycled++;
    if (this.#isOpen) void this.#spawnMissing();
  }

  #onGone(thread: WorkerThread, loss: MillraceError): void {
    if (thread === this.#reserve) this.#reserve = undefined;
    this.#threads.delete(thread);
    add(this.#notesOfGone, thread.noteCounts);
    if (thread.isRetired) return;
    if (this.#isDraining) {
      if (this.#isIdle) this.#stopWaiting?.();
      return;
    }
    publish('millrace:pool:thread-lost', () => ({ threadId: thread.threadId, cause: loss }));
    this.#failedStarts = thread.wasOfUse ? 0 : this.#failedStarts + 1;
    // During start() the first failure is the answer; it comes through `ready`.
    if (!this.#isOpen && this.#failedStarts > 0) return;
    if (this.#failedStarts === 0) {
      this.#promoteReserve();
      // Whoever resizes waits for new threads; nobody waits for a replacement.
      void this.#spawnMissing();
      return;
    }
    const delayMs = Math.min(RESPAWN_MAX_MS, RESPAWN_MIN_MS * 2 ** (this.#failedStarts - 1));
    const timer = setTimeout(() => {
      this.#respawns.delete(timer);
      void this.#spawnMissing();
    }, delayMs);
    timer.unref();
    this.#respawns.add(timer);
  }
}

function add(sum: NoteCounts, { dropped, late }: Readonly<NoteCounts>): void {
  sum.dropped += dropped;
  sum.late += late;
}

/** How many threads the options mean. @throws ERR_MILLRACE_INVALID_OPTION */
export function threadCount(counts: ThreadCounts = {}): number {
  const { max = 'auto' } = counts;
  const most = max === 'auto' ? usableCpus() : wholeNumber(max, 'threads.max', 1, THREADS_MAX);
  if (counts.min !== undefined) {
    wholeNumber(counts.min, 'threads.min', 0, max === 'auto' ? THREADS_MAX : most);
  }
  return Math.max(most, counts.min ?? 1);
}
