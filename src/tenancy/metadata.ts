/**
 * Metadata of very many tenants: a small, strongly consistent store, read mostly from a cache in this process.
 *
 *   put, delete, write --> TenantWriter --> store
 *   get, cursor ---------> RevisionCache        | watch, or another bus
 *         '- miss -------> CacheKeeper <--------'
 *
 * Everything that users pass in is checked here, once.
 */
import { publish } from '../core/channels.js';
import type { Clock } from '../core/clock.js';
import { type Duration, durationMs } from '../core/durations.js';
import { hasCode, isMillraceError, MillraceError } from '../core/errors.js';
import { invalidOption, knownOptions, wholeNumber } from '../core/options.js';
import { OwnedHandle } from '../core/owned-handles.js';
import type { Random } from '../core/random.js';
import { BaseService } from '../core/service.js';
import {
  type Entry,
  type Key,
  keyAfter,
  type LeaseId,
  type Revision,
  type Store,
} from '../core/store.js';
import type { Bus, News } from './bus.js';
import { CacheCursor } from './cache-cursor.js';
import { CacheKeeper, type Reading } from './cache-keeper.js';
import { checkTenant, counterKey, counterKeyOf, entryKey, parseKey, typeRange } from './keys.js';
import { Flag } from './record-slab.js';
import { RevisionCache } from './revision-cache.js';
import { encodeSnapshot, restoreSnapshot } from './snapshot.js';
import { CHANGES_MAX, type Change, TenantWriter } from './tenant-writer.js';
import { TtlLeases } from './ttl-leases.js';
import { Ulids } from './ulid.js';
import { decodeValue, encodeValue } from './values.js';

/**
 * How new what is read has to be.
 *
 * - `any`: what this process knows; else what the store has. Never older than what was read here before.
 * - `{ atLeast: revision }`: what a write returned, on whatever node, or anything newer.
 * - `linearizable`: what the store has, as of after the call.
 */
export type Consistency = 'any' | 'linearizable' | { readonly atLeast: number };

export interface GetOptions {
  /** @defaultValue 'any' */
  readonly consistency?: Consistency;
}

/** An entry as it was read. */
export interface MetadataEntry<Value = unknown> {
  readonly id: string;
  readonly value: Value;
  /** Of the write that put it. */
  readonly revision: Revision;
}

export interface PutOptions {
  /** Write only if the entry has this revision; 0: only if it is not there. @defaultValue whatever it is */
  readonly ifRevision?: number;
  /** The entry ends so long after it was put; at most a tenth later. @defaultValue never */
  readonly ttl?: Duration;
}

export type DeleteOptions = Pick<PutOptions, 'ifRevision'>;

/** One change of a batch. */
export type MetadataChange =
  | ({
      readonly op: 'put';
      readonly type: string;
      readonly id: string;
      readonly value: unknown;
    } & PutOptions)
  | ({ readonly op: 'delete'; readonly type: string; readonly id: string } & DeleteOptions);

export interface ListOptions {
  /** At most so many entries; 1 to 1000. @defaultValue 100 */
  readonly limit?: number;
  /** Go on from a page: its `next`. All pages show the entries as of the first one. */
  readonly page?: ListPosition;
}

/** Where the next page begins. Plain data: it may travel. */
export interface ListPosition {
  readonly after: string;
  readonly revision: number;
}

export interface MetadataPage<Value = unknown> {
  /** In the order of their encoded ids; ULIDs in the order of their making. */
  readonly entries: readonly MetadataEntry<Value>[];
  /** Of the store, as of which the entries were listed. */
  readonly revision: Revision;
  /** Undefined on the last page. */
  readonly next: ListPosition | undefined;
}

export interface MetadataStats {
  /** Entries, and known absences, in the cache. */
  readonly entries: number;
  readonly tenants: number;
  /** Memory of the cache. */
  readonly bytes: number;
  readonly evicted: number;
  /** Entries that were read from the store. */
  readonly misses: number;
  /** Missed writes that were noticed, each followed by a re-check of its tenant. */
  readonly gaps: number;
  /** Different entries that somebody watches. */
  readonly watched: number;
  /** Everything up to this revision is known; 0 where the bus has no order. */
  readonly revision: Revision;
}

/** What users see of {@link Metadata}. */
export type MetadataApi = Pick<
  Metadata,
  'put' | 'add' | 'delete' | 'write' | 'get' | 'list' | 'watch' | 'cursor' | 'evict' | 'stats'
>;

