/**
 * Sizes at the edge: users write `1048576` or `'1MB'`, everything inside counts bytes. Units are powers of 1024.
 */
import { invalidOption } from './options.js';

/** Bytes, or a number with a unit: `'256KB'`, `'64MB'`, `'1GB'`; fractions are fine. */
export type Size = number | `${number}${'B' | 'KB' | 'MB' | 'GB'}`;

const UNIT_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1_024,
  MB: 1_024 ** 2,
  GB: 1_024 ** 3,
};

const FORM = /^(\d{1,15}(?:\.\d{1,6})?)(B|KB|MB|GB)$/;

/**
 * Turns a size into bytes.
 *
 * @param name - the option's name, for the error
 * @throws ERR_MILLRACE_INVALID_OPTION unless it is a size of at least 0
 */
export function sizeBytes(value: unknown, name: string): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return Math.floor(value);
  const parts = typeof value === 'string' ? FORM.exec(value.trim()) : null;
  if (parts) return Math.floor(Number(parts[1]) * UNIT_BYTES[parts[2]!]!);
  throw invalidOption(name, value, "bytes (1048576) or a string like '256KB', '64MB', '1GB'");
}
