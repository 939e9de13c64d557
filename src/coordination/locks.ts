/**
 * Locks: one holder at a time among all processes that share a store, with a token for those who must not trust that.
 *
 * No lock can promise more than that: a holder that is paused goes on after its lease has ended, and notices only
 * then. What protects data is the token. It rises with every holder, so whoever is written to can refuse a lower one
 * than it has seen; and `compare` makes a transaction of the same store refuse itself. The lock then is what it
 * should be, a way to avoid wasted work. (Kleppmann, "How to do distributed locking", 2016; Jepsen, etcd 3.4.3, 2020.)
 *
 * Locks are not nested: two holders that each want the other's lock wait for each other until both time out. Whoever
 * holds one and asks for another, anywhere in the same chain of awaits, is refused at once. `tryLock` never waits for
 * a holder and is always allowed.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { publish } from '../core/channels.js';
import type { Clock } from '../core/clock.js';
import { type Duration, durationMs } from '../core/durations.js';
import { MillraceError } from '../core/errors.js';
import { OwnedHandle } from '../core/owned-handles.js';
import type { Compare } from '../core/store.js';
import type { Hold } from './hold.js';
import type { LockRequest, LockStrategy } from './lock-strategy.js';
import type { Names } from './names.js';
import type { Session } from './session.js';

/** What a holder gets. */
export interface Lock {
  /** Rises with every holder of the name. Give it to whatever is written to, and let that refuse lower ones. */
  readonly token: bigint;
  /** Aborted when the lock is no longer safely held; stop then. The reason is ERR_MILLRACE_LEASE_LOST or _CLOSED. */
  readonly signal: AbortSignal;
  /** For transactions of the store: refuses them once the lock has another holder. The key is the whole key. */
  readonly compare: Compare;
}

/** A lock that is held until it is released. */
export interface LockHandle extends Lock, AsyncDisposable {
  /**
   * Resolves when the next one has the lock or the store was told that it is free; when the session has ended before it
   * answered, at once: the store then deletes the lock with the lease. Idempotent, never rejects.
   */
  release(): Promise<void>;
}

export interface TryLockOptions {
  /** A part of the name that is locked by itself, such as the number of a group of customers. */
  readonly shard?: string | number;
}

export interface LockOptions extends TryLockOptions {
  /** How long to wait for the lock. @defaultValue '3s' */
  readonly timeout?: Duration;
  /** Gives up waiting. Who has the lock is told by the lock's own signal. */
  readonly signal?: AbortSignal;
}

const TIMEOUT_MS = 3_000;

/** A lock in the hands of the async context it is found in. */
interface Held {
  readonly line: string;
  hold: Hold | undefined;
}

export class Locks {
  readonly #clock: Clock;
  readonly #session: Session;
  readonly #names: Names;
  readonly #strategy: LockStrategy;
  readonly #context = new AsyncLocalStorage<Held>();
  readonly #stopListening: () => void;

