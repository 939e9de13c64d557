/**
 * An open loop: when each arrival is to come is fixed beforehand, whatever became of the ones before.
 *
 *   intended   |  .  .  .  .  .  .  .  .        arrival n comes at startMs + n / rate
 *   done       |  .  .  ......   .  .           after a stall the missed ones come at once, and count from their own moment
 *
 * So a system that stalls shows as latency, and cannot slow down the load that measures it (coordinated omission: Tene,
 * "How NOT to measure latency").
 */
import type { ArrivalPlan } from './load.js';

/** How often a load looks at the clock. */
const TICK_MS = 1;

/** From this thread's clock to the machine's: read once, since to read the machine's own makes a BigInt each time. */
const MACHINE_OFFSET_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** A clock that all processes and threads of a machine share, in ms: CLOCK_MONOTONIC. */
export function sharedNowMs(): number {
  return performance.now() + MACHINE_OFFSET_MS;
}

export class Arrivals {
  readonly startMs: number;
  readonly total: number;
  readonly #perMs: number;
  #arrived = 0;

  /** The first arrival is now. */
  constructor({ rate, seconds }: ArrivalPlan) {
    this.startMs = sharedNowMs();
    this.total = Math.round(rate * seconds);
    this.#perMs = rate / 1_000;
  }

  get arrived(): number {
    return this.#arrived;
  }

  /** When arrival n was meant, on {@link sharedNowMs}. */
  intendedMs(n: number): number {
    return this.startMs + n / this.#perMs;
  }

  /** Calls for each arrival as its moment comes, until all have been or the signal says stop. */
  async run(arrive: (n: number, intendedMs: number) => void, signal: AbortSignal): Promise<void> {
    while (this.#arrived < this.total && !signal.aborted) {
      const due = Math.floor((sharedNowMs() - this.startMs) * this.#perMs) + 1;
      const until = Math.min(this.total, due);
      while (this.#arrived < until) {
        const n = this.#arrived++;
        arrive(n, this.intendedMs(n));
      }
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    }
  }
}
