/**
 * One process's way to a simulated store.
 *
 *   call ──(latency)──> arrives: applied ──(latency)──> answer, as a wake-up of the caller's clock
 *          FIFO            server's clock    FIFO
 *
 * Calls of one connection arrive in the order in which they were made, `late` ones excepted. Without faults,
 * latency or partition a call goes straight through, so a test that wants none needs no time to pass.
 */
import type { Clock, WakeUp } from '../core/clock.js';
import { MillraceError } from '../core/errors.js';
import type { Random } from '../core/random.js';
import type {
  Entry,
  KeepLeaseOptions,
  Key,
  KeyRange,
  Lease,
  LeaseId,
  LeaseKeeper,
  LockSpace,
  MutationOptions,
  Operation,
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
} from '../core/store.js';
import type { StateMachine } from '../store/machine/state-machine.js';
import type { StoreView } from '../store/machine/store-view.js';
import { checkRange, checkRevision, checkSpan, checkTxn } from '../store/machine/txn-check.js';
import { LocalLeaseKeeper } from '../store/renewal-loop.js';
import { SimWatch } from './sim-watch.js';
import { drawFate, drawMs, type Fate, type FaultCounts, type StoreFaults } from './store-faults.js';

/** For transactions without a deadline of their own; an answer that takes longer is lost. */
const DEADLINE_MS = 5_000;
const LATE_MAX_MS = 10_000;
/** How long closing waits for calls that have no answer. */
const CLOSE_MS_MAX = 2_000;
/** Keeps what follows on one link behind what went before it, also where clocks wake equals in any order. */
const STEP_MS = 1e-3;
/** The longest that a watch's stream stays cut. */
const RECONNECT_MAX_MS = 1_000;

/** A transaction that has reached the store. */
export interface AppliedTxn {
  readonly txn: Txn;
  readonly outcome: Exclude<TxnOutcome, { kind: 'unknown' }>;
  /** The connection it came through. */
  readonly connection: SimConnection;
}

/** What connections share. */
export interface SimServer {
  readonly machine: StateMachine;
  readonly clock: Clock;
  readonly faults: StoreFaults;
  readonly counts: FaultCounts;
  readonly onApplied: ((applied: AppliedTxn) => void) | undefined;
  readonly isShared: boolean;
  readonly operationsMax: number;
  readonly isLost: ((txn: Txn) => boolean) | undefined;
}

export class SimConnection implements Store {
  readonly limits: StoreLimits;
  readonly durability = 'durable';
  /** Where others share the store, locks and elections are theirs too. */
  declare readonly lockSpace?: LockSpace;
  readonly #server: SimServer;
  readonly #view: StoreView;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #watches = new Set<SimWatch>();
  readonly #keepers = new Set<LocalLeaseKeeper>();
  readonly #leases = new Set<LeaseId>();
  #isCut = false;
  #isDead = false;
  #outstanding = 0;
  #idlers: (() => void)[] = [];
  #closed: Promise<void> | undefined;
  /** When the last call arrives, and the last answer, on the server's clock. */
  #lastArrivalMs = 0;
  #lastAnswerMs = 0;

  /** Connections come from `simStore().open()`. */
  constructor(server: SimServer, view: StoreView, clock: Clock, random: Random) {
    this.#server = server;
    this.#view = view;
    this.#clock = clock;
    this.#random = random;
    this.limits = { ...view.limits, operationsMax: server.operationsMax };
    if (server.isShared) this.lockSpace = { store: this, prefix: '' };
  }

  // --- What a test does to it -------------------------------------------------------------------------------------

  /** Whether the link is cut. */
  get isPartitioned(): boolean {
    return this.#isCut;
  }

