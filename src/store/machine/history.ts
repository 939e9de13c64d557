/**
 * The recent past of a store: what every revision changed, and what it replaced.
 *
 *   forgotten                durable                    head
 *      |   kept revisions       |   pending revisions     |
 *   ...|  r4   r5   r6   r7    r8 | r9  r10  r11  (open)  |
 *
 * One ring serves three readers:
 * - watches read whole revisions, by number, up to `durable`;
 * - reads at a revision look a key up here first: the last change not after that revision is the answer; when
 *   all kept changes are later, what the earliest of them replaced is; and a key that is not here has not changed
 *   since `forgotten`, so that the backend's answer holds for every revision in the ring;
 * - for the same reason reads of durable state never see pending changes, whatever the backend shows: the ring
 *   holds every change between the oldest state the backend can show and the newest.
 *
 * Invariants: (1) records are contiguous: the one of revision r is at index r - first; (2) a key has at most one
 * change per revision; (3) only durable revisions are forgotten, and never the newest of them, so a reader that
 * keeps up gets even a revision that is larger than the ring; (4) memory is bounded by `revisionsMax`, `bytesMax`
 * and what is pending. To keep (4), a revision that replaces more than `bytesMax` does not keep what it replaced:
 * older state is then no longer readable, which is what `#readable` says; what it changed can be watched all the same.
 */
import { invariant } from '../../core/errors.js';
import type { Entry, Key, KeyRange, Revision } from '../../core/store.js';
import { SortedMap } from './sorted-map.js';

export interface HistoryLimits {
  readonly revisionsMax: number;
  readonly bytesMax: number;
}

/** One key in one revision. */
export interface Change {
  readonly key: Key;
  readonly revision: Revision;
  /** What the key became; undefined: deleted. */
  readonly entry: Entry | undefined;
  /** What it was. */
  readonly previous: Entry | undefined;
}

/** Everything one revision changed, in order of keys once the revision is closed. */
export interface RevisionRecord {
  readonly revision: Revision;
  readonly changes: Change[];
  bytes: number;
  /** Set when this revision did not keep all it replaced: the oldest readable revision before it. */
  readableBefore?: Revision;
}

/** What the ring knows of a key: its entry, null when it was absent, undefined when the ring does not know. */
export type Recalled = Entry | null | undefined;

/** Rough cost of a change beyond its bytes: the objects that hold it. */
const CHANGE_BYTES = 200;

export class History {
  readonly #limits: HistoryLimits;
  readonly #records = new Ring<RevisionRecord>();
  readonly #byKey = new SortedMap<Change[]>();
  #first: number;
  #bytes = 0;
  #readable: number;
  #compacted: number;

  /** @param revision - newest revision of the backend; nothing before it is known */
  constructor(revision: Revision, limits: HistoryLimits) {
    this.#limits = limits;
    this.#first = revision + 1;
    this.#readable = revision;
    this.#compacted = revision;
  }

