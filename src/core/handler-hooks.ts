/**
 * What is woven around the handlers where they run: the port between the pool, which calls them, and those who watch them
 * from within. A worker thread loads the modules that its pool is told to; each exports `createHooks`.
 */
import type { TraceCarrier } from './task-metadata.js';

/** A task whose handler is called. */
export interface HookedTask {
  readonly trace: TraceCarrier | undefined;
}

export interface HandlerHooks {
  /** Calls the handler, and gives what it gives. Never throws by itself. */
  around<T>(task: HookedTask, call: () => T): T;
}

/** What a module that is woven in exports. */
export interface HooksModule {
  createHooks(): HandlerHooks | Promise<HandlerHooks>;
}
