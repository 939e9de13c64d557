/** Which slots of a wheel are in use: a bit each, and a bit for each 32 of those. */

const NONE = -1;

export class Occupancy {
  readonly #words: Int32Array;
  readonly #summary: Int32Array;

  /** @param slots - a multiple of 1024 */
  constructor(slots: number) {
    this.#words = new Int32Array(slots >> 5);
    this.#summary = new Int32Array(slots >> 10);
  }

  get bytes(): number {
    return this.#words.byteLength + this.#summary.byteLength;
  }

  set(slot: number): void {
    const word = slot >> 5;
    this.#words[word]! |= 1 << (slot & 31);
    this.#summary[word >> 5]! |= 1 << (word & 31);
  }

  clear(slot: number): void {
    const word = slot >> 5;
    const rest = this.#words[word]! & ~(1 << (slot & 31));
    this.#words[word] = rest;
    if (rest === 0) this.#summary[word >> 5]! &= ~(1 << (word & 31));
  }

  /** The first slot in use in `[from, to)`, or -1. REQUIRES: `to` is a multiple of 1024. */
  next(from: number, to: number): number {
    if (from >= to) return NONE;
    const word = from >> 5;
    const bits = this.#words[word]! & (-1 << (from & 31));
    if (bits !== 0) return (word << 5) + lowest(bits);
    // Words after this one, of the same summary word.
    let group = word >> 5;
    let words = (word & 31) === 31 ? 0 : this.#summary[group]! & (-1 << ((word & 31) + 1));
    const groups = to >> 10;
    while (words === 0) {
      if (++group >= groups) return NONE;
      words = this.#summary[group]!;
    }
    const found = (group << 5) + lowest(words);
    return (found << 5) + lowest(this.#words[found]!);
  }
}

/** The place of the lowest bit that is set. */
function lowest(bits: number): number {
  return 31 - Math.clz32(bits & -bits);
}
