/**
 * TestClock: virtual time for a service under test. What needs no time happens by itself, as in a real process: a service
 * that awaits `runtime.submit()` goes on without anybody moving the clock. Everything else waits for `advance`.
 */
import type { WakeUp } from '../core/clock.js';
import { type Duration, durationMs } from '../core/durations.js';
import { VirtualClock } from './virtual-clock.js';

/** So little time passes by itself: the grain of the native wheel, and less than any delay that is asked for. */
const GRAIN_MS = 2;

export class TestClock extends VirtualClock {
  /** One move at a time: two at once would set the clock back. */
  #moves: Promise<void> = Promise.resolve();
  #queuedMs = 0;
  #isQueued = false;

  override wakeIn(delayMs: number, wake: () => void): WakeUp {
    if (delayMs <= GRAIN_MS) this.#letPass(delayMs);
    return super.wakeIn(delayMs, wake);
  }

  override wakeSoon(wake: () => void): WakeUp {
    this.#letPass(0);
    return super.wakeSoon(wake);
  }

  /**
   * Lets so much time pass: everything that is due on the way happens, in order. Handlers that wait for something real (a
   * socket, a file) are not waited for; `drain` does that.
   *
   * @throws ERR_MILLRACE_INVALID_DURATION
   */
  override advance(time: Duration): Promise<void> {
    const ms = durationMs(time, 'time');
    const move = this.#moves.then(() => super.advance(ms));
    this.#moves = move;
    return move;
  }

  #letPass(ms: number): void {
    this.#queuedMs = Math.max(this.#queuedMs, ms);
    if (this.#isQueued) return;
    this.#isQueued = true;
    this.#moves = this.#moves.then(() => {
      const queuedMs = this.#queuedMs;
      this.#queuedMs = 0;
      this.#isQueued = false;
      return super.advance(Math.max(0, queuedMs));
    });
  }
}
