/**
 * CacheKeeper: keeps what is cached true, by what a bus tells and by what is read.
 *
 *   bus: news ----------> changes under the revision rule, the tenant's chain
 *   own writes ---------> the same, before the bus tells them
 *   reads that missed --> the same
 *   gap, or a re-check -> counters of what is cached, and entries of those tenants whose counter has moved
 *
 * The chain. Every write names the tenant's write before it. A tenant's record stands at the write up to which all news
 * have come, so news that name another predecessor show that something is missing, and the tenant is re-checked. On a
 * bus without order that also happens when two writes change places, and costs two reads.
 *
 *   record @12   news 12 -> 17: record @17    news 17 -> 20 lost    news 20 -> 31: 20 is not 17, re-check
 *
 * The horizon. A bus with order says up to which revision everything has been told; who wants to read "at least at
 * revision r" waits for it.
 *
 * Entries with a lease end without a write, so no counter tells of it. A bus without order does not tell it either: they
 * are not kept then.
 */
import { Backoff } from '../core/backoff.js';
import { publish } from '../core/channels.js';
import type { Clock } from '../core/clock.js';
import { isMillraceError } from '../core/errors.js';
import type { Random } from '../core/random.js';
import type { Entry, Key, OperationResult, Revision, Store } from '../core/store.js';
import type { Bus, BusListener, News } from './bus.js';
import { counterKeyOf, METADATA_RANGE } from './keys.js';
import { Flag } from './record-slab.js';
import { NOT_KNOWN, type RevisionCache, type TenantState } from './revision-cache.js';
import { SharedRuns } from './shared-runs.js';
import { readCounter } from './tenant-counter.js';

/** What an entry was read as. */
export interface Reading {
  /** Undefined: it is not there. */
  readonly entry: Entry | undefined;
  /** Of the store, when it answered. */
  readonly revision: Revision;
}

/** Told of an entry's changes: of each one, or of the last of several. */
export type ChangeListener = (reading: Reading) => void;

/** Entries or counters that one read of a re-check asks for. */
const KEYS_PER_READ = 100;

export class CacheKeeper implements BusListener {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #store: Store;
  readonly #cache: RevisionCache;
  readonly #bus: Pick<Bus, 'isOrdered'>;
  readonly #reads = new SharedRuns<Reading>();
  readonly #rechecks = new SharedRuns<number>();
  readonly #listeners = new Map<Key, Listening>();
  readonly #waiting = new Set<Waiting>();
  readonly #closing = new AbortController();
  /** Everything up to it has been told. */
  #horizon = 0 as Revision;
  /** Revision of the snapshot that the cache began with. */
  #restored = 0 as Revision;
  /** Counts how often everything was forgotten: answers from before are not kept. */
  #lives = 0;
  #misses = 0;
  #gaps = 0;

  constructor(
    ports: { readonly clock: Clock; readonly random: Random; readonly store: Store },
    cache: RevisionCache,
    bus: Pick<Bus, 'isOrdered'>,
  ) {
    this.#clock = ports.clock;
    this.#random = ports.random;
    this.#store = ports.store;
    this.#cache = cache;
    this.#bus = bus;
  }

  /** Everything up to it has been told; 0 where the bus has no order. */
  get horizon(): Revision {
    return this.#horizon;
  }

