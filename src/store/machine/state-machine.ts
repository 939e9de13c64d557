/**
 * The state machine of a local store: etcd's semantics over a backend that only knows its newest entries.
 *
 *                     txn ──> GroupCommit ──> Backend.commit
 *                                 │
 *   get, range ──> Keyspace ──────┴── LeaseTable          head >= durable: what is decided, what is certain
 *                     │
 *   watch ───────> History                                the ring all of them share
 *
 * Reads answer from the durable state, at once; they are linearizable because a write is answered only after it
 * is part of that state. Everything runs on one event loop and nothing inside a step awaits. Arguments have been
 * checked: the `Store` that users hold is a `StoreView`.
 */
import type { Clock } from '../../core/clock.js';
import { hasCode, MillraceError } from '../../core/errors.js';
import type {
  Entry,
  Key,
  KeyRange,
  Lease,
  LeaseId,
  Operation,
  RangeOptions,
  Revision,
  Snapshot,
  Txn,
  TxnOutcome,
} from '../../core/store.js';
import type { HistoryOptions } from '../factory.js';
import type { Backend } from './backend.js';
import { type Answer, GroupCommit } from './group-commit.js';
import { Keyspace } from './keyspace.js';
import { LeaseTable } from './lease-table.js';
import { applyTxn, inRevision } from './transaction.js';
import { compacted, Watcher } from './watcher.js';

const HISTORY_REVISIONS_MAX = 10_000;
const HISTORY_BYTES_MAX = 16 * 1024 * 1024;
/** How long to wait before another attempt to delete the keys of an ended lease in a full store. */
const LEASE_RETRY_MS = 1_000;

/** A backend that has just been opened. */
export interface OpenedBackend {
  readonly backend: Backend;
  /** Counts how often the data has been opened, from 1; makes lease ids unique. */
  readonly incarnation: number;
  /** Keys that hang on leases of earlier processes, which are over. */
  readonly orphans: ReadonlyMap<LeaseId, readonly Key[]>;
}

export class StateMachine {
  readonly #backend: Backend;
  readonly #keyspace: Keyspace;
  readonly #leases: LeaseTable;
  readonly #group: GroupCommit;
  readonly #watchers = new Set<Watcher>();
  #clock: Clock;
  #isStopped = false;

