/**
 * Frames of tasks on their way into a commit: encoded, closed, with a place in the store; and gates, which decide inside the
 * transaction whether the tasks of a frame come into being.
 */
import type { MillraceError } from '../core/errors.js';
import type { SegmentRef, TaskId } from '../core/ids.js';
import type { Operation, OperationResult, Store } from '../core/store.js';
import type { TaskHandle } from '../timing/task-table.js';
import type { Shard } from './shard.js';

/** The shard that a new segment goes to. */
export interface Home {
  readonly shard: number;
  /** Ours; undefined where shards are somebody else's, or where the store has one writer. */
  readonly owner: Shard | undefined;
  /** Whether it goes into the inbox of the shard's owner, and this node holds nothing of it. */
  readonly isInbox: boolean;
}

/** Who is told of the tasks of a frame. */
export interface FrameOwner {
  readonly count: number;
  readonly payloadBytes: number;
  /** They are durable. @param taskAt - 0 for every index where this node does not hold them */
  accept(segment: SegmentRef, taskAt: (index: number) => TaskHandle): void;
  /** They are not in the store, and will not be; with `cause.details.mayBeStored` nobody knows. */
  reject(cause: MillraceError): void;
}

/** Tasks of one queue. */
export interface EncodedFrame {
  readonly queue: string;
  /** Of one of them: the others are of the same, or this node runs them too. */
  readonly type: string;
  /** Sorted by due time; at most 256 tasks. */
  readonly frame: Uint8Array<ArrayBuffer>;
  /** Of the first. */
  readonly dueAtMs: number;
  /** Whether they are due at moments of the wall clock, and not after delays. */
  readonly isDueByDate: boolean;
  /** When each task is due on the monotonic clock. */
  readonly dueMonoMs: Float64Array;
  /** Of one of them: the others have it too, or one of the same shard; undefined: they have none. */
  readonly concurrencyKey?: string | undefined;
}

/** Tasks that were submitted together, encoded already. */
export interface BulkFrame extends FrameOwner, EncodedFrame {}

/** A closed frame, ready to be put. */
export interface ClosedFrame extends EncodedFrame {
  readonly ref: SegmentRef;
  readonly home: Home;
  readonly owner: FrameOwner;
  readonly operation: Operation;
  readonly bytes: number;
}

/** What became of a task with a gate. */
export type Decision =
  | { readonly kind: 'created' }
  /** An earlier task stands for it. */
  | { readonly kind: 'found'; readonly task: TaskId }
  /** Neither: it was in one frame with others that are found. To be submitted again. */
  | { readonly kind: 'open' }
  | { readonly kind: 'refused'; readonly cause: MillraceError };

export const CREATED: Decision = { kind: 'created' };

/** Decides within a commit whether the tasks of a frame come into being: all of them, or none. */
export interface Gate {
  /** What its nested transaction has at most in one of its lists. */
  readonly operations: number;
  /** What it adds to a commit beside the frame, about. */
  readonly bytes: number;
  /** A nested transaction that puts the frame, or not. */
  operation(frame: ClosedFrame): Operation;
  /**
   * What it came to.
   *
   * @param result - of the nested transaction; undefined when its answer was lost but it was applied
   * @returns one for each task of the frame
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE, after which it is asked again; everything else rejects the submissions
   */
  outcome(
    store: Store,
    frame: ClosedFrame,
    result: OperationResult | undefined,
  ): Promise<readonly Decision[]>;
}
