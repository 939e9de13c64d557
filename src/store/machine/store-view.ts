/**
 * The `Store` that users of a local store hold: checks what they give, and ends when they close it.
 *
 * Several views can share one state machine, each with its own life: closing one ends its watches and refuses its
 * calls, and the others never notice.
 */
import { MillraceError } from '../../core/errors.js';
import {
  type Entry,
  type KeepLeaseOptions,
  type Key,
  type KeyRange,
  type Lease,
  type LeaseId,
  type LeaseKeeper,
  type MutationOptions,
  type RangeOptions,
  type ReadOptions,
  type Revision,
  type Snapshot,
  STORE_LIMITS,
  type Store,
  type StoreLimits,
  type Txn,
  type TxnOutcome,
  type WatchBatch,
  type WatchOptions,
} from '../../core/store.js';
import { LocalLeaseKeeper } from '../renewal-loop.js';
import type { StateMachine } from './state-machine.js';
import {
  checkKey,
  checkLimit,
  checkRange,
  checkRevision,
  checkSpan,
  checkTxn,
} from './txn-check.js';
import type { Watcher } from './watcher.js';

export class StoreView implements Store {
  readonly limits: StoreLimits = STORE_LIMITS;
  readonly #machine: StateMachine;
  readonly #release: () => Promise<void>;
  readonly #watchers = new Set<Watcher>();
  readonly #keepers = new Set<LocalLeaseKeeper>();
  #closed: Promise<void> | undefined;

  /** @param release - called once, on close, when nothing of this view is in flight any more */
  constructor(machine: StateMachine, release: () => Promise<void>) {
    this.#machine = machine;
    this.#release = release;
  }

  get durability(): 'volatile' | 'durable' {
    return this.#machine.durability;
  }

  async get(key: Key, options: ReadOptions = {}): Promise<Entry | undefined> {
    this.#requireOpen();
    checkKey(key, this.limits);
    if (options.revision !== undefined) checkRevision(options.revision, 'revision');
    return this.#machine.get(key, options.revision);
  }

  async range(range: KeyRange, options: RangeOptions = {}): Promise<Snapshot> {
    this.#requireOpen();
    checkRange(range, this.limits);
    checkLimit(options.limit);
    if (options.revision !== undefined) checkRevision(options.revision, 'revision');
    return this.#machine.range(range, options);
  }

  async txn(txn: Txn, options: MutationOptions = {}): Promise<TxnOutcome> {
    this.#requireOpen();
    checkTxn(txn, this.limits);
    if (options.deadlineMs !== undefined) checkSpan(options.deadlineMs, 'deadlineMs');
    return this.#machine.txn(txn, options.deadlineMs);
  }

  async grantLease(ttlMs: number): Promise<Lease> {
    this.#requireOpen();
    return this.#machine.grantLease(ttlMs);
  }

  async renewLease(leaseId: LeaseId): Promise<Lease> {
    this.#requireOpen();
    return this.#machine.renewLease(leaseId);
  }

  async revokeLease(leaseId: LeaseId): Promise<void> {
    this.#requireOpen();
    return this.#machine.revokeLease(leaseId);
  }

  keepLease(lease: Lease, options: KeepLeaseOptions = {}): LeaseKeeper {
    this.#requireOpen();
    if (options.everyMs !== undefined) checkSpan(options.everyMs, 'everyMs');
    if (options.hangLimitMs !== undefined) checkSpan(options.hangLimitMs, 'hangLimitMs');
    const keeper = new LocalLeaseKeeper(
      this.#machine.clock,
      lease,
      options,
      async () => this.#machine.renewLease(lease.leaseId),
      () => this.#keepers.delete(keeper),
    );
    this.#keepers.add(keeper);
    return keeper;
  }

  watch(range: KeyRange, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    this.#requireOpen();
    checkRange(range, this.limits);
    // "The next one" is decided here and now, not when somebody starts to iterate.
    const startRevision = options.startRevision ?? ((this.#machine.revision + 1) as Revision);
    checkRevision(startRevision, 'startRevision');
    return {
      [Symbol.asyncIterator]: () => this.#startWatcher(range, startRevision, options.signal),
    };
  }

  neededRevision(): Revision | undefined {
    let lowest: Revision | undefined;
    for (const { position } of this.#watchers) {
      if (lowest === undefined || position < lowest) lowest = position;
    }
    return lowest;
  }

  async compact(revision: Revision): Promise<void> {
    this.#requireOpen();
    checkRevision(revision, 'revision');
    this.#machine.compact(revision);
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    for (const keeper of this.#keepers) void keeper.stop();
    for (const watcher of this.#watchers) watcher.end(closedError());
    await this.#machine.idle();
    await this.#release();
  }

  #startWatcher(range: KeyRange, startRevision: Revision, signal?: AbortSignal): Watcher {
    this.#requireOpen();
    const onAbort = (): void => watcher.end();
    const watcher = this.#machine.watch(range, startRevision, () => {
      this.#watchers.delete(watcher);
      signal?.removeEventListener('abort', onAbort);
    });
    this.#watchers.add(watcher);
    if (signal?.aborted) watcher.end();
    else signal?.addEventListener('abort', onAbort, { once: true });
    return watcher;
  }

  #requireOpen(): void {
    if (this.#closed) throw closedError();
  }
}

function closedError(): MillraceError {
  return new MillraceError('ERR_MILLRACE_CLOSED', 'the store is closed; open it again');
}
