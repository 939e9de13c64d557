/**
 * Inspection: what the store knows of one task, in the words that people and programs read. Plain data: it goes through
 * JSON as it is.
 */
import { utf8 } from '../core/frame.js';
import { type SegmentRef, type TaskId, taskId } from '../core/ids.js';
import { statusOf, TaskState, type TaskStatus } from '../core/states.js';
import { readParent } from '../core/task-metadata.js';
import type { StoredTask } from './stored-task.js';

/** One task, as the store has it. Times are epoch ms. */
export interface TaskInspection {
  readonly id: TaskId;
  /** An end that is not durable yet stands as `running`. */
  readonly status: TaskStatus;
  readonly queue: string;
  readonly shard: number;
  /** Name of the task; undefined when only its end is kept. */
  readonly task: string | undefined;
  /** Id of the task whose handler submitted it; undefined: none did, or only its end is kept. */
  readonly parent: string | undefined;
  /** Whom it is for; undefined: nobody in particular, or only its end is kept. */
  readonly tenant: string | undefined;
  readonly priority: number | undefined;
  /** Attempts begun. */
  readonly attempt: number;
  /** Threads and processes that died under it. */
  readonly losses: number;
  /** Times redriven out of the dead letters. */
  readonly version: number;
  readonly submittedAtMs: number | undefined;
  /** Earliest (next) start. */
  readonly dueAtMs: number | undefined;
  /** It expires when it has not started by then. */
  readonly expiresAtMs: number | undefined;
  /** When it entered its state, by the clock of who wrote that; undefined: it is as it was submitted. */
  readonly changedAtMs: number | undefined;
  /** The process that runs it, by its incarnation; while it is running. */
  readonly executor: string | undefined;
  /** Bytes of its encoded input. */
  readonly inputBytes: number | undefined;
  /** Bytes of its encoded result. */
  readonly resultBytes: number | undefined;
  /** What it returned; of a completed task. */
  readonly result: unknown;
  /** What it ended with, as plain data; of a task that failed, was cancelled or expired. */
  readonly error: unknown;
  /** It failed for good, and is kept with its input. */
  readonly deadLetter: boolean;
}

/** What is stored of a task, told. */
export function inspectionOf(
  segment: SegmentRef,
  index: number,
  { state, task, since, isDeadLetter }: StoredTask,
): TaskInspection {
  const [queue = '', shard = ''] = segment.split('.');
  const isCompleted = state === TaskState.COMPLETED;
  const told = since !== undefined && since.bytes.length > 0 ? jsonOf(since.bytes) : undefined;
  return {
    id: taskId(segment, index),
    status: statusOf(state),
    queue,
    shard: Number.parseInt(shard, 36),
    task: task?.type,
    parent: task && readParent(task.metadata),
    tenant: task?.tenant || undefined,
    priority: task?.priority,
    attempt: since?.attempt ?? task?.attempt ?? 0,
    losses: since?.losses ?? task?.losses ?? 0,
    version: since?.version ?? task?.version ?? 0,
    submittedAtMs: task?.submittedAtMs,
    dueAtMs: state === TaskState.PENDING ? (since?.dueAtMs ?? task?.dueAtMs) : task?.dueAtMs,
    expiresAtMs: task?.expiresAtMs || undefined,
    changedAtMs: since?.atMs,
    executor: (state === TaskState.RUNNING && since?.executor) || undefined,
    inputBytes: task?.payload.length,
    resultBytes: isCompleted ? (since?.bytes.length ?? 0) : undefined,
    result: isCompleted ? told : undefined,
    error: state > TaskState.COMPLETED ? told : undefined,
    deadLetter: isDeadLetter,
  };
}

/** What does not parse is told as it stands: it is there to be looked at. */
function jsonOf(bytes: Uint8Array): unknown {
  const text = utf8(bytes);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
