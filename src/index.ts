/**
 * millrace: a distributed task runtime that Node.js services embed.
 */
export type { AdminOptions } from './admin/admin-options.js';
export type { Client, ClientOptions } from './client.js';
export type { Lock, LockHandle, LockOptions, TryLockOptions } from './coordination/locks.js';
export type { TaskLine } from './core/channels.js';
export type {
  ChildHandle,
  ChildOptions,
  ChildrenOptions,
  JoinedEnd,
  JoinOptions,
} from './core/children.js';
export type { AdaptiveConcurrency, Concurrency } from './core/concurrency.js';
export type { Duration } from './core/durations.js';
export {
  type ErrorCode,
  type ErrorDetails,
  type ErrorKind,
  isMillraceError,
  MillraceError,
  NonRetryableError,
} from './core/errors.js';
export type { RateOptions } from './core/rate.js';
export type { Size } from './core/sizes.js';
export type { Settlement, TaskStatus } from './core/states.js';
export {
  type AnyTask,
  type BatchContext,
  type BatchHandler,
  type BatchItem,
  type BatchTask,
  type Children,
  type ContractOptions,
  defineTask,
  defineTasks,
  type ExecutionContext,
  type Handler,
  type Implementation,
  type ItemOutcome,
  type LogLevel,
  type LogMethod,
  type RetryOptions,
  type Submittable,
  type Task,
  type TaskContract,
  type TaskLog,
  type TaskModule,
} from './core/task.js';
export type { Timeout, TimeoutOptions } from './core/timeouts.js';
export type {
  DeadLetter,
  DeadLetterQuery,
  DeadLetters,
  Redriven,
  RedriveOptions,
} from './dead-letters.js';
export type { DebounceOptions } from './debounce-options.js';
export type { Explanation } from './engine/explanation.js';
export type { TaskInspection } from './engine/inspection.js';
export type { ConcurrencyInfo } from './engine/task-types.js';
export type { BreakerOptions, HealingOptions, HealingRules } from './healing/healing-options.js';
export { createClient, createRuntime } from './millrace.js';
export type { Health } from './observation.js';
export type { Runtime } from './runtime.js';
export type { PausedInfo, PauseOptions } from './runtime-control.js';
export type { CronHandle, CronInfo, CronOptions } from './runtime-cron.js';
export type { RuntimeHealing, RuntimeMetrics, RuntimeStats } from './runtime-figures.js';
export type { RuntimeLocks } from './runtime-locks.js';
export type { RuntimeOptions, Switch } from './runtime-options.js';
export type { RuntimeTuning } from './runtime-tuning.js';
export {
  type FileStoreOptions,
  fileStore,
  type MemoryStoreOptions,
  memoryStore,
  type StoreFactory,
} from './store/index.js';
export type { Ended, SubmittedMany } from './submit-many.js';
export type { SubmitManyOptions, SubmitOptions } from './submit-options.js';
export type { TaskHandle, WaitOptions } from './task-handle.js';
export type { LevelRules, LogOptions, SampleRule } from './telemetry/log-options.js';
export type { Logger, LogWrite } from './telemetry/logger.js';
export type { MetricsOptions, OtelMeter, PromRegistry } from './telemetry/metrics-options.js';
