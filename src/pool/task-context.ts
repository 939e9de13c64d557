/**
 * What a handler gets beside its input. Everything but the class itself is made when it is asked for: an
 * AbortController alone costs more than a small task.
 */
import { setMaxListeners } from 'node:events';
import type {
  ChildAnswer,
  ChildAnswers,
  ChildAsk,
  ChildHandle,
  ChildOptions,
  ChildrenOptions,
  JoinedEnd,
} from '../core/children.js';
import type { PayloadLimits } from '../core/codec.js';
import { type Duration, durationMs } from '../core/durations.js';
import { MillraceError } from '../core/errors.js';
import type { FrameReader } from '../core/frame.js';
import { executionId, type SegmentRef, taskId } from '../core/ids.js';
import { batchMetadata, readBatchEntry } from '../core/records.js';
import {
  type BatchItem,
  Cancel,
  type Children,
  type ExecutionContext,
  Snooze,
  type Submittable,
  type TaskLog,
} from '../core/task.js';
import { readConditions, readParent, readTrace, type TraceCarrier } from '../core/task-metadata.js';
import { type Ask, joinedEnds, TaskChildren } from './task-children.js';
import { type NoteDesk, TaskNotes } from './task-notes.js';

/** What a context needs of its batch. */
export interface ContextDesk extends NoteDesk {
  readonly limits: PayloadLimits;
  /** Rejects when the task at this position has ended. */
  ask(index: number, ask: ChildAsk): Promise<ChildAnswer>;
}

export class TaskContext implements ExecutionContext {
  readonly #reader: FrameReader;
  readonly #index: number;
  readonly #executor: string;
  readonly #desk: ContextDesk;
  #notes: TaskNotes | undefined;
  #children: TaskChildren | undefined;
  #execution: ExecutionContext['execution'] | undefined;
  #controller: AbortController | undefined;
  #abortReason: string | undefined;
  #isTimeout = false;

  constructor(reader: FrameReader, index: number, executor: string, desk: ContextDesk) {
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
    return readTrace(batchMetadata(this.#reader, this.#index));
  }

  get parentId(): string | undefined {
    return readParent(batchMetadata(this.#reader, this.#index));
  }

  submit<ChildInput, ChildOutput>(
    task: Submittable<ChildInput, ChildOutput> | string,
    input: ChildInput,
    options: ChildOptions = {},
  ): Promise<ChildHandle<ChildOutput>> {
    return this.#ofChildren().submit(task, input, options);
  }

  submitMany<ChildInput, ChildOutput>(
    task: Submittable<ChildInput, ChildOutput> | string,
    inputs: Iterable<ChildInput> | AsyncIterable<ChildInput>,
    options: ChildrenOptions = {},
  ): Promise<Children<ChildOutput>> {
    return this.#ofChildren().submitMany(task, inputs, options);
  }

  async joined<ChildOutput = unknown>(): Promise<readonly JoinedEnd<ChildOutput>[]> {
    const joins = readConditions(batchMetadata(this.#reader, this.#index))?.joins;
    if (joins === undefined) return [];
    const ends = await this.#desk.ask(this.#index, { kind: 'joined', ...joins });
    return joinedEnds(joins.ids, ends as ChildAnswers['joined']);
  }

  #ofChildren(): TaskChildren {
    if (this.#children === undefined) {
      // Each child that is waited for listens to it.
      setMaxListeners(0, this.signal);
      const { taskId: id, version, attempt } = this.execution;
      const { tenant, trace } = this;
      this.#children = new TaskChildren(
        { taskId: id, version, attempt, tenant, trace, signal: () => this.signal },
        this.#desk.limits,
        ((ask: ChildAsk) => this.#desk.ask(this.#index, ask)) as Ask,
      );
    }
    return this.#children;
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

/** The same of a task that is handled together with others. */
export class TaskItem extends TaskContext implements BatchItem<unknown> {
  input: unknown;
}
