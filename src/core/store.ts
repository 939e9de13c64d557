/**
 * The Store port: truth, as a revisioned key-value store with the semantics of etcd v3.
 *
 * Every committed transaction that writes moves the store to its next revision; every entry remembers the
 * revision that created it, the one that last wrote it, and how often it was written since. Transactions compare
 * any of these and then apply one of two lists of operations, atomically. Reads are linearizable. Watches
 * deliver every change of a range in order, once, whole revisions at a time.
 *
 * A mutation has three outcomes, and the compiler makes every caller face all of them:
 *
 *   done     it was applied, durably
 *   refused  a compare failed: the `failure` branch ran instead (usually reads that tell why)
 *   unknown  no answer, or a fault after sending: it may have been applied, and may still be
 *
 * What certainly was not applied (a malformed request, a full or closed store) is thrown. **A mutation is never
 * blindly retried**, here or above.
 *
 * Keys are printable ASCII ('!' to '~'), so that string order is byte order on every store.
 */
import type { MillraceError } from './errors.js';

export type Key = string;

/** Position in the store's one history. Below 2^53. */
export type Revision = number & { readonly __brand: 'Revision' };

/** Identity of a lease, opaque: etcd's are 64 bits wide, so it travels as lower-case hex. */
export type LeaseId = string & { readonly __brand: 'LeaseId' };

export interface Entry {
  readonly key: Key;
  /** Never to be written to: stores may hand out their own bytes. */
  readonly value: Uint8Array;
  /** How often the key was written since its creation; 1 after the creating put. */
  readonly version: number;
  readonly createRevision: Revision;
  readonly modRevision: Revision;
  /** The lease the key ends with, if any. */
  readonly leaseId: LeaseId | undefined;
}

/** Half-open interval of keys, `[from, to)`. */
export interface KeyRange {
  readonly from: Key;
  readonly to: Key;
}

export interface ReadOptions {
  /** Read as of this revision; the newest when absent. @throws ERR_MILLRACE_COMPACTED when no longer kept. */
  readonly revision?: Revision;
}

export interface RangeOptions extends ReadOptions {
  /** At most so many entries; `more` then says whether there were others. */
  readonly limit?: number;
  /** Descending order of keys. @defaultValue false */
  readonly reverse?: boolean;
  /** Leave the values out (they come as empty arrays). @defaultValue false */
  readonly keysOnly?: boolean;
}

export interface Snapshot {
  /** In ascending order of keys, unless `reverse`. */
  readonly entries: readonly Entry[];
  /** Whether the limit left entries out. */
  readonly more: boolean;
  /** The store's newest revision when it answered. */
  readonly revision: Revision;
}

export type CompareOperator = '=' | '!=' | '<' | '>';

/** One condition of a transaction. An absent key has version, create, mod revision 0 and fails every `value` compare. */
export type Compare =
  | {
      readonly target: 'version' | 'create' | 'mod';
      readonly key: Key;
      readonly operator: CompareOperator;
      readonly operand: number;
    }
  | {
      readonly target: 'value';
      readonly key: Key;
      readonly operator: CompareOperator;
      readonly operand: Uint8Array;
    };

export type Operation =
  | {
      readonly type: 'put';
      readonly key: Key;
      readonly value: Uint8Array;
      readonly leaseId?: LeaseId;
    }
  | { readonly type: 'delete'; readonly key: Key }
  | { readonly type: 'deleteRange'; readonly range: KeyRange }
  | { readonly type: 'get'; readonly key: Key }
  | { readonly type: 'range'; readonly range: KeyRange; readonly limit?: number }
  /** One level of nesting; its compares, like the outer ones, see the state before the transaction. */
  | { readonly type: 'txn'; readonly txn: Txn };

/**
 * If all compares hold, `success`, else `failure`. No key may be written twice in what one outcome applies
 * (a put inside a deleted range counts), exactly as etcd refuses it.
 */
export interface Txn {
  readonly compares: readonly Compare[];
  readonly success: readonly Operation[];
  readonly failure?: readonly Operation[];
}

/** What each operation answered, in the order of the list that ran. */
export type OperationResult =
  | { readonly type: 'put' }
  | { readonly type: 'delete'; readonly deleted: number }
  | { readonly type: 'get'; readonly entry: Entry | undefined }
  | { readonly type: 'range'; readonly entries: readonly Entry[]; readonly more: boolean }
  | {
      readonly type: 'txn';
      readonly succeeded: boolean;
      readonly results: readonly OperationResult[];
    };

