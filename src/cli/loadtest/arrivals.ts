/**
 * An open loop: when each arrival is to come is fixed beforehand, whatever became of the ones before.
 *
 *   intended   |  .  .  .  .  .  .  .  .        arrival n comes at startMs + n / rate
 *   done       |  .  .  ......   .  .           after a stall the missed ones come at once, and count from their own moment
 *
 * So a system that stalls shows as latency, and cannot slow down the load that measures it (coordinated omission: Tene,
 * "How NOT to measure latency"). A thread of its own says when they come (`arrival-thread.ts`).
 */
import { on, once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { ArrivalPace } from './arrival-thread.js';
import type { ArrivalPlan } from './load.js';

/** What arrives within this comes together. */
const GAP_MS = 1;
const CLOCK_LOOKS = 5;

/** From this thread's clock to the machine's: read once, since to read the machine's own makes a BigInt each time. */
const MACHINE_OFFSET_MS = machineOffsetMs();

/** A clock that all processes and threads of a machine share, in ms: CLOCK_MONOTONIC. */
export function sharedNowMs(): number {
  return performance.now() + MACHINE_OFFSET_MS;
}

export class Arrivals {
  readonly startMs: number;
  readonly total: number;
  readonly #perMs: number;
  readonly #thread: Worker;
  /** How many have come so far, each time the thread says so; kept for whoever begins to run. */
  readonly #told: AsyncIterableIterator<readonly number[]>;
  #arrived = 0;

  /** Resolves when the thread runs; the first arrival is then. Whoever starts it must run it, which ends the thread. */
  static async start({ rate, seconds }: ArrivalPlan): Promise<Arrivals> {
    const pace = { perMs: rate / 1_000, total: Math.round(rate * seconds), gapMs: GAP_MS };
    const thread = new Worker(new URL('./arrival-thread.js', import.meta.url), {
      workerData: pace satisfies ArrivalPace,
    });
    await once(thread, 'message');
    return new Arrivals(pace, thread);
  }

  private constructor({ perMs, total }: ArrivalPace, thread: Worker) {
    this.total = total;
    this.#perMs = perMs;
    this.#thread = thread;
    this.#told = on(thread, 'message');
    this.startMs = sharedNowMs();
    thread.postMessage(this.startMs);
  }

  get arrived(): number {
    return this.#arrived;
  }

  /** When arrival n was meant, on {@link sharedNowMs}. */
  intendedMs(n: number): number {
    return this.startMs + n / this.#perMs;
  }

  /** Calls for each arrival as its moment comes, until all have been or the signal says stop. */
  async run(arrive: (n: number, intendedMs: number) => void, signal?: AbortSignal): Promise<void> {
    const stop = (): void => void this.#told.return?.();
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted) stop();
    try {
      if (this.total === 0) return;
      for await (const [told = 0] of this.#told) {
        while (this.#arrived < told) {
          const n = this.#arrived++;
          arrive(n, this.intendedMs(n));
        }
        if (this.#arrived === this.total) return;
      }
    } finally {
      signal?.removeEventListener('abort', stop);
      await this.#thread.terminate();
    }
  }
}

/** The tightest of several looks: this thread may be put aside between the two clocks. */
function machineOffsetMs(): number {
  let offsetMs = 0;
  let apartMs = Number.POSITIVE_INFINITY;
  for (let look = 0; look < CLOCK_LOOKS; look++) {
    const before = performance.now();
    const machineMs = Number(process.hrtime.bigint()) / 1e6;
    const after = performance.now();
    if (after - before < apartMs) {
      apartMs = after - before;
      offsetMs = machineMs - before;
    }
  }
  return offsetMs;
}
