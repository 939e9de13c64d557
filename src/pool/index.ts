/**
 * millrace/pool: the batching worker pool by itself.
 */
export {
  type AdmissionOptions,
  type BatchOptions,
  BatchPool,
  type BatchPoolOptions,
  type BatchPoolStats,
  type CloseOptions,
  type ItemContext,
  type ItemHandler,
  type RecycleOptions,
  type RunManyOptions,
  type RunOptions,
  type WritableOptions,
} from './batch-pool.js';
export type { Timeout, TimeoutOptions, Timers } from './deadlines.js';
export type { ThreadCounts } from './thread-pool.js';
