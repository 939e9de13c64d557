/**
 * The lease keeper of the stores inside this process: one renewal at a time on the store's own clock.
 *
 * It shares its thread with everything else, so a process that hangs renews nothing anyway. The gate on progress is
 * kept all the same: what runs above must lose its lease here exactly when it would lose it on etcd.
 */
import type { Clock, WakeUp } from '../../core/clock.js';
import { hasCode, type MillraceError } from '../../core/errors.js';
import type {
  KeepLeaseOptions,
  Lease,
  LeaseId,
  LeaseKeeper,
  LeaseRenewal,
} from '../../core/store.js';

export interface LocalKeeping {
  readonly everyMs: number;
  readonly hangLimitMs: number;
  readonly renew: () => Promise<Lease>;
  readonly onRenewed: KeepLeaseOptions['onRenewed'];
  readonly onLost: KeepLeaseOptions['onLost'];
  /** Called once, when nothing will be renewed any more. */
  readonly onStopped: () => void;
}

export class LocalLeaseKeeper implements LeaseKeeper {
  readonly leaseId: LeaseId;
  readonly #clock: Clock;
  readonly #keeping: LocalKeeping;
  #progressAtMs: number;
  #wakeUp: WakeUp;
  #lastRenewal: LeaseRenewal | undefined;
  #isStopped = false;

  constructor(clock: Clock, leaseId: LeaseId, keeping: LocalKeeping) {
    this.#clock = clock;
    this.leaseId = leaseId;
    this.#keeping = keeping;
    this.#progressAtMs = clock.monoMs();
    // Not inside the constructor: who is called back must hold the keeper first.
    this.#wakeUp = clock.wakeSoon(() => this.renewNow());
  }

  lastRenewal(): LeaseRenewal | undefined {
    return this.#lastRenewal;
  }

  progress(): void {
    this.#progressAtMs = this.#clock.monoMs();
  }

  renewNow(): void {
    if (this.#isStopped) return;
    this.#wakeUp.cancel();
    this.#wakeUp = this.#clock.wakeIn(this.#keeping.everyMs, () => this.#renewInTurn());
    const sentAtMs = this.#clock.monoMs();
    this.#keeping.renew().then(
      ({ ttlMs }) => {
        if (this.#isStopped) return;
        this.#lastRenewal = { sentAtMs, ttlMs };
        this.#keeping.onRenewed?.(this.#lastRenewal);
      },
      (error: unknown) => {
        if (hasCode(error, 'ERR_MILLRACE_LEASE_LOST')) this.#lose(error);
      },
    );
  }

  stop(): Promise<void> {
    if (!this.#isStopped) {
      this.#isStopped = true;
      this.#wakeUp.cancel();
      this.#keeping.onStopped();
    }
    return Promise.resolve();
  }

  #renewInTurn(): void {
    if (this.#clock.monoMs() - this.#progressAtMs <= this.#keeping.hangLimitMs) this.renewNow();
    else this.#wakeUp = this.#clock.wakeIn(this.#keeping.everyMs, () => this.#renewInTurn());
  }

  #lose(cause: MillraceError): void {
    if (this.#isStopped) return;
    void this.stop();
    this.#keeping.onLost?.(cause);
  }
}
