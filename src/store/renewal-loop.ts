/**
 * When to renew a lease: at once, then regularly while the process makes progress, sooner after a failure.
 *
 *   |----- everyMs -----|----- everyMs -----|- everyMs / 4 -|...
 *   renew: answered     renew: no answer    renew           (hung: looks again, renews nothing)
 *
 * Every store keeps leases by this loop: the local ones on the main thread, etcd's on the sentinel's. A hung process
 * loses its lease on all of them alike. Only the store's word ends the loop; silence never does.
 */
import type { Clock, WakeUp } from '../core/clock.js';
import { hasCode, type MillraceError } from '../core/errors.js';
import type { KeepLeaseOptions, Lease, LeaseId, LeaseKeeper, LeaseRenewal } from '../core/store.js';

/** How much sooner than usual a failed renewal is tried again. */
const RETRY_SHARE = 4;

export interface Renewing {
  readonly everyMs: number;
  readonly hangLimitMs: number;
  /** How long ago the process last said that it makes progress. */
  readonly progressAgeMs: () => number;
  readonly renew: () => Promise<Lease>;
  readonly onRenewed: (renewal: LeaseRenewal) => void;
  /** Called once, at the end: with the store's word that the lease has ended, or after stop() without. */
  readonly onEnd: (lost?: MillraceError) => void;
}

export class RenewalLoop {
  readonly #clock: Clock;
  readonly #renewing: Renewing;
  #wakeUp: WakeUp;
  #isEnded = false;

  constructor(clock: Clock, renewing: Renewing) {
    this.#clock = clock;
    this.#renewing = renewing;
    // Not inside the constructor: who is called back must hold the loop first.
    this.#wakeUp = clock.wakeSoon(() => this.renewNow());
  }

  renewNow(): void {
    if (this.#isEnded) return;
    this.#wakeAfter(this.#renewing.everyMs);
    const sentAtMs = this.#clock.monoMs();
    this.#renewing.renew().then(
      ({ ttlMs }) => {
        if (!this.#isEnded) this.#renewing.onRenewed({ sentAtMs, ttlMs });
      },
      (error: unknown) => {
        if (hasCode(error, 'ERR_MILLRACE_LEASE_LOST')) this.stop(error);
        else if (!this.#isEnded) this.#wakeAfter(this.#renewing.everyMs / RETRY_SHARE);
      },
    );
  }

  /** @param lost - the store's word that the lease has ended */
  stop(lost?: MillraceError): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#wakeUp.cancel();
    this.#renewing.onEnd(lost);
  }

  #wakeAfter(delayMs: number): void {
    this.#wakeUp.cancel();
    this.#wakeUp = this.#clock.wakeIn(delayMs, () => {
      if (this.#renewing.progressAgeMs() <= this.#renewing.hangLimitMs) this.renewNow();
      else this.#wakeAfter(this.#renewing.everyMs);
    });
  }
}

/** The keeper of the stores inside this process: the loop on the thread of everything else. */
export class LocalLeaseKeeper implements LeaseKeeper {
  readonly leaseId: LeaseId;
  readonly #clock: Clock;
  readonly #loop: RenewalLoop;
  #progressAtMs: number;
  #lastRenewal: LeaseRenewal | undefined;

  /** @param onStopped - called once, when nothing will be renewed any more */
  constructor(
    clock: Clock,
    lease: Lease,
    options: KeepLeaseOptions,
    renew: () => Promise<Lease>,
    onStopped: () => void,
  ) {
    this.leaseId = lease.leaseId;
    this.#clock = clock;
    this.#progressAtMs = clock.monoMs();
    this.#loop = new RenewalLoop(clock, {
      everyMs: options.everyMs ?? lease.ttlMs / 3,
      hangLimitMs: options.hangLimitMs ?? lease.ttlMs,
      progressAgeMs: () => clock.monoMs() - this.#progressAtMs,
      renew,
      onRenewed: (renewal) => {
        this.#lastRenewal = renewal;
        options.onRenewed?.(renewal);
      },
      onEnd: (lost) => {
        onStopped();
        if (lost) options.onLost?.(lost);
      },
    });
  }

  lastRenewal(): LeaseRenewal | undefined {
    return this.#lastRenewal;
  }

  progress(): void {
    this.#progressAtMs = this.#clock.monoMs();
  }

  renewNow(): void {
    this.#loop.renewNow();
  }

  stop(): Promise<void> {
    this.#loop.stop();
    return Promise.resolve();
  }
}
