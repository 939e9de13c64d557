/**
 * What goes into one commit, decided when the lane is free.
 *
 * In this order, as far as the budget of operations and bytes goes:
 *   1. segments whose tasks changed: ended tasks are filed, the overlay is rewritten, a finished segment deleted
 *   2. letters to other nodes, and the deletion of commands whose effect is written by now
 *   3. submitted frames are put; the due tasks of those that stay here are ready within the same cut
 *   4. ready tasks are claimed for every free place, so a task that is due at submit starts after a single commit
 *
 * Each key is written at most once, because overlays are built last, from the state that the others left behind. Where
 * shards have owners, whatever is written of one stands on its epoch, and on the create revision of a segment that came
 * through its inbox; claims stand on what rests (pauses.ts). These are the commit's guards.
 *
 * When the commit is done, callers hear of it and batches are launched; when it failed for certain, everything is put
 * back; when a guard is broken, too, and what was submitted goes to another shard. Submitters do not wait for ever: when its
 * fate stays open they are told so, and what they submitted is nobody's to hear of.
 */
import { invariant, type MillraceError } from '../core/errors.js';
import type { SegmentRef } from '../core/ids.js';
import { taskId } from '../core/ids.js';
import type { TaskState } from '../core/states.js';
import type { LeaseId, Operation, OperationResult, Revision } from '../core/store.js';
import type {
  BatchHandle,
  CutHandle,
  SegmentHandle,
  Settled,
  TaskTable,
} from '../timing/task-table.js';
import type { ClosedFrame } from './closed-frame.js';
import type { AnyGuard, Commit, CommitBudget, Guard, Guarded, ModGuard } from './commit-lane.js';
import type { Dispatcher } from './dispatcher.js';
import type { GatedFrame } from './intake.js';
import { deadLetterKey, finishedPrefix, overlayKey, segmentKey } from './keys.js';
import type { Letter } from './outbox.js';
import type { SegmentAdditions } from './segment-additions.js';

/** A segment costs at most so many operations, dead letters aside: file, overlay or its deletion, deletion. */
const SEGMENT_OPERATIONS = 3;
/** What the smallest nested transaction of submissions with a gate has in a list; a larger one is no larger than there is room. */
const NESTED_OPERATIONS = 3;
/** A segment that is newly claimed from may need two guards: its shard's, and its own. */
const SEGMENT_GUARDS = 2;
/** All claims together need one more: what rests. */
const CLAIM_GUARDS = 1;
/** Letters may wait a little for tasks, and tasks for letters. */
const LETTERS_MAX = 48;
/** What an overlay record adds to a commit, and a key, for the byte budget. */
const STATE_BYTES = 48;
const KEY_BYTES = 64;

/** What the cut needs of a store that nodes share. */
export interface SharedContext {
  /** Whether anything may be started now. */
  readonly mayStart: boolean;
  /** What is claimed holds as long as this does; undefined: there is none now. */
  readonly leaseId: LeaseId | undefined;
  /** What claiming stands on. */
  readonly pauses: ModGuard;
  /** What writing of a segment stands on. */
  guardsOf(segment: SegmentHandle): readonly Guard[];
  /** Where a segment is stored. */
  keyOf(segment: SegmentHandle, ref: SegmentRef): string;
  takeLetters(fits: (letter: Letter) => boolean): readonly Letter[];
  onLettersSent(letters: readonly Letter[]): void;
  onLettersFailed(letters: readonly Letter[]): void;
  /** The table drops a segment next. */
  onDropped(segment: SegmentHandle): void;
  onBroken(broken: readonly AnyGuard[]): void;
}

