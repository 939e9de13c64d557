/**
 * Whether a count grows with time, or only with load.
 *
 * Every count of handles goes up and down with what is going on, so neither a high count nor a rising one means a leak: over a
 * ramp of load, tests for a trend alone (Mann-Kendall, Theil-Sen, "twelve in a row") accuse every clean program. So both are
 * fitted at once, by least squares over a window:
 *
 *   count = floor + perLoad x load + slope x time
 *
 * Growth is suspected when the slope is certain (its t value above T_MIN) and has come to something within the window (above
 * GROWTH_MIN and a tenth of the floor), in ROUNDS_MIN evaluations in a row. A count that wanders by itself can still look so:
 * suspicion is a reason to look closer, and no more.
 *
 * Cost: two writes per sample, one pass over WINDOW samples every EVALUATE_EVERY of them.
 */

/** Ten minutes, when a sample is taken every 5 s. */
export const WINDOW = 120;
const EVALUATE_EVERY = 10;
const ROUNDS_MIN = 3;
const T_MIN = 5;
const GROWTH_MIN = 16;
const GROWTH_SHARE_MIN = 0.1;

export interface Fit {
  /** Of the count, where the window begins and there is no load. */
  readonly floor: number;
  readonly perLoad: number;
  /** Per sample. */
  readonly slope: number;
  /** How many standard errors the slope is above 0. */
  readonly t: number;
}

/** One count over the last {@link WINDOW} samples. */
export class Growth {
  readonly #counts = new Float64Array(WINDOW);
  readonly #loads = new Float64Array(WINDOW);
  #samples = 0;
  #rounds = 0;
  #fit: Fit | undefined;

  /** The newest fit; undefined before the window is full. */
  get fit(): Fit | undefined {
    return this.#fit;
  }

  /** Whether it has grown for several evaluations in a row. */
  get isSuspected(): boolean {
    return this.#rounds >= ROUNDS_MIN;
  }

  add(count: number, load: number): void {
    this.#counts[this.#samples % WINDOW] = count;
    this.#loads[this.#samples % WINDOW] = load;
    this.#samples++;
    if (this.#samples < WINDOW || this.#samples % EVALUATE_EVERY !== 0) return;
    const from = this.#samples % WINDOW;
    this.#fit = fitOf(inOrder(this.#counts, from), inOrder(this.#loads, from));
    this.#rounds = hasGrown(this.#fit) ? this.#rounds + 1 : 0;
  }

  /** Forgets what was seen: what it stood for is another one now. */
  reset(): void {
    this.#samples = 0;
    this.#rounds = 0;
    this.#fit = undefined;
  }
}

function inOrder(ring: Float64Array, from: number): Float64Array {
  const ordered = new Float64Array(ring.length);
  ordered.set(ring.subarray(from));
  ordered.set(ring.subarray(0, from), ring.length - from);
  return ordered;
}

function hasGrown({ slope, t, floor }: Fit): boolean {
  const growth = slope * WINDOW;
  return t > T_MIN && growth > Math.max(GROWTH_MIN, GROWTH_SHARE_MIN * floor);
}

/** Least squares on time and load. REQUIRES: both of the same length, at least 4. */
function fitOf(counts: Float64Array, loads: Float64Array): Fit {
  const n = counts.length;
  const meanTime = (n - 1) / 2;
  const meanLoad = sum(loads) / n;
  const meanCount = sum(counts) / n;
  // Sums of products of what is above the means; t: time, l: load, c: count.
  let tt = 0;
  let ll = 0;
  let tl = 0;
  let tc = 0;
  let lc = 0;
  for (let i = 0; i < n; i++) {
    const time = i - meanTime;
    const load = loads[i]! - meanLoad;
    const count = counts[i]! - meanCount;
    tt += time * time;
    ll += load * load;
    tl += time * load;
    tc += time * count;
    lc += load * count;
  }
  const determinant = tt * ll - tl * tl;
  // Load that stands still, or goes up just as time does, explains nothing of its own.
  const isAlone = ll < 1e-9 || determinant < 1e-6 * tt * ll;
  const slope = isAlone ? tc / tt : (tc * ll - lc * tl) / determinant;
  const perLoad = isAlone ? 0 : (lc * tt - tc * tl) / determinant;
  let residuals = 0;
  for (let i = 0; i < n; i++) {
    const rest = counts[i]! - meanCount - slope * (i - meanTime) - perLoad * (loads[i]! - meanLoad);
    residuals += rest * rest;
  }
  const variance = (residuals / (n - 3)) * (isAlone ? 1 / tt : ll / determinant);
  // A perfect line has no doubt at all.
  const t =
    variance < 1e-18 ? Math.sign(slope) * Number.POSITIVE_INFINITY : slope / Math.sqrt(variance);
  return {
    floor: meanCount - slope * meanTime - perLoad * meanLoad,
    perLoad,
    slope,
    t: Math.abs(slope) < 1e-12 ? 0 : t,
  };
}

function sum(values: Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
