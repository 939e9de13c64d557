/**
 * How many executions of a task may run at once on one node, as users say it. How an adaptive limit is found is in
 * engine/adaptive-limit.ts.
 */
import { invalidOption, knownOptions, wholeNumber } from './options.js';

/** A limit that follows how long executions take, and its bounds. */
export interface AdaptiveConcurrency {
  /** Never fewer. 1 to `max`. @defaultValue 1 */
  readonly min?: number;
  /** Never more. @defaultValue 200 */
  readonly max?: number;
}

/**
 * A fixed number; or `adaptive`, within bounds: as many as what the executions call bears, going by how long they take and
 * how they fail.
 */
export type Concurrency = number | 'adaptive' | AdaptiveConcurrency;

/** The bounds of an adaptive limit: 1 <= min <= max. */
export interface ConcurrencyRange {
  readonly min: number;
  readonly max: number;
}

/** A checked {@link Concurrency}. */
export interface ConcurrencySpec {
  /** The most at once; Infinity: no limit. */
  readonly max: number;
  /** Undefined: `max` is the limit. */
  readonly adaptive: ConcurrencyRange | undefined;
}

const LIMIT_MAX = 1_000_000;
const ADAPTIVE_MAX = 200;
const ADAPTIVE_OPTIONS: Readonly<Record<keyof AdaptiveConcurrency, true>> = {
  min: true,
  max: true,
};

export const NO_CONCURRENCY_LIMIT: ConcurrencySpec = {
  max: Number.POSITIVE_INFINITY,
  adaptive: undefined,
};

/**
 * Checks what a user said.
 *
 * @param option - its name in errors
 * @param most - what no number may be above
 * @throws ERR_MILLRACE_INVALID_OPTION
 */
export function concurrencySpec(
  given: Concurrency,
  option: string,
  most: number = LIMIT_MAX,
): ConcurrencySpec {
  const numberMax = Math.min(most, LIMIT_MAX);
  if (typeof given === 'number') {
    return { max: wholeNumber(given, option, 1, numberMax), adaptive: undefined };
  }
  if (given !== 'adaptive' && (typeof given !== 'object' || given === null)) {
    throw invalidOption(
      option,
      given,
      `a whole number from 1 to ${numberMax}, 'adaptive', or { min, max }`,
    );
  }
  const bounds = given === 'adaptive' ? {} : knownOptions(given, `${option}.`, ADAPTIVE_OPTIONS);
  const max = wholeNumber(
    bounds.max ?? Math.min(ADAPTIVE_MAX, numberMax),
    `${option}.max`,
    1,
    numberMax,
  );
  const min = wholeNumber(bounds.min ?? 1, `${option}.min`, 1, max);
  return { max, adaptive: { min, max } };
}
