/**
 * What the process itself tells: CPU, memory, garbage, and how late the main thread is. Read at the scrape, but for
 * garbage collections, which Node reports as they happen.
 *
 * The floor of the heap is what a major collection leaves behind: the one figure of the heap whose rise means something.
 */

import { availableParallelism } from 'node:os';
import { monitorEventLoopDelay, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import type { MetricRegistry } from './metric-registry.js';

/** How often the loop's lateness is sampled; what is measured includes it. */
const RESOLUTION_MS = 20;
/** `detail.kind` of Node's GC entries. */
const GC_KINDS: Readonly<Record<number, string>> = {
  1: 'minor',
  2: 'minor',
  4: 'major',
  8: 'incremental',
  16: 'weak',
};
const MAJOR = 4;

/** @returns ends it */
export function countProcess(metrics: MetricRegistry): () => void {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  const collections = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { duration, detail } = entry as PerformanceEntry & { detail: { kind: number } };
      const { kind } = detail;
      const name = GC_KINDS[kind] ?? 'other';
      metrics.cell('gcEvents', name).add();
      metrics.cell('gcSeconds', name).add(duration / 1_000);
      if (kind === MAJOR) metrics.cell('heapFloor').set(getHeapStatistics().used_heap_size);
    }
  });
  collections.observe({ entryTypes: ['gc'] });
  metrics.onCollect(() => {
    const { user, system } = process.cpuUsage();
    metrics.cell('cpuSeconds', 'user').raiseTo(user / 1e6);
    metrics.cell('cpuSeconds', 'system').raiseTo(system / 1e6);
    metrics.cell('cpus').set(availableParallelism());
    metrics.cell('residentBytes').set(process.memoryUsage.rss());
    metrics.cell('heapLimit').set(getHeapStatistics().heap_size_limit);
    for (const percentile of [50, 99, 100]) {
      const lateMs = delays.count === 0 ? 0 : delays.percentile(percentile) / 1e6 - RESOLUTION_MS;
      metrics.cell('eventLoopDelay', String(percentile)).set(Math.max(0, lateMs) / 1_000);
    }
    delays.reset();
  });
  return () => {
    delays.disable();
    collections.disconnect();
  };
}