/** What is submitted, and who hears what became of it. */
export interface SubmittedFrames {
  /** The next frame, closed; undefined: there is none within `bytesMax`. */
  take(bytesMax: number): ClosedFrame | undefined;
  /** The next tasks with a gate. @param operationsMax - in one list of their nested transaction */
  takeGated(bytesMax: number, operationsMax: number): GatedFrame | undefined;
  /** Gives a put frame's tasks to the table, ready or waiting, before they can be claimed; not those of an inbox. */
  adopt(frame: ClosedFrame): SegmentHandle;
  /**
   * @param segment - 0 for a frame that went to an inbox
   * @param isAwaited - whether somebody waits to hear of it; else it was given up as unclear
   */
  onAccepted(frame: ClosedFrame, segment: SegmentHandle, isAwaited: boolean): void;
  /** It is in the store or not, and whoever waits is told so: it waits no longer. */
  onUnclear(frame: ClosedFrame, cause: MillraceError): void;
  onRejected(frame: ClosedFrame, cause: MillraceError): void;
  /** It goes to another shard, unless nobody waits for it any more: it was not written, and will not be. */
  onDisplaced(frame: ClosedFrame, isAwaited: boolean): void;
  onGatedDone(frame: GatedFrame, result: OperationResult | undefined): void;
  onGatedUnclear(frame: GatedFrame, cause: MillraceError): void;
  onGatedFailed(frame: GatedFrame, cause: MillraceError): void;
}

/** What the cut needs to know and do. */
export interface CutContext {
  /** Undefined: this node is the only writer. */
  readonly shared: SharedContext | undefined;
  readonly table: TaskTable;
  readonly dispatchers: readonly Dispatcher[];
  readonly submitted: SubmittedFrames;
  readonly additions: SegmentAdditions;
  /** States of ended tasks that are kept for inspection. */
  readonly keep: readonly TaskState[];
  /** So many bytes go into the window of finished tasks that the segment belongs to. */
  onFiled(segment: SegmentRef, bytes: number): void;
  /** A dead letter costs so many bytes. */
  onDeadLetter(bytes: number): void;
  onSettled(settled: Settled): void;
  /** The table drops a segment next. */
  onDropped(segment: SegmentHandle): void;
}

const NO_GUARDS: readonly Guard[] = [];

interface Claim {
  readonly dispatcher: Dispatcher;
  readonly batches: BatchHandle[];
}

export class Cut implements Commit {
  readonly operations: Operation[] = [];
  guarded?: Guarded;
  bytes = 0;
  readonly #context: CutContext;
  readonly #table: TaskTable;
  readonly #cut: CutHandle;
  readonly #budget: CommitBudget;
  readonly #part: string;
  readonly #finishedSegments: SegmentHandle[] = [];
  readonly #frames: { readonly frame: ClosedFrame; readonly segment: SegmentHandle }[] = [];
  readonly #gated: { readonly frame: GatedFrame; readonly at: number }[] = [];
  readonly #claims: Claim[] = [];
  /** Of this node when it claimed. */
  readonly #leaseId: LeaseId | undefined;
  readonly #guards = new Map<string, AnyGuard>();
  #letters: readonly Letter[] = [];
  #touched: readonly SegmentHandle[] = [];
  #letterCount = 0;
  /** The most that a nested transaction has in a list: what the outer lists must leave. */
  #nested = 0;
  /** Operations that touched segments will still add when overlays are built. */
  #overlaysToCome = 0;
  /** Whether somebody waits for what is put: until its fate has been open for too long. */
  #isAwaited = true;

