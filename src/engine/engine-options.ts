/**
 * What an engine is made of, and what it counts.
 */
import type { Clock } from '../core/clock.js';
import type { Incarnation } from '../core/ids.js';
import type { Random } from '../core/random.js';
import type { RateSpec } from '../core/rate.js';
import type { Store } from '../core/store.js';
import type { TaskSpec } from '../core/task.js';
import type { Timers } from '../pool/deadlines.js';
import type { ClusterOptions } from './cluster-ports.js';
import type { Pools } from './executions.js';
import type { RetentionMs } from './janitor.js';

export interface EngineOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  readonly pools: Pools;
  /** For deadlines of tasks; same time as the clock's. @defaultValue the clock */
  readonly timers?: Timers;
  readonly specs: Iterable<TaskSpec>;
  /** This life of this process; new for every start. */
  readonly incarnation: Incarnation;
  /** Names the commit lane in the store. */
  readonly node: string;
  /** Absent: nobody shares the store. */
  readonly cluster?: ClusterOptions;
  /** How much of what runs here a tenant gets in relation to others. @defaultValue 1 for each */
  readonly weights?: ReadonlyMap<string, number>;
  /** Of each type that has none of its own, or of each tenant. @defaultValue no limit */
  readonly rate?: RateSpec | undefined;
  readonly retention: RetentionMs;
  /** How many single submits may share a segment; less than the default to measure what that is worth. @defaultValue SEGMENT_TASKS_MAX */
  readonly segmentTasksMax?: number;
}

export interface EngineStats {
  /** Accepted and not durably ended. */
  readonly open: number;
  readonly delayed: number;
  readonly ready: number;
  readonly running: number;
  /** How many ends became durable here since it started. */
  readonly ended: number;
}
