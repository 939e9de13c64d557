/**
 * KeyText: the text of one key as bytes, written down once, then hashed and compared four bytes at a time.
 *
 *   names    acme  user  1              key of the store    ns:acme:user:1
 *              \    |   /                                      |
 *   bytes    a c m e : u s e r : 1                          what follows ns:
 *   words    |-----| |-----| |---0        zeros behind the end
 *
 * Strings give up their characters one by one, and each costs as much as everything else that is done with it; so each
 * is asked for once.
 *
 * The hash takes a word with a multiplication and a shift, which can be undone: two texts of one length that differ in
 * one word never collide, and others by chance. It begins at a random number and multiplies by another one, so that
 * nobody can choose ids that collide everywhere.
 */
import type { Random } from '../core/random.js';

/** The longest text; keys of the store are shorter. */
const TEXT_BYTES_MAX = 1_020;

const COLON = 0x3a;
/** Where in `words` the hash stands: as a field of an object it would be garbage with every change. */
const HASH = TEXT_BYTES_MAX >>> 2;

export class KeyText {
  readonly bytes: Uint8Array = new Uint8Array(TEXT_BYTES_MAX + 4);
  /** The same memory. */
  readonly words: Uint32Array = new Uint32Array(this.bytes.buffer);
  length = 0;
  readonly #seed: number;
  readonly #factor: number;

  constructor(random: Random) {
    this.#seed = random.u32() | 0;
    // 5 in the last three bits: odd, and never so small that nothing is mixed.
    this.#factor = (random.u32() & ~7) | 5 | 0x40000000;
  }

  /** Of the text as it is, u32. */
  get hash(): number {
    return this.words[HASH]!;
  }

  /**
   * Takes three names as they are, with colons between them.
   *
   * @returns whether it could: texts that are not ASCII, or too long, stand in no key
   */
  takeNames(tenant: string, type: string, id: string): boolean {
    const length = tenant.length + type.length + id.length + 2;
    if (length > TEXT_BYTES_MAX) return false;
    const { bytes } = this;
    let at = 0;
    let seen = 0;
    for (let i = 0; i < tenant.length; i++) {
      const char = tenant.charCodeAt(i);
      seen |= char;
      bytes[at++] = char;
    }
    bytes[at++] = COLON;
    for (let i = 0; i < type.length; i++) {
      const char = type.charCodeAt(i);
      seen |= char;
      bytes[at++] = char;
    }
    bytes[at++] = COLON;
    for (let i = 0; i < id.length; i++) {
      const char = id.charCodeAt(i);
      seen |= char;
      bytes[at++] = char;
    }
    this.#end(at);
    return seen < 128;
  }

  /** Takes what follows in a key of the store. @returns as {@link takeNames} */
  takeKey(key: string, from: number): boolean {
    if (key.length - from > TEXT_BYTES_MAX) return false;
    const { bytes } = this;
    let at = 0;
    let seen = 0;
    for (let i = from; i < key.length; i++) {
      const char = key.charCodeAt(i);
      seen |= char;
      bytes[at++] = char;
    }
    this.#end(at);
    return seen < 128;
  }

  /** Whether the text stands in other memory, from a word on. */
  isAt(memory: Uint8Array, memoryWords: Uint32Array, word: number): boolean {
    const { bytes, words, length } = this;
    const whole = length >>> 2;
    for (let i = 0; i < whole; i++) if (memoryWords[word + i] !== words[i]) return false;
    for (let i = whole << 2; i < length; i++) {
      if (memory[(word << 2) + i] !== bytes[i]) return false;
    }
    return true;
  }

  #end(length: number): void {
    const { bytes, words } = this;
    this.length = length;
    for (let i = length; (i & 3) !== 0; i++) bytes[i] = 0;
    let hash = this.#seed ^ length;
    const factor = this.#factor;
    for (let i = 0; i < length; i += 4) {
      hash = Math.imul(hash ^ words[i >>> 2]!, factor);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash, 0x85ebca6b);
    words[HASH] = hash ^ (hash >>> 13);
  }
}
