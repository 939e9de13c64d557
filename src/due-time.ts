/**
 * When a task is to be due, as users write it: a `delay` from now, or a moment (`at`); checked here, once.
 */
import { type Duration, durationMs } from './core/durations.js';
import { DUE_AT_MS_MAX } from './core/ids.js';
import { invalidOption } from './core/options.js';

export interface DueOptions {
  /** Start no earlier than this long from now. Not together with `at`. */
  readonly delay?: Duration;
  /** Start no earlier than this moment: a Date, or ms since the epoch. The past is now. */
  readonly at?: Date | number;
}

export interface DueTime {
  /** From now; fractions are of a ms. */
  readonly delayMs: number;
  /** Epoch ms, whole. */
  readonly dueAtMs: number;
  /** Whether it is a moment of the wall clock, and not the end of a delay. */
  readonly isByDate: boolean;
}

/**
 * @param nowMs - wall clock
 * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION
 */
export function dueTime(options: DueOptions, nowMs: number): DueTime {
  const delayMs = delayOf(options, nowMs);
  const dueAtMs = nowMs + Math.ceil(delayMs);
  if (dueAtMs > DUE_AT_MS_MAX) {
    throw invalidOption('delay', options.delay ?? options.at, 'a due time before the year 5188');
  }
  return { delayMs, dueAtMs, isByDate: options.at !== undefined };
}

function delayOf({ delay, at }: DueOptions, nowMs: number): number {
  if (at === undefined) return delay === undefined ? 0 : durationMs(delay, 'delay');
  if (delay !== undefined) throw invalidOption('delay', delay, 'either `delay` or `at`, not both');
  const atMs = at instanceof Date ? at.getTime() : at;
  if (typeof atMs !== 'number' || !Number.isFinite(atMs)) {
    throw invalidOption('at', at, 'a valid Date, or ms since the epoch');
  }
  return Math.max(0, atMs - nowMs);
}
