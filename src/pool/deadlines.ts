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
import { type Duration, durationMs, formatMs } from '../core/durations.js';
import { MillraceError } from '../core/errors.js';
import { invalidOption, knownOptions } from '../core/options.js';
import type { RunTimes } from './run-times.js';
import type { ThreadBatch } from './worker-thread.js';

/** How long an item may run. */
export interface TimeoutOptions {
  /**
   * Times the mean that an item may run; `true` is 3. `false`: `max` is the limit of all. @defaultValue true
   */
  readonly adaptive?: number | boolean;
  /** An adaptive limit is never shorter. @defaultValue '1s' */
  readonly min?: Duration;
  /** An adaptive limit is never longer, and this long while little has been measured. @defaultValue '5m' */
  readonly max?: Duration;
  /** From the abort of the signal to the end of the thread. @defaultValue '1s' */
  readonly grace?: Duration;
}

/** A limit for every item, or `adaptive`: out of the measured times. */
export type Timeout = 'adaptive' | Duration | TimeoutOptions;

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
  readonly batch: ThreadBatch | undefined;
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
}

const TIMEOUT_OPTIONS = { adaptive: true, min: true, max: true, grace: true } as const;
const GRACE_MS = 1_000;
const MIN_MS = 1_000;
const MAX_MS = 300_000;
const FACTOR = 3;
const QUANTILE = 0.999;
const QUANTILE_FACTOR = 1.5;
/** Measured items before an adaptive limit means something. */
const SEEN_MIN = 20;

/** The limits out of what the user asked for. */
export class Limits {
  readonly graceMs: number;
  readonly #factor: number;
  readonly #minMs: number;
  readonly #maxMs: number;

  /** @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION */
  constructor(timeout: Timeout | undefined) {
    const options =
      timeout === undefined
        ? { adaptive: false, max: Number.POSITIVE_INFINITY }
        : timeout === 'adaptive'
          ? {}
          : typeof timeout === 'object' && timeout !== null
            ? timeout
            : { adaptive: false, max: limitMs(timeout, 'timeout') };
    knownOptions<TimeoutOptions>(options, 'timeout.', TIMEOUT_OPTIONS);
    const { adaptive = true, min, max, grace } = options;
    if (typeof adaptive !== 'boolean' && !(typeof adaptive === 'number' && adaptive >= 1)) {
      throw invalidOption('timeout.adaptive', adaptive, 'true, false, or a factor of at least 1');
    }
    this.#factor = adaptive === true ? FACTOR : Number(adaptive);
    this.#maxMs = max === Number.POSITIVE_INFINITY ? max : limitMs(max ?? MAX_MS, 'timeout.max');
    this.#minMs = Math.min(this.#maxMs, durationMs(min ?? MIN_MS, 'timeout.min'));
    this.graceMs = durationMs(grace ?? GRACE_MS, 'timeout.grace');
  }

  /** Whether items without a limit of their own have one. */
  get isLimited(): boolean {
    return this.#maxMs !== Number.POSITIVE_INFINITY;
  }

  /** What an item sent now may take. Infinity: as long as it likes. */
  limitMs(times: RunTimes): number {
    if (this.#factor === 0 || times.seen < SEEN_MIN) return this.#maxMs;
    const usualMs = Math.max(
      this.#factor * times.meanMs,
      QUANTILE_FACTOR * times.quantileMs(QUANTILE),
      this.#minMs,
    );
    return Math.min(this.#maxMs, usualMs);
  }
}

/** A limit of at least 1 ms. @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION */
export function limitMs(value: unknown, name: string): number {
  const ms = durationMs(value, name);
  if (ms < 1) throw invalidOption(name, value, 'at least 1 ms');
  return ms;
}

export class DeadlineWatch {
  readonly #timers: Timers;
  readonly #graceMs: number;
  readonly #watched = new Set<Watched>();
  #wakeUp: WakeUp | undefined;
  #nextAtMs = Number.POSITIVE_INFINITY;

  constructor(timers: Timers, graceMs: number) {
    this.#timers = timers;
    this.#graceMs = graceMs;
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
        atMs = this.#abort(watched, slot, { ownMs, nowMs }) + this.#graceMs;
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
    watched.batch?.cancel(slot, `the item runs longer than ${formatMs(ownMs)}`, true);
    return nowMs;
  }
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
