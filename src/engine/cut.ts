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
import type { SegmentRef } from '../core/ids.js';
import { taskId } from '../core/ids.js';
import type { TaskState } from '../core/states.js';
import type { Operation, OperationResult, Revision } from '../core/store.js';
import type {
  BatchHandle,
  CutHandle,
  SegmentHandle,
  Settled,
  TaskTable,
} from '../timing/task-table.js';
import type { Commit, CommitBudget } from './commit-lane.js';
import type { Dispatcher } from './dispatcher.js';
import type { ClosedFrame, KeyedFrame } from './intake.js';
import { deadLetterKey, finishedPrefix, overlayKey, segmentKey } from './keys.js';

/** A segment costs at most so many operations, dead letters aside: file, overlay or its deletion, deletion. */
const SEGMENT_OPERATIONS = 3;
/** A nested transaction of a keyed submission counts itself plus at most two inner operations. */
const NESTED_OPERATIONS = 2;
/** What an overlay record adds to a commit, and a key, for the byte budget. */
const STATE_BYTES = 48;
const KEY_BYTES = 64;

/** What the cut needs to know and do; implemented by the engine. */
export interface CutContext {
  readonly table: TaskTable;
  readonly dispatchers: readonly Dispatcher[];
  /** States of ended tasks that are kept for inspection. */
  readonly keep: readonly TaskState[];
  /** Names what this commit files; new for each. */
  readonly part: string;
  /** So many bytes go into the window of finished tasks that the segment belongs to. */
  onFiled(segment: SegmentRef, bytes: number): void;
  /** A dead letter costs so many bytes. */
  onDeadLetter(bytes: number): void;
  takeFrame(bytesMax: number): ClosedFrame | undefined;
  takeKeyed(bytesMax: number): KeyedFrame | undefined;
  /** Gives a put frame's tasks to the table, ready or waiting, before they can be claimed. */
  adopt(frame: ClosedFrame): SegmentHandle;
  onAccepted(frame: ClosedFrame, segment: SegmentHandle): void;
  onRejected(frame: ClosedFrame, cause: MillraceError): void;
  onKeyedDone(frame: KeyedFrame, result: OperationResult | undefined): void;
  onKeyedFailed(frame: KeyedFrame, cause: MillraceError): void;
  onSettled(settled: Settled): void;
}

interface Claim {
  readonly dispatcher: Dispatcher;
  readonly batches: BatchHandle[];
}

export class Cut implements Commit {
  readonly operations: Operation[] = [];
  bytes = 0;
  readonly #context: CutContext;
  readonly #table: TaskTable;
  readonly #cut: CutHandle;
  readonly #budget: CommitBudget;
  readonly #finishedSegments: SegmentHandle[] = [];
  readonly #frames: { readonly frame: ClosedFrame; readonly segment: SegmentHandle }[] = [];
  readonly #keyed: { readonly frame: KeyedFrame; readonly at: number }[] = [];
  readonly #claims: Claim[] = [];
  /** Operations that touched segments will still add when overlays are built. */
  #overlaysToCome = 0;

