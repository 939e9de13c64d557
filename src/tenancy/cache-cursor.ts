/**
 * A look into the cache that allocates nothing: for loops that read millions of entries a second.
 *
 * ```ts
 * const cursor = metadata.cursor();
 * if (cursor.find('acme', 'flags', 'beta') === 'found') view(cursor.buffer, cursor.offset, cursor.length);
 * ```
 *
 * It never asks the store. What it points to is the cache's own memory, and right until the current turn of the event
 * loop ends: after that entries may move.
 */
import type { Revision } from '../core/store.js';
import type { EntryName } from './keys.js';
import { type Address, Field, FLAGS_AT, Flag, HEADER_BYTES, KEY_BYTES_AT } from './record-slab.js';
import { type RevisionCache, WARMED_MAX } from './revision-cache.js';
import { decodeValue, markBytes } from './values.js';

/** `found`; `absent`: it is known not to be in the store; `unknown`: ask `metadata.get()`. */
export type Found = 'found' | 'absent' | 'unknown';

const NOWHERE = new Uint8Array(0);

export class CacheCursor {
  readonly #cache: RevisionCache;
  #address: Address = 0;
  /** The memory with the value in it. Not to be written to. */
  buffer: Uint8Array = NOWHERE;
  /** Where in `buffer` the value begins: bytes as they were put, or JSON text. */
  offset = 0;
  length = 0;

  /** Comes from `metadata.cursor()`. */
  constructor(cache: RevisionCache) {
    this.#cache = cache;
  }

  /**
   * Looks an entry up.
   *
   * @returns see {@link Found}
   */
  find(tenant: string, type: string, id: string): Found {
    const cache = this.#cache;
    const address = cache.find(tenant, type, id);
    if (address === 0) return this.#nowhere('unknown');
    // All of the record at once: a call for each field costs as much as the search.
    const { u8, u16, u32 } = cache.segmentOf(address);
    const offset = cache.offsetOf(address);
    const flags = u16[(offset >>> 1) + FLAGS_AT]!;
    if ((flags & Flag.UNKNOWN) !== 0) return this.#nowhere('unknown');
    if ((flags & Flag.USED) === 0) u16[(offset >>> 1) + FLAGS_AT] = flags | Flag.USED;
    if ((flags & Flag.ABSENT) !== 0) return this.#nowhere('absent');
    const at = offset + HEADER_BYTES + u16[(offset >>> 1) + KEY_BYTES_AT]!;
    const end = at + u32[(offset >>> 2) + Field.VALUE_BYTES]!;
    const mark = markBytes(u8, at, end);
    this.#address = address;
    this.buffer = u8;
    this.offset = at + mark;
    this.length = end - this.offset;
    return 'found';
  }

  /**
   * Looks many entries up: about twice as fast as one after another where the cache is large, because they wait for memory
   * together. Allocates nothing.
   *
   * @param visit - called for each name in turn with its index and what {@link find} says; the cursor stands at the entry
   */
  findMany(names: readonly EntryName[], visit: (index: number, found: Found) => void): void {
    for (let from = 0; from < names.length; from += WARMED_MAX) {
      const to = Math.min(names.length, from + WARMED_MAX);
      this.#cache.warm(names, from, to);
      for (let index = from; index < to; index++) {
        const { tenant, type, id } = names[index]!;
        visit(index, this.find(tenant, type, id));
      }
    }
  }

  /** The revision of what was found; 0 when nothing was. */
  get revision(): Revision {
    return this.#address === 0 ? (0 as Revision) : this.#cache.revision(this.#address);
  }

  /**
   * The value of what was found, decoded: a copy. Undefined when nothing was.
   *
   * @throws ERR_MILLRACE_STORE_CORRUPT for what is neither JSON nor bytes
   */
  value(): unknown {
    if (this.#address === 0) return undefined;
    const at = this.#cache.valueAt(this.#address);
    const end = at + this.#cache.valueBytes(this.#address);
    return decodeValue(this.buffer, at, end, this.#cache.keyOf(this.#address));
  }

  #nowhere(why: 'absent' | 'unknown'): 'absent' | 'unknown' {
    this.#address = 0;
    this.buffer = NOWHERE;
    this.offset = 0;
    this.length = 0;
    return why;
  }
}
