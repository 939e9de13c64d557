/**
 * millrace: a distributed task runtime that Node.js services embed.
 */
export type { Duration } from './core/durations.js';
export {
  type ErrorCode,
  type ErrorDetails,
  type ErrorKind,
  isMillraceError,
  MillraceError,
  NonRetryableError,
} from './core/errors.js';
export type { Size } from './core/sizes.js';
export type { TaskStatus } from './core/states.js';
export {
  type AnyTask,
  type ContractOptions,
  defineTask,
  defineTasks,
  type ExecutionContext,
  type Handler,
  type RetryOptions,
  type Task,
  type TaskContract,
  type TaskModule,
} from './core/task.js';
export { createRuntime } from './millrace.js';
export type { Runtime, RuntimeStats, SubmitOptions } from './runtime.js';
export type { RuntimeOptions } from './runtime-options.js';
export {
  type FileStoreOptions,
  fileStore,
  type MemoryStoreOptions,
  memoryStore,
  type StoreFactory,
} from './store/index.js';
export type { Settlement, TaskHandle, WaitOptions } from './task-handle.js';
