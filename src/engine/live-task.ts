/**
 * Tasks this node holds in memory: one LiveTask each, grouped in the segments they are stored in.
 *
 * A LiveTask refers to its bytes in the segment's frame and copies none of them. What is kept here is always at or
 * ahead of the store: states change in memory first, the segment joins `dirty`, and the commit lane makes it
 * true. Nobody outside is told before that.
 */

import { invariant, type MillraceError } from '../core/errors.js';
import { FrameKind, type FrameReader, FrameWriter } from '../core/frame.js';
import { type SegmentRef, type TaskId, taskId } from '../core/ids.js';
import { readTask, type TaskRecord, type TaskToWrite, writeStateOf } from '../core/records.js';
import { canMove, isEnded, TaskState } from '../core/states.js';
import type { ReadyItem, TypeQueue } from './ready-queue.js';

const NO_BYTES = new Uint8Array(0);

/** How a task ended. */
export interface TaskEnd {
  readonly state: TaskState;
  /** JSON of the value (completed) or of the wire error (otherwise). */
  readonly bytes: Uint8Array;
}

/** Called once, one or the other; `next` waits for the same. */
interface EndWaiter {
  readonly resolve: (end: TaskEnd) => void;
  readonly reject: (cause: MillraceError) => void;
  readonly next: EndWaiter | undefined;
}

/** What a LiveTask takes over from its record. */
export type TaskSource = Pick<
  TaskToWrite,
  'priority' | 'expiresAtMs' | 'version' | 'attempt' | 'losses' | 'dueAtMs' | 'payloadBytes'
>;

export class LiveTask implements ReadyItem {
  readonly segment: Segment;
  readonly index: number;
  readonly type: TypeQueue<LiveTask>;
  readonly priority: number;
  readonly expiresAtMs: number;
  readonly version: number;
  /** Bytes of admission it occupies until it ends. */
  readonly admittedBytes: number;

  state: TaskState = TaskState.PENDING;
  /** Attempts started. */
  attempt: number;
  losses: number;
  /** Earliest (next) start, epoch ms. */
  dueAtMs: number;
  /** When it entered its state, by the wall clock, epoch ms. */
  atMs = 0;
  readyOrder = 0;
  isReady = false;
  /** Handle in the timer queue while it waits for a time. */
  timer: number | undefined;
  /** What the timer queue hands back when that time comes. Valid with `timer`. */
  timerToken = 0;
  /** Incarnation that claimed it, while RUNNING. */
  executor = '';
  /** Somebody asked a running task to end. */
  cancelReason: string | undefined;
  /** Set with the ended state; visible outside once `isSettled`. */
  end: TaskEnd | undefined;
  /** The end is in a commit that flies or is done. */
  isFiled = false;
  /** The end is durable. */
  isSettled = false;
  /** Who waits for the end to be durable, or for the error that keeps it from being known here. */
  waiter: EndWaiter | undefined;

  constructor(segment: Segment, index: number, record: TaskSource, type: TypeQueue<LiveTask>) {
    this.segment = segment;
    this.index = index;
    this.type = type;
    this.priority = record.priority;
    this.expiresAtMs = record.expiresAtMs;
    this.version = record.version;
    this.attempt = record.attempt;
    this.losses = record.losses;
    this.dueAtMs = record.dueAtMs;
    this.admittedBytes = record.payloadBytes;
  }

  get id(): TaskId {
    return taskId(this.segment.ref, this.index);
  }

  /** The task as submitted, read anew out of its frame. */
  get record(): TaskRecord {
    return readTask(this.segment.frame, this.index);
  }

  /** Moves to another state; the segment has to be committed afterwards. */
  moveTo(state: TaskState, atMs: number): void {
    invariant(canMove(this.state, state), 'live-task.move', { from: this.state, to: state });
    this.state = state;
    this.atMs = atMs;
    if (state !== TaskState.RUNNING) this.executor = '';
  }
}

/** A stored frame of tasks, and how far they are. */
export class Segment {
  readonly ref: SegmentRef;
  readonly frame: FrameReader;
  readonly tasks: LiveTask[] = [];
  /** Tasks whose end is not filed. */
  openCount = 0;
  /** Whether the store holds an overlay for it. */
  hasOverlay = false;
  /** Ended, and not filed yet. */
  endedTasks: LiveTask[] = [];

  constructor(ref: SegmentRef, frame: FrameReader) {
    this.ref = ref;
    this.frame = frame;
  }

  /**
   * The overlay frame. Results are filed apart, so ended tasks are bare here; and one whose end is not filed yet
   * stands as RUNNING, so that a crash before the filing makes it run again instead of vanish.
   *
   * @returns undefined when every task is as submitted
   */
  overlay(writer: FrameWriter, incarnation: string): Uint8Array<ArrayBuffer> | undefined {
    writer.reset();
    for (const task of this.tasks) {
      if (task.state === TaskState.PENDING && task.atMs === 0) continue;
      const isUnfiledEnd = isEnded(task.state) && !task.isFiled;
      // Written straight from the task: overlays are rewritten often, and a copy per task would be garbage.
      if (isUnfiledEnd) writeStateOf(writer, task, NO_BYTES, TaskState.RUNNING, incarnation);
      else writeStateOf(writer, task, NO_BYTES);
    }
    return writer.count === 0 ? undefined : writer.finish();
  }
}

/** A writer for frames of states, to be reused. */
export function stateWriter(): FrameWriter {
  return new FrameWriter(FrameKind.STATES, { records: 256, bytes: 4_096 });
}
