/**
 * A map whose keys can be read in order: a hash map for the values, and the keys once more in sorted chunks.
 *
 *   values   Map { f: 5, a: 1, m: 8, ... }            get, and set of a key that is there: no search
 *   firsts   [ a         f        m      ... ]        binary search finds the chunk of a key,
 *   chunks   [ a b c d ] [ f g h ] [ m n ... ] ...    and then its place among up to 512 keys
 *
 * What costs here are cache misses: every step of a search compares with a string somewhere on the heap. So the
 * searches are left to new keys, deleted keys and ranges, and the first keys lie side by side in an array of their
 * own. Arrays cost 8 bytes a key next to the hash map's 40; a splice moves at most 4 KiB of a chunk.
 *
 * A full chunk splits in two, but one that fills at the very end of the map starts the next chunk instead, so keys
 * that come in order fill theirs. A chunk that runs low joins its neighbour, so deleting gives memory back.
 */

const CHUNK_KEYS_MAX = 512;
/** Two neighbours join when they fit in half a chunk, so that a join is never followed by a split. */
const JOIN_KEYS_MAX = CHUNK_KEYS_MAX / 2;

export class SortedMap<V> {
  readonly #values = new Map<string, V>();
  /** Never holds an empty chunk. */
  readonly #chunks: string[][] = [];
  /** The first key of each chunk. */
  readonly #firsts: string[] = [];

  get size(): number {
    return this.#values.size;
  }

  get(key: string): V | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: V): void {
    const before = this.#values.size;
    this.#values.set(key, value);
    if (this.#values.size > before) this.#insert(key);
  }

  /** @returns whether the key was there */
  delete(key: string): boolean {
    if (!this.#values.delete(key)) return false;
    const chunkIndex = this.#chunkOf(key);
    const chunk = this.#chunks[chunkIndex]!;
    chunk.splice(lowerBound(chunk, key), 1);
    if (chunk.length <= JOIN_KEYS_MAX) this.#join(chunkIndex);
    const first = this.#chunks[chunkIndex]?.[0];
    if (first !== undefined) this.#firsts[chunkIndex] = first;
    return true;
  }

  /** Entries with `from <= key < to`. The map must not change while they are being read. */
  *range(from: string, to: string, reverse = false): Generator<readonly [string, V], undefined> {
    if (from >= to) return;
    const step = reverse ? -1 : 1;
    const bound = reverse ? to : from;
    let chunkIndex = Math.max(this.#chunkOf(bound), 0);
    let chunk = this.#chunks[chunkIndex];
    if (chunk === undefined) return;
    let at = lowerBound(chunk, bound) - (reverse ? 1 : 0);
    for (;;) {
      if (at < 0 || at >= chunk.length) {
        chunkIndex += step;
        chunk = this.#chunks[chunkIndex];
        if (chunk === undefined) return;
        at = reverse ? chunk.length - 1 : 0;
      }
      const key = chunk[at]!;
      if (reverse ? key < from : key >= to) return;
      yield [key, this.#values.get(key)!];
      at += step;
    }
  }

  /** Index of the last chunk whose first key is not above `key`; -1 when there is none. */
  #chunkOf(key: string): number {
    const at = lowerBound(this.#firsts, key);
    return this.#firsts[at] === key ? at : at - 1;
  }

  #insert(key: string): void {
    const chunkIndex = Math.max(this.#chunkOf(key), 0);
    const chunk = this.#chunks[chunkIndex];
    if (chunk === undefined) return this.#addChunk(0, [key]);
    const at = lowerBound(chunk, key);
    if (chunk.length < CHUNK_KEYS_MAX) {
      chunk.splice(at, 0, key);
      if (at === 0) this.#firsts[chunkIndex] = key;
    } else if (at === CHUNK_KEYS_MAX && chunkIndex === this.#chunks.length - 1) {
      this.#addChunk(chunkIndex + 1, [key]);
    } else {
      this.#addChunk(chunkIndex + 1, chunk.splice(CHUNK_KEYS_MAX / 2));
      this.#insert(key);
    }
  }

  #addChunk(chunkIndex: number, chunk: string[]): void {
    this.#chunks.splice(chunkIndex, 0, chunk);
    this.#firsts.splice(chunkIndex, 0, chunk[0]!);
  }

  #removeChunk(chunkIndex: number): void {
    this.#chunks.splice(chunkIndex, 1);
    this.#firsts.splice(chunkIndex, 1);
  }

  /** Joins a chunk that has run low with a neighbour, if both fit. */
  #join(chunkIndex: number): void {
    if (this.#chunks[chunkIndex]!.length === 0) return this.#removeChunk(chunkIndex);
    for (const left of [chunkIndex, chunkIndex - 1]) {
      const lower = this.#chunks[left];
      const upper = this.#chunks[left + 1];
      if (!lower || !upper || lower.length + upper.length > JOIN_KEYS_MAX) continue;
      lower.push(...upper);
      this.#firsts[left] = lower[0]!;
      this.#removeChunk(left + 1);
      return;
    }
  }
}

/** Index of the first key that is not below `key`. */
function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
