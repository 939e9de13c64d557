/**
 * How long one execution may take, as users say it. What is made of it is in pool/deadlines.ts.
 */
import { type Duration, durationMs } from './durations.js';
import { invalidOption, knownOptions } from './options.js';

/** A limit with all that can be said about it. */
export interface TimeoutOptions {
  /**
   * Times the mean that an execution may take; `true` is 3. `false`: `max` is the limit of all. @defaultValue true
   */
  readonly adaptive?: number | boolean;
  /** An adaptive limit is never shorter. @defaultValue '1s' */
  readonly min?: Duration;
  /** An adaptive limit is never longer, and this long while little has been measured. @defaultValue '5m' */
  readonly max?: Duration;
  /** From the abort of the signal to the end of the thread. @defaultValue '1s' */
  readonly grace?: Duration;
}

/** The same limit for every execution, or `adaptive`: out of the measured times. */
export type Timeout = 'adaptive' | Duration | TimeoutOptions;

/** A checked {@link Timeout}. */
export interface TimeoutSpec {
  /** Times the mean; 0: `maxMs` is the limit of all. */
  readonly factor: number;
  /** Of an adaptive limit; not above `maxMs`. */
  readonly minMs: number;
  /** Infinity: no limit. */
  readonly maxMs: number;
  readonly graceMs: number;
}

const GRACE_MS = 1_000;
const MIN_MS = 1_000;
const MAX_MS = 300_000;
const FACTOR = 3;

const TIMEOUT_OPTIONS: Readonly<Record<keyof TimeoutOptions, true>> = {
  adaptive: true,
  min: true,
  max: true,
  grace: true,
};

/** As long as it likes. */
export const NO_TIMEOUT: TimeoutSpec = {
  factor: 0,
  minMs: 0,
  maxMs: Number.POSITIVE_INFINITY,
  graceMs: GRACE_MS,
};

/**
 * Checks what a user said.
 *
 * @param path - what stands before its name in errors
 * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION
 */
export function timeoutSpec(timeout: Timeout, path = ''): TimeoutSpec {
  const option = `${path}timeout`;
  const options =
    timeout === 'adaptive'
      ? {}
      : typeof timeout === 'object'
        ? knownOptions<TimeoutOptions>(timeout, `${option}.`, TIMEOUT_OPTIONS)
        : { adaptive: false, max: limitMs(timeout, option) };
  const { adaptive = true, min, max, grace } = options;
  if (typeof adaptive !== 'boolean' && !(typeof adaptive === 'number' && adaptive >= 1)) {
    throw invalidOption(`${option}.adaptive`, adaptive, 'true, false, or a factor of at least 1');
  }
  const maxMs = limitMs(max ?? MAX_MS, `${option}.max`);
  return {
    factor: adaptive === true ? FACTOR : Number(adaptive),
    minMs: Math.min(maxMs, durationMs(min ?? MIN_MS, `${option}.min`)),
    maxMs,
    graceMs: durationMs(grace ?? GRACE_MS, `${option}.grace`),
  };
}

/** A limit of at least 1 ms. @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION */
export function limitMs(value: unknown, name: string): number {
  const ms = durationMs(value, name);
  if (ms < 1) throw invalidOption(name, value, 'at least 1 ms');
  return ms;
}
