/**
 * What the collector did: pauses as node:perf_hooks reports them, and what was allocated, from `v8.GCProfiler`.
 *
 * The observer is given lists; each of their entries counts, since under load several collections arrive together.
 * The profiler says how full the heap was before and after each collection. What grew between the end of one and the
 * beginning of the next has been allocated.
 */
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { GCProfiler, getHeapStatistics } from 'node:v8';

export interface Collections {
  readonly youngGcs: number;
  readonly oldGcs: number;
  readonly pauseTotalMs: number;
  readonly pauseMeanMs: number;
  readonly pauseMaxMs: number;
  readonly allocatedBytes: number;
}

export class CollectorWatch {
  readonly #profiler = new GCProfiler();
  readonly #pausesMs: number[] = [];
  #youngGcs = 0;
  #heapBefore = 0;
  readonly #observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) this.#note(entry);
  });

  start(): void {
    this.#observer.observe({ entryTypes: ['gc'] });
    this.#heapBefore = getHeapStatistics().used_heap_size;
    this.#profiler.start();
  }

  /** Resolves when all collections so far have been reported. */
  async stop(): Promise<Collections> {
    const heapAfter = getHeapStatistics().used_heap_size;
    const { statistics } = this.#profiler.stop();
    await new Promise((resolve) => setTimeout(resolve, 50));
    this.#observer.disconnect();
    let allocatedBytes = 0;
    let usedBefore = this.#heapBefore;
    for (const { beforeGC, afterGC } of statistics) {
      allocatedBytes += Math.max(0, beforeGC.heapStatistics.usedHeapSize - usedBefore);
      usedBefore = afterGC.heapStatistics.usedHeapSize;
    }
    allocatedBytes += Math.max(0, heapAfter - usedBefore);
    const pauseTotalMs = this.#pausesMs.reduce((sum, ms) => sum + ms, 0);
    return {
      youngGcs: this.#youngGcs,
      oldGcs: this.#pausesMs.length - this.#youngGcs,
      pauseTotalMs,
      pauseMeanMs: this.#pausesMs.length === 0 ? 0 : pauseTotalMs / this.#pausesMs.length,
      pauseMaxMs: Math.max(0, ...this.#pausesMs),
      allocatedBytes,
    };
  }

  #note(entry: { readonly duration: number; readonly detail?: unknown }): void {
    const { kind } = entry.detail as { readonly kind: number };
    this.#pausesMs.push(entry.duration);
    if (kind === constants.NODE_PERFORMANCE_GC_MINOR) this.#youngGcs++;
  }
}
