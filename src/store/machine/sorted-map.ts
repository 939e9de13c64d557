/**
 * A map whose keys stay in order: chunks of up to 512 keys, in an array.
 *
 *   chunks   [ a b c d ] [ f g h ] [ m n ... ] ...        found by binary search over the first keys,
 *   values   [ 1 2 3 4 ] [ 5 6 7 ] [ 8 9 ... ] ...        then by binary search within the chunk
 *
 * Two flat arrays per chunk and nothing per entry: at a million keys that is some 16 bytes an entry next to
 * the key and the value themselves, and a splice moves at most 4 KiB. A full chunk splits in two, but one that
 * fills at the very end of the map starts the next chunk instead, so keys that come in order fill theirs.
 * A chunk that runs low joins its neighbour, so deleting gives memory back.
 *
 * Cost: get, set, delete O(log n) compares plus a small move; ranges O(log n) and then O(1) per entry.
 */

const CHUNK_KEYS_MAX = 512;
/** Two neighbours join when they fit in half a chunk, so that a join is never followed by a split. */
const JOIN_KEYS_MAX = CHUNK_KEYS_MAX / 2;

interface Chunk<V> {
  readonly keys: string[];
  readonly values: V[];
}

export class SortedMap<V> {
  /** Never holds an empty chunk. */
  readonly #chunks: Chunk<V>[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(key: string): V | undefined {
    const chunk = this.#chunks[this.#chunkOf(key)];
    if (chunk === undefined) return undefined;
    const at = lowerBound(chunk.keys, key);
    return chunk.keys[at] === key ? chunk.values[at] : undefined;
  }

  set(key: string, value: V): void {
    const chunkIndex = Math.max(this.#chunkOf(key), 0);
    const chunk = this.#chunks[chunkIndex];
    if (chunk === undefined) {
      this.#chunks.push({ keys: [key], values: [value] });
      this.#size = 1;
      return;
    }
    const at = lowerBound(chunk.keys, key);
    if (chunk.keys[at] === key) {
      chunk.values[at] = value;
      return;
    }
    this.#size += 1;
    if (chunk.keys.length < CHUNK_KEYS_MAX) {
      insert(chunk, at, key, value);
    } else if (at === CHUNK_KEYS_MAX && chunkIndex === this.#chunks.length - 1) {
      this.#chunks.push({ keys: [key], values: [value] });
    } else {
      const half = CHUNK_KEYS_MAX / 2;
      const upper = { keys: chunk.keys.splice(half), values: chunk.values.splice(half) };
      this.#chunks.splice(chunkIndex + 1, 0, upper);
      if (at <= half) insert(chunk, at, key, value);
      else insert(upper, at - half, key, value);
    }
  }

  /** @returns whether the key was there */
  delete(key: string): boolean {
    const chunkIndex = this.#chunkOf(key);
    const chunk = this.#chunks[chunkIndex];
    if (chunk === undefined) return false;
    const at = lowerBound(chunk.keys, key);
    if (chunk.keys[at] !== key) return false;
    chunk.keys.splice(at, 1);
    chunk.values.splice(at, 1);
    this.#size -= 1;
    this.#joinAround(chunkIndex);
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
    let at = lowerBound(chunk.keys, bound) - (reverse ? 1 : 0);
    for (;;) {
      if (at < 0 || at >= chunk.keys.length) {
        chunkIndex += step;
        chunk = this.#chunks[chunkIndex];
        if (chunk === undefined) return;
        at = reverse ? chunk.keys.length - 1 : 0;
      }
      const key = chunk.keys[at]!;
      if (reverse ? key < from : key >= to) return;
      yield [key, chunk.values[at]!];
      at += step;
    }
  }

  /** Index of the last chunk whose first key is not above `key`; -1 when there is none. */
  #chunkOf(key: string): number {
    const chunks = this.#chunks;
    let low = 0;
    let high = chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (chunks[middle]!.keys[0]! <= key) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #joinAround(chunkIndex: number): void {
    const chunk = this.#chunks[chunkIndex]!;
    if (chunk.keys.length === 0) {
      this.#chunks.splice(chunkIndex, 1);
      return;
    }
    for (const left of [chunkIndex, chunkIndex - 1]) {
      const lower = this.#chunks[left];
      const upper = this.#chunks[left + 1];
      if (!lower || !upper || lower.keys.length + upper.keys.length > JOIN_KEYS_MAX) continue;
      lower.keys.push(...upper.keys);
      lower.values.push(...upper.values);
      this.#chunks.splice(left + 1, 1);
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

function insert<V>(chunk: Chunk<V>, at: number, key: string, value: V): void {
  chunk.keys.splice(at, 0, key);
  chunk.values.splice(at, 0, value);
}
