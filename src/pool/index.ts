/**
 * millrace/pool: the batching worker pool by itself.
 */
export type { TaskLine } from '../core/channels.js';
export type { LogLevel, LogMethod, TaskLog } from '../core/task.js';
export type { Timeout, TimeoutOptions } from '../core/timeouts.js';
export { BatchPool } from './batch-pool.js';
export type {
  AdmissionOptions,
  BatchOptions,
  BatchPoolOptions,
  BatchPoolStats,
  CloseOptions,
  ItemContext,
  ItemHandler,
  PoolTuning,
  RecycleOptions,
  RunManyOptions,
  RunOptions,
  WritableOptions,
} from './batch-pool-options.js';
export type { Timers } from './deadlines.js';
export type { ThreadCounts } from './thread-pool.js';
