/**
 * Admission: how much may be pending, in tasks and in bytes, and who waits for room.
 *
 * A counting semaphore over two quantities. Waiters are served strictly in order: nobody overtakes, also not a
 * small request a large one, so nobody starves. Once somebody had to wait, room is given out again only below the
 * low watermark, and then to as many as fit: producers wake in groups and do some work each time, instead of one
 * by one at the brim.
 *
 * A request larger than the limits is admitted when nothing else is pending, so it cannot wait for ever.
 *
 * Invariants: (1) what was acquired and not released is what is pending; (2) pending stays within the limits,
 * except for one oversized request alone and for what was occupied; (3) permits are granted in the order they were asked for.
 * Thread safety: none. No clock, no globals. Cost: O(1) per call, aborts included.
 */
import { invariant } from '../core/errors.js';
import { wholeNumber } from '../core/options.js';

export interface AdmissionLimits {
  readonly tasksMax: number;
  readonly bytesMax: number;
  /** Share of the limits below which waiters are let in again. @defaultValue 0.9 */
  readonly lowWatermark?: number;
}

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
  #first: Waiter | undefined;
  #last: Waiter | undefined;

  /** @throws ERR_MILLRACE_INVALID_OPTION */
  constructor({ tasksMax, bytesMax, lowWatermark = 0.9 }: AdmissionLimits) {
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

  /** Requests that wait. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Takes permits if nobody waits and there is room. */
  tryAcquire(bytes: number, tasks = 1): boolean {
    if (this.#first !== undefined || !this.#fits(bytes, tasks)) return false;
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
    this.#admitWaiters();
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

  #admitWaiters(): void {
    if (this.#tasks > this.#tasksLow || this.#bytes > this.#bytesLow) return;
    for (let waiter = this.#first; waiter !== undefined; waiter = this.#first) {
      if (!this.#fits(waiter.bytes, waiter.tasks)) return;
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
