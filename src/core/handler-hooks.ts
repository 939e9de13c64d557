/**
 * What is woven around the handlers where they run: the port between the pool, which calls them, and those who watch them
 * from within. A worker thread loads the modules that its pool is told to; each exports `createHooks`.
 */
import type { TraceCarrier } from './task-metadata.js';

/** A task whose handler is called. */
export interface HookedTask {
  readonly type: string;
  readonly trace: TraceCarrier | undefined;
}

/** None of them throws. */
export interface HandlerHooks {
  /** Calls the handler, and gives what it gives. Absent while there is nothing to weave. */
  readonly around?: (<T>(task: HookedTask, call: () => T) => T) | undefined;
  /** A batch with tasks of these types is about to run. */
  onBatch?(types: readonly string[]): void;
  /** All batches have ended. */
  onQuiet?(): void;
  /** Tells what is open, and looks at every handle that is opened for so long; 0: only tells. */
  inspect?(forMs: number): void;
}

/** Handles that tasks left open behind them. */
export interface LeftHandles {
  readonly type: string;
  /** As Node calls them. */
  readonly kind: string;
  readonly count: number;
  /** Where one of them was opened, as a stack; '' where that was not looked at. */
  readonly site: string;
}

/** What is open in a thread. */
export interface HandleReport {
  /** By kind, as Node calls them. */
  readonly open: Readonly<Record<string, number>>;
  /** Since the last report. */
  readonly left: readonly LeftHandles[];
}

/** The thread, for its hooks. */
export interface HookSite {
  tell(report: HandleReport): void;
}

/** What a module that is woven in exports. */
export interface HooksModule {
  createHooks(site: HookSite): HandlerHooks | Promise<HandlerHooks>;
}
