/**
 * The sync bus: how a process learns what others have written.
 *
 *   writer -- transaction --> store
 *      '----- publish ------> bus -----> every process's CacheKeeper
 *
 * A bus tells each write at least once, sooner or later: late, twice and out of order are fine, since the cache applies
 * an event only if its revision is newer. What is lost for good shows as a gap: each write names the tenant's write before
 * it. So a gap is seen with the tenant's next write, and otherwise by the re-check that a bus asks for.
 *
 * The default is the store's own watch (`watch-bus.ts`), where the write itself is the event and nothing is published.
 */
import type { Clock } from '../core/clock.js';
import type { Random } from '../core/random.js';
import type { Entry, Key, Revision } from '../core/store.js';

/** One event as it travels on a bus that carries messages. */
export interface SyncEvent {
  readonly tenant_id: string;
  /** Of the store: `ns:{tenant}:{type}:{id}`. */
  readonly key: string;
  /** Store revision of the tenant's write before; 0 when there was none. */
  readonly old_rev: number;
  /** Store revision of this write. */
  readonly new_rev: number;
}

/** One write to a tenant, or entries of it that ended with their lease. */
export interface News {
  /** Key of the tenant's counter. */
  readonly counter: Key;
  /** Of the tenant's write before; undefined for what was no write of the tenant. */
  readonly oldRevision: Revision | undefined;
  readonly newRevision: Revision;
  /** Of the write, when the bus knows it. */
  readonly counterEntry?: Entry;
  /** All entries that it changed. */
  readonly changes: readonly EntryNews[];
}

export interface EntryNews {
  readonly key: Key;
  /** What it is now, `null` when it is gone; undefined when the bus does not carry it. */
  readonly entry: Entry | null | undefined;
}

export interface BusListener {
  onNews(news: News): void;
  /** Everything up to this revision has been told. Only by buses that tell in order. */
  onRevision(revision: Revision): void;
  /**
   * News may have been missed: everything that is known is compared with the store, which is at least at `revision`.
   * Rejects when the store does not answer; then it is to be called again.
   *
   * @returns how many entries had changed
   */
  recheck(revision?: Revision): Promise<number>;
}

export interface Bus {
  /** Whether it tells everything, in the order of revisions, expiries included; it then calls `onRevision`. */
  readonly isOrdered: boolean;
  /** How often everything that is known should be re-checked against losses; Infinity: never. */
  readonly recheckMs: number;
  /** Resolves when every write that is acknowledged from now on will be told. */
  start(listener: BusListener): Promise<void>;
  /** Tells others of a write of this process. Rejects when it could not be told; the write is done all the same. */
  publish(news: News): Promise<void>;
  /** Tells nothing after it. Idempotent; works without start and during it. */
  stop(): Promise<void>;
}

/** A bus that is not open yet: what `kafkaBus()` returns. */
export interface BusFactory {
  /** For people and errors. */
  readonly kind: string;
  open(ports: { readonly clock: Clock; readonly random: Random }): Promise<Bus>;
}
