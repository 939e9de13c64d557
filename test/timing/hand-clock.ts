/** A clock that is turned by hand and wakes at once, in the caller's own stack: what a wake-up throws arrives there. */
import assert from 'node:assert/strict';
import type { Clock, WakeUp } from '../../src/core/clock.js';

interface Sleeper {
  readonly atMs: number;
  readonly wake: () => void;
}

export class HandClock implements Clock {
  #nowMs: number;
  readonly #sleepers = new Set<Sleeper>();
  readonly #soon = new Set<() => void>();
  /** How often somebody was woken at a time, and in the next turn. */
  wakeCount = 0;
  soonCount = 0;
  /** The I/O that has its turn before those who are woken soon. */
  onTurn: () => void = () => {};

  constructor(startMs = 0) {
    this.#nowMs = startMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  monoMs(): number {
    return this.#nowMs;
  }

  wakeIn(delayMs: number, wake: () => void): WakeUp {
    assert.ok(delayMs >= 1, `a wake-up in ${delayMs} ms would spin`);
    const sleeper: Sleeper = { atMs: this.#nowMs + delayMs, wake };
    this.#sleepers.add(sleeper);
    return { cancel: () => this.#sleepers.delete(sleeper) };
  }

  wakeSoon(wake: () => void): WakeUp {
    this.#soon.add(wake);
    return { cancel: () => this.#soon.delete(wake) };
  }

  get sleeping(): number {
    return this.#sleepers.size + this.#soon.size;
  }

  /** Those who would be woken if no time passed. */
  get dueCount(): number {
    return this.#soon.size + [...this.#sleepers].filter(({ atMs }) => atMs <= this.#nowMs).length;
  }

  /** Time passes without anybody being woken, as while a callback runs. */
  pass(ms: number): void {
    this.#nowMs += ms;
  }

  /** One turn of those who wait for the next one. */
  turn(): void {
    this.onTurn();
    for (const wake of [...this.#soon]) {
      if (!this.#soon.delete(wake)) continue;
      this.soonCount++;
      wake();
    }
  }

  /** Moves time on by `ms`, waking everybody due on the way. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      while (this.#soon.size > 0) this.turn();
      let first: Sleeper | undefined;
      for (const sleeper of this.#sleepers) {
        if (first === undefined || sleeper.atMs < first.atMs) first = sleeper;
      }
      if (first === undefined || first.atMs > untilMs) break;
      this.#sleepers.delete(first);
      this.#nowMs = Math.max(this.#nowMs, first.atMs);
      this.wakeCount++;
      first.wake();
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }
}
