/**
 * Entries in a sorted map, and a limit on their bytes. Nothing survives the process.
 */
import { MillraceError } from '../../core/errors.js';
import type { Entry, Key, KeyRange, Revision } from '../../core/store.js';
import type { Backend, EntriesOptions, Write } from '../machine/backend.js';
import { SortedMap } from '../machine/sorted-map.js';

/** etcd, too, is at revision 1 before anything was written. */
const FIRST_REVISION = 1 as Revision;
/** Rough cost of an entry beyond its key and value. */
const ENTRY_BYTES = 200;

export class MemoryBackend implements Backend {
  readonly durability = 'volatile';
  readonly revision: Revision = FIRST_REVISION;
  readonly #bytesMax: number;
  readonly #entries = new SortedMap<Entry>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** One copy per value: an entry that stays must not keep its neighbours' bytes alive. */
  adopt(values: readonly Uint8Array[]): readonly Uint8Array[] {
    return values.map((value) => new Uint8Array(value));
  }

  get(key: Key): Entry | undefined {
    return this.#entries.get(key);
  }

  *entries(range: KeyRange, { reverse }: EntriesOptions): Generator<Entry> {
    for (const [, entry] of this.#entries.range(range.from, range.to, reverse)) yield entry;
  }

  *keys(range: KeyRange): Generator<Key> {
    for (const [key] of this.#entries.range(range.from, range.to)) yield key;
  }

  async commit(writes: ReadonlyMap<Key, Write>): Promise<void> {
    let bytes = this.#bytes;
    for (const [key, entry] of writes) bytes += sizeOf(entry) - sizeOf(this.#entries.get(key));
    // Deletions always pass: they are the way out of a full store.
    if (bytes > this.#bytesMax && bytes > this.#bytes) {
      throw new MillraceError(
        'ERR_MILLRACE_STORE_FULL',
        `the memory store would hold ${bytes} bytes and may hold ${this.#bytesMax}; delete something, or raise bytesMax`,
        { details: { bytes, bytesMax: this.#bytesMax } },
      );
    }
    for (const [key, entry] of writes) {
      if (entry === undefined) this.#entries.delete(key);
      else this.#entries.set(key, entry);
    }
    this.#bytes = bytes;
  }

  async close(): Promise<void> {}
}

function sizeOf(entry: Entry | undefined): number {
  return entry === undefined ? 0 : ENTRY_BYTES + entry.key.length + entry.value.length;
}