  get counts(): { readonly misses: number; readonly gaps: number; readonly watched: number } {
    return { misses: this.#misses, gaps: this.#gaps, watched: this.#listeners.size };
  }

  // --- What the bus tells -----------------------------------------------------------------------------------------

  onNews(news: News): void {
    this.#takeAll(news);
    this.#follow(news);
  }

  onRevision(revision: Revision): void {
    if (revision <= this.#horizon) return;
    this.#horizon = revision;
    for (const waiting of this.#waiting) if (waiting.revision <= revision) waiting.resolve();
  }

  /** What is cached was known when the store was at this revision, and is to be re-checked before it is used. */
  restored(revision: Revision): void {
    this.#restored = revision;
  }

  async recheck(revision?: Revision): Promise<number> {
    // A store that is behind what it told us is another one: nothing that is known is worth anything.
    const known = Math.max(this.#horizon, this.#restored);
    if (known > 0 && (revision ?? (await this.#newest())) < known) this.#forgetAll();
    const counters = this.#cache.counters();
    let changes = 0;
    for (let at = 0; at < counters.length; at += KEYS_PER_READ) {
      const page = counters.slice(at, at + KEYS_PER_READ);
      const { entries } = await this.#readAll(page);
      for (const [index, counter] of page.entries()) {
        changes += await this.#recheckTenant(counter, entries[index]);
      }
    }
    return changes;
  }

  // --- Reads ------------------------------------------------------------------------------------------------------

  /**
   * Reads an entry from the store, and keeps it.
   *
   * @param when - `after`: the read begins after the call; `join`: one that is under way will do
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE
   */
  read(key: Key, when: 'join' | 'after'): Promise<Reading> {
    return this.#reads[when](key, () => this.#read(key));
  }

  /** The newest revision of a tenant's counter, as of after the call. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  async newestOf(counter: Key): Promise<Revision> {
    const { entry } = await this.#reads.after(counter, async () => {
      const found = await this.#store.get(counter);
      return { entry: found, revision: (found?.modRevision ?? 0) as Revision };
    });
    return (entry?.modRevision ?? 0) as Revision;
  }

  /** Waits until everything up to a revision has been told. @returns whether that came in time */
  async reached(revision: Revision, patienceMs: number): Promise<boolean> {
    if (this.#horizon >= revision) return true;
    if (!this.#bus.isOrdered) return false;
    return new Promise((resolve) => {
      const end = (isReached: boolean): void => {
        this.#waiting.delete(waiting);
        wakeUp.cancel();
        resolve(isReached);
      };
      const waiting = { revision, resolve: () => end(true) };
      const wakeUp = this.#clock.wakeIn(patienceMs, () => end(false));
      this.#waiting.add(waiting);
    });
  }

  /** A write of this process was applied: whoever reads here sees it at once. */
  wrote(news: News): void {
    this.#takeAll(news);
    // What lies between is the bus's to tell.
    if (this.#cache.tenantRevision(news.counter) === news.oldRevision) this.#follow(news);
  }

  // --- Listeners --------------------------------------------------------------------------------------------------

  /**
   * Tells what an entry is, and what it becomes.
   *
   * @returns what ends it; undefined when the cache has no room to keep the entry
   */
  listen(key: Key, listener: ChangeListener): (() => void) | undefined {
    const own: ChangeListener = (reading) => listener(reading);
    const listening = this.#listeners.get(key) ?? { all: new Set(), told: undefined };
    if (listening.all.size === 0) {
      if (!this.#cache.pin(key, counterKeyOf(key))) return undefined;
      this.#listeners.set(key, listening);
      void this.#readUntilTold(key, listening);
    } else if (listening.told !== undefined) {
      const { told } = listening;
      // In a turn of its own, as every other telling.
      this.#clock.wakeSoon(
        () => listening.all.has(own) && listening.told === told && call(own, told),
      );
    }
    listening.all.add(own);
    return () => {
      if (!listening.all.delete(own) || listening.all.size > 0) return;
      this.#listeners.delete(key);
      this.#cache.unpin(key);
    };
  }

  /** Tells nothing any more, and waits for nothing. */
  close(): void {
    this.#closing.abort();
    this.#listeners.clear();
    for (const { resolve } of this.#waiting) resolve();
  }

  // --- Inside -----------------------------------------------------------------------------------------------------

  async #read(key: Key): Promise<Reading> {
    this.#misses++;
    const lives = this.#lives;
    const counter = counterKeyOf(key);
    const isKept = this.#cache.begin(key, counter);
    try {
      const { entries, revision } = await this.#readAll([key, counter]);
      const reading = { entry: entries[0], revision };
      if (!isKept || lives !== this.#lives) return reading;
      this.#take(reading, key);
      // A tenant that was not known is, from here on. One that is known goes on by its chain.
      if (this.#cache.tenantRevision(counter) === NOT_KNOWN) this.#begin(counter, entries[1]);
      return reading;
    } finally {
      if (lives === this.#lives) this.#cache.end(key);
    }
  }

  /**
   * The first that is known of a tenant's counter. It vouches for the entry that was read with it. What else is cached by then
   * (a write of ours, another first read) may be older, and what came after it lost with a message, or to a watch that is away.
   */
  #begin(counter: Key, found: Entry | undefined): void {
    if (this.#cache.countOf(counter) === 1) this.#cache.advance(counter, stateOf(found));
    else void this.#recheckUntilDone(counter);
  }

  #takeAll({ changes, newRevision }: News): void {
    for (const { key, entry } of changes) {
      if (entry === undefined) this.#changed(key, newRevision);
      else this.#take({ entry: entry ?? undefined, revision: newRevision }, key);
    }
  }

  /** Applies what an entry is at a revision, and tells who listens. @returns whether it was news */
  #take(reading: Reading, key: Key): boolean {
    const { entry, revision } = reading;
    let isNews: boolean;
    if (entry === undefined) isNews = this.#cache.applyAbsence(key, revision);
    else if (entry.leaseId !== undefined && !this.#bus.isOrdered) {
      isNews = this.#cache.findKey(key) !== 0;
      this.#cache.invalidate(key, entry.modRevision);
    } else isNews = this.#cache.apply(entry);
    this.#tell(key, reading);
    return isNews;
  }

  /** An entry has become something that the bus does not say. */
  #changed(key: Key, revision: Revision): void {
    this.#cache.invalidate(key, revision);
    const listening = this.#listeners.get(key);
    if (listening === undefined || revisionOf(listening.told) >= revision) return;
    void this.#readUntilTold(key, listening);
  }

  /** Moves the tenant's record along its chain, or re-checks the tenant. */
  #follow({ counter, oldRevision, newRevision, counterEntry }: News): void {
    if (oldRevision === undefined) return;
    const known = this.#cache.tenant(counter);
    if (known === undefined || known.revision >= newRevision) return;
    // Of a tenant whose first read is under way a bus with order has told everything since; any other may not have.
    const isFirst = known.revision === NOT_KNOWN && this.#bus.isOrdered;
    if (isFirst || known.revision === oldRevision) {
      const writer = counterEntry === undefined ? 0 : stateOf(counterEntry).writer;
      this.#cache.advance(counter, { revision: newRevision, writer });
    } else if (known.revision !== NOT_KNOWN) {
      this.#gaps++;
      publish('millrace:metadata:gap', () => ({
        key: counter,
        known: known.revision,
        told: newRevision,
      }));
      void this.#recheckUntilDone(counter);
    }
  }

  async #recheckUntilDone(counter: Key): Promise<void> {
    const { signal } = this.#closing;
    const backoff = new Backoff(this.#clock, this.#random);
    while (!signal.aborted) {
      try {
        await this.#rechecks.after(counter, async () => {
          const { entries } = await this.#readAll([counter]);
          return this.#recheckTenant(counter, entries[0]);
        });
        return;
      } catch (error) {
        if (!isMillraceError(error)) throw error;
      }
      await backoff.pause(signal).catch(() => {});
    }
  }

  /** @param found - the tenant's counter, read before anything else. @returns how many entries had changed */
  async #recheckTenant(counter: Key, found: Entry | undefined): Promise<number> {
    const known = this.#cache.tenant(counter);
    if (known === undefined) return 0;
    const state = stateOf(found);
    const isSame =
      known.revision === state.revision && (known.writer === 0 || known.writer === state.writer);
    const doubtful: Key[] = [];
    for (const address of this.#cache.entriesOf(counter)) {
      const isDoubtful =
        !isSame || (this.#cache.flags(address) & (Flag.LEASED | Flag.UNKNOWN)) !== 0;
      if (isDoubtful) doubtful.push(this.#cache.keyOf(address));
    }
    const lives = this.#lives;
    let changes = 0;
    for (let at = 0; at < doubtful.length; at += KEYS_PER_READ) {
      const page = doubtful.slice(at, at + KEYS_PER_READ);
      const { entries, revision } = await this.#readAll(page);
      if (lives !== this.#lives) return changes;
      for (const [index, key] of page.entries()) {
        if (this.#take({ entry: entries[index], revision }, key)) changes++;
      }
    }
    this.#cache.advance(counter, state);
    return changes;
  }

  async #readAll(keys: readonly Key[]): Promise<{
    readonly entries: readonly (Entry | undefined)[];
    readonly revision: Revision;
  }> {
    const gets = keys.map((key) => ({ type: 'get' as const, key }));
    const outcome = await this.#store.txn({ compares: [], success: gets });
    // It changes nothing, so without an answer it has only not been read.
    if (outcome.kind === 'unknown') throw outcome.cause;
    return { entries: outcome.results.map(entryOf), revision: outcome.revision };
  }

  async #newest(): Promise<Revision> {
    return (await this.#store.range(METADATA_RANGE, { limit: 1, keysOnly: true })).revision;
  }

  async #readUntilTold(key: Key, listening: Listening): Promise<void> {
    const { signal } = this.#closing;
    const backoff = new Backoff(this.#clock, this.#random);
    while (this.#listeners.get(key) === listening && !signal.aborted) {
      try {
        this.#tell(key, await this.read(key, 'after'));
        return;
      } catch (error) {
        if (!isMillraceError(error)) throw error;
      }
      await backoff.pause(signal).catch(() => {});
    }
  }

  #tell(key: Key, reading: Reading): void {
    const listening = this.#listeners.get(key);
    if (listening === undefined) return;
    const { told } = listening;
    const isOld =
      told !== undefined &&
      (revisionOf(reading) <= revisionOf(told) || (!reading.entry && !told.entry));
    if (isOld) return;
    listening.told = reading;
    for (const listener of [...listening.all]) call(listener, reading);
  }

  #forgetAll(): void {
    this.#lives++;
    this.#cache.clear();
    this.#horizon = 0 as Revision;
    this.#restored = 0 as Revision;
    for (const [key, listening] of this.#listeners) {
      listening.told = undefined;
      this.#cache.pin(key, counterKeyOf(key));
    }
  }
}

interface Listening {
  readonly all: Set<ChangeListener>;
  told: Reading | undefined;
}

interface Waiting {
  readonly revision: Revision;
  readonly resolve: () => void;
}

/** What a listener throws is its program's to hear of, and nobody else's. */
function call(listener: ChangeListener, reading: Reading): void {
  try {
    listener(reading);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** The revision that decides which of two readings of an entry is newer. */
function revisionOf(reading: Reading | undefined): number {
  return reading === undefined ? 0 : (reading.entry?.modRevision ?? reading.revision);
}

/** What a tenant's record keeps of its counter. */
function stateOf(counter: Entry | undefined): TenantState {
  const { revision, writes } = readCounter(counter);
  // Five of eight base-36 digits fit into 32 bits, and 0 stands for not known.
  const writer = writes[0] === undefined ? 0 : Number.parseInt(writes[0].slice(0, 5), 36) + 1;
  return { revision, writer };
}

function entryOf(result: OperationResult): Entry | undefined {
  return result.type === 'get' ? result.entry : undefined;
}
