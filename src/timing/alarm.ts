/**
 * The one wake-up that all timers of a `Timers` share: at a time, or in the next turn of the event loop.
 *
 * An alarm is set to one thing at a time; setting it again forgets what it was set to. It is always armed in the async
 * context in which it was made: Node's timers run in that of their arming, and whoever happens to arm this one has
 * nothing to do with the timers of others.
 */
import { AsyncResource } from 'node:async_hooks';
import { performance } from 'node:perf_hooks';
import type { Clock, WakeUp } from '../core/clock.js';

/** Node fires longer ones after 1 ms. */
const DELAY_MS_MAX = 2 ** 31 - 1;

export interface Alarm {
  /** Milliseconds on the alarm's clock; fractional, never goes back. */
  nowMs(): number;
  /** Rings in about `delayMs`: possibly early, and early for certain when that is longer than 24 days. */
  set(delayMs: number): void;
  /** Rings after the I/O that is ready now. */
  setSoon(): void;
  cancel(): void;
  /** Whether an alarm that is set keeps the process alive. */
  keepAlive(isKept: boolean): void;
}

/** An alarm on Node's own timers. */
export class NodeAlarm implements Alarm {
  readonly #scope = new AsyncResource('millrace.Timers', { requireManualDestroy: true });
  readonly #ring: () => void;
  #timeout: NodeJS.Timeout | undefined;
  /** Set by `setSoon`; then a timeout stands next to it, unless it keeps the process alive. */
  #immediate: NodeJS.Immediate | undefined;
  #isKept = false;

  constructor(ring: () => void) {
    this.#ring = () => {
      this.cancel();
      ring();
    };
  }

  nowMs(): number {
    return performance.now();
  }

  set(delayMs: number): void {
    this.cancel();
    this.#scope.runInAsyncScope(() => this.#arm(delayMs));
  }

  setSoon(): void {
    this.cancel();
    this.#scope.runInAsyncScope(() => {
      this.#immediate = setImmediate(this.#ring);
      if (this.#isKept) return;
      this.#immediate.unref();
      // An immediate that nobody waits for does not keep the event loop from waiting for I/O.
      this.#arm(1);
    });
  }

  cancel(): void {
    if (this.#timeout !== undefined) clearTimeout(this.#timeout);
    if (this.#immediate !== undefined) clearImmediate(this.#immediate);
    this.#timeout = undefined;
    this.#immediate = undefined;
  }

  keepAlive(isKept: boolean): void {
    if (isKept === this.#isKept) return;
    this.#isKept = isKept;
    if (this.#immediate !== undefined) this.setSoon();
    else if (isKept) this.#timeout?.ref();
    else this.#timeout?.unref();
  }

  #arm(delayMs: number): void {
    // At least 1 ms: libuv before 1.48 spins when a timer re-arms itself with 0 inside its callback.
    const ms = Math.min(DELAY_MS_MAX, Math.max(1, Math.ceil(delayMs)));
    this.#timeout = setTimeout(this.#ring, ms);
    if (!this.#isKept) this.#timeout.unref();
  }
}

/** An alarm on a given clock, whose wake-ups never keep the process alive. */
export class ClockAlarm implements Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #wakeUp: WakeUp | undefined;

  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  nowMs(): number {
    return this.#clock.monoMs();
  }

  set(delayMs: number): void {
    this.cancel();
    this.#wakeUp = this.#clock.wakeIn(Math.max(1, delayMs), this.#ring);
  }

  setSoon(): void {
    this.cancel();
    this.#wakeUp = this.#clock.wakeSoon(this.#ring);
  }

  cancel(): void {
    this.#wakeUp?.cancel();
    this.#wakeUp = undefined;
  }

  keepAlive(): void {}
}
