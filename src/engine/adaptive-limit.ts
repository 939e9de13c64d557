/**
 * How many executions of a task type may run at once, found out from how long they take: what they call gets slower when it
 * is asked too much at a time, and that shows before it fails.
 *
 * Results are looked at in windows: at least a second, and until ten executions have completed, at most ten seconds.
 *
 *   a tenth of a window timed out or found nobody   limit x 0.9                        multiplicative decrease
 *   ten completed                                   limit -> limit x gradient + sqrt(limit)
 *   fewer, not slower, half of the limit in use     limit + 1                          additive increase
 *
 *   gradient = 1.5 x how long they take unhurried / how long they take now, within [0.5, 1]
 *
 * While nothing queues anywhere the gradient is 1, and the limit grows by its square root: there has to be something to see.
 * Where the other side queues what is beyond its capacity, the two terms meet at about half above that: enough to keep it busy, little
 * enough for it to stay quick. The limit goes three tenths of the way to where it should be, so that one odd window is not
 * much, or up by one where that is more; and it does not grow while less than half of it is in use, since then nothing is learnt of more.
 *
 * How long they take unhurried is measured, not guessed: every 60 windows the limit is a quarter of what is in use until as many
 * have ended as ran by then, and the next window is measured. What is quicker than was thought is believed, of what is slower the half.
 * When that is news, or three times the time that is believed is exceeded, the next measurement comes after ten windows: the quarter
 * may still have been too much. An average over time would take a lasting queue for the other side's nature; a minimum would never
 * learn that it has become slower. In between it follows windows that are quicker, slowly. A measurement costs the throughput of
 * a second or so in a minute.
 *
 *   STEADY --60 or 10 windows--> SETTLING (a quarter; what began before ends) --> MEASURING (one window) --> STEADY
 *
 * Times of a window are averaged as logarithms: one execution that takes a hundred times as long, or a mix of cheap and
 * dear ones, moves that mean by little.
 *
 * Invariants: min <= limit <= max; no clock and no table in here. Cost: an addition and a logarithm for each result.
 *
 * Sources: Gradient2 of Netflix' concurrency-limits (gradient, tolerance, smoothing, "half in use"); Envoy's adaptive concurrency
 * filter (square root as headroom, measuring at a lower limit); TCP Vegas, Brakmo and Peterson 1995 (delay as the sign of a queue); Chiu and
 * Jain 1989 (additive increase, multiplicative decrease).
 */
import type { ConcurrencyRange } from '../core/concurrency.js';

/** A window is not judged sooner. */
const WINDOW_MS_MIN = 1_000;
/** With fewer completed ones their times say little; a window waits for more up to `WINDOW_MS_MAX`. */
const SAMPLES_MIN = 10;
const WINDOW_MS_MAX = 10_000;
/** Times the unhurried one that is no sign of a queue yet. */
const TOLERANCE = 1.5;
/** Of the limit, that one window may take away at most. */
const GRADIENT_MIN = 0.5;
/** Of the way to where the limit should be, in one window. */
const SMOOTHING = 0.3;
/** Of a window's executions, from which on failures that say "too much" decide. */
const OVERLOAD_SHARE = 0.1;
const DECREASE = 0.9;
/** Windows from one measurement of the unhurried time to the next; and when what is believed of it is in doubt. */
const PROBE_EVERY = 60;
const PROBE_SOON = 10;
/** By how much a measurement is news, as a logarithm: a tenth. */
const NEWS_LOG = 0.1;
/** Of what is in use, that a measurement leaves. */
const PROBE_SHARE = 0.25;
/** How much of a longer time is believed. */
const LONGER_WEIGHT = 0.5;
/** The same of a quicker window in between. */
const QUICKER_WEIGHT = 0.1;
/** Below the clocks' grain a time says nothing. */
const RUN_MS_MIN = 0.05;
/** Where it begins: enough to see something, little enough to harm nobody. */
const FIRST_LIMIT = 5;

export class AdaptiveLimit {
  #range: ConcurrencyRange;
  /** With fractions, so that small steps add up. */
  #exact: number;
  /** How long an execution takes when the other side is not hurried, as a logarithm of ms; undefined: not known yet. */
  #unhurriedLog: number | undefined;
  /** Whether that rests on a few executions only. */
  #isRough = true;
  #stage: 'steady' | 'settling' | 'measuring' = 'steady';
  /** What holds while measuring. */
  #probeLimit = 0;
  /** Executions that are to end before a measurement begins. */
  #toSettle = 0;
  #windowsToProbe = PROBE_SOON;
  #sinceMs: number;
  #completed = 0;
  #logSum = 0;
  #overloaded = 0;
  #inUseMax = 0;

  /** @param nowMs - monotonic, as everywhere here */
  constructor(range: ConcurrencyRange, nowMs: number) {
    this.#range = range;
    this.#exact = within(FIRST_LIMIT, range);
    this.#sinceMs = nowMs;
  }

