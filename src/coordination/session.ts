/**
 * Session: one lease per process, and the question "may I still act under it?" answered without asking the store.
 *
 * The store ends a lease `ttlMs` after the renewal that reached it last. This side knows only when it *sent* the last
 * one that was answered, so it stops earlier than the store ever could:
 *
 *        sent            answered                       fence         sent + ttl
 *   ------|------------------|----------------------------|---------------|-------->  monotonic clock
 *          <------------- ttl - margin ------------------->               |
 *                                                                         no earlier does the store end it
 *
 * Fencing needs no timer to be right: `isLive` compares the clock at the moment of the question, so a process that
 * was stopped and goes on knows at once. The timer only brings the news to those who wait.
 *
 *                .-------- renewed --------.
 *                v                         |
 *   joining -> live -- clocks disagree -> doubtful -- too long -.
 *                |                                              v
 *                |---------------- silence until the fence -> fenced -- renewed --> live
 *                |                                              |
 *                '------------------- the lease ended ----------'------> lost -> joining, with a new lease
 *
 * The monotonic clock stands still while a machine is suspended. So the wall clock is compared with it: where it ran
 * ahead, its time counts against the fence; where the two drift apart by more than 500 ms, or this loop was away for
 * a third of the ttl, the session is *doubtful*: nothing new starts until a renewal that was sent after the doubt
 * has been answered. Such a renewal proves that the lease was alive all along.
 *
 * Invariants: (1) live implies that the store has not ended the lease, as long as clocks run at the same rate within
 * the margin; (2) a tenure that was lost never becomes live again; (3) only an answered renewal on the same lease
 * ends doubt or a fence.
 * Cost: `isLive` is two clock reads. One wake-up per twelfth of the ttl.
 * Source: Gray and Cheriton, "Leases" (1989); counting from the time of sending as etcd's Go client does not.
 */
import { setMaxListeners } from 'node:events';
import { Backoff } from '../core/backoff.js';
import { publish } from '../core/channels.js';
import { type Clock, sleep, type WakeUp } from '../core/clock.js';
import { hasCode, isMillraceError, MillraceError } from '../core/errors.js';
import type { Random } from '../core/random.js';
import { BaseService } from '../core/service.js';
import type { LeaseId, LeaseKeeper, LeaseRenewal, Store } from '../core/store.js';

/** Whether one may act under the session's lease. */
export type SessionState =
  /** There is no lease yet, or none any more; one is being asked for. */
  | 'joining'
  | 'live'
  /** Nothing new starts until the store has answered. */
  | 'doubtful'
  /** The lease may have ended: nothing acts under it. */
  | 'fenced'
  | 'closed';

/** One lease of the session, from its grant to its end. */
export interface Tenure {
  readonly leaseId: LeaseId;
  readonly ttlMs: number;
  /** Aborted when the lease is over for good; the reason is an ERR_MILLRACE_LEASE_LOST or ERR_MILLRACE_CLOSED. */
  readonly signal: AbortSignal;
}

export type SessionChange =
  | { readonly kind: 'granted'; readonly tenure: Tenure }
  /** What is held under the lease is no longer safely held. It may be again. */
  | { readonly kind: 'fenced'; readonly tenure: Tenure; readonly cause: MillraceError }
  /** A renewal was answered after a fence or doubt. */
  | { readonly kind: 'lifted'; readonly tenure: Tenure }
  /** The lease is over, and what hung on it is gone. */
  | { readonly kind: 'ended'; readonly tenure: Tenure; readonly cause: MillraceError };

/** Wall and monotonic clock may disagree by this much before the session doubts itself. */
const DRIFT_MS_MAX = 500;
/** How long stop() waits for the store, for each of its last two answers. */
const PATIENCE_MS = 2_000;

/** How long before its end a lease counts as over: for clock rates that differ, and for what is on its way. */
function fenceMarginMs(ttlMs: number): number {
  return Math.min(Math.max(ttlMs * 0.1, 500), ttlMs / 4);
}

export class Session extends BaseService {
  readonly ttlMs: number;
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #random: Random;
  readonly #listeners = new Set<(change: SessionChange) => void>();
  readonly #closing = new AbortController();
  #current: Holding | undefined;
  #wakeUp: WakeUp | undefined;
  #tickAtMs = 0;
  #rejoining: Promise<void> = Promise.resolve();

