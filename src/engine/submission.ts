/** What is submitted: one task between `submit()` and its acknowledgement. */
import type { MillraceError } from '../core/errors.js';
import type { SegmentRef } from '../core/ids.js';
import type { TaskToWrite } from '../core/records.js';
import { metadataBytes } from '../core/task-metadata.js';
import type { TaskHandle } from '../timing/task-table.js';
import type { Gate } from './closed-frame.js';

/** Room for one record with its share of header and strings. */
const RECORD_OVERHEAD_BYTES = 96;

/** How a task is debounced; see debounces.ts. */
export interface Debounce {
  readonly key: string;
  /** From the last submission to when the task is due. */
  readonly waitMs: number;
  /** From the first one, at most; Infinity: no bound. */
  readonly maxMs: number;
}

/** A task as the engine takes it: checked, encoded, with times resolved. */
export interface NewTask extends TaskToWrite {
  readonly queue: string;
  /** On the monotonic clock; exact where `dueAtMs` is rounded to the wall clock. */
  readonly dueMonoMs: number;
  /** Whether it is due at a moment of the wall clock, and not after a delay. @defaultValue false */
  readonly isDueByDate?: boolean;
  readonly idempotencyKey: string | undefined;
  /** Of several with one key, the last one runs; `dueAtMs` is then worked out anew. */
  readonly debounce?: Debounce;
  /** What decides whether it comes into being, where that is not its key. */
  readonly gate?: Gate;
}

/** A task that stands for a submission: the one it created, or an earlier one with the same idempotency key. */
export interface Accepted {
  readonly segment: SegmentRef;
  readonly index: number;
  /** 0 when this node's table did not have it. */
  readonly task: TaskHandle;
  readonly isCreated: boolean;
}

/** One task between submit() and its acknowledgement. */
export class Submission {
  readonly task: NewTask;
  /** It is durable. */
  readonly accept: (accepted: Accepted) => void;
  /** It is not in the store, and will not be; with `cause.details.mayBeStored` nobody knows. */
  readonly reject: (cause: MillraceError) => void;
  /** How often it was refused because of others in its frame. */
  rounds = 0;

  constructor(
    task: NewTask,
    accept: (accepted: Accepted) => void,
    reject: (cause: MillraceError) => void,
  ) {
    this.task = task;
    this.accept = accept;
    this.reject = reject;
  }
}

/** What a task's record takes in a frame, about. */
export function recordBytes({ payloadBytes, metadata }: NewTask): number {
  return payloadBytes + metadataBytes(metadata) + RECORD_OVERHEAD_BYTES;
}
