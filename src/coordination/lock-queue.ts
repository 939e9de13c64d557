/**
 * LockQueue: everybody in this process who wants one lock, in front of the one key that the process has for it.
 *
 * A process has one lease, so it has one key per name in the store's line (place.ts). Callers queue here, first come,
 * first served, and the key changes hands without being given up:
 *
 *   callers      store
 *   a b c   -->  join, wait            our key is first: a holds, token = mod revision
 *     b c   -->  confirm               b holds, with a higher token; the answer shows that somebody else waits
 *       c   -->  leave, join, wait     c queues again behind whoever waited
 *           -->  leave                 nobody wants it here
 *
 * A lock that is taken again and again by one caller after another, with nobody in between, is hot: then the key is kept for
 * two milliseconds after a release. Who comes in that time gets it by a hand-off, one round trip instead of two; another
 * process waits so much longer at most, and none that is known to wait.
 *
 * A hand-off costs one round trip and nothing of the line. It always writes, since the token must rise with every
 * holder and a transaction that compares the mod revision must fail for the one before. The answer to that write
 * shows whether another process waits; then the next release gives the key up, so a stranger waits for two of our
 * holders at most.
 *
 * The token is the mod revision, not the create revision: of two processes the later in the line may have created
 * its key before the earlier one handed off for the last time. So whoever waited confirms before entering, which is
 * also the check that its key outlived the wait.
 *
 * One loop (`#run`) does all of it, one step at a time, from the first caller to the moment when nobody is left.
 * Invariants: (1) at most one hold at a time; (2) a hold is handed out only while the session is live and after the
 * store has answered under its lease; (3) tokens rise; (4) when the loop ends the key is gone, or its lease is.
 */

import { Backoff } from '../core/backoff.js';
import { hasCode, MillraceError } from '../core/errors.js';
import { FirstAbort } from './first-abort.js';
import { Hold } from './hold.js';
import type { LockRequest } from './lock-strategy.js';
import { LINGER_MS, type LineContext, Place } from './place.js';

/** How long a hot lock's key is kept when nobody here wants it. */
const KEEP_MS = 2;

export interface LockQueueOptions {
  /** What others see of us while we hold or wait. */
  readonly value: Uint8Array;
  /** Whether somebody here had it a moment ago. */
  readonly isHot: boolean;
  /** Called when nothing is left to do. @param hasHeld - whether somebody here had the lock */
  readonly onIdle: (hasHeld: boolean) => void;
}

interface Waiter {
  readonly isTry: boolean;
  /** Settles the call; undefined when a try found the lock taken. */
  readonly settle: (hold: Hold | undefined) => void;
  readonly fail: (cause: unknown) => void;
}

export class LockQueue {
  readonly #context: LineContext;
  readonly #line: string;
  readonly #options: LockQueueOptions;
  /** In the order of their calls. */
  readonly #waiters = new Set<Waiter>();
  /** Aborted when nobody waits any more. */
  #unwanted = new AbortController();
  #running: Promise<void> | undefined;
  #place: Place | undefined;
  #hold: Hold | undefined;
  /** Tries that found the lock taken; they hear of it when they have left no trace. */
  #refused: Waiter[] = [];
  #lingering = 0;
  #hasHeld = false;
  #isHot: boolean;
  #closed: MillraceError | undefined;
  /** Ends the time in which the key is kept for whoever comes; undefined: it is not. */
  #endKeeping: (() => void) | undefined;

  /** @param line - prefix of the lock's keys, with its final slash */
  constructor(context: LineContext, line: string, options: LockQueueOptions) {
    this.#context = context;
    this.#line = line;
    this.#options = options;
    this.#isHot = options.isHot;
  }

  get isIdle(): boolean {
    return this.#running === undefined && this.#lingering === 0;
  }

