/**
 * What goes into one commit, decided when the lane is free.
 *
 * In this order, as far as the budget of operations and bytes goes:
 *   1. segments whose tasks changed: ended tasks are filed, the overlay is rewritten, a finished segment deleted
 *   2. submitted frames are put; their due tasks are ready within the same cut
 *   3. ready tasks are claimed for every free place, so a task that is due at submit starts after a single commit
 *
 * Each key is written at most once, because overlays are built last, from the state all three left behind. When the
 * commit is done, callers hear of it and batches are launched; when it failed for certain, everything is put back.
 */
import type { MillraceError } from '../core/errors.js';
import type { FrameWriter } from '../core/frame.js';
import type { Incarnation } from '../core/ids.js';
import { TaskState } from '../core/states.js';
import type { Operation, OperationResult, Revision } from '../core/store.js';
import type { Commit, CommitBudget } from './commit-lane.js';
import type { ClaimedBatch, Dispatcher } from './dispatcher.js';
import { fileDeadLetter, fileFinished } from './finished.js';
import type { ClosedFrame, KeyedFrame } from './intake.js';
import { overlayKey, segmentKey } from './keys.js';
import { type LiveTask, type Segment, stateWriter } from './live-task.js';

/** A segment costs at most so many operations, dead letters aside: file, overlay or its deletion, deletion. */
const SEGMENT_OPERATIONS = 3;
/** A nested transaction of a keyed submission counts itself plus at most two inner operations. */
const NESTED_OPERATIONS = 2;
/** What an overlay record adds to a commit, for the byte budget. */
const STATE_BYTES = 48;

/** What the cut needs to know and do; implemented by the engine. */
export interface CutContext {
  readonly incarnation: Incarnation;
  readonly nowMs: number;
  /** Segments with uncommitted changes. The cut takes out what it writes. */
  readonly dirty: Set<Segment>;
  readonly dispatchers: readonly Dispatcher[];
  /** Whether ended tasks of this state are kept for inspection. */
  keeps(state: TaskState): boolean;
  /** So many bytes go into the window of finished tasks that the segment belongs to. */
  onFiled(segment: Segment, bytes: number): void;
  takeFrame(bytesMax: number): ClosedFrame | undefined;
  takeKeyed(bytesMax: number): KeyedFrame | undefined;
  /** Adds a put frame's tasks to the book, ready or waiting, before they can be claimed. */
  adopt(frame: ClosedFrame): void;
  /** Takes adopted tasks back out: their frame certainly was not stored. */
  disown(frame: ClosedFrame, cause: MillraceError): void;
  onAccepted(frame: ClosedFrame): void;
  onKeyedDone(frame: KeyedFrame, result: OperationResult | undefined): void;
  onKeyedFailed(frame: KeyedFrame, cause: MillraceError): void;
  onSettled(task: LiveTask): void;
  onSegmentDone(segment: Segment): void;
}

const overlayWriter: FrameWriter = stateWriter();

export class Cut implements Commit {
  readonly operations: Operation[] = [];
  bytes = 0;
  readonly #context: CutContext;
  readonly #budget: CommitBudget;
  /** Segments this commit writes, in order of first touch. */
  readonly #touched = new Set<Segment>();
  readonly #filed: LiveTask[] = [];
  readonly #finishedSegments: Segment[] = [];
  readonly #frames: ClosedFrame[] = [];
  readonly #keyed: { readonly frame: KeyedFrame; readonly at: number }[] = [];
  readonly #claims: { readonly dispatcher: Dispatcher; readonly batches: ClaimedBatch[] }[] = [];
  /** Operations that touched segments will still add when overlays are built. */
  #overlaysToCome = 0;

  /** @returns a commit, or undefined when there is nothing to write */
  static make(context: CutContext, budget: CommitBudget, part: string): Cut | undefined {
    const cut = new Cut(context, budget);
    cut.#fileEnded(part);
    cut.#putSubmitted();
    cut.#claimReady();
    cut.#writeOverlays();
    return cut.operations.length === 0 ? undefined : cut;
  }

  private constructor(context: CutContext, budget: CommitBudget) {
    this.#context = context;
    this.#budget = budget;
  }

