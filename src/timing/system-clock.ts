/**
 * The Clock of a real process: Date for wall time, `performance.now()` for monotonic time, Node's timers for waiting.
 *
 * Node turns delays above 2^31 - 1 ms into 1 ms, so long waits are walked in steps; and it may fire up to a
 * millisecond early (libuv floors its clock), so an early wake-up waits for the rest. Wake-ups run in nobody's async context:
 * the caller of `submit()` who happens to start a loop has nothing to do with its later rounds.
 */
import { outside } from '../core/async-context.js';
import type { Clock, WakeUp } from '../core/clock.js';

const STEP_MS_MAX = 2 ** 31 - 1;

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monoMs: () => performance.now(),
  wakeIn: (delayMs, wake) => new SteppedTimer(performance.now() + Math.max(0, delayMs), wake),
  wakeSoon(wake): WakeUp {
    const immediate = outside(() => setImmediate(wake));
    return { cancel: () => clearImmediate(immediate) };
  },
};

class SteppedTimer implements WakeUp {
  readonly #dueMonoMs: number;
  readonly #wake: () => void;
  #timer: NodeJS.Timeout;

  constructor(dueMonoMs: number, wake: () => void) {
    this.#dueMonoMs = dueMonoMs;
    this.#wake = wake;
    this.#timer = this.#arm();
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }

  #arm(): NodeJS.Timeout {
    const leftMs = this.#dueMonoMs - performance.now();
    // At least 1 ms: libuv before 1.48 spins when a timer re-arms itself with 0 inside its callback.
    const stepMs = Math.min(STEP_MS_MAX, Math.max(1, Math.ceil(leftMs)));
    const onTime = (): void => {
      if (performance.now() >= this.#dueMonoMs) this.#wake();
      else this.#timer = this.#arm();
    };
    const timer = outside(() => setTimeout(onTime, stepMs));
    timer.unref();
    return timer;
  }
}
