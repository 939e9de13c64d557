/**
 * What the state machine asks of whatever holds the data: the newest entries in order of keys, and one way to
 * write. Revisions, history, leases, watches and transactions are the machine's; a backend knows none of them.
 */
import type { Entry, Key, KeyRange, Revision } from '../../core/store.js';

/** One key's change: its new entry, or undefined for a deletion. */
export type Write = Entry | undefined;

export interface Backend {
  readonly durability: 'volatile' | 'durable';
  /** Revision of the newest commit there was when the backend was opened. */
  readonly revision: Revision;

  /**
   * Copies values that a transaction is about to put, into memory of the kind that `commit` likes best: the
   * caller may reuse its own at once.
   */
  adopt(values: readonly Uint8Array[]): readonly Uint8Array[];

  /**
   * Reads may answer from any moment between the last acknowledged commit and the one in flight: the machine
   * remembers what changed in between. One call of `entries` or `keys`, read to its end without awaiting
   * anything, answers from a single moment.
   *
   * @throws ERR_MILLRACE_STORE_CORRUPT when stored bytes do not decode
   */
  get(key: Key): Entry | undefined;
  entries(range: KeyRange, options: EntriesOptions): Iterable<Entry>;
  keys(range: KeyRange): Iterable<Key>;

  /**
   * Applies all writes in one step and resolves when they will survive what `durability` promises.
   * The machine waits for one commit before it sends the next.
   *
   * @throws ERR_MILLRACE_STORE_FULL when certainly nothing was written; any other error leaves open what was
   */
  commit(writes: ReadonlyMap<Key, Write>, revision: Revision): Promise<void>;

  close(): Promise<void>;
}

export interface EntriesOptions {
  readonly reverse: boolean;
  readonly keysOnly: boolean;
}