  /** The newest revision, pending or not. */
  get head(): Revision {
    return (this.#first + this.#records.length - 1) as Revision;
  }

  /** The oldest revision whose state can be read. */
  get readable(): Revision {
    return this.#readable as Revision;
  }

  /** The oldest revision whose changes can be watched. */
  get watchable(): Revision {
    return Math.max(this.#first, this.#compacted) as Revision;
  }

  /** How many bytes of the newest revision may still keep what they replace. */
  get bytesLeft(): number {
    const last = this.#records.last;
    return this.#limits.bytesMax - (last === undefined ? 0 : last.bytes);
  }

  record(revision: Revision): RevisionRecord {
    const record = this.#records.at(revision - this.#first);
    invariant(record !== undefined, 'history.record', { revision, first: this.#first });
    return record;
  }

  /** Opens the next revision. */
  open(): Revision {
    const revision = (this.head + 1) as Revision;
    this.#records.push({ revision, changes: [], bytes: 0 });
    return revision;
  }

  /** Adds a change to the newest revision. */
  add(change: Change): void {
    const record = this.#records.last!;
    record.changes.push(change);
    const bytes = changeBytes(change);
    record.bytes += bytes;
    this.#bytes += bytes;
    const changes = this.#byKey.get(change.key);
    if (changes === undefined) this.#byKey.set(change.key, [change]);
    else changes.push(change);
  }

  /** Removes the newest revision, which must not be durable. @returns what it had changed */
  undo(): readonly Change[] {
    const { changes, bytes, readableBefore } = this.#records.pop()!;
    this.#bytes -= bytes;
    if (readableBefore !== undefined) {
      this.#readable = Math.max(readableBefore, this.#compacted, this.#first - 1);
    }
    for (const { key } of changes) {
      const kept = this.#byKey.get(key)!;
      kept.pop();
      if (kept.length === 0) this.#byKey.delete(key);
    }
    return changes;
  }

  /** Gives up reading and watching before `revision`. */
  compact(revision: Revision): void {
    this.#compacted = Math.max(this.#compacted, revision);
    this.#readable = Math.max(this.#readable, revision);
  }

  /** Says that the newest revision does not keep all it replaced: earlier state is readable no more. */
  loseReplaced(): void {
    const record = this.#records.last!;
    record.readableBefore ??= this.readable;
    this.#readable = record.revision;
  }

  /** The last revision that has to go for the ring to be within its limits; less than `first` when none has. */
  overflow(durable: Revision): Revision {
    let revision = this.#first - 1;
    let bytes = this.#bytes;
    let count = this.#records.length;
    while (
      revision + 1 < durable &&
      (bytes > this.#limits.bytesMax ||
        count > this.#limits.revisionsMax ||
        revision + 1 < this.#compacted)
    ) {
      revision += 1;
      count -= 1;
      bytes -= this.record(revision as Revision).bytes;
    }
    return revision as Revision;
  }

  /** Forgets all revisions up to and including this one. */
  forget(revision: Revision): void {
    while (this.#first <= revision) {
      const record = this.#records.shift()!;
      this.#bytes -= record.bytes;
      for (const { key } of record.changes) {
        const kept = this.#byKey.get(key)!;
        if (kept.length === 1) this.#byKey.delete(key);
        else kept.shift();
      }
      this.#first += 1;
    }
    this.#readable = Math.max(this.#readable, revision);
  }

  /** What the key was at `revision`, which must be readable. */
  recall(key: Key, revision: Revision): Recalled {
    const changes = this.#byKey.get(key);
    return changes === undefined ? undefined : pick(changes, revision);
  }

  /** The keys of the range that the ring knows, with what they were at `revision`. */
  *recallRange(
    range: KeyRange,
    revision: Revision,
    reverse: boolean,
  ): Generator<readonly [Key, Entry | null], undefined> {
    for (const [key, changes] of this.#byKey.range(range.from, range.to, reverse)) {
      yield [key, pick(changes, revision)];
    }
  }
}

function pick(changes: readonly Change[], revision: Revision): Entry | null {
  for (let index = changes.length - 1; index >= 0; index--) {
    const change = changes[index]!;
    if (change.revision <= revision) return change.entry ?? null;
  }
  return changes[0]!.previous ?? null;
}

function changeBytes(change: Change): number {
  const values = (change.entry?.value.length ?? 0) + (change.previous?.value.length ?? 0);
  return CHANGE_BYTES + change.key.length + values;
}

/** An array whose front moves: shift costs O(1), which `Array.prototype.shift` does not promise. */
class Ring<T> {
  #items: (T | undefined)[] = [];
  #start = 0;

  get length(): number {
    return this.#items.length - this.#start;
  }

  get last(): T | undefined {
    return this.length === 0 ? undefined : this.#items[this.#items.length - 1];
  }

  at(index: number): T | undefined {
    return index < 0 ? undefined : this.#items[this.#start + index];
  }

  push(item: T): void {
    this.#items.push(item);
  }

  pop(): T | undefined {
    return this.length === 0 ? undefined : this.#items.pop();
  }

  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.#items[this.#start];
    this.#items[this.#start] = undefined;
    this.#start += 1;
    if (this.#start * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#start);
      this.#start = 0;
    }
    return item;
  }
}
