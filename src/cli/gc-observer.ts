/**
 * Garbage collections of this thread, by kind.
 *
 * An observer's callback gets a list with everything since the last call: all of it counts. What is not delivered
 * yet when the observer stops is taken from its queue.
 */
import { constants, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks';

export interface GcFacts {
  readonly kind: string;
  readonly count: number;
  readonly totalMs: number;
  readonly maxMs: number;
}

const KINDS: readonly (readonly [kind: number, name: string])[] = [
  [constants.NODE_PERFORMANCE_GC_MINOR, 'minor'],
  [constants.NODE_PERFORMANCE_GC_MAJOR, 'major'],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, 'incremental'],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, 'weak callbacks'],
];

export class GcObserver {
  readonly #facts = new Map<string, { count: number; totalMs: number; maxMs: number }>(
    KINDS.map(([, name]) => [name, { count: 0, totalMs: 0, maxMs: 0 }]),
  );
  readonly #observer = new PerformanceObserver((list) => this.#note(list.getEntries()));

  /** Starts to count. */
  constructor() {
    this.#observer.observe({ entryTypes: ['gc'] });
  }

  /** Stops counting; gives what there was, every kind included. */
  stop(): GcFacts[] {
    this.#note(this.#observer.takeRecords());
    this.#observer.disconnect();
    return [...this.#facts].map(([kind, facts]) => ({ kind, ...facts }));
  }

  /** All kinds together, so far. */
  totals(): Omit<GcFacts, 'kind'> {
    let [count, totalMs, maxMs] = [0, 0, 0];
    for (const facts of this.#facts.values()) {
      count += facts.count;
      totalMs += facts.totalMs;
      maxMs = Math.max(maxMs, facts.maxMs);
    }
    return { count, totalMs, maxMs };
  }

  #note(entries: readonly PerformanceEntry[]): void {
    for (const entry of entries) {
      const { kind } = (entry as PerformanceEntry & { readonly detail: { readonly kind: number } })
        .detail;
      const name = KINDS.find(([value]) => value === kind)?.[1] ?? `kind ${kind}`;
      let facts = this.#facts.get(name);
      if (facts === undefined) {
        facts = { count: 0, totalMs: 0, maxMs: 0 };
        this.#facts.set(name, facts);
      }
      facts.count++;
      facts.totalMs += entry.duration;
      facts.maxMs = Math.max(facts.maxMs, entry.duration);
    }
  }
}
