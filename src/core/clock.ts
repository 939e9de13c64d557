/**
 * The Clock port: the only way `core`, `coordination` and `engine` learn the time or wait for it.
 *
 * Two clocks in one, because they answer different questions. The wall clock says *when* something is due and
 * may jump; the monotonic clock says *how long* something took and never goes back. What is stored is wall time;
 * what is measured or waited for is monotonic. `VirtualClock` (millrace/testing) drives the same code in tests.
 */

/** A pending wake-up. */
export interface WakeUp {
  /** Forgets the wake-up. Harmless after it fired, and twice. */
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the Unix epoch; may jump either way. */
  wallMs(): number;
  /** Milliseconds since some fixed moment of this process; fractional, never goes back. */
  monoMs(): number;
  /**
   * Calls `wake` once, no earlier than `delayMs` from now on the monotonic clock. Delays of any size are safe.
   * The wake-up does not keep the process alive.
   */
  wakeIn(delayMs: number, wake: () => void): WakeUp;
  /** Calls `wake` once, after the I/O that is ready now: the way to yield without starving the event loop. */
  wakeSoon(wake: () => void): WakeUp;
}

/** A moment on both clocks. */
export interface Instant {
  /** Epoch ms. */
  readonly wallMs: number;
  /** Of the clock that never jumps. */
  readonly monoMs: number;
}

/** The present. */
export function instantOf(clock: Clock): Instant {
  return { wallMs: clock.wallMs(), monoMs: clock.monoMs() };
}

/** Resolves after `delayMs` on the clock; rejects with the signal's reason when that aborts first. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = (): void => {
      wakeUp.cancel();
      reject(signal?.reason);
    };
    const wakeUp = clock.wakeIn(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
