/**
 * Deadlines: how long a task may run, and what happens when it runs longer.
 *
 *   handler called --limit--> its signal is aborted --grace--> its thread is ended      (the rest: loss-policy.ts)
 *
 * The clock of a task starts when its handler is called, which only its thread knows; the thread writes that moment
 * into the batch's shared log anyway. So there is no timer per task. One wake-up serves all batches: at the earliest
 * moment at which any task can be overdue, the watch reads the marks of the batches under way, acts on those that
 * are, and finds out when to look next. A task that has not begun cannot be overdue sooner than its limit from now,
 * so a look now and then is never late:
 *
 *   next look = min over tasks of   not begun: now + limit     running: start + limit     aborted: abort + grace
 *
 * Sending a batch costs a comparison when the watch is up already, its end costs nothing, and results that are still
 * on their way cannot be mistaken for a hang, since a task is marked as ended in the same memory.
 *
 * The adaptive limit is max(factor x mean, 1.5 x the 99.9th percentile, min), at most max, of this pool's items so
 * far; until SEEN_MIN have been measured it is max. An item's limit is set when its batch is sent.
 */
import type { WakeUp } from '../core/clock.js';
import { formatMs } from '../core/durations.js';
import { MillraceError } from '../core/errors.js';
import type { RunningBatch } from '../core/pool.js';
import { NO_TIMEOUT, type TimeoutSpec } from '../core/timeouts.js';
import type { RunTimes } from './run-times.js';

/** Where a watch gets its time from; a Clock is one. */
export interface Timers {
  /** Milliseconds as `performance.now()` of the main thread has them. */
  monoMs(): number;
  /** Calls `wake` once, no earlier than `delayMs` from now. Does not keep the process alive. */
  wakeIn(delayMs: number, wake: () => void): WakeUp;
}

/** A batch whose items can overrun. */
export interface Watched {
  /** Where it is. */
  readonly batch: Pick<RunningBatch, 'startedAtMs' | 'cancel' | 'kill'> | undefined;
  /** By slot, which is also the position in the batch; undefined for those that have ended. */
  readonly items: readonly (WatchedItem | undefined)[];
  /** Of items without one of their own. Infinity: none. */
  readonly limitMs: number;
  /** When items were aborted because their time was over, by slot. */
  overdue: Map<number, number> | undefined;
}

export interface WatchedItem {
  /** Its own limit; 0 when it has none. */
  readonly timeoutMs: number;
  /** From its abort to the kill; the watch's when missing, Infinity: it is never killed. */
  readonly graceMs?: number;
}

const QUANTILE = 0.999;
const QUANTILE_FACTOR = 1.5;
/** Measured items before an adaptive limit means something. */
const SEEN_MIN = 20;

/** The limits of one kind of items, out of what the user asked for and what they have taken so far. */
export class Limits {
  readonly graceMs: number;
  readonly #timeout: TimeoutSpec;

  constructor(timeout: TimeoutSpec = NO_TIMEOUT) {
    this.graceMs = timeout.graceMs;
    this.#timeout = timeout;
  }

  /** Whether items without a limit of their own have one. */
  get isLimited(): boolean {
    return this.#timeout.maxMs !== Number.POSITIVE_INFINITY;
  }

  /** What an item sent now may take. Infinity: as long as it likes. */
  limitMs(times: RunTimes): number {
    const { factor, minMs, maxMs } = this.#timeout;
    if (factor === 0 || times.seen < SEEN_MIN) return maxMs;
    const usualMs = Math.max(
      factor * times.meanMs,
      QUANTILE_FACTOR * times.quantileMs(QUANTILE),
      minMs,
    );
    return Math.min(maxMs, usualMs);
  }
}

export class DeadlineWatch {
  readonly #timers: Timers;
  readonly #graceMs: number;
  readonly #what: 'item' | 'task';
  readonly #watched = new Set<Watched>();
  #wakeUp: WakeUp | undefined;
  #nextAtMs = Number.POSITIVE_INFINITY;

  /** @param what - what the abort's reason calls it */
  constructor(timers: Timers, graceMs: number, what: 'item' | 'task' = 'item') {
    this.#timers = timers;
    this.#graceMs = graceMs;
    this.#what = what;
  }

