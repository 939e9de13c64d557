/**
 * Where numbers are kept between scrapes: typed arrays, so that counting on a busy path makes no garbage and no boxed
 * number.
 *
 *   counter, gauge  [0] value
 *   histogram       [0..n) buckets by upper bound 2^lowest ... 2^highest   [n] beyond   [n+1] sum
 *
 * A histogram finds its bucket in the exponent of the number itself: no logarithm, no search. An exact power of two belongs
 * to the bucket that it bounds (`le`).
 *
 * Cost on Node 20: see `npm run bench -- telemetry`; a counter is a few nanoseconds, a histogram some more.
 */
import type { HistogramScale } from './metric-table.js';

/** Rises. */
export class CounterCell {
  readonly #cell = new Float64Array(1);

  get value(): number {
    return this.#cell[0]!;
  }

  add(count = 1): void {
    this.#cell[0]! += count;
  }

  /** For a count that somebody else keeps; one that falls back is ignored. */
  raiseTo(total: number): void {
    if (total > this.#cell[0]!) this.#cell[0] = total;
  }
}

/** Goes up and down. */
export class GaugeCell {
  readonly #cell = new Float64Array(1);

  get value(): number {
    return this.#cell[0]!;
  }

  set(value: number): void {
    this.#cell[0] = value;
  }
}

const number = new Float64Array(1);
const words = new Uint32Array(number.buffer);
/** Which of both words has the exponent. */
const HIGH = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0;
const EXPONENT_BIAS = 1_023;
const FRACTION_BITS = 20;
const FRACTION = 2 ** FRACTION_BITS - 1;

/** Counts what is measured by its size. */
export class HistogramCell {
  readonly #lowest: number;
  readonly #last: number;
  readonly #cells: Float64Array;

  constructor({ lowest, highest }: HistogramScale) {
    this.#lowest = lowest + EXPONENT_BIAS;
    this.#last = highest - lowest + 1;
    this.#cells = new Float64Array(this.#last + 2);
  }

  /** REQUIRES: a finite number; below 0 counts as 0. */
  observe(value: number): void {
    const cells = this.#cells;
    const measured = Math.max(value, 0);
    number[0] = measured;
    const high = words[HIGH]!;
    // 2^e < value < 2^(e+1) is bounded by 2^(e+1), 2^e by itself.
    const above = (high & FRACTION) === 0 && words[1 - HIGH] === 0 ? 0 : 1;
    const bucket = (high >>> FRACTION_BITS) + above - this.#lowest;
    const last = this.#last;
    cells[Math.min(Math.max(bucket, 0), last)]! += 1;
    cells[last + 1]! += measured;
  }

  get sum(): number {
    return this.#cells[this.#last + 1]!;
  }

  get count(): number {
    let count = 0;
    for (let i = 0; i <= this.#last; i++) count += this.#cells[i]!;
    return count;
  }

  /** How many were at most each bound, by its place: 0 is 2^lowest. */
  cumulative(): number[] {
    let below = 0;
    return Array.from(this.#cells.subarray(0, this.#last), (count) => (below += count));
  }
}
