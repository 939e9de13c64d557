/**
 * A service that tasks call, in numbers: so many requests at a time it answers in its usual time, and what is beyond that
 * queues. And a caller that keeps as many requests going as its limit allows. Both on a time of their own.
 */
import type { AdaptiveLimit } from '../../src/engine/adaptive-limit.js';

export interface DownstreamOptions {
  /** Requests that it works on at once; beyond, all get slower in proportion. */
  readonly knee: number;
  /** Of an answer when nothing queues, in ms. */
  readonly usualMs: number;
  /** Times the usual; 1 by default. */
  readonly noise?: () => number;
  /** Whether a request fails as of somebody who has too much to do. */
  readonly fails?: (inFlight: number) => boolean;
}

interface Request {
  readonly endsAtMs: number;
  readonly runMs: number;
  readonly hasFailed: boolean;
}

export interface Observed {
  readonly limitMean: number;
  readonly limitMin: number;
  readonly limitMax: number;
  readonly perSecond: number;
  readonly runMsMean: number;
}

export class Load {
  nowMs = 0;
  readonly #limit: AdaptiveLimit;
  readonly #demand: number;
  #requests: Request[] = [];

  /** @param demand - never more at once, whatever the limit */
  constructor(limit: AdaptiveLimit, demand: number = Number.POSITIVE_INFINITY) {
    this.#limit = limit;
    this.#demand = demand;
  }

  /** Calls for so long. */
  run(forMs: number, downstream: DownstreamOptions): Observed {
    const endMs = this.nowMs + forMs;
    let looks = 0;
    let limitSum = 0;
    let limitMin = Number.POSITIVE_INFINITY;
    let limitMax = 0;
    let runMsSum = 0;
    let completed = 0;
    for (;;) {
      this.#fill(downstream);
      const next = this.#takeNext();
      if (next.endsAtMs > endMs) {
        this.#requests.push(next);
        break;
      }
      this.nowMs = next.endsAtMs;
      if (next.hasFailed) this.#limit.noteOverloaded();
      else {
        this.#limit.noteCompleted(next.runMs);
        runMsSum += next.runMs;
        completed++;
      }
      this.#limit.look(this.nowMs, this.#requests.length);
      const { limit } = this.#limit;
      looks++;
      limitSum += limit;
      limitMin = Math.min(limitMin, limit);
      limitMax = Math.max(limitMax, limit);
    }
    this.nowMs = endMs;
    return {
      limitMean: limitSum / looks,
      limitMin,
      limitMax,
      perSecond: (completed * 1_000) / forMs,
      runMsMean: runMsSum / completed,
    };
  }

  #fill({ knee, usualMs, noise = () => 1, fails = () => false }: DownstreamOptions): void {
    while (this.#requests.length < Math.min(this.#limit.limit, this.#demand)) {
      const inFlight = this.#requests.length + 1;
      const runMs = usualMs * Math.max(1, inFlight / knee) * noise();
      this.#requests.push({ endsAtMs: this.nowMs + runMs, runMs, hasFailed: fails(inFlight) });
    }
    this.#limit.noteInUse(this.#requests.length);
  }

  #takeNext(): Request {
    let first = 0;
    for (const [i, { endsAtMs }] of this.#requests.entries()) {
      if (endsAtMs < this.#requests[first]!.endsAtMs) first = i;
    }
    return this.#requests.splice(first, 1)[0]!;
  }
}

/** Draws of a log-normal distribution with a median of 1: `sigma` 1 is a call that mostly takes a third to three times as long. */
export function logNormal(random: { float(): number }, sigma: number): () => number {
  return () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random.float()));
    return Math.exp(sigma * radius * Math.cos(2 * Math.PI * random.float()));
  };
}