  /**
   * @param part - names what this commit files; new for each
   * @returns a commit, or undefined when there is nothing to write
   */
  static make(context: CutContext, budget: CommitBudget, part: string): Cut | undefined {
    const cut = new Cut(context, budget, part);
    cut.#fileEnded();
    cut.#writeLetters();
    cut.#putSubmitted();
    cut.#claimReady();
    cut.#writeOverlays();
    cut.#sealGuards();
    if (cut.operations.length > 0) return cut;
    context.onSettled(context.table.settle(cut.#cut));
    return undefined;
  }

  private constructor(context: CutContext, budget: CommitBudget, part: string) {
    this.#context = context;
    this.#table = context.table;
    this.#cut = context.table.beginCut();
    this.#budget = budget;
    this.#part = part;
    this.#leaseId = context.shared?.leaseId;
    this.#overlaysToCome = context.additions.operations;
    this.bytes = context.additions.bytes;
  }

  onDone(revision: Revision, results: readonly OperationResult[] | undefined): void {
    const context = this.#context;
    const { submitted } = context;
    for (const { frame, segment } of this.#frames) {
      submitted.onAccepted(frame, segment, this.#isAwaited);
    }
    for (const { frame, at } of this.#gated) submitted.onGatedDone(frame, results?.[at]);
    const terms = { token: revision, leaseId: this.#leaseId };
    for (const { dispatcher, batches } of this.#claims) dispatcher.launch(batches, terms);
    context.onSettled(this.#table.settle(this.#cut));
    context.additions.onWritten(this.#touched);
    for (const segment of this.#finishedSegments) this.#drop(segment);
    context.shared?.onLettersSent(this.#letters);
  }

  onUnclear(cause: MillraceError): void {
    if (!this.#isAwaited) return;
    this.#isAwaited = false;
    const { submitted } = this.#context;
    for (const { frame } of this.#frames) submitted.onUnclear(frame, cause);
    for (const { frame } of this.#gated) submitted.onGatedUnclear(frame, cause);
  }

  onFailed(cause: MillraceError): void {
    const { submitted } = this.#context;
    this.#takeBack();
    if (this.#isAwaited) for (const { frame } of this.#frames) submitted.onRejected(frame, cause);
    for (const { frame } of this.#gated) submitted.onGatedFailed(frame, cause);
  }

  #onBroken(broken: readonly AnyGuard[]): void {
    const { submitted, shared } = this.#context;
    this.#takeBack();
    for (const { frame } of [...this.#frames, ...this.#gated]) {
      submitted.onDisplaced(frame, this.#isAwaited);
    }
    shared!.onBroken(broken);
  }

  /** Makes memory as it was before the cut. */
  #takeBack(): void {
    this.#table.revert(this.#cut);
    for (const { dispatcher, batches } of this.#claims) dispatcher.unclaim(batches);
    for (const { segment } of this.#frames) if (segment !== 0) this.#drop(segment);
    this.#context.shared?.onLettersFailed(this.#letters);
  }

  #drop(segment: SegmentHandle): void {
    this.#context.onDropped(segment);
    this.#context.shared?.onDropped(segment);
    this.#table.drop(segment);
  }

  get #operationsLeft(): number {
    return (
      this.#budget.operationsMax - this.operations.length - this.#overlaysToCome - this.#nested
    );
  }

  get #bytesLeft(): number {
    return this.#budget.bytesMax - this.bytes;
  }

  get #guardsLeft(): number {
    const nested = Math.max(NESTED_OPERATIONS, this.#nested);
    return this.#budget.guardsMax - nested - this.#guards.size;
  }

  /** What a nested transaction may have in a list, if it comes next, with a guard of its own. */
  get #nestedMax(): number {
    const { operationsMax, guardsMax } = this.#budget;
    const outer = this.operations.length + this.#overlaysToCome;
    return Math.min(operationsMax - outer, guardsMax - this.#guards.size) - 1;
  }

  /** Makes the commit stand on these too. REQUIRES: room was left for them. */
  #standOn(guards: readonly AnyGuard[]): void {
    invariant(this.#tryToStandOn(guards), 'cut.guards');
  }

  /** @returns whether there was room for them */
  #tryToStandOn(guards: readonly AnyGuard[]): boolean {
    const added = guards.filter(({ key }) => !this.#guards.has(key));
    if (added.length > this.#guardsLeft) return false;
    for (const guard of added) this.#guards.set(guard.key, guard);
    return true;
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
      if (!this.#tryToStandOn(this.#context.shared?.guardsOf(segment) ?? NO_GUARDS)) return;
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
      const key = finishedPrefix(ref) + this.#part;
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
    const key = this.#context.shared?.keyOf(segment, ref) ?? segmentKey(ref);
    this.#push({ type: 'delete', key }, KEY_BYTES);
    if (table.segmentInfo(segment)!.hasOverlay) {
      this.#push({ type: 'delete', key: overlayKey(ref) }, KEY_BYTES);
    }
    return 0;
  }

  #noteTouched(segments: number, tasks: number): void {
    this.#overlaysToCome += segments;
    this.bytes += tasks * STATE_BYTES;
  }

  #writeLetters(): void {
    const { shared } = this.#context;
    if (shared === undefined) return;
    this.#letters = shared.takeLetters(({ key, value, shard }) => {
      const bytes = key.length + (value?.length ?? 0) + KEY_BYTES;
      const hasRoom =
        this.#letterCount < LETTERS_MAX && this.#operationsLeft > 0 && bytes <= this.#bytesLeft;
      const guards = shard === undefined ? NO_GUARDS : [shard.guard];
      if (!hasRoom || !this.#tryToStandOn(guards)) return false;
      this.#letterCount++;
      this.#push(
        value === undefined ? { type: 'delete', key } : { type: 'put', key, value },
        bytes,
      );
      return true;
    });
  }

  #putSubmitted(): void {
    const { submitted } = this.#context;
    // Two operations per frame: its put, and the overlay of a claim.
    while (this.#operationsLeft >= 2 && this.#guardsLeft > 0) {
      const frame = submitted.take(this.#bytesLeft);
      if (frame === undefined) break;
      const { owner, isInbox } = frame.home;
      if (owner !== undefined) this.#standOn([owner.guard]);
      this.#push(frame.operation, frame.bytes);
      const segment = isInbox ? (0 as SegmentHandle) : submitted.adopt(frame);
      this.#frames.push({ frame, segment });
    }
    while (this.#nestedMax >= Math.max(NESTED_OPERATIONS, this.#nested)) {
      const frame = submitted.takeGated(this.#bytesLeft, this.#nestedMax);
      if (frame === undefined) break;
      if (frame.home.owner !== undefined) this.#standOn([frame.home.owner.guard]);
      this.#nested = Math.max(this.#nested, frame.gate.operations);
      this.#gated.push({ frame, at: this.operations.length });
      this.#push(frame.operation, frame.bytes);
    }
  }

  #claimReady(): void {
    const { shared } = this.#context;
    if (shared?.mayStart === false) return;
    // Segments that were touched before bring their guards; what rests is one more all the same.
    if (shared !== undefined && this.#guardsLeft < CLAIM_GUARDS) return;
    const cut = this;
    let claimedSegments = 0;
    const room = {
      get segmentsMax(): number {
        if (cut.#bytesLeft <= 0) return 0;
        const segmentsMax = cut.#operationsLeft;
        if (shared === undefined) return segmentsMax;
        // Guards of what was claimed before are not counted yet, so their most is.
        const guardsLeft = cut.#guardsLeft - CLAIM_GUARDS - SEGMENT_GUARDS * claimedSegments;
        return Math.min(segmentsMax, Math.floor(guardsLeft / SEGMENT_GUARDS));
      },
      note: (claimed: { readonly segments: number; readonly segmentTasks: number }): void => {
        claimedSegments += claimed.segments;
        this.#noteTouched(claimed.segments, claimed.segmentTasks);
      },
    };
    for (const dispatcher of this.#context.dispatchers) {
      const batches = dispatcher.claim(this.#cut, room);
      if (batches.length > 0) this.#claims.push({ dispatcher, batches });
    }
    if (this.#claims.length > 0 && shared !== undefined) this.#standOn([shared.pauses]);
  }

  #writeOverlays(): void {
    const finished = new Set(this.#finishedSegments);
    this.#touched = this.#table.touched(this.#cut);
    for (const segment of this.#touched) {
      const isFinished = finished.has(segment);
      for (const operation of this.#context.additions.takeOperations(segment)) {
        // It came back and has ended before it was written: there is nothing to put.
        if (!isFinished || operation.type === 'delete') this.operations.push(operation);
      }
      if (isFinished) continue;
      const overlay = this.#table.overlay(segment);
      if (overlay === undefined) continue;
      // Those of filed segments are among them; claiming has left room for its own.
      this.#standOn(this.#context.shared?.guardsOf(segment) ?? NO_GUARDS);
      const key = overlayKey(this.#table.segmentRef(segment) as SegmentRef);
      this.#push({ type: 'put', key, value: overlay }, 0);
    }
  }

  #sealGuards(): void {
    if (this.#guards.size === 0) return;
    const guards = [...this.#guards.values()];
    this.guarded = { guards, onBroken: (broken) => this.#onBroken(broken) };
  }
}
