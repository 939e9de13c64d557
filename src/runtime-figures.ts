/**
 * What a runtime tells of itself: counts, health, metrics, what healing did.
 */
import type { EngineStats } from './engine/engine-options.js';
import type { ConcurrencyInfo } from './engine/task-types.js';
import type { HealRecord } from './healing/actions.js';
import type { PausedInfo } from './runtime-control.js';

export interface RuntimeStats extends EngineStats {
  /** Batches that it could start at once. */
  readonly freePlaces: number;
  /** Submitters that wait for room. */
  readonly waiting: number;
  /** Encoded inputs of open tasks. */
  readonly openBytes: number;
  /** Worker threads that are ready. */
  readonly threads: number;
  /** Task types whose executions at once are limited on this node, and where the limits stand. */
  readonly concurrency: readonly ConcurrencyInfo[];
  /** What rests until somebody resumes it, on all nodes. */
  readonly paused: readonly PausedInfo[];
}

/** `runtime.healing`. */
export interface RuntimeHealing {
  /** The kill switch: nothing is done to the runtime while it is false. Breakers and degradation stay as they are. */
  enabled: boolean;
  /** The last 200 actions that were asked for, oldest first, with what came of each. */
  audit(): readonly HealRecord[];
}

/** `runtime.metrics`. */
export interface RuntimeMetrics {
  /** Everything counted, as text in Prometheus' format 0.0.4; '' with `metrics: false`. Also after close(). */
  prometheus(): string;
}