  /** @returns a commit, or undefined when there is nothing to write */
  static make(context: CutContext, budget: CommitBudget): Cut | undefined {
    const cut = new Cut(context, budget);
    cut.#fileEnded();
    cut.#putSubmitted();
    cut.#claimReady();
    cut.#writeOverlays();
    if (cut.operations.length > 0) return cut;
    context.onSettled(context.table.settle(cut.#cut));
    return undefined;
  }

  private constructor(context: CutContext, budget: CommitBudget) {
    this.#context = context;
    this.#table = context.table;
    this.#cut = context.table.beginCut();
    this.#budget = budget;
  }

  onDone(revision: Revision, results: readonly OperationResult[] | undefined): void {
    const context = this.#context;
    for (const { frame, segment } of this.#frames) context.onAccepted(frame, segment);
    for (const { frame, at } of this.#keyed) context.onKeyedDone(frame, results?.[at]);
    for (const { dispatcher, batches } of this.#claims) dispatcher.launch(batches, revision);
    context.onSettled(this.#table.settle(this.#cut));
    for (const segment of this.#finishedSegments) this.#table.drop(segment);
  }

  onFailed(cause: MillraceError): void {
    const context = this.#context;
    this.#table.revert(this.#cut);
    for (const { dispatcher, batches } of this.#claims) dispatcher.unclaim(batches);
    for (const { frame, segment } of this.#frames) {
      this.#table.drop(segment);
      context.onRejected(frame, cause);
    }
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

  #fileEnded(): void {
    // What does not fit into this commit stays dirty, and would come round again.
    const left = new Set<SegmentHandle>();
    for (;;) {
      if (this.#operationsLeft < SEGMENT_OPERATIONS + 1 || this.#bytesLeft <= 0) return;
      const segment = this.#table.firstDirty();
      if (segment === 0 || left.has(segment)) return;
      if (this.#fileSegment(segment) > 0) left.add(segment);
    }
  }

  /** @returns how many of its ended tasks did not fit */
  #fileSegment(segment: SegmentHandle): number {
    const table = this.#table;
    const ref = table.segmentRef(segment) as SegmentRef;
    const filing = table.file(this.#cut, segment, {
      keep: this.#context.keep,
      // Room for what the segment itself costs is left out of the room for dead letters.
      operationsLeft: this.#operationsLeft - SEGMENT_OPERATIONS,
      bytesLeft: this.#bytesLeft,
    });
    if (filing.frame !== undefined) {
      const key = finishedPrefix(ref) + this.#context.part;
      this.#push({ type: 'put', key, value: filing.frame }, filing.frame.length + KEY_BYTES);
      this.#context.onFiled(ref, key.length + filing.frame.length);
    }
    for (const task of filing.deadLetters) {
      const key = deadLetterKey(taskId(ref, table.inspect(task)!.index));
      const value = table.deadLetter(task);
      this.#push({ type: 'put', key, value }, value.length + KEY_BYTES);
      this.#context.onDeadLetter(key.length + value.length);
    }
    if (!filing.isComplete) {
      const tasks = table.segmentInfo(segment)!.tasks;
      if (filing.isNewlyTouched) this.#noteTouched(1, tasks);
      return filing.left;
    }
    this.#finishedSegments.push(segment);
    this.#push({ type: 'delete', key: segmentKey(ref) }, KEY_BYTES);
    if (table.segmentInfo(segment)!.hasOverlay) {
      this.#push({ type: 'delete', key: overlayKey(ref) }, KEY_BYTES);
    }
    return 0;
  }

  #noteTouched(segments: number, tasks: number): void {
    this.#overlaysToCome += segments;
    this.bytes += tasks * STATE_BYTES;
  }

  #putSubmitted(): void {
    const context = this.#context;
    // Two operations per frame: its put, and the overlay of a claim.
    while (this.#operationsLeft >= 2) {
      const frame = context.takeFrame(this.#bytesLeft);
      if (frame === undefined) break;
      this.#push(frame.operation, frame.bytes);
      this.#frames.push({ frame, segment: context.adopt(frame) });
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
    const cut = this;
    const room = {
      get segmentsMax(): number {
        return cut.#bytesLeft > 0 ? cut.#operationsLeft - nestedReserve : 0;
      },
      note: (claimed: { readonly segments: number; readonly segmentTasks: number }): void =>
        this.#noteTouched(claimed.segments, claimed.segmentTasks),
    };
    for (const dispatcher of this.#context.dispatchers) {
      const batches = dispatcher.claim(this.#cut, room);
      if (batches.length > 0) this.#claims.push({ dispatcher, batches });
    }
  }

  #writeOverlays(): void {
    const finished = new Set(this.#finishedSegments);
    for (const segment of this.#table.touched(this.#cut)) {
      if (finished.has(segment)) continue;
      const overlay = this.#table.overlay(segment);
      if (overlay === undefined) continue;
      const key = overlayKey(this.#table.segmentRef(segment) as SegmentRef);
      this.#push({ type: 'put', key, value: overlay }, 0);
    }
  }
}
