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

/** A batch that runs. */
export interface RunningBatch {
  /** Aborts one task's signal with a reason. Does nothing for a task that has ended. */
  cancel(slot: number, reason: string): void;
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
  /**
   * Waits for running batches, but no longer than `graceMs`, then kills what is left; tasks killed so are reported
   * as lost with `details.reason: 'shutdown'`. `stop()` is `drain(0)`.
   */
  drain(graceMs: number): Promise<void>;
}
