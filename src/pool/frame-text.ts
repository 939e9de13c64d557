/**
 * The JSON texts in a frame's bytes area.
 *
 * Decoding costs a fixed amount per call, and most JSON is ASCII: then the area is decoded once, positions in the
 * text are positions in the bytes, and each JSON is a slice of it. Other areas, and large ones, are decoded piece by
 * piece.
 */

/** Above this, one string for all costs more memory than it saves time. */
const WHOLE_BYTES_MAX = 1_048_576;

export class FrameText {
  readonly #bytes: Buffer;
  readonly #offset: number;
  #whole: string | undefined;
  #isPlain: boolean | undefined;

  /** @param offset - where the bytes area begins in the frame */
  constructor(frame: Uint8Array, offset: number) {
    this.#bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
    this.#offset = offset;
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
