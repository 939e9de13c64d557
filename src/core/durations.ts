/**
 * Durations at the edge: users write `250` or `'250ms'`, everything inside counts milliseconds.
 */
import { MillraceError } from './errors.js';
import { showValue } from './options.js';

/** Milliseconds, or a number with a unit: `'250ms'`, `'5s'`, `'2m'`, `'1h'`, `'7d'`; fractions are fine. */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`;

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Longest duration: 1000 years. A moment plus two of them is still far from what a stored time can hold. */
const DURATION_MS_MAX = 365_000 * 86_400_000;

const FORM = /^(\d{1,15}(?:\.\d{1,6})?)(ms|s|m|h|d)$/;

/**
 * Turns a duration into milliseconds.
 *
 * @param value - what the user wrote; unknown on purpose, since JavaScript callers have no types
 * @param name - the option's name, for the error
 * @returns a finite number of milliseconds, from 0 to 1000 years
 * @throws ERR_MILLRACE_INVALID_DURATION for anything else
 */
export function durationMs(value: unknown, name: string): number {
  const parts = typeof value === 'string' ? FORM.exec(value.trim()) : null;
  const ms = parts ? Number(parts[1]) * UNIT_MS[parts[2]!]! : value;
  if (typeof ms === 'number' && ms >= 0 && ms <= DURATION_MS_MAX) return ms;
  const shown = showValue(value);
  throw new MillraceError(
    'ERR_MILLRACE_INVALID_DURATION',
    typeof ms === 'number' && ms > DURATION_MS_MAX
      ? `${name} is ${shown}; give at most 365000d`
      : `${name} is ${shown}; give milliseconds (250) or a string like '250ms', '5s', '2m', '1h', '7d'`,
    { details: { name, value: shown } },
  );
}

/** The shortest exact spelling of a span, for messages: 90000 -> '90s', 250 -> '250ms'. */
export function formatMs(ms: number): string {
  for (const [unit, size] of [
    ['d', UNIT_MS.d!],
    ['h', UNIT_MS.h!],
    ['m', UNIT_MS.m!],
    ['s', 1_000],
  ] as const) {
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`;
  }
  return `${Math.round(ms * 1000) / 1000}ms`;
}

/** A span as people say it, in one unit and not exact: 93781 -> '94s', 8000000 -> '2h'. */
export function roughMs(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))}ms`;
  if (ms < 2 * UNIT_MS.m!) return `${Math.round(ms / 1_000)}s`;
  if (ms < 2 * UNIT_MS.h!) return `${Math.round(ms / UNIT_MS.m!)}m`;
  if (ms < 2 * UNIT_MS.d!) return `${Math.round(ms / UNIT_MS.h!)}h`;
  return `${Math.round(ms / UNIT_MS.d!)}d`;
}
