/**
 * The Store contract over etcd: checks what it is given, and hands it to who knows how.
 *
 *   get range txn compact   KeyValue          the namespace in front of every key
 *   watch                   WatchMultiplexer  few streams for any number of watches
 *   leases                  Leases, Sentinel  renewals on a thread of their own
 *
 * `lockSpace` is the same, without the namespace: locks compete with `etcdctl lock` and other programs.
 *
 * Transactions that are in flight together may be applied in any order, unlike on a local store: each has a stream of
 * its own, and the server takes streams up side by side. What must follow something waits for its answer.
 */
import { type Clock, sleep } from '../../core/clock.js';
import { MillraceError } from '../../core/errors.js';
import type { Random } from '../../core/random.js';
import {
  type Entry,
  type KeepLeaseOptions,
  type Key,
  type KeyRange,
  type Lease,
  type LeaseId,
  type LeaseKeeper,
  type LockSpace,
  type MutationOptions,
  type RangeOptions,
  type ReadOptions,
  type Revision,
  type Snapshot,
  STORE_LIMITS,
  type Store,
  type StoreLimits,
  type StoreUsage,
  type Txn,
  type TxnOutcome,
  type WatchBatch,
  type WatchOptions,
} from '../../core/store.js';
import {
  checkKey,
  checkLimit,
  checkRange,
  checkRevision,
  checkSpan,
  checkTxn,
} from '../machine/txn-check.js';
import { errorOf } from './failures.js';
import { DEADLINE_MS, KeyValue, type SharedFacts } from './key-value.js';
import { Leases } from './leases.js';
import { callRepeating } from './repeat.js';
import { Sentinel } from './sentinel.js';
import type { SentinelConnection } from './sentinel-protocol.js';
import { canAskProgress, decodeStatus, emptyRequest, STATUS_METHOD } from './server-facts.js';
import { CallFailure, type Transport } from './transport.js';
import { WatchMultiplexer } from './watch-multiplexer.js';

/** etcd counts a request with its framing: 128 operations of some 50 bytes, and the namespace in each. */
const FRAMING_BYTES = 65_536;
/** How long closing waits for calls that have no answer. */
const CLOSE_MS_MAX = 2_000;
const LIMITS: StoreLimits = {
  ...STORE_LIMITS,
  requestBytesMax: STORE_LIMITS.requestBytesMax - FRAMING_BYTES,
};

export interface EtcdStoreParts {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly random: Random;
  /** In front of every key: `/<namespace>/`. */
  readonly prefix: string;
  /** In front of every lock's name. */
  readonly lockPrefix: string;
  readonly quotaBytes: number;
  readonly serverVersion: string;
  readonly sentinel: SentinelConnection;
  /** Called once, when nothing of the store is in flight any more. */
  readonly release: () => Promise<void>;
}

export class EtcdStore implements Store {
  readonly durability = 'durable';
  readonly limits: StoreLimits = LIMITS;
  readonly lockSpace: LockSpace;
  readonly #parts: EtcdStoreParts;
  readonly #facts: SharedFacts = { revision: 0 as Revision, isFull: false };
  readonly #own: Space;
  readonly #watches: WatchMultiplexer;
  readonly #leases: Leases;
  readonly #sentinel: Sentinel;
  readonly #inFlight = new Set<Promise<unknown>>();
  #closed: Promise<void> | undefined;

