/**
 * How long to wait before asking again: from 25 ms, doubling to a bound, each a random part of its step, so that
 * those who failed together do not come back together.
 */
import { type Clock, sleep } from './clock.js';
import { hasCode } from './errors.js';
import type { Random } from './random.js';

const FIRST_MS = 25;
const MAX_MS = 1_000;

export class Backoff {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #maxMs: number;
  #stepMs = FIRST_MS;

  constructor(clock: Clock, random: Random, options: { readonly maxMs?: number } = {}) {
    this.#clock = clock;
    this.#random = random;
    this.#maxMs = Math.min(MAX_MS, options.maxMs ?? MAX_MS);
  }

  /** Waits for half to all of the current step, and doubles it. @throws the signal's reason */
  async pause(signal?: AbortSignal): Promise<void> {
    const stepMs = Math.min(this.#stepMs, this.#maxMs);
    this.#stepMs *= 2;
    await sleep(this.#clock, stepMs * (0.5 + this.#random.float() / 2), signal);
  }
}

/** Whether asking the store again may help. */
export function isTransient(error: unknown): boolean {
  return hasCode(error, 'ERR_MILLRACE_STORE_UNAVAILABLE');
}