  /** Batches under watch. */
  get size(): number {
    return this.#watched.size;
  }

  /** @param shortestMs - the shortest limit in there; Infinity is not worth watching */
  add(watched: Watched, shortestMs: number): void {
    this.#watched.add(watched);
    this.#lookAt(this.#timers.monoMs() + shortestMs);
  }

  /** Harmless for what was never added. */
  remove(watched: Watched): void {
    this.#watched.delete(watched);
  }

  close(): void {
    this.#wakeUp?.cancel();
    this.#watched.clear();
  }

  #lookAt(atMs: number): void {
    if (atMs >= this.#nextAtMs) return;
    this.#wakeUp?.cancel();
    this.#nextAtMs = atMs;
    this.#wakeUp = this.#timers.wakeIn(Math.max(0, atMs - this.#timers.monoMs()), () => {
      this.#nextAtMs = Number.POSITIVE_INFINITY;
      this.#look();
    });
  }

  #look(): void {
    const nowMs = this.#timers.monoMs();
    let nextAtMs = Number.POSITIVE_INFINITY;
    for (const watched of this.#watched) {
      nextAtMs = Math.min(nextAtMs, this.#lookInto(watched, nowMs));
    }
    if (nextAtMs < Number.POSITIVE_INFINITY) this.#lookAt(nextAtMs);
  }

  /** Acts on what is overdue. Returns when to look again. */
  #lookInto(watched: Watched, nowMs: number): number {
    const { batch, items, limitMs } = watched;
    let nextAtMs = Number.POSITIVE_INFINITY;
    if (batch === undefined) return nextAtMs;
    for (let slot = 0; slot < items.length; slot++) {
      const item = items[slot];
      if (item === undefined) continue;
      const ownMs = item.timeoutMs || limitMs;
      const startedAtMs = batch.startedAtMs(slot);
      if (startedAtMs < 0 || ownMs === Number.POSITIVE_INFINITY) continue;
      let atMs = (startedAtMs || nowMs) + ownMs;
      if (atMs <= nowMs) {
        atMs = this.#abort(watched, slot, { ownMs, nowMs }) + (item.graceMs ?? this.#graceMs);
        if (atMs <= nowMs) {
          batch.kill();
          return Number.POSITIVE_INFINITY;
        }
      }
      nextAtMs = Math.min(nextAtMs, atMs);
    }
    return nextAtMs;
  }

  /** Tells an overdue item to end, once. Returns when. */
  #abort(
    watched: Watched,
    slot: number,
    { ownMs, nowMs }: { readonly ownMs: number; readonly nowMs: number },
  ): number {
    watched.overdue ??= new Map();
    const abortedAtMs = watched.overdue.get(slot);
    if (abortedAtMs !== undefined) return abortedAtMs;
    watched.overdue.set(slot, nowMs);
    watched.batch?.cancel(slot, overdueReason(ownMs, this.#what), true);
    return nowMs;
  }
}

/** What the signal of one that overruns is aborted with; what it throws then reports this reason. */
export function overdueReason(ownMs: number, what: 'item' | 'task'): string {
  return `the ${what} runs longer than ${formatMs(ownMs)}`;
}

/** The error of an item that overran. */
export function overran(ownMs: number): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_TASK_TIMEOUT',
    `the item ran longer than its limit of ${formatMs(ownMs)}; raise the timeout, or end when ctx.signal aborts`,
    { details: { timeoutMs: ownMs } },
  );
}

const DELAY_MS_MAX = 2 ** 31 - 1;

/**
 * Timers on Node's own: what a pool without a runtime uses. A watch has one timer at a time, so a wheel for millions
 * would have nothing to do.
 */
export const nodeTimers: Timers = {
  monoMs: () => performance.now(),
  wakeIn(delayMs, wake) {
    // A look too early, after 24 days or by libuv's rounding, costs nothing but the look.
    const timer = setTimeout(wake, Math.min(DELAY_MS_MAX, Math.ceil(delayMs))).unref();
    return { cancel: () => clearTimeout(timer) };
  },
};
