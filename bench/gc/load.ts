/**
 * The load of the bench: timers scheduled at a steady rate and fired into a function that does nothing, in real time.
 *
 * The generator allocates next to nothing, so that garbage is the contender's: tokens index arrays made beforehand,
 * lateness goes into buckets, and one interval of a millisecond drives everything. Each of its ticks reads the clock
 * once, fires what is due and schedules what has been missing since the last tick. setTimeout fires by itself instead.
 *
 * Contenders are given whole milliseconds, which V8 passes on without making an object of them; a due time is therefore
 * up to a millisecond after the moment meant. Lateness counts from the moment meant, for all alike.
 *
 * Half of the longest delay's timers are pending once the load is steady. To get there at once, those timers are
 * scheduled before it begins, with what would be left of their delays.
 */
import { randomUint32 } from '../timers/workload.js';

export interface GcLoad {
  readonly perSecond: number;
  /** Delays are spread over `[0, delayMaxMs)`. */
  readonly delayMaxMs: number;
  /** Bytes kept with each timer from scheduling to firing; 0 for none. */
  readonly payloadBytes: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
}

/** What the load sees of a contender. */
export interface Driven {
  schedule(dueMs: number, delayMs: number, token: number): void;
  /** Fires what is due, telling `sink` of each; a contender that fires by itself does nothing. */
  pump(nowMs: number): void;
}

/** Lateness in buckets of 20 us up to 200 ms, and what was early. */
export class Lateness {
  static readonly #PER_MS = 50;
  static readonly #MS_MAX = 200;
  readonly #buckets = new Float64Array(Lateness.#PER_MS * Lateness.#MS_MAX + 1);
  readonly #extremes = new Float64Array(3);

  /** Nothing is kept of what came before. */
  reset(): void {
    this.#buckets.fill(0);
    this.#extremes.fill(0);
  }

  note(lateMs: number): void {
    const extremes = this.#extremes;
    extremes[0]!++;
    if (lateMs > extremes[1]!) extremes[1] = lateMs;
    if (lateMs < 0) {
      extremes[2]!++;
      this.#buckets[0]!++;
      return;
    }
    const bucket = Math.min(this.#buckets.length - 1, Math.floor(lateMs * Lateness.#PER_MS));
    this.#buckets[bucket]!++;
  }

  get count(): number {
    return this.#extremes[0]!;
  }

  get maxMs(): number {
    return this.#extremes[1]!;
  }

  /** How many fired before their time. */
  get early(): number {
    return this.#extremes[2]!;
  }

  /** The upper end of the bucket in which this share of all is reached. */
  percentileMs(share: number): number {
    const wanted = this.count * share;
    let seen = 0;
    for (let bucket = 0; bucket < this.#buckets.length; bucket++) {
      seen += this.#buckets[bucket]!;
      if (seen >= wanted) return Math.min(this.maxMs, (bucket + 1) / Lateness.#PER_MS);
    }
    return this.maxMs;
  }
}

/** Tokens and when each is due. Used again long after the timer has fired. */
export class Tokens {
  readonly dues: Float64Array;
  readonly #mask: number;
  readonly #state = new Uint32Array(1);

  constructor({ perSecond, delayMaxMs }: GcLoad) {
    const pendingMax = (perSecond * delayMaxMs) / 1000;
    // Twice as many as can be pending, since a stalled contender fires late.
    const count = 2 ** Math.ceil(Math.log2(pendingMax * 2));
    this.dues = new Float64Array(count);
    this.#mask = count - 1;
  }

  next(): number {
    const token = this.#state[0]!;
    this.#state[0] = (token + 1) & this.#mask;
    return token;
  }
}

const DELAYS = 65_536;

/** Runs the load; resolves when its time is over. `onMeasure` is called when the warm-up is over. */
export function runLoad(
  driven: Driven,
  load: GcLoad,
  tokens: Tokens,
  onMeasure: () => void,
): Promise<void> {
  const { perSecond, delayMaxMs } = load;
  const random = randomUint32(5);
  const delays = new Float64Array(DELAYS).map(() => random() % delayMaxMs);
  prefill(driven, load, tokens);

  const perMs = perSecond / 1000;
  // Counters in an array: as variables they would become numbers on the heap.
  const counters = new Float64Array(2);
  counters[0] = performance.now();
  const measureAtMs = counters[0] + load.warmUpMs;
  const endAtMs = measureAtMs + load.measureMs;
  let isMeasuring = false;
  return new Promise((resolve, reject) => {
    const interval = setInterval(() => {
      try {
        const nowMs = performance.now();
        driven.pump(nowMs);
        if (!isMeasuring && nowMs >= measureAtMs) {
          isMeasuring = true;
          onMeasure();
        }
        let missing = Math.floor((nowMs - counters[0]!) * perMs) - counters[1]!;
        while (missing-- > 0) {
          const index = counters[1]!++ % DELAYS;
          const delayMs = delays[index]!;
          const token = tokens.next();
          tokens.dues[token] = nowMs + delayMs;
          driven.schedule(Math.ceil(nowMs) + delayMs, delayMs, token);
        }
        if (nowMs >= endAtMs) {
          clearInterval(interval);
          resolve();
        }
      } catch (error) {
        clearInterval(interval);
        reject(error);
      }
    }, 1);
  });
}

/** As many timers as are pending when the load is steady: a timer's remaining delay is r with density 1 - r/max. */
function prefill(driven: Driven, { perSecond, delayMaxMs }: GcLoad, tokens: Tokens): void {
  const random = randomUint32(6);
  const count = (perSecond * delayMaxMs) / 2000;
  const nowMs = performance.now();
  for (let i = 0; i < count; i++) {
    const delayMs = Math.floor(delayMaxMs * (1 - Math.sqrt(random() / 2 ** 32)));
    const token = tokens.next();
    tokens.dues[token] = nowMs + delayMs;
    driven.schedule(Math.ceil(nowMs) + delayMs, delayMs, token);
  }
}
