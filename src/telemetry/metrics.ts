/**
 * The metrics of a runtime: counts what its channels say, reads what only the runtime knows, and gives it out as text
 * or to the library that the host uses.
 */
import { BaseService } from '../core/service.js';
import { Subscriptions } from '../core/subscriptions.js';
import { countHealing } from './healing-metrics.js';
import { MetricRegistry } from './metric-registry.js';
import { handToOtel, handToProm, prometheusText } from './metrics-handover.js';
import type { MetricsOptions } from './metrics-options.js';
import { countProcess } from './process-metrics.js';
import { countStore } from './store-metrics.js';
import { countTasks } from './task-metrics.js';

/** What a runtime knows without being asked by a channel. */
export interface RuntimeFigures {
  readonly delayed: number;
  readonly ready: number;
  readonly running: number;
  readonly openBytes: number;
  readonly waiting: number;
  readonly threads: number;
  /** How many of a task type may run at once, where that is limited. */
  readonly concurrency: readonly { readonly task: string; readonly limit: number }[];
}

export interface MetricsParts {
  readonly incarnation: string;
  readonly version: string;
  /** Monotonic. */
  readonly nowMs: () => number;
  /** Log lines held back, by level. */
  readonly suppressed: () => Readonly<Record<string, number>>;
}

export class Metrics extends BaseService {
  readonly registry: MetricRegistry = new MetricRegistry();
  readonly #options: MetricsOptions;
  readonly #parts: MetricsParts;
  readonly #events: Subscriptions;
  readonly #undo: (() => void)[] = [];

  constructor(options: MetricsOptions, parts: MetricsParts) {
    super();
    this.#options = options;
    this.#parts = parts;
    this.#events = new Subscriptions(parts.incarnation);
  }

  /** Everything as text for Prometheus (format 0.0.4). */
  prometheus(): string {
    return prometheusText(this.registry);
  }

  /** From now on the runtime's own figures are in it. */
  follow(figures: () => RuntimeFigures): void {
    this.registry.onCollect(() => {
      const { delayed, ready, running, openBytes, waiting, threads, concurrency } = figures();
      this.registry.cell('tasks', 'delayed').set(delayed);
      this.registry.cell('tasks', 'ready').set(ready);
      this.registry.cell('tasks', 'running').set(running);
      this.registry.cell('openBytes').set(openBytes);
      this.registry.cell('submittersWaiting').set(waiting);
      this.registry.cell('poolThreads').set(threads);
      for (const { task, limit } of concurrency) {
        this.registry.cell('concurrencyLimit', task).set(limit);
      }
    });
  }

  protected async onStart(): Promise<void> {
    const { registry, meter } = this.#options;
    const { version, nowMs, suppressed } = this.#parts;
    countTasks(this.registry, this.#events);
    countStore(this.registry, this.#events);
    countHealing(this.registry, this.#events);
    this.#undo.push(countProcess(this.registry));
    this.registry.cell('buildInfo', version, process.version).set(1);
    this.registry.onCollect(() => {
      for (const [level, lines] of Object.entries(suppressed())) {
        if (lines > 0) this.registry.cell('logsSuppressed', level).raiseTo(lines);
      }
    });
    if (registry !== undefined) this.#undo.push(handToProm(this.registry, registry, nowMs));
    if (meter !== undefined) this.#undo.push(handToOtel(this.registry, meter, nowMs));
  }

  protected async onStop(): Promise<void> {
    this.#events.close();
    for (const undo of this.#undo.splice(0)) undo();
  }
}
