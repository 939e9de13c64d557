/**
 * ExecutionRef: which execution of a task a letter speaks of.
 *
 * The executor is whoever sends the letter, or gets it. Of what one node has run of a task, the attempt alone does not tell one
 * execution from another: a loss gives it back, so the next one has the same number. A node that was taken for dead, and
 * has the task again later, has run both.
 */
import { type SegmentRef, type TaskId, taskId } from '../core/ids.js';
import type { TaskHandle, TaskTable } from '../timing/task-table.js';

/** One execution of a node. */
export interface ExecutionRef {
  readonly task: TaskId;
  readonly attempt: number;
  /** Threads and processes that had died under the task before. Absent: none. */
  readonly losses?: number;
  /** Times that the task had been redriven. Absent: never. */
  readonly version?: number;
}

/** The execution that the table names. REQUIRES: the table has the task. */
export function executionOf(table: TaskTable, task: TaskHandle): ExecutionRef {
  const { segment, index, attempt, losses, version } = table.inspect(task)!;
  return {
    task: taskId(table.segmentRef(segment) as SegmentRef, index),
    attempt,
    ...(losses > 0 && { losses }),
    ...(version > 0 && { version }),
  };
}

/** Whether two are the same execution, of one node. */
export function isSameExecution(one: ExecutionRef, other: ExecutionRef): boolean {
  return nameOfExecution(one) === nameOfExecution(other);
}

/** `<task>:<attempt>:<losses>:<version>` */
export function nameOfExecution({ task, attempt, losses = 0, version = 0 }: ExecutionRef): string {
  return `${task}:${attempt}:${losses}:${version}`;
}
