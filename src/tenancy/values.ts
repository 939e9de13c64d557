/**
 * Values as they are stored: JSON as its text, bytes behind a zero.
 *
 *   { "plan": "pro" }     7b 22 70 ...        what `etcdctl get` shows is what was put
 *   Uint8Array            00 <the bytes>      no JSON text begins with a zero
 *
 * So one look at the first byte tells how to read a value, and programs that know nothing of this can read and write
 * the JSON ones.
 */
import { encodePayload, type PayloadLimits, payloadTooLarge } from '../core/codec.js';
import { MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import type { Key } from '../core/store.js';

/** Metadata is small: a larger value belongs elsewhere, with a reference here. */
export const VALUE_LIMITS: PayloadLimits = { bytesMax: 262_144, depthMax: 64 };

const BYTES_MARK = 0;

/**
 * @returns the stored form
 * @throws ERR_MILLRACE_PAYLOAD_TOO_LARGE, _TOO_DEEP, _NOT_SERIALIZABLE; `undefined` has no JSON form
 */
export function encodeValue(value: unknown, what: string): Uint8Array {
  if (value instanceof Uint8Array) {
    if (value.length > VALUE_LIMITS.bytesMax)
      throw payloadTooLarge(what, value.length, VALUE_LIMITS);
    const stored = new Uint8Array(value.length + 1);
    stored[0] = BYTES_MARK;
    stored.set(value, 1);
    return stored;
  }
  if (value === undefined) {
    throw new MillraceError(
      'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE',
      `${what} is undefined; give a value with a JSON form, or bytes, or delete the entry`,
    );
  }
  return Buffer.from(encodePayload(value, what, VALUE_LIMITS).text);
}

/** How many bytes stand before a value's own: 1 for bytes, 0 for JSON. */
export function markBytes(stored: Uint8Array, from: number, to: number): number {
  return to > from && stored[from] === BYTES_MARK ? 1 : 0;
}

/**
 * What was put. Bytes come as a copy, so that they stay what they are.
 *
 * @param key - for the error
 * @throws ERR_MILLRACE_STORE_CORRUPT for text that is not JSON: another program wrote it
 */
export function decodeValue(stored: Uint8Array, from: number, to: number, key: Key): unknown {
  if (markBytes(stored, from, to) === 1) return new Uint8Array(stored.subarray(from + 1, to));
  try {
    return JSON.parse(utf8(stored, from, to));
  } catch (cause) {
    throw new MillraceError(
      'ERR_MILLRACE_STORE_CORRUPT',
      `the value of ${key} is neither JSON nor marked as bytes; put it again, or delete it`,
      { details: { key, bytes: to - from }, cause },
    );
  }
}
