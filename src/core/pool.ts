/**
 * The Pool port: where tasks run.
 *
 * The engine hands over whole batches (a frame of kind `batch`) and gets frames of kind `results` back; it never
 * sees threads. A task may report before its batch-mates. When a thread dies, what it had not reported is lost:
 * the pool says so once, and the engine decides who runs again.
 */
import type { MillraceError } from './errors.js';
import type { Service } from './service.js';

export interface BatchListener {
  /** Some tasks of the batch ended. The frame is the receiver's to keep. */
  onResults(frame: Uint8Array): void;
  /** A task of the batch says how far it is. The newest value counts; none comes after the task's result. */
  onProgress?(progress: TaskProgress): void;
  /**
   * The batch is over: every task reported, or (`loss`) its thread died and those that did not report are lost.
   * Called once, last.
   */
  onEnd(loss: MillraceError | undefined): void;
}

export interface TaskProgress {
  readonly slot: number;
  /** '' outside an engine. */
  readonly taskId: string;
  readonly json: string;
}

/** A batch that runs: what can be seen of it from outside, and done about it. */
export interface RunningBatch {
  /**
   * Aborts one task's signal with a reason. Does nothing for a task that has ended.
   *
   * @param isTimeout - whether the task's time is over; the signal's reason says so
   */
  cancel(slot: number, reason: string, isTimeout?: boolean): void;
  /**
   * When the handler of the task at this position was called, on the monotonic clock of the main thread; 0 when it
   * has not been, negative when the task has ended. No message, and no help from the thread.
   */
  startedAtMs(index: number): number;
  /**
   * Ends the thread because a task overran: all batches there end with a loss whose `details.reason` is `timeout`.
   * Does nothing on the main thread.
   */
  kill(): void;
}

export interface Pool extends Service {
  readonly threadCount: number;
  /** How many batches `run` takes now; the places of a lost thread return with its replacement. */
  readonly freePlaces: number;
  /** Called, without arguments, whenever `freePlaces` rises from 0. One listener; set before start(). */
  onFree: (() => void) | undefined;
  /**
   * Runs a batch. The frame's buffer is transferred: it must own it whole, and nobody touches it afterwards.
   * REQUIRES: freePlaces > 0.
   */
  run(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch;
  /** From now on there is a thread in reserve, for batches that must have nothing beside them. */
  keepReserve(): void;
  /** Whether `runAlone` takes a batch now. */
  readonly isReserveFree: boolean;
  /** Called, without arguments, when `isReserveFree` may have become true. One listener; set before start(). */
  onReserve: (() => void) | undefined;
  /** Runs a batch with nothing beside it in its thread. REQUIRES: isReserveFree, and what `run` requires of it. */
  runAlone(batch: Uint8Array<ArrayBuffer>, listener: BatchListener): RunningBatch;
  /**
   * Replaces so many threads, the oldest first, one at a time and without losing a batch; resolves when they have ended.
   * Absent where there are no threads.
   *
   * @param threadId - replaces this one rather than the oldest, if it is there
   */
  replaceThreads?(count: number, threadId?: number): Promise<void>;
  /** Has the threads tell what they have open, and look closely for so long; see core/handler-hooks.ts. */
  inspectThreads?(forMs: number): void;
  /**
   * Waits for running batches, but no longer than `graceMs`, then kills what is left; tasks killed so are reported
   * as lost with `details.reason: 'shutdown'`. `stop()` is `drain(0)`.
   */
  drain(graceMs: number): Promise<void>;
}