  constructor(parts: EtcdStoreParts) {
    const { transport, clock, random, prefix, lockPrefix } = parts;
    this.#parts = parts;
    this.#watches = new WatchMultiplexer(transport, clock, random.fork('watches'), {
      newestRevision: () => this.#facts.revision,
      onRevision: (revision) => {
        if (revision > this.#facts.revision) this.#facts.revision = revision;
      },
      canAskProgress: () => canAskProgress(parts.serverVersion),
    });
    this.#leases = new Leases(transport, clock, random.fork('leases'), DEADLINE_MS);
    this.#sentinel = new Sentinel(clock, parts.sentinel);
    const space = (inFront: string): Space =>
      new Space(new KeyValue(transport, clock, inFront, this.#facts), this.#watches, {
        prefix: inFront,
        limits: LIMITS,
        track: (work) => this.#track(work),
      });
    this.#own = space(prefix);
    this.lockSpace = { store: space(''), prefix: lockPrefix };
  }

  get(key: Key, options: ReadOptions = {}): Promise<Entry | undefined> {
    return this.#own.get(key, options);
  }

  range(range: KeyRange, options: RangeOptions = {}): Promise<Snapshot> {
    return this.#own.range(range, options);
  }

  txn(txn: Txn, options: MutationOptions = {}): Promise<TxnOutcome> {
    return this.#own.txn(txn, options);
  }

  watch(range: KeyRange, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    this.#requireOpen();
    return this.#own.watch(range, options);
  }

  neededRevision(): Revision | undefined {
    return this.#watches.neededRevision();
  }

  async grantLease(ttlMs: number): Promise<Lease> {
    checkSpan(ttlMs, 'ttlMs');
    return this.#track(() => this.#leases.grant(ttlMs));
  }

  async renewLease(leaseId: LeaseId): Promise<Lease> {
    return this.#track(() => this.#leases.renew(leaseId));
  }

  async revokeLease(leaseId: LeaseId): Promise<void> {
    return this.#track(() => this.#leases.revoke(leaseId));
  }

  keepLease(lease: Lease, options: KeepLeaseOptions = {}): LeaseKeeper {
    this.#requireOpen();
    if (options.everyMs !== undefined) checkSpan(options.everyMs, 'everyMs');
    if (options.hangLimitMs !== undefined) checkSpan(options.hangLimitMs, 'hangLimitMs');
    return this.#sentinel.keep(lease, options);
  }

  async compact(revision: Revision): Promise<void> {
    checkRevision(revision, 'revision');
    return this.#track(() => this.#own.keyValue.compact(revision));
  }

  async usage(): Promise<StoreUsage> {
    return this.#track(async () => {
      const { transport, clock, quotaBytes } = this.#parts;
      const options = { role: 'kv', deadlineMs: DEADLINE_MS } as const;
      try {
        const body = await callRepeating(transport, clock, STATUS_METHOD, emptyRequest(), options);
        const status = decodeStatus(body);
        // The file never shrinks by itself: what compaction frees in it is written again first.
        const bytes = status.databaseBytesInUse || status.databaseBytes;
        return { bytes, bytesMax: status.quotaBytes ?? quotaBytes };
      } catch (thrown) {
        throw thrown instanceof CallFailure ? errorOf(thrown, 'status') : thrown;
      }
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#watches.close(closedError());
    const answered = new AbortController();
    const last = Promise.allSettled([...this.#inFlight, this.#sentinel.close()]);
    const waited = sleep(this.#parts.clock, CLOSE_MS_MAX, answered.signal).catch(() => {});
    await Promise.race([last, waited]);
    answered.abort();
    this.#leases.close(closedError());
    await this.#parts.release();
  }

  #track<T>(work: () => Promise<T>): Promise<T> {
    this.#requireOpen();
    const promise = work();
    this.#inFlight.add(promise);
    const onSettled = (): void => {
      this.#inFlight.delete(promise);
    };
    promise.then(onSettled, onSettled);
    return promise;
  }

  #requireOpen(): void {
    if (this.#closed) throw closedError();
  }
}

interface SpaceParts {
  readonly prefix: string;
  readonly limits: StoreLimits;
  /** @throws ERR_MILLRACE_CLOSED */
  readonly track: <T>(work: () => Promise<T>) => Promise<T>;
}

/** The keys under one prefix. */
class Space implements Pick<Store, 'get' | 'range' | 'txn' | 'watch'> {
  readonly keyValue: KeyValue;
  readonly #watches: WatchMultiplexer;
  readonly #parts: SpaceParts;

  constructor(keyValue: KeyValue, watches: WatchMultiplexer, parts: SpaceParts) {
    this.keyValue = keyValue;
    this.#watches = watches;
    this.#parts = parts;
  }

  async get(key: Key, options: ReadOptions = {}): Promise<Entry | undefined> {
    const { limits, track } = this.#parts;
    checkKey(key, limits);
    if (options.revision !== undefined) checkRevision(options.revision, 'revision');
    return track(() => this.keyValue.get(key, options));
  }

  async range(range: KeyRange, options: RangeOptions = {}): Promise<Snapshot> {
    const { limits, track } = this.#parts;
    checkRange(range, limits);
    checkLimit(options.limit);
    if (options.revision !== undefined) checkRevision(options.revision, 'revision');
    return track(() => this.keyValue.range(range, options));
  }

  async txn(txn: Txn, options: MutationOptions = {}): Promise<TxnOutcome> {
    const { limits, track } = this.#parts;
    checkTxn(txn, limits);
    if (options.deadlineMs !== undefined) checkSpan(options.deadlineMs, 'deadlineMs');
    return track(() => this.keyValue.txn(txn, options.deadlineMs));
  }

  watch(range: KeyRange, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    checkRange(range, this.#parts.limits);
    if (options.startRevision !== undefined) checkRevision(options.startRevision, 'startRevision');
    return this.#watches.watch(range, this.#parts.prefix, options);
  }
}

function closedError(): MillraceError {
  return new MillraceError('ERR_MILLRACE_CLOSED', 'the store is closed; open it again');
}