/** How long a read waits for the cache before it asks the store. */
const PATIENCE_MS = 250;
const LIST_LIMIT = 100;
const LIST_LIMIT_MAX = 1_000;
const TTL_MS_MIN = 1_000;

export interface MetadataParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  readonly bus: Bus;
  readonly cacheBytes: number;
}

export class Metadata extends BaseService {
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #bus: Bus;
  readonly #cache: RevisionCache;
  readonly #keeper: CacheKeeper;
  /** That have not been cancelled. */
  readonly #watchers = new Set<OwnedHandle>();
  readonly #writer: TenantWriter;
  readonly #leases: TtlLeases;
  readonly #ulids: Ulids;
  #rechecks: { cancel(): void } | undefined;

  constructor({ clock, random, store, bus, cacheBytes }: MetadataParts) {
    super();
    this.#clock = clock;
    this.#store = store;
    this.#bus = bus;
    this.#cache = new RevisionCache(random.fork('cache'), cacheBytes);
    this.#keeper = new CacheKeeper(
      { clock, random: random.fork('keeper'), store },
      this.#cache,
      bus,
    );
    this.#writer = new TenantWriter(clock, random.fork('writer'), store);
    this.#leases = new TtlLeases(clock, store);
    this.#ulids = new Ulids(clock, random.fork('ulids'));
  }

  /**
   * Writes an entry.
   *
   * @param tenant, type, id - any text but the empty one; together at most 800 bytes percent-encoded
   * @param value - JSON, or a Uint8Array, which comes back as bytes; at most 256 KiB
   * @returns the revision of the write; give it to `{ atLeast }` on any node to read no older
   * @throws ERR_MILLRACE_STALE_REVISION when `ifRevision` does not hold (`details.current`); nothing was written
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE; `details.outcome` is `'unknown'` when it may have been written, and may
   *   still be, else `'not applied'`
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION, ERR_MILLRACE_PAYLOAD_TOO_LARGE, _TOO_DEEP,
   *   _NOT_SERIALIZABLE, ERR_MILLRACE_STORE_FULL, ERR_MILLRACE_CLOSED
   */
  async put(
    tenant: string,
    type: string,
    id: string,
    value: unknown,
    options: PutOptions = {},
  ): Promise<Revision> {
    knownOptions<PutOptions>(options, '', { ifRevision: true, ttl: true });
    return this.write(tenant, [{ op: 'put', type, id, value, ...options }]);
  }

  /** Writes an entry under a new id, a ULID. @throws as {@link put} */
  async add(
    tenant: string,
    type: string,
    value: unknown,
    options: Pick<PutOptions, 'ttl'> = {},
  ): Promise<{ readonly id: string; readonly revision: Revision }> {
    knownOptions<Pick<PutOptions, 'ttl'>>(options, '', { ttl: true });
    const id = this.#ulids.next();
    return { id, revision: await this.put(tenant, type, id, value, options) };
  }

  /** Deletes an entry; one that is not there is deleted already. @throws as {@link put} */
  async delete(
    tenant: string,
    type: string,
    id: string,
    options: DeleteOptions = {},
  ): Promise<Revision> {
    knownOptions<DeleteOptions>(options, '', { ifRevision: true });
    return this.write(tenant, [{ op: 'delete', type, id, ...options }]);
  }

  /**
   * Applies changes of one tenant together: all of them, or none.
   *
   * @param changes - 1 to 127, of different entries
   * @throws as {@link put}
   */
  async write(tenant: string, changes: readonly MetadataChange[]): Promise<Revision> {
    await this.#ready();
    checkTenant(tenant);
    return this.#write(tenant, this.#checked(tenant, changes));
  }

  /**
   * Reads an entry. From the cache nothing is asked and nobody waits; `any` is answered from it also while the store is
   * away.
   *
   * @returns undefined when there is no such entry
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE when the store has to be asked and does not answer
   * @throws ERR_MILLRACE_STORE_CORRUPT when another program wrote what is no JSON
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_CLOSED
   */
  async get<Value = unknown>(
    tenant: string,
    type: string,
    id: string,
    options: GetOptions = {},
  ): Promise<MetadataEntry<Value> | undefined> {
    await this.#ready();
    checkTenant(tenant);
    const key = entryKey(tenant, type, id);
    const { consistency = 'any' } = knownOptions(options, '', { consistency: true });
    const reading = await this.readKey(key, consistency);
    return reading && { id, value: reading.value as Value, revision: reading.revision };
  }

  /**
   * Lists a type's entries, as the store has them. Everything is read at the revision of the first page.
   *
   * @throws ERR_MILLRACE_COMPACTED when that has been forgotten meanwhile; list again from the beginning
   * @throws as {@link get}
   */
  async list<Value = unknown>(
    tenant: string,
    type: string,
    options: ListOptions = {},
  ): Promise<MetadataPage<Value>> {
    await this.#ready();
    checkTenant(tenant);
    const { limit = LIST_LIMIT, page } = knownOptions<ListOptions>(options, '', {
      limit: true,
      page: true,
    });
    wholeNumber(limit, 'limit', 1, LIST_LIMIT_MAX);
    const range = typeRange(tenant, type);
    const position = page && checkPosition(page);
    const from =
      position === undefined ? range.from : keyAfter(entryKey(tenant, type, position.after));
    const snapshot = await this.#store.range(
      { ...range, from },
      { limit, ...(position && { revision: position.revision as Revision }) },
    );
    const entries = snapshot.entries.map(({ key, value, modRevision }) => ({
      id: parseKey(key)?.id as string,
      value: decodeValue(value, 0, value.length, key) as Value,
      revision: modRevision,
    }));
    const revision = (position?.revision ?? snapshot.revision) as Revision;
    const last = entries.at(-1);
    const next = snapshot.more && last ? { after: last.id, revision } : undefined;
    return { entries, revision, next };
  }

  /**
   * Tells what an entry is, and what it becomes, until the returned function is called: of each change, or of the last of
   * several, never of an older one after a newer. The first call comes in a later turn of the event loop.
   *
   * @param listener - called with undefined while there is no such entry; should be quick
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_CLOSED
   * @throws ERR_MILLRACE_INVALID_OPTION when the cache is too small for all entries that are watched
   */
  watch<Value = unknown>(
    tenant: string,
    type: string,
    id: string,
    listener: (entry: MetadataEntry<Value> | undefined) => void,
  ): () => void {
    checkTenant(tenant);
    if (typeof listener !== 'function') throw invalidOption('listener', listener, 'a function');
    const key = entryKey(tenant, type, id);
    const stop = this.watchKey(key, ({ entry }) => {
      listener(
        entry && {
          id,
          value: decodeValue(entry.value, 0, entry.value.length, key) as Value,
          revision: entry.modRevision,
        },
      );
    });
    return this.ownWatcher(`metadata ${type}`, stop);
  }

  /** @internal What ends a watcher, counted: one that is there when this service ends was not cancelled. */
  ownWatcher(name: string, stop: () => void): () => void {
    const owned = new OwnedHandle('watcher', name);
    this.#watchers.add(owned);
    return () => {
      owned.close();
      this.#watchers.delete(owned);
      stop();
    };
  }

  /** A look into the cache without promises and garbage; see {@link CacheCursor}. Keep it and use it again. */
  cursor(): CacheCursor {
    return new CacheCursor(this.#cache);
  }

  /** Forgets what is cached of a tenant. It comes back when it is read. */
  evict(tenant: string): void {
    this.#cache.evict(counterKey(checkTenant(tenant)));
  }

  stats(): MetadataStats {
    return { ...this.#cache.counts, ...this.#keeper.counts, revision: this.#keeper.horizon };
  }

  /**
   * What the cache knows, as bytes for {@link Metadata.restore} in a process to come.
   *
   * @internal
   */
  snapshot(): Uint8Array {
    return encodeSnapshot(this.#cache);
  }

  /**
   * Begins with what a snapshot says. To be called before anything else; all of it is compared with the store at the start.
   *
   * @throws ERR_MILLRACE_STORE_CORRUPT; then it begins with nothing
   * @internal
   */
  restore(snapshot: Uint8Array): void {
    try {
      this.#keeper.restored(restoreSnapshot(this.#cache, snapshot));
    } catch (error) {
      this.#cache.clear();
      throw error;
    }
  }

  // --- For configuration, whose global values belong to no tenant ---------------------------------------------------

  /** @internal */
  async readKey(
    key: Key,
    consistency: Consistency,
  ): Promise<{ readonly value: unknown; readonly revision: Revision } | undefined> {
    const known = await this.#fromCache(key, consistency);
    if (known !== undefined) return known.found;
    const reading = await this.#keeper.read(key, consistency === 'any' ? 'join' : 'after');
    if (typeof consistency === 'object' && reading.revision < consistency.atLeast) {
      throw invalidOption(
        'consistency.atLeast',
        consistency.atLeast,
        `a revision of this store, which is at ${reading.revision}`,
      );
    }
    // While it was read, something newer may have been told.
    const newer = this.#peek(key);
    if (newer?.found !== undefined && newer.found.revision > (reading.entry?.modRevision ?? 0)) {
      return newer.found;
    }
    return reading.entry && decoded(reading.entry);
  }

  /** @internal */
  watchKey(key: Key, listener: (reading: Reading) => void): () => void {
    this.#requireOpen();
    // The first call starts the service; what it misses until then is read.
    const started = this.start();
    started.catch(() => {});
    const stop = this.#keeper.listen(key, listener);
    if (stop !== undefined) return stop;
    throw invalidOption(
      'cache.bytes',
      this.#cache.counts.bytes,
      'more: every watched entry has to have room in the cache',
    );
  }

  /** @internal */
  async writeKeys(tenant: string, changes: readonly Change[]): Promise<Revision> {
    await this.#ready();
    return this.#write(
      tenant,
      changes.map((change) => ({ change, ttlMs: undefined })),
    );
  }

  // --- Life -------------------------------------------------------------------------------------------------------

  protected async onStart(): Promise<void> {
    const keeper = this.#keeper;
    await this.#bus.start({
      onNews: (news) => {
        if (news.counterEntry !== undefined) this.#writer.saw(news.counterEntry);
        keeper.onNews(news);
      },
      onRevision: (revision) => keeper.onRevision(revision),
      recheck: (revision) => keeper.recheck(revision),
    });
    const everyMs = this.#bus.recheckMs;
    if (Number.isFinite(everyMs)) this.#recheckIn(everyMs);
  }

  protected async onStop(): Promise<void> {
    this.#rechecks?.cancel();
    for (const watcher of this.#watchers) watcher.drop();
    this.#keeper.close();
    await this.#bus.stop();
  }

  #recheckIn(everyMs: number): void {
    this.#rechecks = this.#clock.wakeIn(everyMs, () => {
      this.#keeper.recheck().then(
        () => this.isStopping || this.#recheckIn(everyMs),
        (error: unknown) => {
          // The next one makes it good.
          if (!isMillraceError(error)) throw error;
          if (!this.isStopping) this.#recheckIn(everyMs);
        },
      );
    });
  }

  /** @throws ERR_MILLRACE_CLOSED, and what the bus cannot do without */
  async #ready(): Promise<void> {
    this.#requireOpen();
    await this.start();
  }

  #requireOpen(): void {
    if (this.isStopping) throw new MillraceError('ERR_MILLRACE_CLOSED', 'the metadata is closed');
  }

  // --- Reading ----------------------------------------------------------------------------------------------------

  /** What the cache may answer with, if it may. */
  async #fromCache(key: Key, consistency: Consistency): Promise<Known | undefined> {
    if (consistency === 'any') return this.#peek(key);
    const counter = counterKeyOf(key);
    if (consistency === 'linearizable') {
      if (this.#peek(key) === undefined || this.#isLeased(key)) return undefined;
      const newest = await this.#keeper.newestOf(counter);
      if (this.#cache.tenantRevision(counter) < newest) {
        if (!(await this.#keeper.reached(newest, PATIENCE_MS))) return undefined;
      }
      return this.#isLeased(key) ? undefined : this.#peek(key);
    }
    const { atLeast } = knownOptions(consistency, 'consistency.', { atLeast: true });
    wholeNumber(atLeast, 'consistency.atLeast', 0, Number.MAX_SAFE_INTEGER);
    const known = this.#peek(key);
    if (known === undefined) return undefined;
    const isNew =
      known.revision >= (atLeast as number) ||
      this.#cache.tenantRevision(counter) >= (atLeast as number) ||
      (await this.#keeper.reached(atLeast as Revision, PATIENCE_MS));
    return isNew ? this.#peek(key) : undefined;
  }

  /** What the cache knows of an entry. */
  #peek(key: Key): Known | undefined {
    const address = this.#cache.findKey(key);
    if (address === 0) return undefined;
    const flags = this.#cache.flags(address);
    if ((flags & Flag.UNKNOWN) !== 0) return undefined;
    this.#cache.touch(address);
    const revision = this.#cache.revision(address);
    if ((flags & Flag.ABSENT) !== 0) return { found: undefined, revision };
    const at = this.#cache.valueAt(address);
    const end = at + this.#cache.valueBytes(address);
    const value = decodeValue(this.#cache.memory(address), at, end, key);
    return { found: { value, revision }, revision };
  }

  #isLeased(key: Key): boolean {
    const address = this.#cache.findKey(key);
    return address !== 0 && (this.#cache.flags(address) & Flag.LEASED) !== 0;
  }

  // --- Writing ----------------------------------------------------------------------------------------------------

  #checked(tenant: string, changes: readonly MetadataChange[]): readonly TimedChange[] {
    if (!Array.isArray(changes) || changes.length === 0 || changes.length > CHANGES_MAX) {
      throw invalidOption('changes', changes?.length, `1 to ${CHANGES_MAX} changes`);
    }
    const keys = new Set<Key>();
    return changes.map((change: MetadataChange): TimedChange => {
      knownOptions<object>(change, 'changes.', CHANGE_OPTIONS);
      const key = entryKey(tenant, change.type, change.id);
      if (keys.has(key)) {
        throw invalidOption('changes', key, 'each entry once: in one write it can change once');
      }
      keys.add(key);
      const { op, ifRevision } = change;
      if (op !== 'put' && op !== 'delete') throw invalidOption('op', op, "'put' or 'delete'");
      if (ifRevision !== undefined) {
        wholeNumber(ifRevision, 'ifRevision', 0, Number.MAX_SAFE_INTEGER);
      }
      const value = op === 'put' ? encodeValue(change.value, `the value of ${key}`) : undefined;
      return {
        change: { key, value, ifRevision: ifRevision as Revision | undefined },
        ttlMs: op === 'put' && change.ttl !== undefined ? ttlMs(change.ttl) : undefined,
      };
    });
  }

  async #write(tenant: string, timed: readonly TimedChange[]): Promise<Revision> {
    try {
      return await this.#writeLeased(tenant, timed);
    } catch (error) {
      if (!hasCode(error, 'ERR_MILLRACE_LEASE_LOST')) throw error;
      // Nothing was written: a lease that others shared was ended by hand.
      for (const { ttlMs } of timed) if (ttlMs !== undefined) this.#leases.forget(ttlMs);
      return this.#writeLeased(tenant, timed);
    }
  }

  async #writeLeased(tenant: string, timed: readonly TimedChange[]): Promise<Revision> {
    const leases = await Promise.all(
      timed.map(({ ttlMs }) => (ttlMs === undefined ? undefined : this.#leases.leaseFor(ttlMs))),
    );
    const changes = timed.map(({ change }, index) => ({ ...change, leaseId: leases[index] }));
    const { revision, previous, isExact } = await this.#writer.write(tenant, changes);
    const news: News = {
      counter: counterKey(tenant),
      oldRevision: isExact ? previous : undefined,
      // Otherwise it is only known to be after the one before.
      newRevision: isExact ? revision : ((previous + 1) as Revision),
      changes: changes.map(({ key, value, leaseId }) => ({
        key,
        entry: !isExact
          ? undefined
          : value === undefined
            ? null
            : entryOf(key, value, revision, leaseId),
      })),
    };
    this.#keeper.wrote(news);
    this.#bus.publish(news).catch((cause: unknown) => {
      publish('millrace:metadata:unpublished', () => ({ key: news.counter, cause }));
    });
    return revision;
  }
}

