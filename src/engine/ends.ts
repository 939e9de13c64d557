/**
 * How tasks end, as bytes: the JSON that is stored, told to waiters, and read back by handles.
 */

import { formatMs } from '../core/durations.js';
import { fromWire, toWire } from '../core/error-wire.js';
import { MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import type { TaskId } from '../core/ids.js';
import type { TaskState } from '../core/states.js';

/** How a task ended. */
export interface TaskEnd {
  readonly state: TaskState;
  /** The value (completed) or the wire error (otherwise) as JSON; empty for `undefined`. */
  readonly json: string;
}

/** What errors say of a task. */
export interface TaskFacts {
  readonly id: TaskId;
  readonly type: string;
  readonly attempt: number;
}

/** The error a failed task ends with: ours, with what the handler threw as its cause. */
export function failedBytes(task: TaskFacts, errorJson: Uint8Array): Uint8Array {
  const cause = utf8(errorJson);
  const message = (JSON.parse(cause) as { message?: unknown }).message;
  const shown = bare(
    new MillraceError(
      'ERR_MILLRACE_TASK_FAILED',
      `task '${task.type}' failed in attempt ${task.attempt}: ${String(message)}`,
      { details: { taskId: task.id, attempt: task.attempt } },
    ),
  );
  return Buffer.from(`${JSON.stringify(shown).slice(0, -1)},"cause":${cause}}`);
}

/** The error of an execution that overran, and of a task whose last one did. */
export function timedOutBytes(task: TaskFacts, timeoutMs: number): Uint8Array {
  const error = new MillraceError(
    'ERR_MILLRACE_TASK_TIMEOUT',
    `task '${task.type}' ran longer than its limit of ${formatMs(timeoutMs)} in attempt ${task.attempt}; raise its timeout, or end when ctx.signal aborts`,
    { details: { taskId: task.id, attempt: task.attempt, timeoutMs } },
  );
  return Buffer.from(JSON.stringify(bare(error)));
}

/** The error a cancelled task ends with. */
export function cancelledBytes(id: TaskId, reason: string | undefined): Uint8Array {
  const error = new MillraceError(
    'ERR_MILLRACE_TASK_CANCELLED',
    `task ${id} was cancelled${reason ? `: ${reason}` : ''}`,
    { details: { taskId: id, reason: reason ?? '' } },
  );
  return Buffer.from(JSON.stringify(bare(error)));
}

/** Why a debounced task was cancelled. */
export function replacedBy(id: TaskId): string {
  return `replaced by ${id}`;
}

/** The error an expired task ends with. */
export function expiredBytes(id: TaskId, expiresAtMs: number): Uint8Array {
  const error = new MillraceError(
    'ERR_MILLRACE_TASK_EXPIRED',
    `task ${id} did not start within its ttl`,
    { details: { taskId: id, expiresAtMs } },
  );
  return Buffer.from(JSON.stringify(bare(error)));
}

/** The error a task ends with that was lost once too often. */
export function lostError(
  id: TaskId,
  losses: { readonly count: number; readonly max: number },
  cause: MillraceError | undefined,
): MillraceError {
  const message =
    losses.count < losses.max
      ? `task ${id} was lost with its thread or process, and may run at most once`
      : `task ${id} was lost ${losses.count} times with its thread or process; look for process.exit, native crashes or memory`;
  return new MillraceError('ERR_MILLRACE_TASK_LOST', message, {
    details: { taskId: id, losses: losses.count },
    cause,
  });
}

/** Neither memory nor store knows the task. */
export function goneError(id: TaskId): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_TASK_GONE',
    `the store does not know task ${id}; it never existed, or its retention is over`,
    { details: { taskId: id } },
  );
}

/** The value of a completed task. */
export function valueOfEnd(end: TaskEnd): unknown {
  return end.json === '' ? undefined : JSON.parse(end.json);
}

/** The error an ended task's JSON describes. */
export function errorOfEnd(end: TaskEnd): Error {
  try {
    return fromWire(JSON.parse(end.json));
  } catch (cause) {
    return new MillraceError('ERR_MILLRACE_STORE_CORRUPT', 'a stored error does not decode', {
      cause,
    });
  }
}

/** Without the stack, which would be ours and tell nothing about the task. */
function bare(error: MillraceError): object {
  const { stack: _, ...shown } = toWire(error);
  return shown;
}