  /** @throws ERR_MILLRACE_INVALID_OPTION for a history without room */
  constructor(clock: Clock, opened: OpenedBackend, options: HistoryOptions) {
    this.#clock = clock;
    this.#backend = opened.backend;
    this.#leases = new LeaseTable(clock, opened.incarnation, (leaseId) => {
      // Not now: this may be in the middle of a transaction that named the lease.
      queueMicrotask(() => this.#deleteKeysOf(leaseId));
    });
    this.#keyspace = new Keyspace(opened.backend, this.#leases, {
      revisionsMax: atLeastOne(options.revisionsMax ?? HISTORY_REVISIONS_MAX, 'revisionsMax'),
      bytesMax: atLeastOne(options.bytesMax ?? HISTORY_BYTES_MAX, 'bytesMax'),
    });
    this.#group = new GroupCommit(this.#keyspace, opened.backend, () => this.#onDurable());
    for (const [leaseId, keys] of opened.orphans) {
      this.#leases.inherit(leaseId, keys);
      this.#deleteKeysOf(leaseId);
    }
  }

  get durability(): 'volatile' | 'durable' {
    return this.#backend.durability;
  }

  /** The clock that leases count on. */
  get clock(): Clock {
    return this.#clock;
  }

  /** The newest durable revision. */
  get revision(): Revision {
    return this.#keyspace.durable;
  }

  /** What is durable in a range at this moment. */
  peek(range: KeyRange): readonly Entry[] {
    return this.#keyspace.scan(range, { revision: this.#keyspace.durable }).entries;
  }

  /** Resolves when everything asked for so far is done. */
  idle(): Promise<void> {
    return this.#group.idle();
  }

  /** Leases count on this clock from now on, each with the time it has left. */
  useClock(clock: Clock): void {
    this.#clock = clock;
    this.#leases.useClock(clock);
  }

  async get(key: Key, at: Revision | undefined): Promise<Entry | undefined> {
    const revision = this.#readRevision(at) ?? (await this.#readableRevision());
    return this.#keyspace.get(key, revision);
  }

  async range(range: KeyRange, options: RangeOptions): Promise<Snapshot> {
    const revision = this.#readRevision(options.revision) ?? (await this.#readableRevision());
    const { limit, reverse, keysOnly } = options;
    const scan = this.#keyspace.scan(range, { revision, limit, reverse, keysOnly });
    return { ...scan, revision: this.#keyspace.durable };
  }

  /** @param deadlineMs - how long until the outcome counts as unknown; undefined waits for it */
  async txn(txn: Txn, deadlineMs: number | undefined): Promise<TxnOutcome> {
    const own = this.#adopt(txn);
    const applied = this.#group.submit((): TxnOutcome => {
      const { succeeded, results } = applyTxn(this.#keyspace, this.#leases, own);
      return { kind: succeeded ? 'done' : 'refused', revision: this.#keyspace.head, results };
    });
    const answer =
      deadlineMs === undefined ? await applied : await this.#within(deadlineMs, applied);
    return answer.kind === 'known' ? answer.value : { kind: 'unknown', cause: answer.cause };
  }

  grantLease(ttlMs: number): Lease {
    return this.#leases.grant(ttlMs);
  }

  renewLease(leaseId: LeaseId): Lease {
    return this.#leases.renew(leaseId);
  }

  async revokeLease(leaseId: LeaseId): Promise<void> {
    if (!this.#leases.end(leaseId)) return;
    const answer = await this.#endLease(leaseId);
    if (answer.kind === 'unknown') throw answer.cause;
  }

  /** @param onEnd - called once, when the watcher has ended for whatever reason */
  watch(range: KeyRange, startRevision: Revision, onEnd: () => void): Watcher {
    const watcher = new Watcher(this.#keyspace, range, startRevision, (ended) => {
      this.#watchers.delete(ended);
      onEnd();
    });
    this.#watchers.add(watcher);
    return watcher;
  }

  compact(revision: Revision): void {
    this.#checkNotAhead(revision);
    for (const watcher of this.#watchers) watcher.skip((revision - 1) as Revision);
    this.#keyspace.history.compact(revision);
    this.#forget();
    for (const watcher of this.#watchers) watcher.wake();
  }

  /** Finishes what is in flight and closes the backend; nothing may be asked any more. */
  async close(): Promise<void> {
    this.#isStopped = true;
    this.#leases.stop();
    await this.#group.idle();
    await this.#backend.close();
  }

  /** The revision that was asked for, once checked; undefined for the newest. */
  #readRevision(revision: Revision | undefined): Revision | undefined {
    if (revision === undefined) {
      const { durable, history } = this.#keyspace;
      return durable >= history.readable ? durable : undefined;
    }
    this.#checkNotAhead(revision);
    const { readable } = this.#keyspace.history;
    if (revision < readable) throw compacted(revision, readable);
    return revision;
  }

  /** Waits out a commit that is too large to keep what it replaces; until then there is no state to read. */
  async #readableRevision(): Promise<Revision> {
    while (this.#keyspace.durable < this.#keyspace.history.readable) {
      await this.#group.submit(() => undefined);
    }
    return this.#keyspace.durable;
  }

  #checkNotAhead(revision: Revision): void {
    const newest = this.#keyspace.durable;
    if (revision <= newest) return;
    throw invalid(`revision ${revision} is in the future, the newest is ${newest}`, {
      revision,
      newest,
    });
  }

  /** The transaction with bytes of our own: the caller may reuse its arrays at once. */
  #adopt(txn: Txn): Txn {
    const values: Uint8Array[] = [];
    eachOperation(txn, (operation) => {
      if (operation.type === 'put') values.push(operation.value);
    });
    const adopted = this.#backend.adopt(values)[Symbol.iterator]();
    const copy = (operation: Operation): Operation => {
      if (operation.type === 'put') return { ...operation, value: adopted.next().value! };
      return operation.type === 'txn' ? { type: 'txn', txn: copyTxn(operation.txn) } : operation;
    };
    const copyTxn = ({ compares, success, failure }: Txn): Txn => ({
      compares: compares.map((compare) =>
        compare.target === 'value' ? { ...compare, operand: compare.operand.slice() } : compare,
      ),
      success: success.map(copy),
      failure: (failure ?? []).map(copy),
    });
    return copyTxn(txn);
  }

  /** The answer, or `unknown` when it takes longer than the deadline. */
  #within<T>(deadlineMs: number, answer: Promise<Answer<T>>): Promise<Answer<T>> {
    return new Promise((resolve, reject) => {
      const wakeUp = this.#clock.wakeIn(deadlineMs, () => {
        const cause = new MillraceError(
          'ERR_MILLRACE_STORE_UNAVAILABLE',
          `the store did not answer within ${deadlineMs} ms; the transaction may still be applied`,
          { details: { deadlineMs } },
        );
        resolve({ kind: 'unknown', cause });
      });
      answer.then(resolve, reject).finally(() => wakeUp.cancel());
    });
  }

  /** Deletes the keys of an ended lease in one revision, and forgets the lease. */
  async #endLease(leaseId: LeaseId): Promise<Answer<void>> {
    const answer = await this.#group.submit(() =>
      inRevision(this.#keyspace, () => {
        for (const key of this.#leases.keysOf(leaseId)) this.#keyspace.delete(key);
      }),
    );
    if (answer.kind === 'known') this.#leases.remove(leaseId);
    return answer;
  }

  #deleteKeysOf(leaseId: LeaseId): void {
    if (this.#isStopped) return;
    this.#endLease(leaseId).catch((error: unknown) => {
      // Anything else is final: the store writes no more until it is opened again, and that ends all leases.
      if (hasCode(error, 'ERR_MILLRACE_STORE_FULL')) {
        this.#clock.wakeIn(LEASE_RETRY_MS, () => this.#deleteKeysOf(leaseId));
      }
    });
  }

  #onDurable(): void {
    this.#forget();
    for (const watcher of this.#watchers) watcher.wake();
  }

  #forget(): void {
    const { history, durable } = this.#keyspace;
    const revision = history.overflow(durable);
    for (const watcher of this.#watchers) watcher.skip(revision);
    history.forget(revision);
  }
}

function eachOperation(txn: Txn, visit: (operation: Operation) => void): void {
  for (const list of [txn.success, txn.failure ?? []]) {
    for (const operation of list) {
      visit(operation);
      if (operation.type === 'txn') eachOperation(operation.txn, visit);
    }
  }
}

function atLeastOne(value: number, name: string): number {
  if (Number.isFinite(value) && value >= 1) return value;
  throw invalid(`history.${name} is ${String(value)}; give a number from 1 on`, { value });
}

function invalid(message: string, details: Readonly<Record<string, unknown>>): MillraceError {
  return new MillraceError('ERR_MILLRACE_INVALID_OPTION', message, { details });
}
