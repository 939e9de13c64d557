/**
 * A steady load on the native timer queue: timers arrive at a fixed rate, are due after a random time, and fire into a
 * function that notes how late they are. No object is made for a timer, so that garbage is what the queue itself makes.
 *
 * A token is the number of its arrival in a ring that has room for all that can be pending at once; the moment meant is
 * kept beside it. Each millisecond the clock is read once: what is due fires, what has been missing is scheduled.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../../core/random.js';
import { TimerQueue } from '../../timing/index.js';
import { Percentiles } from '../percentiles.js';
import { sharedNowMs } from './arrivals.js';
import type { TimerLoad } from './load.js';
import { Timeline } from './timeline.js';

const OUT_TOKENS = 4_096;
const TICK_MS = 1;
/** What may still be pending of a ring when its places come round again. */
const SLACK_MS = 30_000;

export class TimerRun {
  readonly startMs: number = sharedNowMs();
  readonly total: number;
  readonly timeline: Timeline = new Timeline(this.startMs);
  readonly lateness: Percentiles = new Percentiles();
  readonly #load: TimerLoad;
  readonly #random: Random;
  readonly #queue: TimerQueue;
  /** The moment meant, by token; NaN once it has fired. */
  readonly #dueMs: Float64Array;
  readonly #out = new Uint32Array(OUT_TOKENS);
  #arrived = 0;
  #fired = 0;
  #early = 0;
  #twice = 0;

  constructor(load: TimerLoad, random: Random) {
    this.#load = load;
    this.#random = random;
    this.total = load.rate * load.seconds;
    const places = Math.ceil((load.rate * (load.delayMs + SLACK_MS)) / 1_000);
    this.#dueMs = new Float64Array(Math.min(places, this.total)).fill(Number.NaN);
    this.#queue = new TimerQueue({ startMs: this.startMs });
  }

  get arrived(): number {
    return this.#arrived;
  }

  get fired(): number {
    return this.#fired;
  }

  /** Fired before their time; must be 0. */
  get early(): number {
    return this.#early;
  }

  /** Fired although nothing was pending under their token; must be 0. */
  get twice(): number {
    return this.#twice;
  }

  /** Resolves when all that arrived has fired. */
  async run(signal: AbortSignal): Promise<void> {
    const perMs = this.#load.rate / 1_000;
    while (this.#arrived < this.total && !signal.aborted) {
      const nowMs = sharedNowMs();
      this.#fire(nowMs);
      const due = Math.floor((nowMs - this.startMs) * perMs) + 1;
      for (const until = Math.min(this.total, due); this.#arrived < until; ) {
        this.#schedule(this.startMs + this.#arrived / perMs);
      }
      await sleep(TICK_MS);
    }
    while (this.#queue.size > 0 && !signal.aborted) {
      this.#fire(sharedNowMs());
      await sleep(TICK_MS);
    }
    this.#queue.close();
  }

  #schedule(intendedMs: number): void {
    const token = this.#arrived++ % this.#dueMs.length;
    const dueMs = intendedMs + this.#random.float() * this.#load.delayMs;
    this.timeline.noteArrival(intendedMs);
    this.#dueMs[token] = dueMs;
    this.#queue.schedule(dueMs, token);
  }

  #fire(nowMs: number): void {
    for (let count = OUT_TOKENS; count === OUT_TOKENS; ) {
      count = this.#queue.advance(nowMs, this.#out);
      for (let i = 0; i < count; i++) this.#note(this.#out[i]!, nowMs);
    }
  }

  #note(token: number, nowMs: number): void {
    const dueMs = this.#dueMs[token]!;
    this.#dueMs[token] = Number.NaN;
    this.#fired++;
    if (Number.isNaN(dueMs)) {
      this.#twice++;
      return;
    }
    if (nowMs < dueMs) this.#early++;
    this.lateness.record(nowMs - dueMs);
    this.timeline.noteEnd(nowMs, nowMs - dueMs);
  }
}
