/**
 * Payloads and results as bytes: JSON, with limits checked before anything is queued.
 *
 * A payload is encoded once, at submit, and decoded once, in the thread that runs it; in between it is bytes.
 * The limits keep one poisonous payload from failing its batch-mates: postMessage throws near depth 5000, and a
 * store refuses large requests whole.
 */
import { toWire } from './error-wire.js';
import { MillraceError } from './errors.js';
import { utf8 } from './frame.js';

export interface PayloadLimits {
  /** Encoded size. */
  readonly bytesMax: number;
  /** Nested arrays and objects. */
  readonly depthMax: number;
}

export const DEFAULT_PAYLOAD_LIMITS: PayloadLimits = { bytesMax: 262_144, depthMax: 64 };

export interface EncodedPayload {
  readonly text: string;
  /** UTF-8 length of `text`. */
  readonly byteLength: number;
}

/** How a payload's bytes are to be read. Stored payloads are JSON; a BatchPool's items may be buffers. */
export const Encoding = { JSON: 0, BYTES: 1, ARRAY_BUFFER: 2 } as const;
export type Encoding = (typeof Encoding)[keyof typeof Encoding];

/**
 * Encodes a value as JSON. `undefined` becomes no bytes at all, and comes back as `undefined`.
 *
 * @param what - names the datum in errors, e.g. `input of task 'mail.send'`
 * @throws ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE, _TOO_LARGE or _TOO_DEEP
 */
export function encodePayload(value: unknown, what: string, limits: PayloadLimits): EncodedPayload {
  const payload = { text: '', byteLength: 0 };
  encodeInto(payload, value, what, limits);
  return payload;
}

/** The same into an object that is there. It is left as it was when this throws, or when the value is `undefined`. */
export function encodeInto(
  payload: { text: string; byteLength: number },
  value: unknown,
  what: string,
  limits: PayloadLimits,
): void {
  if (value === undefined) return;
  if (typeof value === 'number') {
    payload.text = Number.isFinite(value) ? `${value === 0 ? 0 : value}` : 'null';
    payload.byteLength = payload.text.length;
    return;
  }
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (cause) {
    const { message } = toWire(cause);
    // Where JSON.stringify recurses, a value that is far too deep ends its stack.
    if (cause instanceof RangeError && /call stack/.test(message)) {
      throw tooDeep(what, limits, cause);
    }
    throw notSerializable(what, message, cause);
  }
  if (text === undefined) throw notSerializable(what, `a ${typeof value} has no JSON form`);
  const byteLength = Buffer.byteLength(text);
  if (byteLength > limits.bytesMax) throw payloadTooLarge(what, byteLength, limits);
  if (isDeeperThan(text, limits.depthMax)) throw tooDeep(what, limits);
  payload.text = text;
  payload.byteLength = byteLength;
}

/** The error for a payload above its limit. */
export function payloadTooLarge(what: string, bytes: number, limits: PayloadLimits): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_PAYLOAD_TOO_LARGE',
    `${what} is ${bytes} bytes, the limit is ${limits.bytesMax}; store it elsewhere and pass a reference`,
    { details: { bytes, bytesMax: limits.bytesMax } },
  );
}

/** What `encodePayload` encoded. @throws SyntaxError for bytes that are not JSON */
export function decodePayload(bytes: Uint8Array): unknown {
  return bytes.length === 0 ? undefined : JSON.parse(utf8(bytes));
}

/** Whether brackets nest deeper than `depthMax` in valid JSON text. */
function isDeeperThan(json: string, depthMax: number): boolean {
  // Each level costs two characters, so short texts cannot be deep.
  if (json.length <= depthMax * 2) return false;
  let depth = 0;
  for (let i = 0; i < json.length; i++) {
    switch (json.charCodeAt(i)) {
      case 0x22: // '"': skip the string; a quote after an even run of backslashes ends it
        i = endOfString(json, i);
        break;
      case 0x5b: // '['
      case 0x7b: // '{'
        if (++depth > depthMax) return true;
        break;
      case 0x5d:
      case 0x7d:
        depth--;
    }
  }
  return false;
}

function endOfString(json: string, quoteAt: number): number {
  for (let at = json.indexOf('"', quoteAt + 1); ; at = json.indexOf('"', at + 1)) {
    let backslashes = 0;
    while (json.charCodeAt(at - 1 - backslashes) === 0x5c) backslashes++;
    if (backslashes % 2 === 0) return at;
  }
}

function tooDeep(what: string, limits: PayloadLimits, cause?: unknown): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_PAYLOAD_TOO_DEEP',
    `${what} is nested deeper than ${limits.depthMax} levels; flatten it`,
    { details: { depthMax: limits.depthMax }, cause },
  );
}

function notSerializable(what: string, reason: string, cause?: unknown): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE',
    `${what} cannot be encoded as JSON: ${reason}`,
    { details: { reason }, cause },
  );
}
