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
 * A string that is not very short is written by Node in one call, and what came of it is looked at four bytes at a time: reading
 * characters one by one costs three times as much, more for strings that are slices of others.
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
const BACKSLASH = 0x5c;
/** Instead of a position: the value is not plain, or too long. */
const NOT_PLAIN = -1;
/** From this length on one call is cheaper than a loop. */
const LONG_STRING = 20;
/** The most bytes that a UTF-16 unit becomes. */
const UTF8_BYTES_MAX = 3;
const EMPTY = {};

export class PayloadSlab {
  #piece: Piece = new Piece(0);
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
    if (this.#used + TEXT_BYTES_MAX >= this.#piece.bytes.length) this.#renew();
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
    piece.bytes[end] = COMMA;
    this.#used = end + 1;
    place.memory = piece.bytes;
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
    if (this.#used + length >= this.#piece.bytes.length) this.#renew();
    const piece = this.#piece.bytes;
    place.memory = piece;
    place.offset = this.#used;
    piece.set(bytes, this.#used);
    this.#used += length;
    piece[this.#used++] = COMMA;
  }

  #renew(): void {
    this.#piece = new Piece(PIECE_BYTES);
    this.#used = 0;
  }
}

class Piece {
  readonly bytes: Buffer;
  readonly view: DataView;

  constructor(length: number) {
    this.bytes = Buffer.allocUnsafeSlow(length);
    this.view = new DataView(this.bytes.buffer);
  }
}

/**
 * The functions below write at a position and return the one behind, or NOT_PLAIN. None writes further than
 * TEXT_BYTES_MAX beyond where its own text begins, and a text longer than that is refused before the next begins: writes
 * past the end of a typed array are ignored, so a piece's last bytes need no check of their own.
 */
function writeValue(value: unknown, out: Piece, at: number, depthLeft: number): number {
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
  out: Piece,
  from: number,
  depthLeft: number,
): number {
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return NOT_PLAIN;
  const { bytes } = out;
  let at = from;
  bytes[at++] = 0x7b;
  for (const key in value) {
    const member = value[key];
    if (member === undefined) continue;
    if (at > from + 1) bytes[at++] = COMMA;
    at = writeString(key, out, at);
    if (at === NOT_PLAIN) return NOT_PLAIN;
    bytes[at++] = 0x3a;
    at = writeValue(member, out, at, depthLeft - 1);
    if (at === NOT_PLAIN || at - from > TEXT_BYTES_MAX) return NOT_PLAIN;
  }
  bytes[at++] = 0x7d;
  return at;
}

function writeArray(
  values: readonly unknown[],
  out: Piece,
  from: number,
  depthLeft: number,
): number {
  const { bytes } = out;
  let at = from;
  bytes[at++] = 0x5b;
  for (let index = 0; index < values.length; index++) {
    if (index > 0) bytes[at++] = COMMA;
    const value = values[index];
    at =
      value === undefined ? writeAscii('null', out, at) : writeValue(value, out, at, depthLeft - 1);
    if (at === NOT_PLAIN || at - from > TEXT_BYTES_MAX) return NOT_PLAIN;
  }
  bytes[at++] = 0x5d;
  return at;
}

/** A string that needs no escapes and is ASCII. */
function writeString(text: string, out: Piece, from: number): number {
  const { length } = text;
  if (length > TEXT_BYTES_MAX) return NOT_PLAIN;
  const { bytes } = out;
  let at = from;
  bytes[at++] = QUOTE;
  if (length < LONG_STRING) {
    for (let index = 0; index < length; index++) {
      const code = text.charCodeAt(index);
      if (!isPlain(code)) return NOT_PLAIN;
      bytes[at++] = code;
    }
  } else {
    // With room for the longest text there can be, V8 need not watch its step.
    const written = bytes.write(text, at, length * UTF8_BYTES_MAX);
    at += length;
    if (written !== length || !arePlain(out, at - length, at)) return NOT_PLAIN;
  }
  bytes[at++] = QUOTE;
  return at;
}

function isPlain(code: number): boolean {
  return code >= 0x20 && code <= 0x7e && code !== QUOTE && code !== BACKSLASH;
}

/**
 * Whether all of these bytes are plain. Per byte of a word, the upper bit of: itself (not ASCII), itself plus one (0x7f), itself less 0x20 (a control character), and
 * itself without the bits of a quote or a backslash, less one. A byte that borrows from its neighbour is not plain itself, so
 * what it does there no longer matters.
 */
function arePlain({ bytes, view }: Piece, from: number, to: number): boolean {
  let bad = 0;
  let at = from;
  for (; at + 4 <= to; at += 4) {
    const word = view.getInt32(at, true);
    bad |=
      word |
      ((word & 0x7f7f7f7f) + 0x01010101) |
      (word - 0x20202020) |
      ((word ^ 0x22222222) - 0x01010101) |
      ((word ^ 0x5c5c5c5c) - 0x01010101);
  }
  for (; at < to; at++) if (!isPlain(bytes[at]!)) return false;
  return (bad & 0x80808080) === 0;
}

function writeNumber(value: number, out: Piece, at: number): number {
  // Zero of either sign is 0 in JSON too.
  if ((value | 0) !== value) {
    return writeAscii(Number.isFinite(value) ? String(value) : 'null', out, at);
  }
  if (value < 0) {
    if (value === -(2 ** 31)) return writeAscii('-2147483648', out, at);
    out.bytes[at] = 0x2d;
    return writeDigits(-value, out, at + 1);
  }
  return writeDigits(value, out, at);
}

function writeDigits(value: number, out: Piece, at: number): number {
  let end = at + 1;
  for (let rest = value; rest >= 10; rest = (rest / 10) | 0) end++;
  const { bytes } = out;
  let left = value | 0;
  for (let place = end - 1; place >= at; place--) {
    const next = (left / 10) | 0;
    bytes[place] = 0x30 + (left - next * 10);
    left = next;
  }
  return end;
}

function writeAscii(text: string, out: Piece, from: number): number {
  const { bytes } = out;
  for (let index = 0; index < text.length; index++) bytes[from + index] = text.charCodeAt(index);
  return from + text.length;
}