  constructor(clock: Clock, session: Session, names: Names, strategy: LockStrategy) {
    this.#clock = clock;
    this.#session = session;
    this.#names = names;
    this.#strategy = strategy;
    this.#stopListening = session.onChange((change) => {
      if (change.kind === 'fenced' || change.kind === 'ended') strategy.lose(change.cause);
    });
  }

  /**
   * Runs `fn` while holding a lock.
   *
   * @param name - 1 to 200 printable ASCII characters without '/'; used either with shards or without
   * @returns what `fn` returned
   * @throws what `fn` threw
   * @throws ERR_MILLRACE_LOCK_TIMEOUT, with who holds it; the signal's reason
   * @throws ERR_MILLRACE_LOCK_NESTED when the caller holds a lock already
   * @throws ERR_MILLRACE_LEASE_LOST when `fn` returned after the lock had been lost
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION, ERR_MILLRACE_STORE_FULL, ERR_MILLRACE_CLOSED
   */
  async withLock<T>(
    name: string,
    options: LockOptions,
    fn: (lock: Lock) => Promise<T> | T,
  ): Promise<T> {
    const line = this.#names.lineOfLock(name, options.shard);
    const timeoutMs =
      options.timeout === undefined ? TIMEOUT_MS : durationMs(options.timeout, 'timeout');
    this.#refuseNested(line);
    const { signal } = options;
    signal?.throwIfAborted();
    const hold = await this.#acquire({ name, line, timeoutMs, signal, isTry: false });
    const held: Held = { line, hold };
    const owned = new OwnedHandle('lock', nameOf(line));
    try {
      const result = await this.#context.run(held, () => fn(lockOf(hold!)));
      if (hold!.lost) throw hold!.lost;
      return result;
    } finally {
      // Work that outlives `fn` is outside the lock.
      held.hold = undefined;
      owned.close();
      await this.#release(line, hold!);
    }
  }

  /**
   * Takes a lock if it is free now.
   *
   * @returns the lock, or undefined when somebody has it or waits for it
   * @throws ERR_MILLRACE_LEASE_LOST while the session is not live
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_LOCK_TIMEOUT (no answer), ERR_MILLRACE_STORE_FULL,
   *   ERR_MILLRACE_CLOSED
   */
  async tryLock(name: string, options: TryLockOptions = {}): Promise<LockHandle | undefined> {
    const line = this.#names.lineOfLock(name, options.shard);
    this.#requireLive();
    const request = { name, line, timeoutMs: TIMEOUT_MS, signal: undefined, isTry: true };
    const hold = await this.#acquire(request);
    if (hold === undefined) return undefined;
    const owned = new OwnedHandle('lock', nameOf(line));
    const release = (): Promise<void> => {
      owned.close();
      return this.#release(line, hold);
    };
    const lock = Object.assign(lockOf(hold), { release, [Symbol.asyncDispose]: release });
    owned.guard(lock);
    return lock;
  }

  /** Refuses who waits; who holds a lock has lost it. */
  async close(cause: MillraceError): Promise<void> {
    this.#stopListening();
    this.#strategy.lose(cause);
    await this.#strategy.close(cause);
  }

  async #acquire(request: LockRequest): Promise<Hold | undefined> {
    const startMs = this.#clock.monoMs();
    const hold = await this.#strategy.acquire(request);
    if (hold !== undefined) {
      publish('millrace:lock:acquired', () => ({
        name: nameOf(request.line),
        token: hold.facts.token,
        waitMs: this.#clock.monoMs() - startMs,
        isHandOff: hold.facts.isHandOff,
      }));
      this.#watch(request.line, hold);
    }
    return hold;
  }

  #release(line: string, hold: Hold): Promise<void> {
    if (!hold.isReleased) {
      publish('millrace:lock:released', () => ({
        name: nameOf(line),
        token: hold.facts.token,
        heldMs: this.#clock.monoMs() - hold.facts.grantedAtMs,
        isLost: hold.lost !== undefined,
      }));
    }
    return hold.release();
  }

  /** Reports a lock that is held for as long as a lease lives, and again each time that doubles. */
  #watch(line: string, hold: Hold, afterMs: number = this.#session.ttlMs): void {
    const wakeUp = this.#clock.wakeIn(afterMs, () => {
      const heldMs = this.#clock.monoMs() - hold.facts.grantedAtMs;
      publish('millrace:lock:held-long', () => ({
        name: nameOf(line),
        token: hold.facts.token,
        heldMs,
      }));
      this.#watch(line, hold, heldMs);
    });
    void hold.released.then(() => wakeUp.cancel());
  }

  #refuseNested(line: string): void {
    const held = this.#context.getStore();
    if (held?.hold === undefined) return;
    const [outer, inner] = [nameOf(held.line), nameOf(line)];
    throw new MillraceError(
      'ERR_MILLRACE_LOCK_NESTED',
      `lock '${inner}' is asked for while '${outer}' is held; take one lock that covers both, or use tryLock`,
      { details: { held: outer, asked: inner } },
    );
  }

  #requireLive(): void {
    const { state } = this.#session;
    if (state === 'live') return;
    throw new MillraceError(
      'ERR_MILLRACE_LEASE_LOST',
      `the session is ${state}; locks can be tried when it is live again`,
      { details: { state } },
    );
  }
}

function lockOf(hold: Hold): Lock {
  return {
    token: hold.facts.token,
    compare: hold.facts.compare,
    get signal(): AbortSignal {
      return hold.signal;
    },
  };
}

function nameOf(line: string): string {
  return line.slice(0, -1);
}
