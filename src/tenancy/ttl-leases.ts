/**
 * Leases for entries with a time to live, shared: a lease for each entry would be the store's heaviest object for its
 * lightest data.
 *
 *   granted for ttl + 5 %        |<------ entries put here share it ------>|
 *                                0                                      5 % of ttl
 *
 * So an entry lives at least its ttl, and at most about a tenth longer. One lease takes up to 500 entries, since a server
 * ends all of a lease's entries in one step.
 */
import type { Clock } from '../core/clock.js';
import type { LeaseId, Store } from '../core/store.js';

const SPREAD = 0.05;
const ENTRIES_MAX = 500;
/** Different spans that are remembered. */
const SPANS_MAX = 100;

interface SharedLease {
  readonly leaseId: Promise<LeaseId>;
  /** Monotonic; what is put later gets another lease. */
  readonly untilMs: number;
  entries: number;
}

export class TtlLeases {
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #bySpan = new Map<number, SharedLease>();

  constructor(clock: Clock, store: Store) {
    this.#clock = clock;
    this.#store = store;
  }

  /** A lease that ends `ttlMs` from now, or a little later. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  leaseFor(ttlMs: number): Promise<LeaseId> {
    const nowMs = this.#clock.monoMs();
    let lease = this.#bySpan.get(ttlMs);
    if (lease === undefined || lease.untilMs < nowMs || lease.entries >= ENTRIES_MAX) {
      lease = this.#grant(ttlMs, nowMs);
    }
    lease.entries++;
    return lease.leaseId;
  }

  /** A lease has turned out to be over, e.g. revoked by hand: the next entry gets another. */
  forget(ttlMs: number): void {
    this.#bySpan.delete(ttlMs);
  }

  #grant(ttlMs: number, nowMs: number): SharedLease {
    if (this.#bySpan.size >= SPANS_MAX) this.#bySpan.clear();
    const leaseId = this.#store.grantLease(Math.ceil(ttlMs * (1 + SPREAD))).then(
      (granted) => granted.leaseId,
      (error: unknown) => {
        if (this.#bySpan.get(ttlMs) === lease) this.#bySpan.delete(ttlMs);
        throw error;
      },
    );
    const lease = { leaseId, untilMs: nowMs + ttlMs * SPREAD, entries: 0 };
    this.#bySpan.set(ttlMs, lease);
    return lease;
  }
}
