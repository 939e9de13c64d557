/**
 * What a handler gets beside its input. Everything but the class itself is made when it is asked for: an
 * AbortController alone costs more than a small task.
 */
import { type Duration, durationMs } from '../core/durations.js';
import { MillraceError } from '../core/errors.js';
import type { FrameReader } from '../core/frame.js';
import { executionId, type SegmentRef, taskId } from '../core/ids.js';
import { readBatchEntry } from '../core/records.js';
import { Cancel, type ExecutionContext, Snooze, type TaskLog } from '../core/task.js';
import { readTrace, type TraceCarrier } from '../core/task-metadata.js';
import { type NoteDesk, TaskNotes } from './task-notes.js';

export class TaskContext implements ExecutionContext {
  readonly #reader: FrameReader;
  readonly #index: number;
  readonly #executor: string;
  readonly #desk: NoteDesk;
  #notes: TaskNotes | undefined;
  #execution: ExecutionContext['execution'] | undefined;
  #controller: AbortController | undefined;
  #abortReason: string | undefined;
  #isTimeout = false;

  constructor(reader: FrameReader, index: number, executor: string, desk: NoteDesk) {
    this.#reader = reader;
    this.#index = index;
    this.#executor = executor;
    this.#desk = desk;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#abortReason !== undefined)
        this.#controller.abort(this.#abortError(this.#abortReason));
    }
    return this.#controller.signal;
  }

  get execution(): ExecutionContext['execution'] {
    if (this.#execution === undefined) {
      const entry = readBatchEntry(this.#reader, this.#index);
      const task = taskId(entry.segment as SegmentRef, entry.index);
      this.#execution = {
        id: executionId(task, entry.attempt, this.#executor),
        taskId: task,
        attempt: entry.attempt,
        version: entry.version,
        token: BigInt(Math.trunc(entry.token)),
      };
    }
    return this.#execution;
  }

  get type(): string {
    const at = this.#reader.recordAt(this.#index);
    return this.#reader.string(this.#reader.view.getUint16(at + 4, true));
  }

  get tenant(): string | undefined {
    const at = this.#reader.recordAt(this.#index);
    return this.#reader.string(this.#reader.view.getUint16(at + 6, true)) || undefined;
  }

  get traceparent(): string | undefined {
    return this.trace?.traceparent;
  }

  /** Where the task comes from; read anew each time, which is seldom more than once. */
  get trace(): TraceCarrier | undefined {
    const at = this.#reader.recordAt(this.#index);
    if (this.#reader.view.getUint32(at + 44, true) === 0) return undefined;
    return readTrace(readBatchEntry(this.#reader, this.#index).metadata);
  }

  get log(): TaskLog {
    return this.#noted();
  }

  progress(value: unknown): void {
    this.#noted().progress(value);
  }

  /** The task is about to end. */
  closeNotes(): void {
    this.#notes?.close();
  }

  #noted(): TaskNotes {
    if (this.#notes === undefined) {
      const { slot, segment, type, attempt } = readBatchEntry(this.#reader, this.#index);
      this.#notes = new TaskNotes(this.#desk, this.#index, {
        slot,
        taskId: segment === '' ? '' : this.execution.taskId,
        type,
        attempt,
        tenant: this.tenant,
      });
    }
    return this.#notes;
  }

  snooze(delay: Duration): Snooze {
    return new Snooze(durationMs(delay, 'snooze'));
  }

  cancel(reason = 'cancelled by its handler'): Cancel {
    return new Cancel(String(reason));
  }

  /** Why the signal was aborted, if it was. */
  get abortReason(): string | undefined {
    return this.#abortReason;
  }

  /** Aborts the signal. The first reason stays. */
  abort(reason: string, isTimeout = false): void {
    if (this.#abortReason !== undefined) return;
    this.#abortReason = reason;
    this.#isTimeout = isTimeout;
    this.#controller?.abort(this.#abortError(reason));
  }

  #abortError(reason: string): MillraceError {
    return this.#isTimeout
      ? new MillraceError('ERR_MILLRACE_TASK_TIMEOUT', reason)
      : new MillraceError('ERR_MILLRACE_TASK_CANCELLED', `the task was cancelled: ${reason}`, {
          details: { reason },
        });
  }
}
