/**
 * The leases of a local store: who has one, until when, and which keys hang on it.
 *
 * Leases live in memory only, since they end with the process that holds them. A lease is live until its deadline
 * on the monotonic clock, also when nobody got around to noticing; from then on it is *ended*: it can neither be
 * renewed nor used, and it stays in the table until the transaction that deletes its keys is through.
 *
 * One wake-up serves them all. It is armed for the earliest deadline there was; renewals only move deadlines away,
 * so they touch no timer, and a wake-up that finds nothing due arms the next.
 */
import type { Clock, WakeUp } from '../../core/clock.js';
import { MillraceError } from '../../core/errors.js';
import type { Key, Lease, LeaseId } from '../../core/store.js';

/** etcd's bound, 9 000 000 000 seconds, which keeps deadlines exact. */
const TTL_MS_MAX = 9e12;

interface Tenure {
  readonly ttlMs: number;
  deadlineMs: number;
  isEnded: boolean;
  readonly keys: Set<Key>;
}

export class LeaseTable {
  readonly #incarnation: number;
  readonly #onEnd: (leaseId: LeaseId) => void;
  readonly #leases = new Map<LeaseId, Tenure>();
  readonly #leaseOfKey = new Map<Key, LeaseId>();
  #clock: Clock;
  #granted = 0;
  #wakeUp: WakeUp | undefined;
  #wakeAtMs = Number.POSITIVE_INFINITY;

  /**
   * @param incarnation - differs each time a store is opened, so that no id is ever given twice; 32 bits
   * @param onEnd - called once for every lease whose time is over
   */
  constructor(clock: Clock, incarnation: number, onEnd: (leaseId: LeaseId) => void) {
    this.#clock = clock;
    this.#incarnation = incarnation;
    this.#onEnd = onEnd;
  }

  /** @throws ERR_MILLRACE_INVALID_OPTION for a ttl that is no positive number of milliseconds */
  grant(ttlMs: number): Lease {
    if (!(ttlMs > 0 && ttlMs <= TTL_MS_MAX)) {
      throw new MillraceError(
        'ERR_MILLRACE_INVALID_OPTION',
        `lease ttl is ${String(ttlMs)} ms; give more than 0 and at most ${TTL_MS_MAX} ms`,
        { details: { ttlMs, ttlMsMax: TTL_MS_MAX } },
      );
    }
    this.#granted += 1;
    const leaseId = (hex32(this.#incarnation) + hex32(this.#granted)) as LeaseId;
    const deadlineMs = this.#clock.monoMs() + ttlMs;
    this.#leases.set(leaseId, { ttlMs, deadlineMs, isEnded: false, keys: new Set() });
    this.#wakeBy(deadlineMs);
    return { leaseId, ttlMs };
  }

  /** @throws ERR_MILLRACE_LEASE_LOST when it has ended */
  renew(leaseId: LeaseId): Lease {
    const lease = this.require(leaseId);
    lease.deadlineMs = this.#clock.monoMs() + lease.ttlMs;
    return { leaseId, ttlMs: lease.ttlMs };
  }

  /** @throws ERR_MILLRACE_LEASE_LOST unless the lease is live */
  require(leaseId: LeaseId): Tenure {
    const lease = this.#leases.get(leaseId);
    if (lease && !lease.isEnded && lease.deadlineMs <= this.#clock.monoMs()) {
      lease.isEnded = true;
      this.#onEnd(leaseId);
    }
    if (lease && !lease.isEnded) return lease;
    throw new MillraceError(
      'ERR_MILLRACE_LEASE_LOST',
      `lease ${leaseId} has ended, or was never granted; grant a new one`,
      { details: { leaseId } },
    );
  }

  /** Ends a lease before its time. @returns false when there is nothing to end */
  end(leaseId: LeaseId): boolean {
    const lease = this.#leases.get(leaseId);
    if (!lease) return false;
    lease.isEnded = true;
    return true;
  }

  /** Registers a lease that ended with an earlier process and left these keys behind. */
  inherit(leaseId: LeaseId, keys: Iterable<Key>): void {
    this.#leases.set(leaseId, { ttlMs: 0, deadlineMs: 0, isEnded: true, keys: new Set() });
    for (const key of keys) this.attach(key, leaseId);
  }

  /** Forgets an ended lease whose keys are gone. */
  remove(leaseId: LeaseId): void {
    this.#leases.delete(leaseId);
  }

  /** Hangs a key on a lease, or on none. */
  attach(key: Key, leaseId: LeaseId | undefined): void {
    const current = this.#leaseOfKey.get(key);
    if (current === leaseId) return;
    if (current !== undefined) {
      this.#leases.get(current)?.keys.delete(key);
      this.#leaseOfKey.delete(key);
    }
    if (leaseId !== undefined) {
      this.#leases.get(leaseId)?.keys.add(key);
      this.#leaseOfKey.set(key, leaseId);
    }
  }

  leaseOf(key: Key): LeaseId | undefined {
    return this.#leaseOfKey.get(key);
  }

  keysOf(leaseId: LeaseId): readonly Key[] {
    return [...(this.#leases.get(leaseId)?.keys ?? [])];
  }

  /** Goes on with another clock; every lease keeps the time it has left. */
  useClock(clock: Clock): void {
    if (clock === this.#clock) return;
    const shiftMs = clock.monoMs() - this.#clock.monoMs();
    for (const lease of this.#leases.values()) lease.deadlineMs += shiftMs;
    this.stop();
    this.#clock = clock;
    this.#wakeForNext();
  }

  /** Ends no lease by itself any more. */
  stop(): void {
    this.#wakeUp?.cancel();
    this.#wakeUp = undefined;
    this.#wakeAtMs = Number.POSITIVE_INFINITY;
  }

  #wakeBy(deadlineMs: number): void {
    if (deadlineMs >= this.#wakeAtMs) return;
    this.stop();
    this.#wakeAtMs = deadlineMs;
    this.#wakeUp = this.#clock.wakeIn(deadlineMs - this.#clock.monoMs(), () => {
      this.stop();
      this.#endDue();
      this.#wakeForNext();
    });
  }

  #endDue(): void {
    const nowMs = this.#clock.monoMs();
    for (const [leaseId, lease] of this.#leases) {
      if (lease.isEnded || lease.deadlineMs > nowMs) continue;
      lease.isEnded = true;
      this.#onEnd(leaseId);
    }
  }

  #wakeForNext(): void {
    let earliestMs = Number.POSITIVE_INFINITY;
    for (const lease of this.#leases.values()) {
      if (!lease.isEnded) earliestMs = Math.min(earliestMs, lease.deadlineMs);
    }
    if (earliestMs < Number.POSITIVE_INFINITY) this.#wakeBy(earliestMs);
  }
}

function hex32(value: number): string {
  return value.toString(16).padStart(8, '0');
}
