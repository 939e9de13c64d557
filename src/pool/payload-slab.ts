/**
 * Where items' payloads lie until their batch is sent: one behind the other in large pieces of memory off the heap.
 *
 *   piece:  {"id":1,...},{"id":2,...},{"id":3,...},        the comma after each makes a list of any run of them
 *
 * `JSON.stringify` makes about 450 bytes of garbage of 100 bytes of text, and takes longer than writing them by hand. So a plain
 * value whose text is short and ASCII is written here directly: strings, finite numbers, booleans, null, arrays, and
 * objects without a class. Everything else is `JSON.stringify`'s affair; the text is the same either way, which a test
 * holds against it.
 *
 * A batch is most often made of neighbours, so one copy takes them all (item-frames.ts). Buffers lie here too: an
 * ArrayBuffer for each would cost more than copying 4 KiB. A piece is never written twice; it is free when nobody refers to any part
 * of it. What is large gets memory of its own, so that little of a piece is wasted.
 */
import { Encoding } from '../core/codec.js';

/** What an item's payload is told in. */
export interface SlabPlace {
  memory: Uint8Array | undefined;
  offset: number;
  byteLength: number;
  encoding: Encoding;
}

const PIECE_BYTES = 262_144;
/** Longer texts are not faster by hand. */
const TEXT_BYTES_MAX = 1_024;
const COMMA = 0x2c;
const QUOTE = 0x22;
/** Instead of a position: the value is not plain, or too long. */
const NOT_PLAIN = -1;
const EMPTY = {};

export class PayloadSlab {
  #piece: Uint8Array = new Uint8Array(0);
  #used = 0;

  /**
   * Writes a value as JSON, if it is plain and short.
   *
   * @param depthMax - nested arrays and objects
   * @returns whether it did; if not, `place` is as it was
   */
  write(value: unknown, place: SlabPlace, depthMax: number): boolean {
    // Somebody gave all objects a property that `for in` finds.
    for (const _ in EMPTY) return false;
    if (this.#used + TEXT_BYTES_MAX >= this.#piece.length) this.#renew();
    const from = this.#used;
    const piece = this.#piece;
    let end: number;
    try {
      end = writeValue(value, piece, from, depthMax);
    } catch {
      // A getter threw; JSON.stringify will say so.
      return false;
    }
    if (end === NOT_PLAIN || end - from > TEXT_BYTES_MAX) return false;
    piece[end] = COMMA;
    this.#used = end + 1;
    place.memory = piece;
    place.offset = from;
    place.byteLength = end - from;
    place.encoding = Encoding.JSON;
    return true;
  }

  /** Copies a buffer. */
  copy(bytes: Uint8Array, encoding: Encoding, place: SlabPlace): void {
    const { length } = bytes;
    place.byteLength = length;
    place.encoding = encoding;
    place.offset = 0;
    if (length > PIECE_BYTES / 4) {
      place.memory = new Uint8Array(bytes);
      return;
    }
    if (this.#used + length >= this.#piece.length) this.#renew();
    place.memory = this.#piece;
    place.offset = this.#used;
    this.#piece.set(bytes, this.#used);
    this.#used += length;
    this.#piece[this.#used++] = COMMA;
  }

  #renew(): void {
    this.#piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
    this.#used = 0;
  }
}

/**
 * The functions below write at a position and return the one behind, or NOT_PLAIN. None writes further than
 * TEXT_BYTES_MAX beyond where its own text begins, and a text longer than that is refused before the next begins: writes
 * past the end of a typed array are ignored, so a piece's last bytes need no check of their own.
 */
function writeValue(value: unknown, out: Uint8Array, at: number, depthLeft: number): number {
  switch (typeof value) {
    case 'string':
      return writeString(value, out, at);
    case 'number':
      return writeNumber(value, out, at);
    case 'boolean':
      return writeAscii(value ? 'true' : 'false', out, at);
    case 'object':
      if (value === null) return writeAscii('null', out, at);
      if (depthLeft === 0 || (value as { toJSON?: unknown }).toJSON !== undefined) return NOT_PLAIN;
      return Array.isArray(value)
        ? writeArray(value, out, at, depthLeft)
        : writeObject(value as Readonly<Record<string, unknown>>, out, at, depthLeft);
    default:
      return NOT_PLAIN;
  }
}

function writeObject(
  value: Readonly<Record<string, unknown>>,
  out: Uint8Array,
  from: number,
  depthLeft: number,
): number {
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return NOT_PLAIN;
  let at = from;
  out[at++] = 0x7b;
  for (const key in value) {
    const member = value[key];
    if (member === undefined) continue;
    if (at > from + 1) out[at++] = COMMA;
    at = writeString(key, out, at);
    if (at === NOT_PLAIN) return NOT_PLAIN;
    out[at++] = 0x3a;
    at = writeValue(member, out, at, depthLeft - 1);
    if (at === NOT_PLAIN || at - from > TEXT_BYTES_MAX) return NOT_PLAIN;
  }
  out[at++] = 0x7d;
  return at;
}

function writeArray(
  values: readonly unknown[],
  out: Uint8Array,
  from: number,
  depthLeft: number,
): number {
  let at = from;
  out[at++] = 0x5b;
  for (let index = 0; index < values.length; index++) {
    if (index > 0) out[at++] = COMMA;
    const value = values[index];
    at =
      value === undefined ? writeAscii('null', out, at) : writeValue(value, out, at, depthLeft - 1);
    if (at === NOT_PLAIN || at - from > TEXT_BYTES_MAX) return NOT_PLAIN;
  }
  out[at++] = 0x5d;
  return at;
}

/** A string that needs no escapes and is ASCII. */
function writeString(text: string, out: Uint8Array, from: number): number {
  if (text.length > TEXT_BYTES_MAX) return NOT_PLAIN;
  let at = from;
  out[at++] = QUOTE;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code < 0x20 || code > 0x7e || code === QUOTE || code === 0x5c) return NOT_PLAIN;
    out[at++] = code;
  }
  out[at++] = QUOTE;
  return at;
}

function writeNumber(value: number, out: Uint8Array, at: number): number {
  // Zero of either sign is 0 in JSON too.
  if ((value | 0) !== value) {
    return writeAscii(Number.isFinite(value) ? String(value) : 'null', out, at);
  }
  if (value < 0) {
    if (value === -(2 ** 31)) return writeAscii('-2147483648', out, at);
    out[at] = 0x2d;
    return writeDigits(-value, out, at + 1);
  }
  return writeDigits(value, out, at);
}

function writeDigits(value: number, out: Uint8Array, at: number): number {
  let end = at + 1;
  for (let rest = value; rest >= 10; rest = (rest / 10) | 0) end++;
  let left = value | 0;
  for (let place = end - 1; place >= at; place--) {
    const next = (left / 10) | 0;
    out[place] = 0x30 + (left - next * 10);
    left = next;
  }
  return end;
}

function writeAscii(text: string, out: Uint8Array, from: number): number {
  for (let index = 0; index < text.length; index++) out[from + index] = text.charCodeAt(index);
  return from + text.length;
}
