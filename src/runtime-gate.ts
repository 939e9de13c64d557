/**
 * The cluster as healing sees it: a lock of its own, and marks in the store that end by themselves.
 *
 *   x/<hash of the key>   it has been said      (on a lease that nobody renews)
 */
import { createHash } from 'node:crypto';
import { MillraceError } from './core/errors.js';
import type { HealGate } from './core/heal-gate.js';
import type { Store } from './core/store.js';
import type { RuntimeLocks } from './runtime-locks.js';

const PREFIX = 'x/';

export class RuntimeGate implements HealGate {
  readonly #store: Store;
  readonly #locks: RuntimeLocks;

  constructor(store: Store, locks: RuntimeLocks) {
    this.#store = store;
    this.#locks = locks;
  }

  async exclusive(name: string, act: () => Promise<void>): Promise<boolean> {
    const lock = await this.#locks.tryLock(name);
    if (lock === undefined) return false;
    try {
      await act();
    } finally {
      await lock.release();
    }
    return true;
  }

  async once(key: string, ttlMs: number): Promise<boolean> {
    // Keys come from outside: hashed, they have one length and no character that the store refuses.
    const mark = PREFIX + createHash('sha256').update(key).digest('hex');
    // A repetition is the common case, and costs no lease.
    if ((await this.#store.get(mark)) !== undefined) return false;
    const lease = await this.#store.grantLease(ttlMs);
    const outcome = await this.#store.txn({
      compares: [{ target: 'create', key: mark, operator: '=', operand: 0 }],
      success: [{ type: 'put', key: mark, value: new Uint8Array(0), leaseId: lease.leaseId }],
    });
    if (outcome.kind === 'done') return true;
    if (outcome.kind === 'refused') {
      await this.#store.revokeLease(lease.leaseId);
      return false;
    }
    // It may be there: whoever asks next is told no, so this one must not act either.
    throw new MillraceError(
      'ERR_MILLRACE_STORE_UNAVAILABLE',
      'the store did not say whether a mark was made; ask again later',
      { cause: outcome.cause },
    );
  }
}
