/**
 * The naive way to lock, for comparison: `experimental: { off: ['locks'] }`.
 *
 * One key per name, whatever the shard, put if it is absent, on a lease of its own that nobody renews; whoever finds
 * it taken asks again after a pause. No line, no hand-off, no watch. It is what many services do by hand, and shows
 * what the line, the session and the shards are worth: it waits for a pause where the line is told at once, starves
 * who is unlucky, a holder that takes longer than its lease loses the lock without hearing of it, and an answer that
 * is lost leaves the key to the end of its lease.
 */

import { Backoff } from '../core/backoff.js';
import type { Clock } from '../core/clock.js';
import { isMillraceError, MillraceError } from '../core/errors.js';
import type { Random } from '../core/random.js';
import type { Key, LeaseId, LockSpace, Revision, Store } from '../core/store.js';
import { unlessAborted } from '../core/unless-aborted.js';
import { FirstAbort } from './first-abort.js';
import { Hold } from './hold.js';
import type { LockRequest, LockStrategy } from './lock-strategy.js';

const NO_VALUE = new Uint8Array(0);

export class SingleKeyLocks implements LockStrategy {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #store: Store;
  readonly #space: LockSpace;
  readonly #ttlMs: number;
  readonly #closing = new AbortController();

  constructor(
    ports: {
      readonly clock: Clock;
      readonly random: Random;
      readonly store: Store;
      readonly space: LockSpace;
    },
    ttlMs: number,
  ) {
    this.#clock = ports.clock;
    this.#random = ports.random;
    this.#store = ports.store;
    this.#space = ports.space;
    this.#ttlMs = ttlMs;
  }

  async acquire({ name, timeoutMs, signal, isTry }: LockRequest): Promise<Hold | undefined> {
    const key = `${this.#space.prefix}${name}`;
    const deadlineMs = this.#clock.monoMs() + timeoutMs;
    const backoff = new Backoff(this.#clock, this.#random);
    const giveUp = new FirstAbort(this.#closing.signal, signal);
    const { leaseId } = await this.#store.grantLease(this.#ttlMs);
    try {
      for (;;) {
        const revision = await this.#put(key, leaseId);
        if (revision !== undefined) return this.#hold(key, revision, leaseId);
        if (isTry || this.#clock.monoMs() >= deadlineMs) break;
        await backoff.pause(giveUp.signal);
      }
    } finally {
      giveUp.dispose();
    }
    if (isTry) return undefined;
    throw new MillraceError(
      'ERR_MILLRACE_LOCK_TIMEOUT',
      `lock '${name}' was not free within ${timeoutMs} ms; who holds it is not known (locks are switched off)`,
      { details: { name, timeoutMs } },
    );
  }

  /** Nobody hears of it: that is the point. */
  lose(): void {}

  async close(cause: MillraceError): Promise<void> {
    this.#closing.abort(cause);
  }

  /** @returns the revision of the put; undefined when the key was taken, or the answer never came */
  async #put(key: Key, leaseId: LeaseId): Promise<Revision | undefined> {
    const outcome = await this.#space.store.txn({
      compares: [{ target: 'create', key, operator: '=', operand: 0 }],
      success: [{ type: 'put', key, value: NO_VALUE, leaseId }],
    });
    return outcome.kind === 'done' ? outcome.revision : undefined;
  }

  #hold(key: Key, revision: Revision, leaseId: LeaseId): Hold {
    const hold = new Hold({
      token: BigInt(revision),
      compare: { target: 'mod', key, operator: '=', operand: revision },
      grantedAtMs: this.#clock.monoMs(),
      isHandOff: false,
    });
    void hold.released.then(async () => {
      // What the store does not hear ends with the lease.
      const revoked = unlessAborted(this.#store.revokeLease(leaseId), this.#closing.signal);
      await revoked.catch((error: unknown) => {
        if (!isMillraceError(error)) throw error;
      });
      hold.setFree();
    });
    return hold;
  }
}