  /** How many may run at once now: a whole number, at least 1. */
  get limit(): number {
    return Math.floor(this.#stage === 'steady' ? this.#exact : this.#probeLimit);
  }

  get range(): ConcurrencyRange {
    return this.#range;
  }

  /** Goes on within other bounds, from where it is. */
  tune(range: ConcurrencyRange, nowMs: number): void {
    this.#range = range;
    this.#exact = within(this.#exact, range);
    this.#stage = 'steady';
    this.#openWindow(nowMs, 0);
  }

  /** So many run or are claimed. */
  noteInUse(count: number): void {
    this.#inUseMax = Math.max(this.#inUseMax, count);
  }

  /** One has completed, and its handler took so long. */
  noteCompleted(runMs: number): void {
    this.#completed++;
    this.#logSum += Math.log(Math.max(runMs, RUN_MS_MIN));
    this.#toSettle--;
  }

  /** One has ended in a way that says nothing of what it called: another failure, a snooze, a cancel. */
  noteEnded(): void {
    this.#toSettle--;
  }

  /** One has timed out, or what it called did not answer or asked for patience. */
  noteOverloaded(): void {
    this.#overloaded++;
    this.#toSettle--;
  }

  /**
   * Judges the window if it is over.
   *
   * @param inUse - so many run or are claimed now
   * @returns whether the limit has changed
   */
  look(nowMs: number, inUse: number): boolean {
    const before = this.limit;
    if (this.#stage === 'settling') {
      if (this.#toSettle <= 0) {
        this.#stage = 'measuring';
        this.#openWindow(nowMs, inUse);
      }
      return false;
    }
    const elapsedMs = nowMs - this.#sinceMs;
    const isFull = this.#told >= SAMPLES_MIN && elapsedMs >= WINDOW_MS_MIN;
    if (!isFull && elapsedMs < WINDOW_MS_MAX) return false;
    const isMeasured = this.#stage === 'measuring';
    this.#stage = 'steady';
    if (this.#overloaded > 0 && this.#overloaded >= this.#told * OVERLOAD_SHARE) {
      this.#exact = within(this.#exact * DECREASE, this.#range);
    } else if (isMeasured) this.#takeMeasurement();
    else this.#judge();
    this.#openWindow(nowMs, inUse);
    return this.limit !== before;
  }

  /** Executions of this window that say something. */
  get #told(): number {
    return this.#completed + this.#overloaded;
  }

  #judge(): void {
    if (this.#completed === 0) return;
    const limit = this.#exact;
    const isUsed = this.#inUseMax * 2 >= limit;
    const gradient = this.#gradient();
    if (this.#completed >= SAMPLES_MIN) {
      const step = SMOOTHING * (limit * gradient + Math.sqrt(limit) - limit);
      const next = limit + (gradient === 1 ? Math.max(1, step) : step);
      if (next < limit || isUsed) this.#exact = within(next, this.#range);
      const isDoubtful = gradient === GRADIENT_MIN;
      this.#windowsToProbe -= isDoubtful ? PROBE_EVERY / PROBE_SOON : 1;
      if (this.#windowsToProbe <= 0) this.#beginMeasurement();
    } else if (isUsed && gradient === 1) {
      this.#exact = within(limit + 1, this.#range);
    }
  }

  #gradient(): number {
    const nowLog = this.#logSum / this.#completed;
    const unhurriedLog = this.#unhurriedAfter(nowLog);
    this.#unhurriedLog = unhurriedLog;
    const gradient = TOLERANCE * Math.exp(unhurriedLog - nowLog);
    return Math.min(1, Math.max(GRADIENT_MIN, gradient));
  }

  /** What is believed once a window took so long. */
  #unhurriedAfter(nowLog: number): number {
    const isFirst = this.#isRough && this.#completed >= SAMPLES_MIN;
    if (isFirst) this.#isRough = false;
    if (isFirst || this.#unhurriedLog === undefined) return nowLog;
    return this.#unhurriedLog + QUICKER_WEIGHT * Math.min(0, nowLog - this.#unhurriedLog);
  }

  #beginMeasurement(): void {
    const inUse = Math.min(this.#exact, this.#inUseMax);
    this.#probeLimit = within(Math.max(1, inUse * PROBE_SHARE), this.#range);
    this.#toSettle = this.#inUseMax;
    this.#windowsToProbe = PROBE_EVERY;
    this.#stage = 'settling';
  }

  #takeMeasurement(): void {
    if (this.#completed < SAMPLES_MIN || this.#unhurriedLog === undefined) return;
    const measuredLog = this.#logSum / this.#completed;
    const longerLog = measuredLog - this.#unhurriedLog;
    if (Math.abs(longerLog) > NEWS_LOG) this.#windowsToProbe = PROBE_SOON;
    this.#unhurriedLog += longerLog > 0 ? LONGER_WEIGHT * longerLog : longerLog;
  }

  #openWindow(nowMs: number, inUse: number): void {
    this.#sinceMs = nowMs;
    this.#completed = 0;
    this.#logSum = 0;
    this.#overloaded = 0;
    this.#inUseMax = inUse;
  }
}

function within(limit: number, { min, max }: ConcurrencyRange): number {
  return Math.min(max, Math.max(min, limit));
}