  onDone(revision: Revision, results: readonly OperationResult[] | undefined): void {
    const context = this.#context;
    for (const frame of this.#frames) context.onAccepted(frame);
    for (const { frame, at } of this.#keyed) context.onKeyedDone(frame, results?.[at]);
    for (const { dispatcher, batches } of this.#claims) dispatcher.launch(batches, revision);
    for (const task of this.#filed) context.onSettled(task);
    for (const segment of this.#finishedSegments) context.onSegmentDone(segment);
  }

  onFailed(cause: MillraceError): void {
    const context = this.#context;
    for (const task of this.#filed) {
      task.isFiled = false;
      task.segment.openCount++;
      task.segment.endedTasks.push(task);
    }
    for (const { dispatcher, batches } of this.#claims) dispatcher.unclaim(batches);
    for (const segment of this.#touched) context.dirty.add(segment);
    for (const frame of this.#frames) context.disown(frame, cause);
    for (const { frame } of this.#keyed) context.onKeyedFailed(frame, cause);
  }

  get #operationsLeft(): number {
    return this.#budget.operationsMax - this.operations.length - this.#overlaysToCome;
  }

  get #bytesLeft(): number {
    return this.#budget.bytesMax - this.bytes;
  }

  #push(operation: Operation, bytes: number): void {
    this.operations.push(operation);
    this.bytes += bytes;
  }

  #touch(segment: Segment): void {
    if (this.#touched.has(segment)) return;
    this.#touched.add(segment);
    this.#overlaysToCome++;
    this.bytes += segment.tasks.length * STATE_BYTES;
  }

  #fileEnded(part: string): void {
    for (const segment of this.#context.dirty) {
      if (this.#operationsLeft < SEGMENT_OPERATIONS + 1 || this.#bytesLeft <= 0) return;
      this.#context.dirty.delete(segment);
      this.#touch(segment);
      this.#fileSegment(segment, part);
      if (segment.openCount > 0) {
        // Dead letters that did not fit follow in the next commit.
        if (segment.endedTasks.length > 0) this.#context.dirty.add(segment);
        continue;
      }
      this.#overlaysToCome--;
      this.#finishedSegments.push(segment);
      this.#push({ type: 'delete', key: segmentKey(segment.ref) }, 64);
      if (segment.hasOverlay) this.#push({ type: 'delete', key: overlayKey(segment.ref) }, 64);
    }
  }

  #fileSegment(segment: Segment, part: string): void {
    const kept: LiveTask[] = [];
    const later: LiveTask[] = [];
    let keptBytes = 0;
    for (const task of segment.endedTasks) {
      const isDeadLetter = task.state === TaskState.FAILED;
      const isKept = this.#context.keeps(task.state);
      if (isKept && !this.#hasRoomToFile(task, isDeadLetter, keptBytes)) {
        later.push(task);
        continue;
      }
      if (isKept && isDeadLetter) {
        const operation = fileDeadLetter(task);
        this.#push(operation, operation.value.length + 64);
      } else if (isKept) {
        kept.push(task);
        keptBytes += (task.end?.bytes.length ?? 0) + STATE_BYTES;
      }
      task.isFiled = true;
      segment.openCount--;
      this.#filed.push(task);
    }
    segment.endedTasks = later;
    if (kept.length === 0) return;
    const operation = fileFinished(segment, kept, part);
    this.#push(operation, operation.value.length + 64);
    this.#context.onFiled(segment, operation.key.length + operation.value.length);
  }

  #hasRoomToFile(task: LiveTask, isDeadLetter: boolean, keptBytes: number): boolean {
    // The first one always fits: results and payloads are far below a request's limit.
    if (this.#filed.length === 0) return true;
    if (isDeadLetter && this.#operationsLeft < SEGMENT_OPERATIONS) return false;
    const bytes = (task.end?.bytes.length ?? 0) + (isDeadLetter ? task.admittedBytes : 0);
    return keptBytes + bytes <= this.#bytesLeft;
  }

  #putSubmitted(): void {
    const context = this.#context;
    // Two operations per frame: its put, and the overlay of a claim.
    while (this.#operationsLeft >= 2) {
      const frame = context.takeFrame(this.#bytesLeft);
      if (frame === undefined) break;
      this.#push(frame.operation, frame.bytes);
      this.#frames.push(frame);
      context.adopt(frame);
    }
    while (this.#operationsLeft > NESTED_OPERATIONS) {
      const frame = context.takeKeyed(this.#bytesLeft);
      if (frame === undefined) break;
      this.#keyed.push({ frame, at: this.operations.length });
      this.#push(frame.operation, frame.bytes + 512);
    }
  }

  #claimReady(): void {
    const nestedReserve = this.#keyed.length > 0 ? NESTED_OPERATIONS : 0;
    const mayTouch = (task: LiveTask): boolean => {
      const isTouched = this.#touched.has(task.segment);
      if (!isTouched && (this.#operationsLeft <= nestedReserve || this.#bytesLeft <= 0))
        return false;
      this.#touch(task.segment);
      // A segment with ends left to file stays dirty for the next commit.
      if (task.segment.endedTasks.length === 0) this.#context.dirty.delete(task.segment);
      return true;
    };
    for (const dispatcher of this.#context.dispatchers) {
      const batches = dispatcher.claim(mayTouch);
      if (batches.length > 0) this.#claims.push({ dispatcher, batches });
    }
  }

  #writeOverlays(): void {
    for (const segment of this.#touched) {
      if (segment.openCount === 0) continue;
      const overlay = segment.overlay(overlayWriter, this.#context.incarnation);
      if (overlay === undefined) continue;
      segment.hasOverlay = true;
      this.#push({ type: 'put', key: overlayKey(segment.ref), value: overlay }, 0);
    }
  }
}
