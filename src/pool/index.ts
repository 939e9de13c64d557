/**
 * millrace/pool: the batching worker pool by itself.
 */
export { BatchPool } from './batch-pool.js';
export type {
  AdmissionOptions,
  BatchOptions,
  BatchPoolOptions,
  BatchPoolStats,
  CloseOptions,
  ItemContext,
  ItemHandler,
  RecycleOptions,
  RunManyOptions,
  RunOptions,
  WritableOptions,
} from './batch-pool-options.js';
export type { Timeout, TimeoutOptions, Timers } from './deadlines.js';
export type { ThreadCounts } from './thread-pool.js';
