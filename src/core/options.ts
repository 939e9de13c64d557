/**
 * Checks for values that users pass in, each once, at the edge; what is inside can then trust them.
 */
import { MillraceError } from './errors.js';

/** A whole number in [min, max]. @throws ERR_MILLRACE_INVALID_OPTION */
export function wholeNumber(value: unknown, name: string, min: number, max: number): number {
  if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) {
    return value as number;
  }
  throw invalidOption(name, value, `a whole number from ${min} to ${max}`);
}

/** One of the allowed words. @throws ERR_MILLRACE_INVALID_OPTION */
export function oneOf<T extends string>(value: unknown, name: string, allowed: readonly T[]): T {
  if (allowed.includes(value as T)) return value as T;
  throw invalidOption(name, value, allowed.map((item) => `'${item}'`).join(' or '));
}

/** The error for an option with an unusable value; says what would do. */
export function invalidOption(name: string, value: unknown, wanted: string): MillraceError {
  const shown = showValue(value);
  return new MillraceError('ERR_MILLRACE_INVALID_OPTION', `${name} is ${shown}; give ${wanted}`, {
    details: { option: name, value: shown },
  });
}

/** A value as it stands in a message: short, strings in quotes. Never throws. */
export function showValue(value: unknown): string {
  try {
    return typeof value === 'string' ? `'${value.slice(0, 80)}'` : String(value).slice(0, 80);
  } catch {
    // Objects without a prototype, and those whose toString throws.
    return `an ${typeof value} that cannot be shown`;
  }
}
