/**
 * Rates as users write them: so many executions in so much time, of a task type or of each tenant.
 */
import { type Duration, durationMs } from './durations.js';
import { invalidOption, knownOptions, oneOf, wholeNumber } from './options.js';

/** How many executions may begin in how much time, on all nodes together. */
export interface RateOptions {
  /** So many in each span of `per`; 1 to 1 000 000 000. */
  readonly limit: number;
  readonly per: Duration;
  /**
   * `task`: all tasks of a type together. `tenant`: each tenant by itself; tasks without one are together one tenant.
   * @defaultValue 'task'
   */
  readonly by?: 'task' | 'tenant';
  /**
   * How many may begin at once after a quiet time. So in a span of any length at most this many more begin than the rate
   * says. Never less than what it allows in 50 ms. @defaultValue what the rate allows in a second, at least 1
   */
  readonly burst?: number;
}

export interface RateSpec {
  readonly limit: number;
  readonly perMs: number;
  readonly by: 'task' | 'tenant';
  readonly burst: number;
}

const LIMIT_MAX = 1_000_000_000;
const RATE_OPTIONS: Readonly<Record<keyof RateOptions, true>> = {
  limit: true,
  per: true,
  by: true,
  burst: true,
};

/** @param option - its name in errors. @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION */
export function rateSpec(options: RateOptions, option: string): RateSpec {
  knownOptions(options, `${option}.`, RATE_OPTIONS);
  const limit = wholeNumber(options.limit, `${option}.limit`, 1, LIMIT_MAX);
  const perMs = durationMs(options.per, `${option}.per`);
  if (perMs < 1) throw invalidOption(`${option}.per`, options.per, 'at least 1ms');
  const aSecond = Math.min(LIMIT_MAX, Math.max(1, Math.floor((limit * 1_000) / perMs)));
  return {
    limit,
    perMs,
    by: oneOf(options.by ?? 'task', `${option}.by`, ['task', 'tenant']),
    burst: wholeNumber(options.burst ?? aSecond, `${option}.burst`, 1, LIMIT_MAX),
  };
}