export type TxnOutcome =
  /** Applied and durable; `revision` is the store's after it. */
  | {
      readonly kind: 'done';
      readonly revision: Revision;
      readonly results: readonly OperationResult[];
    }
  /** A compare failed; `results` are those of the `failure` branch. */
  | {
      readonly kind: 'refused';
      readonly revision: Revision;
      readonly results: readonly OperationResult[];
    }
  /** It may have been applied, and may still be. */
  | { readonly kind: 'unknown'; readonly cause: MillraceError };

export interface MutationOptions {
  /** How long to wait for the answer before it counts as unknown. @defaultValue the store's own */
  readonly deadlineMs?: number;
}

export interface Lease {
  readonly leaseId: LeaseId;
  /** As granted, which may be more than was asked for. */
  readonly ttlMs: number;
}

/** A renewal that the store has answered: the lease lives at least until `sentAtMs + ttlMs`. */
export interface LeaseRenewal {
  /** When it was sent, on the monotonic side of the store's clock. What the answer took is not counted in our favour. */
  readonly sentAtMs: number;
  readonly ttlMs: number;
}

export interface KeepLeaseOptions {
  /** From one renewal to the next. @defaultValue a third of the lease's ttl */
  readonly everyMs?: number;
  /**
   * Renewals pause while the last `progress()` is longer ago than this, so that a process that hangs loses its lease
   * although the keeper itself may still run. @defaultValue the lease's ttl
   */
  readonly hangLimitMs?: number;
  /** Called after every renewal that was answered; the first is sent at once. */
  readonly onRenewed?: (renewal: LeaseRenewal) => void;
  /**
   * Called once, when the store has said that the lease has ended; nothing is renewed after it. Silence of the store
   * is never `lost`: whoever acts under the lease stops at `sentAtMs + ttlMs` by its own clock, and may go on when a
   * later renewal is answered.
   */
  readonly onLost?: (cause: MillraceError) => void;
}

/** Renews one lease until it is stopped or the lease is lost. */
export interface LeaseKeeper {
  readonly leaseId: LeaseId;
  /**
   * The newest renewal that was answered, if any, the moment it was answered. `onRenewed` may come later: after a long
   * pause of the main thread the timer that fences runs before the news. So look here before fencing.
   */
  lastRenewal(): LeaseRenewal | undefined;
  /** Says that the process makes progress. To be called by its main loop, well within `hangLimitMs`; costs nothing. */
  progress(): void;
  /** Sends a renewal now, out of turn: after a suspend, nothing should start before one is answered. */
  renewNow(): void;
  /** Renews no more, and calls nothing back. The lease is left to end, or to be revoked. Idempotent. */
  stop(): Promise<void>;
}

export type WatchEvent =
  | { readonly type: 'put'; readonly entry: Entry }
  | { readonly type: 'delete'; readonly key: Key; readonly modRevision: Revision };

/** All events of the watched range in one revision, in order of keys. Never empty. */
export interface WatchBatch {
  readonly revision: Revision;
  readonly events: readonly WatchEvent[];
}

/**
 * What a watch is for. A store that watches over a network keeps the classes on streams of their own, so that the
 * small and urgent (who lives, who owns what) never waits behind the large.
 */
export type WatchClass = 'control' | 'data' | 'cache';

export interface WatchOptions {
  /** @defaultValue the revision after the newest at the time of the call */
  readonly startRevision?: Revision;
  /** Ends the watch quietly. */
  readonly signal?: AbortSignal;
  /** @defaultValue 'data' */
  readonly class?: WatchClass;
}

export interface StoreLimits {
  /** Operations in one list of a transaction; a nested one only gets what the outer list leaves. */
  readonly operationsMax: number;
  readonly keyBytesMax: number;
  /** Keys and values of a transaction together. */
  readonly requestBytesMax: number;
}

/** etcd's limits, which every store keeps so that code proven on one runs on all. */
export const STORE_LIMITS: StoreLimits = {
  operationsMax: 128,
  keyBytesMax: 1_024,
  requestBytesMax: 1_572_864,
};

/**
 * Where locks and elections keep their keys. Other programs compete for the same names there (`etcdctl lock`), so on a
 * shared server it lies outside the store's namespace.
 */
