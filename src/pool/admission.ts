/**
 * Admission: how much may be pending, in tasks and in bytes, and who waits for room.
 *
 * A counting semaphore over two quantities, with two watermarks. The limits are the high one:
 *
 *             a request does not fit
 *      OPEN ------------------------> SHUT       SHUT: whoever asks waits its turn, or is refused
 *       ^                              |
 *       `--- low watermark reached ----'         then as many waiters as fit
 *
 * So producers wake in groups and do some work each time, instead of one by one at the brim, and one that was told to
 * come back later finds room when it does. Waiters are served strictly in order: nobody overtakes, also not a small
 * request a large one, so nobody starves. A request that does not fit although the low watermark is reached shuts
 * nobody else out.
 *
 * A request larger than the limits is admitted when nothing else is pending, so it cannot wait for ever.
 *
 * When to come back is an estimate: what has to be released until the low watermark, by the rate of recent releases.
 *
 * Invariants: (1) what was acquired and not released is what is pending; (2) pending stays within the limits,
 * except for one oversized request alone and for what was occupied; (3) permits are granted in the order they were asked for.
 * Thread safety: none. No globals; the clock comes in. Cost: O(1) per call, aborts included.
 */
import { invariant, MillraceError } from '../core/errors.js';
import { wholeNumber } from '../core/options.js';

export interface AdmissionLimits {
  readonly tasksMax: number;
  readonly bytesMax: number;
  /** Share of the limits at which those are let in again who found no room. @defaultValue 0.9 */
  readonly lowWatermark?: number;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
}

const RATE_WINDOW_MS = 200;
/** Nothing released for so long says that there was nothing to do, not that it is slow. */
const RATE_PAUSE_MS = 5_000;
const RATE_SHARE = 0.5;
const RETRY_MS_UNKNOWN = 100;
const RETRY_MS_MIN = 1;
const RETRY_MS_MAX = 60_000;

interface Waiter {
  readonly bytes: number;
  readonly tasks: number;
  readonly admit: () => void;
  readonly refuse: (reason: unknown) => void;
  previous: Waiter | undefined;
  next: Waiter | undefined;
}

export class Admission {
  readonly #tasksMax: number;
  readonly #bytesMax: number;
  readonly #tasksLow: number;
  readonly #bytesLow: number;
  #tasks = 0;
  #bytes = 0;
  #waiting = 0;
  #isShut = false;
  readonly #nowMs: () => number;
  /** Tasks released per ms; 0 is unknown. */
  #rate = 0;
  #windowAtMs: number;
  #windowTasks = 0;
  #first: Waiter | undefined;
  #last: Waiter | undefined;

  /** @throws ERR_MILLRACE_INVALID_OPTION */
  constructor({ tasksMax, bytesMax, lowWatermark = 0.9, nowMs }: AdmissionLimits) {
    this.#nowMs = nowMs;
    this.#windowAtMs = nowMs();
    this.#tasksMax = wholeNumber(tasksMax, 'tasksMax', 1, Number.MAX_SAFE_INTEGER);
    this.#bytesMax = wholeNumber(bytesMax, 'bytesMax', 1, Number.MAX_SAFE_INTEGER);
    invariant(lowWatermark >= 0 && lowWatermark <= 1, 'admission-watermark', { lowWatermark });
    this.#tasksLow = Math.floor(tasksMax * lowWatermark);
    this.#bytesLow = Math.floor(bytesMax * lowWatermark);
  }

  get pendingTasks(): number {
    return this.#tasks;
  }

  get pendingBytes(): number {
    return this.#bytes;
  }

