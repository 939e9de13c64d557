/**
 * How many threads a pool should have, out of how loaded it is.
 *
 *   watermark = 0.4 busy + 0.3 memory + 0.3 queue, the mean over a sliding window
 *
 *   CPU >= 85 %, memory >= 90 %, queue >= 80 %, all three   grow by a fifth, at once
 *   memory >= 90 % and queue >= 80 %                        grow by a tenth, at once
 *   CPU >= 85 % and neither of the others                   watch for 15 s, then one thread less
 *   watermark > 0.75 over a whole window                    one thread more
 *   watermark < 0.4 for the shrink delay                    one thread less, if the others can take its work
 *   to grow, but less memory is free than a thread takes    shed: the same threads, and work is turned away
 *
 * `busy` is the larger of two shares: CPU time in use, and threads in use. Threads that wait are short of threads,
 * not of CPU, and one thread that computes on eight cores is a busy pool on an idle machine.
 *
 * Against flapping: (1) after every change the window starts anew, so a change is judged by what came of it; (2) a
 * thread leaves only when the busy share of the rest stays clearly below full; (3) a thread that had to come back
 * soon after one left was taken away too early, and doubles the patience before the next leaves for that reason;
 * patience comes back to normal with a shrink that nobody regretted.
 *
 * Invariants: min <= threads <= max; one step at a time, never two within a window, except that growing at once may
 * follow a shrink. No clock and no I/O in the policy: readings and time come in.
 */
import type { WakeUp } from '../core/clock.js';
import { BaseService } from '../core/service.js';
import type { Timers } from './deadlines.js';

/** One look at a pool and its machine. Shares are from 0 to 1. */
export interface Load {
  /** CPU time in use, of what the process may use. */
  readonly cpu: number;
  /** Threads that have work. */
  readonly busy: number;
  /** Memory in use, of what the process may use. */
  readonly memory: number;
  /** 1: as much waits as may. */
  readonly queue: number;
  readonly freeBytes: number;
  /** What one more thread takes, as measured. */
  readonly threadBytes: number;
}

export interface ScaleOptions {
  readonly min: number;
  readonly max: number;
  /** Over which loads are averaged. @defaultValue 10000 */
  readonly windowMs?: number;
  /** How long the watermark is low before a thread leaves. @defaultValue 30000 */
  readonly shrinkDelayMs?: number;
}

export interface ScaleStep {
  /** How many threads there should be. */
  readonly threads: number;
  readonly reason: 'steady' | 'saturated' | 'starved' | 'cpu-alone' | 'high' | 'low' | 'shed';
}

const HIGH = 0.75;
const LOW = 0.4;
const CPU_FULL = 0.85;
const MEMORY_FULL = 0.9;
const QUEUE_FULL = 0.8;
const CPU_ALONE_MS = 15_000;
/** Of the threads that stay, when one leaves. */
const BUSY_AFTER_SHRINK_MAX = 0.75;
/**
 * How many times the usual. A pool that fills its machine and keeps up looks like one that should shrink for ever:
 * there patience grows to an hour, for low load to eight minutes.
 */
const PATIENCE_MAX = { low: 16, 'cpu-alone': 256 } as const;

type ShrinkReason = keyof typeof PATIENCE_MAX;

interface Sample {
  readonly atMs: number;
  readonly watermark: number;
  readonly busy: number;
}

export class ScalePolicy {
  readonly #min: number;
  readonly #max: number;
  readonly #windowMs: number;
  readonly #shrinkDelayMs: number;
  #samples: Sample[] = [];
  /** When the last change was made, or the first look taken. */
  #changedAtMs: number | undefined;
  #lowSinceMs: number | undefined;
  #cpuAloneSinceMs: number | undefined;
  /** The last change, if it was a shrink that nobody has regretted. */
  #shrunk: { readonly atMs: number; readonly reason: ShrinkReason } | undefined;
  readonly #patience: Record<ShrinkReason, number> = { low: 1, 'cpu-alone': 1 };

  /** REQUIRES: 1 <= min <= max. */
  constructor({ min, max, windowMs = 10_000, shrinkDelayMs = 30_000 }: ScaleOptions) {
    this.#min = min;
    this.#max = max;
    this.#windowMs = windowMs;
    this.#shrinkDelayMs = shrinkDelayMs;
  }