  /** Calls that wait for their answer. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Cuts the link both ways: nothing arrives, and nothing comes back. */
  partition(): void {
    if (!this.#isCut) this.#server.counts.partition++;
    this.#isCut = true;
  }

  /** Heals the link. */
  heal(): void {
    this.#isCut = false;
    for (const watch of this.#watches) watch.resume();
  }

  /** The process is dead: nothing is called back any more. What was sent is under way all the same. */
  kill(): void {
    this.#isDead = true;
    for (const keeper of this.#keepers) void keeper.stop();
    for (const watch of this.#watches) watch.abandon();
    this.#watches.clear();
  }

  /** Ends every lease granted here, as an operator could; their keys are gone at once. */
  async loseLeases(): Promise<void> {
    for (const leaseId of this.#leases) {
      this.#server.counts.leaseLost++;
      await this.#server.machine.revokeLease(leaseId);
    }
    this.#leases.clear();
  }

  // --- Store ------------------------------------------------------------------------------------------------------

  get(key: Key, options?: ReadOptions): Promise<Entry | undefined> {
    return this.#read(() => this.#view.get(key, options));
  }

  range(range: KeyRange, options?: RangeOptions): Promise<Snapshot> {
    return this.#read(() => this.#view.range(range, options));
  }

  async txn(txn: Txn, options: MutationOptions = {}): Promise<TxnOutcome> {
    this.#requireOpen();
    checkTxn(txn, this.limits);
    if (options.deadlineMs !== undefined) checkSpan(options.deadlineMs, 'deadlineMs');
    const fate = this.#draw(this.#server.isLost?.(txn));
    // The caller may reuse its arrays at once.
    const own = copyTxn(txn);
    const apply = (): Promise<TxnOutcome> => this.#apply(own);
    return this.#call(fate, apply, options.deadlineMs ?? DEADLINE_MS, (cause) => ({
      kind: 'unknown',
      cause,
    }));
  }

  async grantLease(ttlMs: number): Promise<Lease> {
    const lease = await this.#change(() => this.#view.grantLease(ttlMs));
    this.#leases.add(lease.leaseId);
    return lease;
  }

  renewLease(leaseId: LeaseId): Promise<Lease> {
    return this.#change(() => this.#view.renewLease(leaseId));
  }

  revokeLease(leaseId: LeaseId): Promise<void> {
    return this.#change(() => this.#view.revokeLease(leaseId));
  }

  keepLease(lease: Lease, options: KeepLeaseOptions = {}): LeaseKeeper {
    this.#requireOpen();
    if (options.everyMs !== undefined) checkSpan(options.everyMs, 'everyMs');
    if (options.hangLimitMs !== undefined) checkSpan(options.hangLimitMs, 'hangLimitMs');
    const keeper = new LocalLeaseKeeper(
      this.#clock,
      lease,
      options,
      () => this.renewLease(lease.leaseId),
      () => this.#keepers.delete(keeper),
    );
    this.#keepers.add(keeper);
    return keeper;
  }

  watch(range: KeyRange, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    this.#requireOpen();
    checkRange(range, this.limits);
    // "The next one" is decided here and now, not when somebody starts to iterate.
    const start = options.startRevision ?? ((this.#server.machine.revision + 1) as Revision);
    checkRevision(start, 'startRevision');
    return { [Symbol.asyncIterator]: () => this.#startWatch(range, start, options.signal) };
  }

  neededRevision(): Revision | undefined {
    let lowest = this.#view.neededRevision();
    for (const { cutAt } of this.#watches) {
      if (cutAt !== undefined && (lowest === undefined || cutAt < lowest)) lowest = cutAt;
    }
    return lowest;
  }

  compact(revision: Revision): Promise<void> {
    return this.#change(() => this.#view.compact(revision));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    for (const keeper of this.#keepers) void keeper.stop();
    for (const watch of this.#watches) watch.end(closedError());
    if (this.#outstanding > 0) {
      await new Promise<void>((resolve) => {
        const wakeUp = this.#clock.wakeIn(CLOSE_MS_MAX, resolve);
        this.#idlers.push(() => {
          wakeUp.cancel();
          resolve();
        });
      });
    }
    await this.#view.close();
  }

  // --- The link ---------------------------------------------------------------------------------------------------

  /** Whether a call needs no time and nothing can happen to it. */
  get #isStraight(): boolean {
    return this.#server.faults.latency === undefined && !this.#isCut && !this.#isDead;
  }

  #draw(isLost = false): Fate {
    const fate = isLost ? 'requestLost' : drawFate(this.#random, this.#server.faults);
    if (fate !== 'ok') this.#server.counts[fate]++;
    return fate;
  }

  async #apply(txn: Txn): Promise<TxnOutcome> {
    const outcome = await this.#view.txn(txn);
    if (outcome.kind !== 'unknown') {
      this.#server.onApplied?.({ txn, outcome, connection: this });
    }
    return outcome;
  }

  async #read<T>(read: () => Promise<T>): Promise<T> {
    this.#requireOpen();
    const isFailed = this.#random.float() < (this.#server.faults.readFailed ?? 0);
    if (isFailed) this.#server.counts.readFailed++;
    return this.#call(isFailed ? 'refused' : 'ok', read, DEADLINE_MS, (cause) => cause);
  }

