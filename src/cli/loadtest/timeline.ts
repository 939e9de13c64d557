/** What happened in each second of a load: how many came, how many ended, how long those that ended had taken. */
import { type PercentileFacts, Percentiles } from '../percentiles.js';

export interface TimelineSecond {
  /** Since the load began. */
  readonly second: number;
  readonly arrived: number;
  readonly ended: number;
  /** Of those that ended in it, from when they were due. */
  readonly latencyMs: PercentileFacts;
}

const SECOND_MS = 1_000;

export class Timeline {
  readonly #startMs: number;
  /** By second. */
  readonly #arrived: number[] = [];
  readonly #ended: { readonly second: number; readonly latencyMs: PercentileFacts }[] = [];
  /** Of the second that is going on. */
  readonly #latency = new Percentiles();
  #second = 0;

  /** @param startMs - when the load begins */
  constructor(startMs: number) {
    this.#startMs = startMs;
  }

  noteArrival(intendedMs: number): void {
    const second = this.#secondOf(intendedMs);
    this.#arrived[second] = (this.#arrived[second] ?? 0) + 1;
  }

  noteEnd(nowMs: number, latencyMs: number): void {
    this.#turnTo(this.#secondOf(nowMs));
    this.#latency.record(latencyMs);
  }

  /** Every second up to the last in which anything happened. */
  seconds(): TimelineSecond[] {
    this.#turnTo(this.#second + 1);
    const ends = new Map(this.#ended.map(({ second, latencyMs }) => [second, latencyMs]));
    const none = new Percentiles().facts();
    const length = Math.max(this.#arrived.length, ...this.#ended.map(({ second }) => second + 1));
    return Array.from({ length }, (_, second) => {
      const latencyMs = ends.get(second) ?? none;
      const arrived = this.#arrived[second] ?? 0;
      return { second, arrived, ended: latencyMs.count, latencyMs };
    });
  }

  #secondOf(atMs: number): number {
    return Math.max(0, Math.floor((atMs - this.#startMs) / SECOND_MS));
  }

  #turnTo(second: number): void {
    if (second <= this.#second) return;
    const latencyMs = this.#latency.facts();
    if (latencyMs.count > 0) this.#ended.push({ second: this.#second, latencyMs });
    this.#latency.reset();
    this.#second = second;
  }
}
