/**
 * The keys and entries of a store at any revision it still knows: the backend's newest data, corrected by what
 * the history says has changed since (or not yet).
 */
import type { Entry, Key, KeyRange, LeaseId, Revision } from '../../core/store.js';
import type { Backend, Write } from './backend.js';
import { type Change, History, type HistoryLimits } from './history.js';
import type { LeaseTable } from './lease-table.js';

const NO_VALUE = new Uint8Array(0);

export interface ScanOptions {
  readonly revision: Revision;
  readonly limit?: number | undefined;
  readonly reverse?: boolean | undefined;
  readonly keysOnly?: boolean | undefined;
}

export interface Scan {
  readonly entries: readonly Entry[];
  readonly more: boolean;
}

export class Keyspace {
  readonly #backend: Backend;
  readonly #leases: LeaseTable;
  readonly history: History;
  #durable: Revision;

  constructor(backend: Backend, leases: LeaseTable, limits: HistoryLimits) {
    this.#backend = backend;
    this.#leases = leases;
    this.#durable = backend.revision;
    this.history = new History(backend.revision, limits);
  }

  /** The newest revision that is durable: what readers see. */
  get durable(): Revision {
    return this.#durable;
  }

  /** The newest revision, pending or not: what the next transaction builds on. */
  get head(): Revision {
    return this.history.head;
  }

  /** @param revision - readable, and not above `head` */
  get(key: Key, revision: Revision): Entry | undefined {
    const recalled = this.history.recall(key, revision);
    return recalled === undefined ? this.#backend.get(key) : (recalled ?? undefined);
  }

  scan(range: KeyRange, options: ScanOptions): Scan {
    const { revision, limit = Number.POSITIVE_INFINITY, reverse = false } = options;
    const keysOnly = options.keysOnly ?? false;
    const entries: Entry[] = [];
    if (range.from >= range.to) return { entries, more: false };
    const recalled = this.history.recallRange(range, revision, reverse);
    const stored = this.#backend.entries(range, { reverse, keysOnly });
    for (const entry of merge(stored, recalled, reverse)) {
      if (entries.length === limit) return { entries, more: true };
      entries.push(keysOnly && entry.value.length > 0 ? { ...entry, value: NO_VALUE } : entry);
    }
    return { entries, more: false };
  }

  /** Records in the revision now open that a key was put. */
  put(previous: Entry | undefined, entry: Entry): void {
    this.#change(entry.key, previous, entry);
  }

  /** Records in the revision now open that a key was deleted. @returns how many keys that were: 0 or 1 */
  delete(key: Key): number {
    const previous = this.get(key, this.head);
    if (previous === undefined) return 0;
    this.#change(key, previous, undefined);
    return 1;
  }

  /** Records in the revision now open that every key of the range was deleted. @returns how many */
  deleteRange(range: KeyRange): number {
    const keys = this.#keys(range);
    for (const key of keys) {
      // What goes is read for the history's sake only; so not once the history has no room for it.
      if (this.history.bytesLeft > 0) {
        this.#change(key, this.get(key, this.head), undefined);
      } else {
        this.history.loseReplaced();
        this.#change(key, lost(key, this.#leases.leaseOf(key)), undefined);
      }
    }
    return keys.length;
  }

  /** Takes back all revisions above this one. */
  rollback(revision: Revision): void {
    while (this.head > revision) {
      for (const change of this.history.undo()) {
        this.#leases.attach(change.key, change.previous?.leaseId);
      }
    }
  }

  /** The writes that carry the backend from one revision to another, the last one of each key. */
  writes(after: Revision, upTo: Revision): Map<Key, Write> {
    const writes = new Map<Key, Write>();
    for (let revision = after + 1; revision <= upTo; revision++) {
      for (const { key, entry } of this.history.record(revision as Revision).changes) {
        writes.set(key, entry);
      }
    }
    return writes;
  }

  /** Everything up to this revision is durable now. */
  acknowledge(revision: Revision): void {
    this.#durable = revision;
  }

  /** The keys of the range as of `head`. */
  #keys(range: KeyRange): readonly Key[] {
    if (range.from >= range.to) return [];
    const keys = new Set(this.#backend.keys(range));
    for (const [key, entry] of this.history.recallRange(range, this.head, false)) {
      if (entry === null) keys.delete(key);
      else keys.add(key);
    }
    return [...keys];
  }

  #change(key: Key, previous: Entry | undefined, entry: Entry | undefined): void {
    const change: Change = { key, revision: this.head, entry, previous };
    this.history.add(change);
    this.#leases.attach(key, entry?.leaseId);
  }
}

/** Stands for an entry that was replaced and not kept. */
function lost(key: Key, leaseId: LeaseId | undefined): Entry {
  const none = 0 as Revision;
  return { key, value: NO_VALUE, version: 0, createRevision: none, modRevision: none, leaseId };
}

/** Both in the same order; what is recalled wins, and null takes the key out. */
function* merge(
  stored: Iterable<Entry>,
  recalled: Iterator<readonly [Key, Entry | null]>,
  reverse: boolean,
): Generator<Entry, undefined> {
  let recall = recalled.next();
  for (const entry of stored) {
    while (!recall.done && isBefore(recall.value[0], entry.key, reverse)) {
      if (recall.value[1] !== null) yield recall.value[1];
      recall = recalled.next();
    }
    if (!recall.done && recall.value[0] === entry.key) {
      if (recall.value[1] !== null) yield recall.value[1];
      recall = recalled.next();
    } else {
      yield entry;
    }
  }
  for (; !recall.done; recall = recalled.next()) {
    if (recall.value[1] !== null) yield recall.value[1];
  }
}

function isBefore(a: Key, b: Key, reverse: boolean): boolean {
  return reverse ? a > b : a < b;
}
