/**
 * A Clock that only moves when told to: the same runtime code, in microseconds of real time and without luck.
 *
 * `advance(ms)` goes from wake-up to wake-up in order of their times (first asked, first woken among equals), and
 * lets everything that each one set off settle before time moves on: promises, and the `wakeSoon` calls they make.
 * Code under test that waits for real I/O (threads, files) is not waited for; give it ports that do none.
 */
import type { Clock, WakeUp } from '../core/clock.js';

interface Sleeper {
  readonly atMonoMs: number;
  readonly order: number;
  readonly wake: () => void;
}

export class VirtualClock implements Clock {
  #monoMs = 0;
  #wallOffsetMs: number;
  #order = 0;
  readonly #sleepers = new Set<Sleeper>();
  #soon: { wake: (() => void) | undefined }[] = [];

  /** @param startWallMs - the wall clock at monotonic 0. @defaultValue 2026-01-01T00:00:00Z */
  constructor(startWallMs = 1_767_225_600_000) {
    this.#wallOffsetMs = startWallMs;
  }

  wallMs(): number {
    return Math.floor(this.#wallOffsetMs + this.#monoMs);
  }

  monoMs(): number {
    return this.#monoMs;
  }

  wakeIn(delayMs: number, wake: () => void): WakeUp {
    const atMonoMs = this.#monoMs + Math.max(0, delayMs);
    const sleeper: Sleeper = { atMonoMs, order: this.#order++, wake };
    this.#sleepers.add(sleeper);
    return { cancel: () => this.#sleepers.delete(sleeper) };
  }

  wakeSoon(wake: () => void): WakeUp {
    const entry: { wake: (() => void) | undefined } = { wake };
    this.#soon.push(entry);
    return {
      cancel: () => {
        entry.wake = undefined;
      },
    };
  }

  /** Wake-ups that wait; 0 when nothing will ever happen again by itself. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  /** From now to the next wake-up, ms; Infinity: there is none. */
  get untilNextMs(): number {
    const next = this.#next();
    return next === undefined
      ? Number.POSITIVE_INFINITY
      : Math.max(0, next.atMonoMs - this.#monoMs);
  }

  /** Moves both clocks forward by `ms`, waking everybody due on the way. */
  async advance(ms: number): Promise<void> {
    const untilMonoMs = this.#monoMs + ms;
    await this.settle();
    for (let next = this.#next(); next && next.atMonoMs <= untilMonoMs; next = this.#next()) {
      this.#monoMs = Math.max(this.#monoMs, next.atMonoMs);
      this.#sleepers.delete(next);
      next.wake();
      await this.settle();
    }
    this.#monoMs = untilMonoMs;
  }

  /** Moves the wall clock alone, either way: NTP, a hand on the clock, daylight saving done wrong. */
  jumpWall(ms: number): void {
    this.#wallOffsetMs += ms;
  }

  /** Waits until nothing more happens without time passing. */
  async settle(): Promise<void> {
    do {
      await quiescence();
      const batch = this.#soon;
      this.#soon = [];
      for (const entry of batch) entry.wake?.();
      if (batch.length > 0) await quiescence();
    } while (this.#soon.length > 0);
  }

  #next(): Sleeper | undefined {
    let first: Sleeper | undefined;
    for (const sleeper of this.#sleepers) {
      if (
        first === undefined ||
        sleeper.atMonoMs < first.atMonoMs ||
        (sleeper.atMonoMs === first.atMonoMs && sleeper.order < first.order)
      ) {
        first = sleeper;
      }
    }
    return first;
  }
}

/** One turn of the real event loop: by its end every promise chain that needs no I/O has run. */
function quiescence(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
