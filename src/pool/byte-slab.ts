/**
 * Copies of buffers, many of them in one piece of memory: an ArrayBuffer for each costs more than copying 4 KiB.
 *
 * A piece is never used twice; it is free when nobody refers to any of its copies. Large buffers get memory of their own, so
 * that at most a quarter of a piece is wasted.
 */
const PIECE_BYTES = 262_144;

export class ByteSlab {
  #piece = new Uint8Array(0);
  #used = 0;

  copy(bytes: Uint8Array): Uint8Array {
    const { length } = bytes;
    if (length > PIECE_BYTES / 4) return new Uint8Array(bytes);
    if (this.#used + length > this.#piece.length) {
      this.#piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
      this.#used = 0;
    }
    const from = this.#used;
    this.#used += length;
    this.#piece.set(bytes, from);
    return this.#piece.subarray(from, this.#used);
  }
}
