/**
 * Spans of time as percentiles, with three significant digits however many are recorded (HdrHistogram).
 */
import { build, type Histogram } from 'hdr-histogram-js';

/** Spans in ms. `count` 0 means that the others say nothing. */
export interface PercentileFacts {
  readonly count: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

/** One point of the curve of latency by percentile. */
export interface PercentilePoint {
  readonly percentile: number;
  readonly ms: number;
}

/** Where curves are read: the closer to the end, the finer. */
const CURVE = [0, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999];

const US_PER_MS = 1_000;
/** One hour; a longer span counts as one. */
const HIGHEST_US = 3_600_000_000;

export class Percentiles {
  /** In µs: the histogram counts whole numbers. */
  readonly #histogram: Histogram = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: HIGHEST_US,
    numberOfSignificantValueDigits: 3,
  });

  /** @param ms - less than 0 counts as 0 */
  record(ms: number): void {
    const us = Math.round(ms * US_PER_MS);
    this.#histogram.recordValue(Math.min(HIGHEST_US, Math.max(0, us)));
  }

  facts(): PercentileFacts {
    const at = (percentile: number): number =>
      this.#histogram.getValueAtPercentile(percentile) / US_PER_MS;
    return {
      count: this.#histogram.totalCount,
      p50: at(50),
      p95: at(95),
      p99: at(99),
      max: this.#histogram.totalCount === 0 ? 0 : this.#histogram.maxValue / US_PER_MS,
    };
  }

  /** The curve from the smallest to the largest; empty of nothing. Points that so few values cannot tell apart are left out. */
  curve(): PercentilePoint[] {
    const { totalCount } = this.#histogram;
    if (totalCount === 0) return [];
    const told = CURVE.filter((percentile) => (1 - percentile / 100) * totalCount >= 1);
    const points = told.map((percentile) => ({
      percentile,
      ms: this.#histogram.getValueAtPercentile(percentile) / US_PER_MS,
    }));
    return [...points, { percentile: 100, ms: this.#histogram.maxValue / US_PER_MS }];
  }

  /** Forgets everything. */
  reset(): void {
    this.#histogram.reset();
  }
}
