/**
 * The payloads in a frame's bytes area.
 *
 * Decoding costs a fixed amount per call, and most JSON is ASCII: then the area is decoded once, positions in the
 * text are positions in the bytes, and each JSON is a slice of it. Other areas, and large ones, are decoded piece by
 * piece. Where the area is a list (FrameFlag.JSON_LIST), it is parsed in one go too. That is only a faster way to the same values: a
 * list that does not parse, or has another number of values, is read piece by piece.
 */
import { Encoding } from '../core/codec.js';
import { badFrame, FrameFlag, type FrameReader } from '../core/frame.js';

/** Above this, one string for all costs more memory than it saves time. */
const WHOLE_BYTES_MAX = 1_048_576;

export class FrameText {
  readonly #bytes: Buffer;
  readonly #offset: number;
  /** Records of a list; 0 when it is none. */
  readonly #listCount: number;
  #whole: string | undefined;
  #isPlain: boolean | undefined;

  constructor({ frame, view, count }: FrameReader) {
    this.#bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
    this.#offset = view.getUint32(20, true);
    this.#listCount = (view.getUint16(6, true) & FrameFlag.JSON_LIST) === 0 ? 0 : count;
  }

  /** The values of all records, if that is a way to read this frame. */
  list(): readonly unknown[] | undefined {
    if (this.#listCount === 0 || this.#bytes.length - this.#offset > WHOLE_BYTES_MAX)
      return undefined;
    try {
      this.#decode();
      const values = JSON.parse(`[${this.#whole}]`) as readonly unknown[];
      return values.length === this.#listCount ? values : undefined;
    } catch {
      return undefined;
    }
  }

  /**
   * The value at a position of the bytes area; buffers get memory of their own, so that what their owner does with it is nobody
   * else's affair.
   *
   * @throws ERR_MILLRACE_STORE_CORRUPT outside the frame or of an unknown encoding, SyntaxError for what is not JSON
   */
  value(encoding: number, position: number, length: number): unknown {
    if (encoding === Encoding.JSON) {
      if (length === 0) return undefined;
      const text = this.at(position, length);
      if (text === undefined) throw badFrame('a payload lies outside the frame');
      return JSON.parse(text);
    }
    const from = this.#offset + position;
    if (from + length > this.#bytes.length) throw badFrame('a payload lies outside the frame');
    const { buffer, byteOffset } = this.#bytes;
    if (encoding === Encoding.BYTES)
      return new Uint8Array(buffer, byteOffset + from, length).slice();
    if (encoding === Encoding.ARRAY_BUFFER) {
      return buffer.slice(byteOffset + from, byteOffset + from + length);
    }
    throw badFrame(`encoding ${encoding} does not exist`);
  }

  /** The text at a position of the bytes area; undefined when it lies outside the frame. */
  at(position: number, length: number): string | undefined {
    const from = this.#offset + position;
    const to = from + length;
    if (to > this.#bytes.length) return undefined;
    if (this.#isPlain === undefined) this.#decode();
    return this.#isPlain
      ? this.#whole!.substring(position, position + length)
      : this.#bytes.toString('utf8', from, to);
  }

  #decode(): void {
    const length = this.#bytes.length - this.#offset;
    this.#whole =
      length <= WHOLE_BYTES_MAX ? this.#bytes.toString('utf8', this.#offset) : undefined;
    // Any longer sequence gives fewer characters than bytes; a byte that is no UTF-8 gives one for one.
    this.#isPlain = this.#whole?.length === length;
  }
}
