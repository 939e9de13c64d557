/**
 * Checks for values that users pass in, each once, at the edge; what is inside can then trust them.
 */
import { MillraceError } from './errors.js';
import { nearMiss } from './near-miss.js';

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

/** Text that is not empty and not too long, and has a UTF-8 form. @throws ERR_MILLRACE_INVALID_OPTION */
export function shortText(value: unknown, name: string, charsMax: number): string {
  const isFine =
    typeof value === 'string' &&
    value.length > 0 &&
    value.length <= charsMax &&
    // A lone surrogate has none.
    !/\p{Surrogate}/u.test(value);
  if (isFine) return value;
  throw invalidOption(name, value, `text of 1 to ${charsMax} characters`);
}

/**
 * An object of options, none of which is unknown: a misspelt one would be ignored, and its author believes in it.
 *
 * @param options - as the user gave them; `undefined` is no options
 * @param path - what stands before their names in errors: '', `queue.`, `task 'mail': retry.`
 * @param known - every name there is; the compiler sees to it that none is forgotten
 * @throws ERR_MILLRACE_INVALID_OPTION that says which known option is near
 */
export function knownOptions<T extends object>(
  options: T | undefined,
  path: string,
  known: Readonly<Record<keyof T, true>>,
): Partial<T> {
  if (options === undefined) return {};
  const names = Object.keys(known);
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    const name = path.replace(/\.$/, '') || 'options';
    throw invalidOption(name, options, `an object with ${names.join(', ')}`);
  }
  for (const name in options) {
    if (!Object.hasOwn(known, name)) throw unknownOption(name, path, names);
  }
  return options;
}

function unknownOption(name: string, path: string, known: readonly string[]): MillraceError {
  const option = `${path}${name.slice(0, 80)}`;
  const near = nearMiss(name.slice(0, 80), known);
  const meant = near === undefined ? '' : ` did you mean ${path}${near}?`;
  return new MillraceError(
    'ERR_MILLRACE_INVALID_OPTION',
    `there is no option ${option};${meant} known are ${known.join(', ')}`,
    { details: { option, known } },
  );
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