  /** Takes a look into account. Calls come with rising time, several per window. */
  step(load: Load, threads: number, nowMs: number): ScaleStep {
    const watermark = this.#note(load, nowMs);
    this.#changedAtMs ??= nowMs;
    const settled = nowMs - this.#changedAtMs >= this.#windowMs;
    const isMemoryFull = load.memory >= MEMORY_FULL;
    const isQueueFull = load.queue >= QUEUE_FULL;
    const isCpuFull = load.cpu >= CPU_FULL;
    const share = isMemoryFull && isQueueFull ? (isCpuFull ? 0.2 : 0.1) : 0;
    this.#cpuAloneSinceMs =
      isCpuFull && !isMemoryFull && !isQueueFull ? (this.#cpuAloneSinceMs ?? nowMs) : undefined;
    this.#lowSinceMs = watermark < LOW ? (this.#lowSinceMs ?? nowMs) : undefined;

    if (share > 0 && (settled || this.#shrunk?.atMs === this.#changedAtMs)) {
      const more = Math.max(1, Math.round(threads * share));
      return this.#grow(load, threads, {
        more,
        reason: isCpuFull ? 'saturated' : 'starved',
        nowMs,
      });
    }
    if (!settled) return { threads, reason: 'steady' };
    if (watermark > HIGH) return this.#grow(load, threads, { more: 1, reason: 'high', nowMs });
    const cpuAloneMs = nowMs - (this.#cpuAloneSinceMs ?? nowMs);
    if (cpuAloneMs >= CPU_ALONE_MS * this.#patience['cpu-alone'])
      return this.#shrink(threads, 'cpu-alone', nowMs);
    const lowMs = nowMs - (this.#lowSinceMs ?? nowMs);
    if (lowMs >= this.#shrinkDelayMs * this.#patience.low && this.#canSpareOne(threads)) {
      return this.#shrink(threads, 'low', nowMs);
    }
    return { threads, reason: 'steady' };
  }

  /** Adds a sample, forgets old ones, and returns the mean watermark. */
  #note({ cpu, busy, memory, queue }: Load, nowMs: number): number {
    const most = Math.max(cpu, busy);
    this.#samples.push({ atMs: nowMs, watermark: 0.4 * most + 0.3 * memory + 0.3 * queue, busy });
    this.#samples = this.#samples.filter(({ atMs }) => nowMs - atMs <= this.#windowMs);
    return this.#mean('watermark');
  }

  #mean(of: 'watermark' | 'busy'): number {
    return this.#samples.reduce((sum, sample) => sum + sample[of], 0) / this.#samples.length;
  }

  #canSpareOne(threads: number): boolean {
    return (this.#mean('busy') * threads) / Math.max(1, threads - 1) <= BUSY_AFTER_SHRINK_MAX;
  }

  #grow(
    { freeBytes, threadBytes }: Load,
    threads: number,
    {
      more,
      reason,
      nowMs,
    }: {
      readonly more: number;
      readonly reason: ScaleStep['reason'];
      readonly nowMs: number;
    },
  ): ScaleStep {
    const affordable = Math.floor(freeBytes / Math.max(1, threadBytes));
    if (affordable < 1) return { threads, reason: 'shed' };
    const target = Math.min(this.#max, threads + Math.min(more, affordable));
    if (target <= threads) return { threads, reason: 'steady' };
    this.#regret(nowMs);
    this.#change(nowMs);
    return { threads: target, reason };
  }

  /** Growth soon after a shrink says that the shrink was wrong. */
  #regret(nowMs: number): void {
    if (this.#shrunk === undefined) return;
    const { atMs, reason } = this.#shrunk;
    this.#shrunk = undefined;
    if (nowMs - atMs > 2 * this.#shrinkDelayMs * this.#patience.low) return;
    this.#patience[reason] = Math.min(PATIENCE_MAX[reason], this.#patience[reason] * 2);
  }

  #shrink(threads: number, reason: ShrinkReason, nowMs: number): ScaleStep {
    if (threads <= this.#min) return { threads, reason: 'steady' };
    if (this.#shrunk !== undefined) this.#patience[this.#shrunk.reason] = 1;
    this.#change(nowMs);
    this.#shrunk = { atMs: nowMs, reason };
    return { threads: threads - 1, reason };
  }

  #change(nowMs: number): void {
    this.#samples = [];
    this.#changedAtMs = nowMs;
    this.#lowSinceMs = undefined;
    this.#cpuAloneSinceMs = undefined;
  }
}

/** What an autoscaler acts on. */
export interface Scaled {
  /** Threads there should be. */
  readonly size: number;
  resize(threads: number): Promise<void>;
  /** Whether new work is to be turned away, for want of memory. */
  shed(isShedding: boolean): void;
}

const LOOK_EVERY_MS = 1_000;

/**
 * Looks once a second and resizes. What the pool does by hand meanwhile is taken as it is.
 */
export class Autoscaler extends BaseService {
  readonly #timers: Timers;
  readonly #pool: Scaled;
  readonly #read: () => Load;
  readonly #policy: ScalePolicy;
  #wakeUp: WakeUp | undefined;
  #resizing: Promise<void> = Promise.resolve();

  constructor(timers: Timers, pool: Scaled, read: () => Load, options: ScaleOptions) {
    super();
    this.#timers = timers;
    this.#pool = pool;
    this.#read = read;
    this.#policy = new ScalePolicy(options);
  }

  protected async onStart(): Promise<void> {
    if (!this.isStopping) this.#wait();
  }

  protected async onStop(): Promise<void> {
    this.#wakeUp?.cancel();
    await this.#resizing;
  }

  #wait(): void {
    this.#wakeUp = this.#timers.wakeIn(LOOK_EVERY_MS, () => this.#look());
  }

  #look(): void {
    const { size } = this.#pool;
    const { threads, reason } = this.#policy.step(this.#read(), size, this.#timers.monoMs());
    this.#pool.shed(reason === 'shed');
    // A thread that cannot be started any more is the pool's trouble, and told there.
    if (threads !== size) this.#resizing = this.#pool.resize(threads).catch(() => {});
    this.#wait();
  }
}