  /** Tasks that there is room for, of the size of those that are pending; below 0: so many are there above the limits. */
  get room(): number {
    const bytesPerTask = this.#bytes / Math.max(1, this.#tasks);
    const byBytes =
      bytesPerTask === 0 ? this.#tasksMax : (this.#bytesMax - this.#bytes) / bytesPerTask;
    return Math.floor(Math.min(this.#tasksMax - this.#tasks, byBytes));
  }

  /** How many were released per second, lately; 0: that is not known. */
  get releasedPerSecond(): number {
    return Math.round(this.#rate * 1_000);
  }

  /** Requests that wait. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Takes permits if nobody waits, there is room, and there has been since the low watermark was reached. */
  tryAcquire(bytes: number, tasks = 1): boolean {
    if (this.#first !== undefined || this.#isShut) return false;
    if (!this.#fits(bytes, tasks)) {
      this.#isShut = !this.#isLow;
      return false;
    }
    this.#tasks += tasks;
    this.#bytes += bytes;
    return true;
  }

  /** Takes permits, after everybody who asked before. Rejects with the signal's reason, and then holds none. */
  acquire(bytes: number, tasks = 1, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.tryAcquire(bytes, tasks)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#remove(waiter);
        reject(signal?.reason);
        // It may have been the one that did not fit.
        this.#admitWaiters();
      };
      const waiter: Waiter = {
        bytes,
        tasks,
        admit: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
        refuse: (reason) => {
          signal?.removeEventListener('abort', onAbort);
          reject(reason);
        },
        previous: this.#last,
        next: undefined,
      };
      if (this.#last === undefined) this.#first = waiter;
      else this.#last.next = waiter;
      this.#last = waiter;
      this.#waiting++;
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Takes permits whatever the limits, for what exists already: tasks found in the store at start. */
  occupy(bytes: number, tasks = 1): void {
    this.#tasks += tasks;
    this.#bytes += bytes;
  }

  /** Gives permits back. They need not be the portions that were taken. */
  release(bytes: number, tasks = 1): void {
    this.#tasks -= tasks;
    this.#bytes -= bytes;
    invariant(this.#tasks >= 0 && this.#bytes >= 0, 'admission-released-twice');
    this.#measure(tasks);
    this.#admitWaiters();
  }

  /** The error for whoever is refused: ERR_MILLRACE_QUEUE_FULL with the time after which there should be room. */
  full(noun: string, wayOut: string): MillraceError {
    return new MillraceError(
      'ERR_MILLRACE_QUEUE_FULL',
      `${this.#tasks} ${noun} with ${this.#bytes} bytes are pending, the limits are ${this.#tasksMax} and ${this.#bytesMax}; ${wayOut}`,
      {
        details: {
          pendingTasks: this.#tasks,
          pendingBytes: this.#bytes,
          retryAfterMs: this.retryAfterMs,
        },
      },
    );
  }

  /** When the low watermark will be reached, by the rate of recent releases; 1 ms to a minute. */
  get retryAfterMs(): number {
    const bytesPerTask = this.#bytes / Math.max(1, this.#tasks);
    const tasksLeft = Math.max(
      1,
      this.#tasks - this.#tasksLow,
      (this.#bytes - this.#bytesLow) / Math.max(1, bytesPerTask),
    );
    const leftMs = this.#rate > 0 ? Math.ceil(tasksLeft / this.#rate) : RETRY_MS_UNKNOWN;
    return Math.min(RETRY_MS_MAX, Math.max(RETRY_MS_MIN, leftMs));
  }

  #measure(tasks: number): void {
    const nowMs = this.#nowMs();
    const elapsedMs = nowMs - this.#windowAtMs;
    this.#windowTasks += tasks;
    if (elapsedMs < RATE_WINDOW_MS) return;
    if (elapsedMs < RATE_PAUSE_MS) {
      const rate = this.#windowTasks / elapsedMs;
      this.#rate = this.#rate === 0 ? rate : this.#rate + (rate - this.#rate) * RATE_SHARE;
    }
    this.#windowAtMs = nowMs;
    this.#windowTasks = 0;
  }

  /** Rejects everybody who waits. */
  refuseWaiters(reason: unknown): void {
    for (let waiter = this.#first; waiter !== undefined; waiter = this.#first) {
      this.#remove(waiter);
      waiter.refuse(reason);
    }
  }

  #fits(bytes: number, tasks: number): boolean {
    if (this.#tasks + tasks <= this.#tasksMax && this.#bytes + bytes <= this.#bytesMax) return true;
    return this.#tasks === 0 && this.#bytes === 0;
  }

  get #isLow(): boolean {
    return this.#tasks <= this.#tasksLow && this.#bytes <= this.#bytesLow;
  }

  #admitWaiters(): void {
    if (!this.#isLow) return;
    this.#isShut = false;
    for (let waiter = this.#first; waiter !== undefined; waiter = this.#first) {
      if (!this.#fits(waiter.bytes, waiter.tasks)) {
        this.#isShut = !this.#isLow;
        return;
      }
      this.#remove(waiter);
      this.#tasks += waiter.tasks;
      this.#bytes += waiter.bytes;
      waiter.admit();
    }
  }

  #remove(waiter: Waiter): void {
    if (waiter.previous === undefined) this.#first = waiter.next;
    else waiter.previous.next = waiter.next;
    if (waiter.next === undefined) this.#last = waiter.previous;
    else waiter.next.previous = waiter.previous;
    this.#waiting--;
  }
}