  /** A change that no transaction describes: what is not known to be done is thrown. */
  async #change<T>(change: () => Promise<T>): Promise<T> {
    this.#requireOpen();
    const drawn = this.#draw();
    const fate = drawn === 'full' ? 'refused' : drawn;
    return this.#call(fate, change, DEADLINE_MS, (cause) => cause);
  }

  /** @param onUnknown - what the caller hears without an answer; an error is thrown */
  #call<T>(
    fate: Fate,
    serve: () => Promise<T>,
    deadlineMs: number,
    onUnknown: (cause: MillraceError) => T | MillraceError,
  ): Promise<T> {
    const refusal = refusalOf(fate);
    const change = refusal === undefined ? serve : () => Promise.reject(refusal);
    const isAnswered = fate === 'ok' || refusal !== undefined;
    if (this.#isStraight && isAnswered) return change();
    return new Promise<T>((resolve, reject) => {
      this.#outstanding++;
      let isSettled = false;
      const settle = (finish: () => void): void => {
        if (isSettled) return;
        isSettled = true;
        giveUp?.cancel();
        finish();
        this.#onSettled();
      };
      const unknown = (): void => {
        const answer = onUnknown(unavailable(`no answer (${fate})`));
        settle(() => (answer instanceof MillraceError ? reject(answer) : resolve(answer)));
      };
      const quickly = fate === 'requestLost' || fate === 'answerLost';
      const patienceMs = quickly ? drawMs(this.#random, 0, deadlineMs) : deadlineMs;
      const giveUp: WakeUp | undefined = this.#clock.wakeIn(patienceMs, unknown);
      const isApplied = fate === 'hang' ? this.#random.float() < 0.5 : fate !== 'requestLost';
      if (!isApplied) return;
      const arrive = (): void => {
        if (this.#isCut) return;
        change().then(
          (value) => isAnswered && this.#answer(() => settle(() => resolve(value))),
          (error) => isAnswered && this.#answer(() => settle(() => reject(error))),
        );
      };
      if (fate === 'late') {
        const lateMaxMs = this.#server.faults.lateMaxMs ?? LATE_MAX_MS;
        this.#server.clock.wakeIn(deadlineMs + drawMs(this.#random, 0, lateMaxMs), arrive);
      } else {
        this.#send(arrive);
      }
    });
  }

  #onSettled(): void {
    this.#outstanding--;
    if (this.#outstanding > 0) return;
    for (const resolve of this.#idlers.splice(0)) resolve();
  }

  #send(arrive: () => void): void {
    const nowMs = this.#server.clock.monoMs();
    this.#lastArrivalMs = Math.max(nowMs + this.#latencyMs(), this.#lastArrivalMs + STEP_MS);
    this.#server.clock.wakeIn(this.#lastArrivalMs - nowMs, arrive);
  }

  /** Tells the process something, unless it is dead or cut off by then. */
  #answer(tell: () => void): void {
    this.#comeBack(() => !this.#isCut && this.#clock.wakeIn(0, tell));
  }

  #comeBack(arrive: () => void): void {
    const nowMs = this.#server.clock.monoMs();
    this.#lastAnswerMs = Math.max(nowMs + this.#latencyMs(), this.#lastAnswerMs + STEP_MS);
    this.#server.clock.wakeIn(this.#lastAnswerMs - nowMs, () => !this.#isDead && arrive());
  }

  #latencyMs(): number {
    const { latency } = this.#server.faults;
    return latency === undefined ? 0 : drawMs(this.#random, latency.minMs, latency.maxMs);
  }

  #startWatch(range: KeyRange, start: Revision, signal?: AbortSignal): SimWatch {
    this.#requireOpen();
    const onAbort = (): void => watch.end();
    const watch = new SimWatch(start, {
      open: (revision) =>
        this.#view.watch(range, { startRevision: revision })[Symbol.asyncIterator](),
      deliver: (tell) =>
        this.#isStraight ? tell() : this.#comeBack(() => this.#clock.wakeIn(0, tell)),
      isCut: () => this.#isWatchCut(),
      reconnect: (resume) => {
        const afterMs = drawMs(this.#random, 0, RECONNECT_MAX_MS);
        this.#clock.wakeIn(afterMs, () => !this.#isCut && resume());
      },
      onEnd: () => {
        this.#watches.delete(watch);
        signal?.removeEventListener('abort', onAbort);
      },
    });
    this.#watches.add(watch);
    if (signal?.aborted) watch.end();
    else signal?.addEventListener('abort', onAbort, { once: true });
    return watch;
  }

  #isWatchCut(): boolean {
    if (this.#isCut) return true;
    const isDrawn = this.#random.float() < (this.#server.faults.watchCut ?? 0);
    if (isDrawn) this.#server.counts.watchCut++;
    return isDrawn;
  }

  #requireOpen(): void {
    if (this.#closed) throw closedError();
  }
}

function copyTxn(txn: Txn): Txn {
  const copyAll = (operations: readonly Operation[]): Operation[] =>
    operations.map((operation) => {
      if (operation.type === 'put') return { ...operation, value: operation.value.slice() };
      return operation.type === 'txn' ? { type: 'txn', txn: copyTxn(operation.txn) } : operation;
    });
  return {
    compares: txn.compares.map((compare) =>
      compare.target === 'value' ? { ...compare, operand: compare.operand.slice() } : compare,
    ),
    success: copyAll(txn.success),
    failure: copyAll(txn.failure ?? []),
  };
}

/** What a server answers that has not done it, and says so. */
function refusalOf(fate: Fate): MillraceError | undefined {
  if (fate === 'refused') return unavailable('the call was refused');
  if (fate !== 'full') return undefined;
  return new MillraceError('ERR_MILLRACE_STORE_FULL', 'the store has no space left (simulated)');
}

function unavailable(reason: string): MillraceError {
  return new MillraceError('ERR_MILLRACE_STORE_UNAVAILABLE', `${reason} (simulated)`);
}

function closedError(): MillraceError {
  return new MillraceError('ERR_MILLRACE_CLOSED', 'the store is closed; open it again');
}
