/**
 * A store whose answers get lost, and that can be watched: the faults that find the most bugs.
 */
import { MillraceError } from '../../src/core/errors.js';
import type {
  Entry,
  KeepLeaseOptions,
  Key,
  KeyRange,
  Lease,
  LeaseId,
  LeaseKeeper,
  MutationOptions,
  RangeOptions,
  ReadOptions,
  Revision,
  Snapshot,
  Store,
  StoreLimits,
  Txn,
  TxnOutcome,
  WatchBatch,
  WatchOptions,
} from '../../src/core/store.js';

/** What happens to one transaction. */
export type Fate =
  | 'ok'
  /** Applied; the answer never arrives. */
  | 'answer lost'
  /** Never applied; the caller cannot know. */
  | 'request lost'
  /** Refused for certain. */
  | 'full';

export class FaultyStore implements Store {
  readonly #inner: Store;
  /** Fates of the coming transactions, in order; then `ok`. */
  readonly fates: Fate[] = [];
  /** Every transaction that was sent, in order. */
  readonly sent: Txn[] = [];
  /** When set, transactions wait for it before they are sent on. */
  gate: Promise<void> | undefined;
  /** Transactions after so many are never answered, nor applied: the process is dead by then. */
  diesAfter = Number.POSITIVE_INFINITY;

  constructor(inner: Store) {
    this.#inner = inner;
  }

  get durability(): Store['durability'] {
    return this.#inner.durability;
  }

  get limits(): StoreLimits {
    return this.#inner.limits;
  }

  async txn(txn: Txn, options?: MutationOptions): Promise<TxnOutcome> {
    this.sent.push(txn);
    if (this.sent.length > this.diesAfter) return new Promise(() => {});
    if (this.gate) await this.gate;
    const fate = this.fates.shift() ?? 'ok';
    if (fate === 'full') throw new MillraceError('ERR_MILLRACE_STORE_FULL', 'no space (injected)');
    if (fate === 'request lost') return unknown(fate);
    const outcome = await this.#inner.txn(txn, options);
    return fate === 'answer lost' ? unknown(fate) : outcome;
  }

  get(key: Key, options?: ReadOptions): Promise<Entry | undefined> {
    return this.#inner.get(key, options);
  }

  range(range: KeyRange, options?: RangeOptions): Promise<Snapshot> {
    return this.#inner.range(range, options);
  }

  grantLease(ttlMs: number): Promise<Lease> {
    return this.#inner.grantLease(ttlMs);
  }

  renewLease(leaseId: LeaseId): Promise<Lease> {
    return this.#inner.renewLease(leaseId);
  }

  revokeLease(leaseId: LeaseId): Promise<void> {
    return this.#inner.revokeLease(leaseId);
  }

  keepLease(lease: Lease, options?: KeepLeaseOptions): LeaseKeeper {
    return this.#inner.keepLease(lease, options);
  }

  watch(range: KeyRange, options?: WatchOptions): AsyncIterable<WatchBatch> {
    return this.#inner.watch(range, options);
  }

  neededRevision(): Revision | undefined {
    return this.#inner.neededRevision();
  }

  compact(revision: Revision): Promise<void> {
    return this.#inner.compact(revision);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}

function unknown(why: string): TxnOutcome {
  return {
    kind: 'unknown',
    cause: new MillraceError('ERR_MILLRACE_STORE_UNAVAILABLE', `${why} (injected)`),
  };
}
