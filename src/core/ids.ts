/**
 * Identifiers, and how a task id locates its task.
 *
 * Tasks are stored in segments: frames of up to a few hundred tasks, sorted by due time and keyed by the first.
 * A task id is the segment's position plus the task's index in it, so a lookup needs no index of its own:
 *
 *   default.00.0mg2x9k1f.7c4k2m9p00000001.0f
 *   queue   |  due (ms)  |incarnation     index
 *           shard        |        counter
 *           `------------ SegmentRef ---'
 *
 * Numbers are base 36 in fixed width, so that byte order is numeric order. The incarnation is drawn at random by
 * every process that writes; with its counter no two writers ever name the same segment.
 */
import { MillraceError } from './errors.js';
import { showValue } from './options.js';

export type TaskId = string & { readonly __brand: 'TaskId' };
/** One life of one process that writes to the store; 8 characters. */
export type Incarnation = string & { readonly __brand: 'Incarnation' };
/** `<task id>:<attempt>:<incarnation>`: one attempt of one task by one process. */
export type ExecutionId = string & { readonly __brand: 'ExecutionId' };

/** Where a segment is: `<queue>.<shard>.<due>.<incarnation + counter>`. */
export type SegmentRef = string & { readonly __brand: 'SegmentRef' };

const SHARD_DIGITS = 2;
const DUE_DIGITS = 9;
const INCARNATION_DIGITS = 8;
const COUNTER_DIGITS = 8;
const INDEX_DIGITS = 2;

/** The latest due time an id can carry: the year 5188. */
export const DUE_AT_MS_MAX: number = 36 ** DUE_DIGITS - 1;

const QUEUE_FORM = /^[a-z0-9][a-z0-9_-]{0,62}$/;
const TASK_ID_FORM =
  /^([a-z0-9][a-z0-9_-]{0,62}\.[0-9a-z]{2}\.[0-9a-z]{9}\.[0-9a-z]{16})\.([0-9a-z]{2})$/;

/** Whether a queue name can be part of a key: lower-case letters, digits, '-' and '_'; at most 63. */
export function isQueueName(name: unknown): name is string {
  return typeof name === 'string' && QUEUE_FORM.test(name);
}

/** Draws a new incarnation; `u32` is a source of uniform 32-bit integers. */
export function newIncarnation(u32: () => number): Incarnation {
  // 36^8 is about 2^41: two draws fill it evenly enough.
  const bits = (u32() & 0x1ff) * 0x1_0000_0000 + u32();
  return digits(bits, INCARNATION_DIGITS) as Incarnation;
}

export function segmentRef(
  at: { readonly queue: string; readonly shard: number; readonly dueAtMs: number },
  incarnation: Incarnation,
  counter: number,
): SegmentRef {
  const due = digits(Math.max(0, Math.floor(at.dueAtMs)), DUE_DIGITS);
  return `${at.queue}.${digits(at.shard, SHARD_DIGITS)}.${due}.${incarnation}${digits(counter, COUNTER_DIGITS)}` as SegmentRef;
}

export function taskId(segment: SegmentRef, index: number): TaskId {
  return `${segment}.${INDEXES[index] ?? digits(index, INDEX_DIGITS)}` as TaskId;
}

/** The parts of a task id, or undefined when it is none. */
export function parseTaskId(
  id: unknown,
): { readonly segment: SegmentRef; readonly index: number } | undefined {
  const parts = typeof id === 'string' ? TASK_ID_FORM.exec(id) : null;
  if (!parts) return undefined;
  return { segment: parts[1] as SegmentRef, index: Number.parseInt(parts[2]!, 36) };
}

/** Like {@link parseTaskId}, for callers that need one. @throws ERR_MILLRACE_INVALID_OPTION */
export function requireTaskId(id: unknown): {
  readonly segment: SegmentRef;
  readonly index: number;
} {
  const parts = parseTaskId(id);
  if (parts) return parts;
  throw new MillraceError(
    'ERR_MILLRACE_INVALID_OPTION',
    `${showValue(id)} is not a task id; use the id of a handle`,
    { details: { id: showValue(id) } },
  );
}

/** The due time in a segment's name, in ms since the epoch. */
export function segmentDueAtMs(segment: SegmentRef): number {
  return Number.parseInt(segment.split('.')[2]!, 36);
}

export function executionId(
  task: TaskId,
  attempt: number,
  executor: Incarnation | string,
): ExecutionId {
  return `${task}:${attempt}:${executor}` as ExecutionId;
}

/** A time as it stands in keys: fixed width, byte order is time order. */
export function dueDigits(ms: number): string {
  return digits(Math.max(0, Math.min(Math.floor(ms), DUE_AT_MS_MAX)), DUE_DIGITS);
}

function digits(value: number, width: number): string {
  return value.toString(36).padStart(width, '0');
}

const INDEXES = Array.from({ length: 256 }, (_, index) => digits(index, INDEX_DIGITS));