const CHANGE_OPTIONS: Readonly<Record<keyof Extract<MetadataChange, { op: 'put' }>, true>> = {
  op: true,
  type: true,
  id: true,
  value: true,
  ifRevision: true,
  ttl: true,
};

interface Known {
  readonly found: { readonly value: unknown; readonly revision: Revision } | undefined;
  readonly revision: Revision;
}

interface TimedChange {
  readonly change: Change;
  readonly ttlMs: number | undefined;
}

/** An entry that was just put; how often before, its cache does not ask. */
function entryOf(
  key: Key,
  value: Uint8Array,
  revision: Revision,
  leaseId: LeaseId | undefined,
): Entry {
  return { key, value, version: 1, createRevision: revision, modRevision: revision, leaseId };
}

function decoded({ key, value, modRevision }: Entry): {
  readonly value: unknown;
  readonly revision: Revision;
} {
  return { value: decodeValue(value, 0, value.length, key), revision: modRevision };
}

function ttlMs(ttl: Duration): number {
  const ms = durationMs(ttl, 'ttl');
  if (ms < TTL_MS_MIN) throw invalidOption('ttl', ttl, `at least ${TTL_MS_MIN}ms`);
  return ms;
}

function checkPosition(page: ListPosition): ListPosition {
  const { after, revision } = knownOptions<ListPosition>(page, 'page.', {
    after: true,
    revision: true,
  });
  return {
    after: after as string,
    revision: wholeNumber(revision, 'page.revision', 1, Number.MAX_SAFE_INTEGER),
  };
}
