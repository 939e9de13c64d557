/** Medians and percentiles of samples that are all kept. */

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** REQUIRES: at least one value. */
export function summarize(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median =
    sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted[sorted.length - 1]! };
}

/**
 * The smallest value that at least this share of the values does not exceed; NaN of none.
 *
 * @param sorted - ascending
 * @param share - above 0, to 1
 */
export function percentile(sorted: Float64Array, share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}
