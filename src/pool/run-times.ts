/**
 * How long tasks have been running: the mean of recent ones, and a high quantile.
 *
 * The quantile comes from a histogram whose buckets are the upper bits of the number itself: the exponent and three
 * bits after the point, so a bucket is an eighth of a power of two wide, and finding it takes no logarithm. All counts
 * are halved now and then, so that the past fades.
 *
 * Cost: a few nanoseconds for `add`; `quantileMs` walks the buckets and is kept until enough has been added.
 */

/** Of a new measurement in the mean. */
const EWMA_SHARE = 0.05;
/** Bits of the high word that are no bucket: 20 of the fraction there, less the three kept. */
const BUCKET_SHIFT = 17;
/** 2^-10 ms, about a microsecond: everything shorter is the first bucket. */
const LOWEST_BUCKET = (1_023 - 10) << 3;
const BUCKETS = 44 * 8;
const HALVE_AT = 100_000;

const number = new Float64Array(1);
const words = new Uint32Array(number.buffer);
/** Which of both words has the exponent. */
const HIGH_WORD = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0;

export class RunTimes {
  readonly #counts = new Uint32Array(BUCKETS);
  #count = 0;
  #seen = 0;
  #meanMs = 0;
  #quantileMs = 0;
  #quantileOf = 0;
  #quantileUntil = 0;

  /** Measured since the start. */
  get seen(): number {
    return this.#seen;
  }

  /** Mean, recent ones counting more; 0 until one has been measured. */
  get meanMs(): number {
    return this.#meanMs;
  }

  /** REQUIRES: runMs >= 0 and finite. */
  add(runMs: number): void {
    this.#meanMs += (runMs - this.#meanMs) * (this.#seen > 0 ? EWMA_SHARE : 1);
    this.#seen++;
    number[0] = runMs;
    const bucket = (words[HIGH_WORD]! >>> BUCKET_SHIFT) - LOWEST_BUCKET;
    this.#counts[bucket < 0 ? 0 : bucket < BUCKETS ? bucket : BUCKETS - 1]!++;
    if (++this.#count >= HALVE_AT) this.#halve();
  }

  /** The time that a share of the tasks stays below; up to an eighth too large, never too small. 0 without tasks. */
  quantileMs(share: number): number {
    if (share === this.#quantileOf && this.#seen < this.#quantileUntil) return this.#quantileMs;
    this.#quantileOf = share;
    this.#quantileUntil = this.#seen + Math.max(1, this.#seen >>> 5);
    this.#quantileMs = this.#quantile(share);
    return this.#quantileMs;
  }

  #quantile(share: number): number {
    if (this.#count === 0) return 0;
    let above = Math.floor(this.#count * (1 - share));
    for (let bucket = BUCKETS - 1; bucket >= 0; bucket--) {
      above -= this.#counts[bucket]!;
      if (above < 0) return upperBoundMs(bucket);
    }
    return upperBoundMs(0);
  }

  #halve(): void {
    this.#count = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      this.#counts[bucket] = this.#counts[bucket]! >>> 1;
      this.#count += this.#counts[bucket]!;
    }
  }
}

function upperBoundMs(bucket: number): number {
  words[HIGH_WORD] = (bucket + 1 + LOWEST_BUCKET) << BUCKET_SHIFT;
  words[1 - HIGH_WORD] = 0;
  return number[0]!;
}