export interface LockSpace {
  /**
   * The same store seen without its namespace: same revisions, leases, connections and life. What it shows as a key is
   * the whole key on the server.
   */
  readonly store: Pick<Store, 'get' | 'range' | 'txn' | 'watch'>;
  /** Stands in front of every lock's and election's name; may be empty. */
  readonly prefix: string;
}

/** How full a store is. */
export interface StoreUsage {
  /** In use now: what is free inside its files is not counted, since new data goes there first. */
  readonly bytes: number;
  /** With this many bytes in use it refuses to write. */
  readonly bytesMax: number;
}

/**
 * Thread safety: one event loop. All calls may be in flight together. Transactions of a local store apply in the order
 * of the calls; over a network (etcd) those in flight together apply in any order, so what must follow something waits
 * for its answer.
 * After close() every call throws ERR_MILLRACE_CLOSED.
 */
export interface Store {
  /** What an acknowledgement survives: the process (`volatile` does not), or power loss (`durable`). */
  readonly durability: 'volatile' | 'durable';
  readonly limits: StoreLimits;
  /** Absent where nobody else can compete: locks then have a corner of the store's own keys. */
  readonly lockSpace?: LockSpace;

  get(key: Key, options?: ReadOptions): Promise<Entry | undefined>;
  range(range: KeyRange, options?: RangeOptions): Promise<Snapshot>;

  /**
   * @throws ERR_MILLRACE_INVALID_OPTION for a malformed key or transaction, and one over the limits
   * @throws ERR_MILLRACE_STORE_FULL when there is no space; nothing was written
   * @throws ERR_MILLRACE_LEASE_LOST for a put with a lease that has ended; nothing was written
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE when it certainly was not applied, because nothing was sent
   */
  txn(txn: Txn, options?: MutationOptions): Promise<TxnOutcome>;

  /** A lease that ends, and deletes its keys, `ttlMs` after its last renewal. It does not renew itself. */
  grantLease(ttlMs: number): Promise<Lease>;
  /** @throws ERR_MILLRACE_LEASE_LOST when it has ended */
  renewLease(leaseId: LeaseId): Promise<Lease>;
  /** Ends the lease now and deletes its keys. Harmless when it has ended. */
  revokeLease(leaseId: LeaseId): Promise<void>;
  /**
   * Renews a lease in the background, at once and then regularly, as long as the process makes progress. Where the
   * answer comes over a network this happens on a thread of its own, so that a long garbage collection costs no lease.
   * It ends with `stop()`, with the lease, or with the store.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION for spans that are not positive
   */
  keepLease(lease: Lease, options?: KeepLeaseOptions): LeaseKeeper;

  /**
   * Every change of the range from `startRevision` on (default: the next one), in order, once, as it becomes
   * durable. A slow reader falls behind without holding anybody up.
   *
   * The iteration ends by `return()` or an aborted signal, quietly; and throws ERR_MILLRACE_COMPACTED
   * (`details.compactRevision`) when what it needs next is gone, or ERR_MILLRACE_CLOSED with the store.
   */
  watch(range: KeyRange, options?: WatchOptions): AsyncIterable<WatchBatch>;

  /**
   * The oldest revision that a running watch of this store still needs; undefined when no watch needs any. Compacting
   * beyond it costs somebody a list. It moves on also while nothing happens in the watched ranges.
   */
  neededRevision(): Revision | undefined;

  /** Forgets history before `revision`: older reads and watches then answer ERR_MILLRACE_COMPACTED. */
  compact(revision: Revision): Promise<void>;

  /**
   * How full the store is; absent where history forgets itself and nobody else fills the space.
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE
   */
  usage?(): Promise<StoreUsage>;

  /**
   * Finishes what is in flight, ends watches, releases files and connections. Idempotent. Over a network it waits two
   * seconds at most for answers: what is still in flight then ends as if none had come.
   */
  close(): Promise<void>;
}

/** The range of all keys that start with `prefix`. */
export function prefixRange(prefix: string): KeyRange {
  // '~' (0x7e) is the last character a key may hold, so 0x7f closes every prefix.
  return { from: prefix, to: `${prefix}\x7f` };
}

/** The smallest key after `key`: where the next page of a range begins. */
export function keyAfter(key: Key): Key {
  // '!' (0x21) is the first character a key may hold.
  return `${key}!`;
}