  /** @returns the hold; undefined when a try finds the lock taken @throws as `LockStrategy.acquire` */
  acquire({ line, timeoutMs, signal, isTry }: LockRequest): Promise<Hold | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(this.#closed);
      const isFree = this.#running === undefined || this.#endKeeping !== undefined;
      if (isTry && !isFree) return resolve(undefined);
      const onAbort = (): void => this.#giveUp(waiter, signal?.reason);
      const wakeUp = this.#context.clock.wakeIn(timeoutMs, () =>
        this.#giveUp(waiter, this.#timedOut(line, timeoutMs)),
      );
      const done = (): void => {
        wakeUp.cancel();
        signal?.removeEventListener('abort', onAbort);
      };
      const waiter: Waiter = {
        isTry,
        settle(hold) {
          done();
          resolve(hold);
        },
        fail(cause) {
          done();
          reject(cause);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
      this.#endKeeping?.();
      this.#running ??= this.#run();
    });
  }

  /** The session says that nothing is safely held any more. */
  lose(cause: MillraceError): void {
    this.#hold?.lose(cause);
  }

  /** Refuses who waits; who holds goes on until it releases. */
  close(cause: MillraceError): Promise<void> {
    this.#closed = cause;
    this.#failAll(cause);
    this.#endKeeping?.();
    return this.#hold === undefined ? (this.#running ?? Promise.resolve()) : Promise.resolve();
  }

  async #run(): Promise<void> {
    const backoff = new Backoff(this.#context.clock, this.#context.random);
    while (this.#waiters.size > 0) {
      this.#unwanted = new AbortController();
      if (!(await this.#turn())) await backoff.pause(this.#unwanted.signal).catch(() => {});
      // Asked for again while it was given up.
      this.#isHot ||= this.#hasHeld;
    }
    this.#running = undefined;
    if (this.isIdle) this.#options.onIdle(this.#hasHeld);
  }

  /** Joins the line, serves callers while it may, leaves the line. @returns whether that went as it should */
  async #turn(): Promise<boolean> {
    const unwanted = this.#unwanted.signal;
    let last: Hold | undefined;
    let either: FirstAbort | undefined;
    try {
      const tenure = await this.#context.session.live(unwanted);
      const place = new Place(this.#context, tenure, this.#line, this.#options.value);
      this.#place = place;
      either = new FirstAbort(unwanted, tenure.signal);
      last = await this.#enterAndServe(place, either.signal);
      return true;
    } catch (error) {
      this.#onFault(error, unwanted);
      return false;
    } finally {
      either?.dispose();
      if (this.#place !== undefined) await this.#leave(this.#place, last);
      this.#place = undefined;
    }
  }

  /** @returns the hold whose holder waits to hear that the lock is free */
  async #enterAndServe(place: Place, signal: AbortSignal): Promise<Hold | undefined> {
    const isNew = await place.join(signal);
    let othersWait = false;
    if (place.ahead.length > 0) this.#refuseTries();
    if (place.ahead.length > 0 || !isNew) {
      const confirmed = await place.enter(signal);
      if (confirmed === undefined) return undefined;
      othersWait = confirmed.othersWait;
    }
    for (let isHandOff = false; ; isHandOff = true) {
      const hold = this.#grant(place, isHandOff);
      if (hold === undefined) return undefined;
      await hold.released;
      this.#hold = undefined;
      if (othersWait) return hold;
      if (this.#waiters.size === 0 && !(await this.#keepFor(hold))) return hold;
      hold.setFree();
      const confirmed = await place.confirm(place.tenure.signal);
      if (confirmed === undefined) return undefined;
      othersWait = confirmed.othersWait;
    }
  }

  /** Keeps a hot lock's key for whoever comes soon. @returns whether somebody did */
  async #keepFor(last: Hold): Promise<boolean> {
    if (!this.#isHot || this.#closed !== undefined) return false;
    last.setFree();
    await new Promise<void>((resolve) => {
      const wakeUp = this.#context.clock.wakeIn(KEEP_MS, resolve);
      this.#endKeeping = () => {
        wakeUp.cancel();
        resolve();
      };
    });
    this.#endKeeping = undefined;
    return this.#waiters.size > 0;
  }

  /** Gives the lock to whoever has waited longest. @returns undefined when there is nobody, or no right to */
  #grant(place: Place, isHandOff: boolean): Hold | undefined {
    const [waiter] = this.#waiters;
    if (waiter === undefined || !this.#context.session.isLive(place.tenure)) return undefined;
    this.#waiters.delete(waiter);
    const hold = new Hold({
      token: BigInt(place.modRevision),
      compare: place.compare,
      grantedAtMs: this.#context.clock.monoMs(),
      isHandOff,
    });
    this.#hold = hold;
    this.#hasHeld = true;
    waiter.settle(hold);
    return hold;
  }

  async #leave(place: Place, last: Hold | undefined): Promise<void> {
    await place.leave(() => {
      last?.setFree();
      for (const { settle } of this.#refused.splice(0)) settle(undefined);
    });
    if (!place.mayLinger || place.tenure.signal.aborted) return;
    this.#lingering++;
    this.#context.clock.wakeIn(LINGER_MS, () => {
      this.#lingering--;
      // Whoever runs now finds the key as its own, and takes it along when it leaves.
      if (this.#running !== undefined) return;
      this.#running = place.sweep().then(() => this.#run());
    });
  }

  #onFault(error: unknown, signal: AbortSignal): void {
    // Nobody wants the lock any more, or the lease went: the next turn asks the session for another.
    if (signal.aborted || hasCode(error, 'ERR_MILLRACE_LEASE_LOST')) return;
    this.#failAll(error);
  }

  #giveUp(waiter: Waiter, cause: unknown): void {
    if (!this.#waiters.delete(waiter)) return;
    waiter.fail(cause);
    if (this.#waiters.size === 0) this.#unwanted.abort(cause);
  }

  #refuseTries(): void {
    const tries = [...this.#waiters].filter(({ isTry }) => isTry);
    for (const waiter of tries) this.#waiters.delete(waiter);
    if (this.#waiters.size > 0) {
      for (const { settle } of tries) settle(undefined);
    } else {
      this.#refused = tries;
      this.#unwanted.abort();
    }
  }

  #failAll(cause: unknown): void {
    for (const waiter of [...this.#waiters]) this.#giveUp(waiter, cause);
  }

  #timedOut(line: string, timeoutMs: number): MillraceError {
    const name = line.slice(0, -1);
    const holder = this.#holder();
    return new MillraceError(
      'ERR_MILLRACE_LOCK_TIMEOUT',
      `lock '${name}' was not free within ${timeoutMs} ms; ${holder.shown}; hold it shorter, use more shards, or raise timeout`,
      { details: { name, timeoutMs, ...holder.details } },
    );
  }

  /** Who has the lock, as far as this process knows. */
  #holder(): { readonly shown: string; readonly details: Readonly<Record<string, unknown>> } {
    const waitingHere = this.#waiters.size;
    const hold = this.#hold;
    if (hold !== undefined) {
      const heldMs = Math.round(this.#context.clock.monoMs() - hold.facts.grantedAtMs);
      return {
        shown: `this process has held it for ${heldMs} ms, and ${waitingHere} more wait here`,
        details: { holder: 'this process', heldMs, token: String(hold.facts.token), waitingHere },
      };
    }
    const ahead = this.#place?.ahead ?? [];
    const first = ahead.at(-1);
    if (first === undefined) {
      const { state } = this.#context.session;
      return { shown: `the session is ${state}`, details: { holder: undefined, session: state } };
    }
    const label = new TextDecoder().decode(first.value.subarray(0, 200));
    const holder = label === '' ? `lease ${first.leaseId}` : `'${label}' (lease ${first.leaseId})`;
    return {
      shown: `it is held by ${holder}, and ${ahead.length - 1} more are ahead`,
      details: { holder: label, leaseId: first.leaseId, ahead: ahead.length },
    };
  }
}
