/**
 * The locks of a runtime. Its session begins with the first lock: a runtime that takes none needs no lease.
 */
import type { Coordination } from './coordination/coordination.js';
import type { Lock, LockHandle, LockOptions, TryLockOptions } from './coordination/locks.js';

export class RuntimeLocks {
  readonly #coordination: Coordination;

  constructor(coordination: Coordination) {
    this.#coordination = coordination;
  }

  /**
   * Runs `fn` while holding a lock: at most one at a time among all processes on the store.
   *
   * @param name - 1 to 200 printable ASCII characters without '/'; used either with shards or without
   * @returns what `fn` returned
   * @throws what `fn` threw
   * @throws ERR_MILLRACE_LOCK_TIMEOUT, with who holds it; the signal's reason
   * @throws ERR_MILLRACE_LOCK_NESTED when the caller holds a lock already
   * @throws ERR_MILLRACE_LEASE_LOST when `fn` returned after the lock had been lost
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION, ERR_MILLRACE_STORE_FULL,
   *   ERR_MILLRACE_STORE_UNAVAILABLE, ERR_MILLRACE_CLOSED
   */
  async withLock<T>(
    name: string,
    options: LockOptions,
    fn: (lock: Lock) => Promise<T> | T,
  ): Promise<T> {
    await this.#coordination.start();
    return this.#coordination.locks.withLock(name, options, fn);
  }

  /**
   * Takes a lock if it is free now; undefined when somebody has it or waits for it.
   *
   * @throws as {@link withLock}, but never ERR_MILLRACE_LOCK_NESTED
   */
  async tryLock(name: string, options: TryLockOptions = {}): Promise<LockHandle | undefined> {
    await this.#coordination.start();
    return this.#coordination.locks.tryLock(name, options);
  }
}