  /** @param ttlMs - as asked for; a store may grant more */
  constructor(clock: Clock, random: Random, store: Store, ttlMs: number) {
    super();
    this.#clock = clock;
    this.#random = random;
    this.#store = store;
    this.ttlMs = ttlMs;
    // Every lock that is waited for listens: that is no leak.
    setMaxListeners(0, this.#closing.signal);
  }

  get state(): SessionState {
    if (this.isStopping) return 'closed';
    return this.#current === undefined ? 'joining' : this.#judge(this.#current);
  }

  /** The lease held now; undefined while there is none. */
  get leaseId(): LeaseId | undefined {
    return this.#current?.tenure.leaseId;
  }

  /** Whether one may act under this tenure now. Exact at the moment of the call, however late timers are. */
  isLive(tenure: Tenure): boolean {
    const current = this.#current;
    return current?.tenure === tenure && !this.isStopping && this.#judge(current) === 'live';
  }

  /** Whether what was begun under this tenure may go on: it is live, or in a doubt that did not last long. */
  isHeld(tenure: Tenure): boolean {
    const current = this.#current;
    return current?.tenure === tenure && !this.isStopping && this.#judge(current) !== 'fenced';
  }

  /**
   * Resolves with the tenure one may act under, at once when live.
   *
   * @throws the signal's reason; ERR_MILLRACE_CLOSED
   */
  async live(signal?: AbortSignal): Promise<Tenure> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.isStopping) throw closed();
      const current = this.#current;
      if (current !== undefined && this.#judge(current) === 'live') return current.tenure;
      await this.#nextChange(signal);
    }
  }

  /** Says that something speaks against the lease; nothing new starts until the store has answered for it. */
  doubt(tenure: Tenure): void {
    const current = this.#current;
    if (current?.tenure === tenure) current.beDoubtful(this.#clock.monoMs());
  }

  /** Called at every change, synchronously. @returns how to stop listening */
  onChange(listener: (change: SessionChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @throws ERR_MILLRACE_STORE_UNAVAILABLE and the like when the store gives no first lease */
  protected async onStart(): Promise<void> {
    await this.#join();
    this.#tickAtMs = this.#clock.monoMs();
    this.#armTick();
  }

  /** Gives the lease back, so that what hangs on it is free at once; unless the store has not answered for so long. */
  protected async onStop(): Promise<void> {
    this.#wakeUp?.cancel();
    this.#closing.abort(closed());
    await this.#patiently(this.#rejoining);
    const current = this.#current;
    if (current === undefined) return;
    const isSilent = this.#judge(current) === 'fenced';
    this.#end(current, closed());
    await current.keeper.stop();
    if (!isSilent) await this.#patiently(this.#revoke(current.tenure.leaseId));
  }

  async #revoke(leaseId: LeaseId): Promise<void> {
    await this.#store.revokeLease(leaseId).catch((error: unknown) => {
      if (!isMillraceError(error)) throw error;
    });
  }

  /** Waits for an answer, but not for long: a store that cannot be reached ends the lease by itself. */
  async #patiently(answer: Promise<void>): Promise<void> {
    const answered = new AbortController();
    const waited = sleep(this.#clock, PATIENCE_MS, answered.signal).catch(() => {});
    await Promise.race([answer, waited]);
    answered.abort();
  }

  async #join(): Promise<void> {
    const sentAtMs = this.#clock.monoMs();
    const lease = await this.#store.grantLease(this.ttlMs);
    // Granted too late for anybody.
    if (this.isStopping) return this.#revoke(lease.leaseId);
    const holding = new Holding(this.#clock, lease, sentAtMs);
    holding.keeper = this.#store.keepLease(lease, {
      onRenewed: (renewal) => this.#onRenewed(holding, renewal),
      onLost: (cause) => this.#onLost(holding, cause),
    });
    this.#current = holding;
    publish('millrace:session:granted', () => ({ leaseId: lease.leaseId, ttlMs: lease.ttlMs }));
    this.#tell({ kind: 'granted', tenure: holding.tenure });
  }

  /** Asks for a new lease until there is one. */
  async #rejoin(): Promise<void> {
    const backoff = new Backoff(this.#clock, this.#random, { maxMs: this.ttlMs / 3 });
    while (!this.isStopping) {
      try {
        return await this.#join();
      } catch (error) {
        if (hasCode(error, 'ERR_MILLRACE_CLOSED') || !isMillraceError(error)) return;
      }
      await backoff.pause(this.#closing.signal).catch(() => {});
    }
  }

  #onRenewed(holding: Holding, renewal: LeaseRenewal): void {
    if (this.#current !== holding || this.isStopping) return;
    this.#judge(holding);
    holding.renew(renewal);
    this.#judge(holding);
  }

  #onLost(holding: Holding, cause: MillraceError): void {
    if (this.#current !== holding || this.isStopping) return;
    this.#end(holding, cause);
    this.#rejoining = this.#rejoin();
  }

  #end(holding: Holding, cause: MillraceError): void {
    this.#current = undefined;
    if (cause.code !== 'ERR_MILLRACE_CLOSED') {
      publish('millrace:session:lost', () => ({ leaseId: holding.tenure.leaseId, cause }));
    }
    holding.abort(cause);
    this.#tell({ kind: 'ended', tenure: holding.tenure, cause });
  }

  /** The state now, and the news of it: a fence that has just come down, or a renewal that has lifted a fence or doubt. */
  #judge(holding: Holding): 'live' | 'doubtful' | 'fenced' {
    const before = holding.state;
    const now = holding.judge();
    if (now === 'fenced' && before !== 'fenced') {
      const { leaseId } = holding.tenure;
      const silentMs = Math.round(holding.silentMs());
      const cause = new MillraceError(
        'ERR_MILLRACE_LEASE_LOST',
        `no renewal of lease ${leaseId} was answered for ${silentMs} ms of its ${holding.tenure.ttlMs} ms; nothing may act under it until one is`,
        { details: { leaseId, silentMs, ttlMs: holding.tenure.ttlMs } },
      );
      publish('millrace:session:fenced', () => ({ leaseId, silentMs }));
      this.#tell({ kind: 'fenced', tenure: holding.tenure, cause });
    } else if (now === 'live' && before !== 'live') {
      // Also where nobody was told of a renewal that was looked up: whoever waits for the session would wait for ever.
      publish('millrace:session:lifted', () => ({ leaseId: holding.tenure.leaseId }));
      this.#tell({ kind: 'lifted', tenure: holding.tenure });
    }
    return now;
  }

  #armTick(): void {
    this.#wakeUp = this.#clock.wakeIn(this.ttlMs / 12, () => {
      const nowMs = this.#clock.monoMs();
      const current = this.#current;
      if (current !== undefined) {
        if (nowMs - this.#tickAtMs > this.ttlMs / 3) current.beDoubtful(nowMs);
        current.keeper.progress();
        // Whoever waits for the answer should not wait for the keeper's next turn.
        if (this.#judge(current) !== 'live') current.keeper.renewNow();
      }
      this.#tickAtMs = nowMs;
      this.#armTick();
    });
  }

  #tell(change: SessionChange): void {
    for (const listener of [...this.#listeners]) listener(change);
  }

  #nextChange(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        stopListening();
        reject(signal?.reason);
      };
      const onChange = (): void => {
        stopListening();
        this.#closing.signal.removeEventListener('abort', onChange);
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const stopListening = this.onChange(onChange);
      this.#closing.signal.addEventListener('abort', onChange, { once: true });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}

/** What is known of one lease. */
class Holding {
  readonly tenure: Tenure;
  keeper!: LeaseKeeper;
  state: 'live' | 'doubtful' | 'fenced' = 'live';
  readonly #clock: Clock;
  readonly #aborter = new AbortController();
  /** When the last answered renewal (or the grant) was sent. */
  #sentAtMs: number;
  #ttlMs: number;
  /** Wall minus monotonic clock when that answer came. */
  #offsetMs: number;
  /** Since when there is doubt; a renewal sent before it proves nothing. */
  #doubtAtMs: number | undefined;
  #isFenced = false;

  constructor(
    clock: Clock,
    lease: { readonly leaseId: LeaseId; readonly ttlMs: number },
    sentAtMs: number,
  ) {
    this.#clock = clock;
    this.#sentAtMs = sentAtMs;
    this.#ttlMs = lease.ttlMs;
    this.#offsetMs = this.#offset();
    setMaxListeners(0, this.#aborter.signal);
    this.tenure = { ...lease, signal: this.#aborter.signal };
  }

  /** How long ago the last answered renewal was sent, by the clock that ran further. */
  silentMs(): number {
    return this.#clock.monoMs() - this.#sentAtMs + Math.max(0, this.#offset() - this.#offsetMs);
  }

  judge(): 'live' | 'doubtful' | 'fenced' {
    const drift = this.#offset() - this.#offsetMs;
    if (Math.abs(drift) > DRIFT_MS_MAX) this.beDoubtful(this.#clock.monoMs());
    // A fence holds until a renewal lifts it, also when the wall clock goes back.
    this.#isFenced ||= this.#isSilent() && this.#isSilentIndeed();
    this.state = this.#isFenced ? 'fenced' : this.#doubtAtMs === undefined ? 'live' : 'doubtful';
    return this.state;
  }

  beDoubtful(nowMs: number): void {
    if (this.#doubtAtMs !== undefined) return;
    this.#doubtAtMs = nowMs;
    this.keeper.renewNow();
  }

  renew({ sentAtMs, ttlMs }: LeaseRenewal): void {
    // Answers may overtake one another.
    if (sentAtMs < this.#sentAtMs) return;
    this.#sentAtMs = sentAtMs;
    this.#ttlMs = ttlMs;
    // What the clocks did since the doubt arose still counts against it.
    if (sentAtMs < (this.#doubtAtMs ?? sentAtMs)) return;
    this.#offsetMs = this.#offset();
    this.#doubtAtMs = undefined;
    this.#isFenced = false;
  }

  #isSilent(): boolean {
    return this.silentMs() >= this.#ttlMs - fenceMarginMs(this.#ttlMs);
  }

  /** After a long pause of this thread the keeper may know of an answer whose news is still on its way. */
  #isSilentIndeed(): boolean {
    const last = this.keeper.lastRenewal();
    if (last !== undefined) this.renew(last);
    return this.#isSilent();
  }

  abort(cause: MillraceError): void {
    this.#aborter.abort(cause);
  }

  #offset(): number {
    return this.#clock.wallMs() - this.#clock.monoMs();
  }
}

function closed(): MillraceError {
  return new MillraceError('ERR_MILLRACE_CLOSED', 'the session is closed');
}
