/**
 * A store whose answers get lost, and that can be watched: the faults that find the most bugs.
 */
import type { Clock } from '../../src/core/clock.js';
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
import { LocalLeaseKeeper } from '../../src/store/renewal-loop.js';

/** What happens to one transaction. */
export type Fate =
  | 'ok'
  /** Applied; the answer never arrives. */
  | 'answer lost'
  /** Never applied; the caller cannot know. */
  | 'request lost'
  /** Answered as unknown, and applied when the test says {@link FaultyStore.applyLate}. */
  | 'late'
  /** Refused for certain. */
  | 'full';

export class FaultyStore implements Store {
  readonly #inner: Store;
  readonly #clock: Clock | undefined;
  readonly #late: Txn[] = [];
  /** While set, nothing arrives and nothing is answered. */
  isCut = false;
  /** While set, reads are refused; transactions go on. */
  readsFail = false;
  /** Fates of the coming transactions, in order; then `ok`. */
  readonly fates: Fate[] = [];
  /** Every transaction that was sent, in order. */
  readonly sent: Txn[] = [];
  /** When set, transactions wait for it before they are sent on. */
  gate: Promise<void> | undefined;
  /** When set, watches tell nothing before it; what they have to tell comes late, in order. */
  watchGate: Promise<void> | undefined;
  /** Which ranges the gate holds up. */
  isGated: (range: KeyRange) => boolean = () => true;
  /** Transactions that are lost on the way. */
  isLost: (txn: Txn) => boolean = () => false;
  /** Ranges that cannot be read. */
  failsRead: (range: KeyRange) => boolean = () => false;
  /** Of one transaction, as its user is told. @defaultValue the store's own */
  operationsMax: number | undefined;
  /** Called before a key is read. */
  beforeGet: ((key: Key) => Promise<void>) | undefined;
  /** Transactions after so many are never answered, nor applied: the process is dead by then. */
  diesAfter = Number.POSITIVE_INFINITY;

  /** @param clock - with it, leases are kept over this store, so that a cut stops their renewals */
  constructor(inner: Store, clock?: Clock) {
    this.#inner = inner;
    this.#clock = clock;
  }

  /** What was sent and is still under way arrives now. */
  async applyLate(): Promise<void> {
    for (const txn of this.#late.splice(0)) {
      // Refused, or too late for its lease: nobody hears of it.
      await this.#inner.txn(txn).catch(() => {});
    }
  }

  get durability(): Store['durability'] {
    return this.#inner.durability;
  }

  get limits(): StoreLimits {
    const { limits } = this.#inner;
    return { ...limits, operationsMax: this.operationsMax ?? limits.operationsMax };
  }

  async txn(txn: Txn, options?: MutationOptions): Promise<TxnOutcome> {
    this.sent.push(txn);
    if (this.sent.length > this.diesAfter) return new Promise(() => {});
    if (this.gate) await this.gate;
    const fate = this.isCut || this.isLost(txn) ? 'request lost' : (this.fates.shift() ?? 'ok');
    if (fate === 'late') {
      this.#late.push(txn);
      return unknown(fate);
    }
    if (fate === 'full') throw new MillraceError('ERR_MILLRACE_STORE_FULL', 'no space (injected)');
    if (fate === 'request lost') return unknown(fate);
    const outcome = await this.#inner.txn(txn, options);
    return fate === 'answer lost' ? unknown(fate) : outcome;
  }

  async get(key: Key, options?: ReadOptions): Promise<Entry | undefined> {
    this.#requireReads();
    await this.beforeGet?.(key);
    return this.#inner.get(key, options);
  }

  async range(range: KeyRange, options?: RangeOptions): Promise<Snapshot> {
    this.#requireReads(this.failsRead(range));
    return this.#inner.range(range, options);
  }

  async grantLease(ttlMs: number): Promise<Lease> {
    this.#requireLink();
    return this.#inner.grantLease(ttlMs);
  }

  async renewLease(leaseId: LeaseId): Promise<Lease> {
    this.#requireLink();
    return this.#inner.renewLease(leaseId);
  }

  async revokeLease(leaseId: LeaseId): Promise<void> {
    this.#requireLink();
    return this.#inner.revokeLease(leaseId);
  }

  keepLease(lease: Lease, options?: KeepLeaseOptions): LeaseKeeper {
    const clock = this.#clock;
    if (clock === undefined) return this.#inner.keepLease(lease, options);
    const renew = (): Promise<Lease> => this.renewLease(lease.leaseId);
    return new LocalLeaseKeeper(clock, lease, options ?? {}, renew, () => {});
  }

  async *watch(range: KeyRange, options?: WatchOptions): AsyncGenerator<WatchBatch> {
    for await (const batch of this.#inner.watch(range, options)) {
      // The gate may have been set anew meanwhile.
      while (this.watchGate !== undefined && this.isGated(range)) await this.watchGate;
      yield batch;
    }
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

  #requireReads(isFailing = this.readsFail): void {
    this.#requireLink();
    if (!isFailing && !this.readsFail) return;
    throw new MillraceError('ERR_MILLRACE_STORE_UNAVAILABLE', 'the read failed (injected)');
  }

  #requireLink(): void {
    if (!this.isCut) return;
    throw new MillraceError('ERR_MILLRACE_STORE_UNAVAILABLE', 'the link is cut (injected)');
  }
}

function unknown(why: string): TxnOutcome {
  return {
    kind: 'unknown',
    cause: new MillraceError('ERR_MILLRACE_STORE_UNAVAILABLE', `${why} (injected)`),
  };
}
