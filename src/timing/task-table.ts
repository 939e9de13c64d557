/**
 * TaskTable: all tasks that a node holds, in C++; JavaScript moves frames and handles.
 *
 * A frame of tasks goes in (`ingest`), time passes (`advance`), a batch comes out (`claim`, `launch`), a frame of
 * results goes in (`applyResults`), and a cut writes what changed into a commit (`beginCut` ... `settle`). No
 * JavaScript object stands for a task on this way: where one has to be named, it is by a number (a handle), and only
 * for those that need a decision: what failed, was snoozed, cancelled or lost, and whose end somebody waits for.
 *
 *   cut = beginCut()
 *     firstDirty(), file(cut, segment)      ended tasks of changed segments, until the commit is full
 *     ingest(frame)                         submitted frames, whose due tasks can be claimed in the same cut
 *     claim(cut)                            a batch for each free place
 *     touched(cut), overlay(segment)        last, so that overlays show what all three left behind
 *   the commit is done:    settle(cut), launch(batch, revision), drop(finished segments)
 *   it certainly is not:   revert(cut), unclaim(batch), drop(segments that were not stored)
 *
 * Segments come from other nodes and go to them:
 *
 *   from a node:  ingest(frame, hold), applyOverlay, resume     what runs on another node that lives is left alone
 *   to a node:    hold(segment), the last commit, release(segment)
 *                 what is in batches stays; each goes, with what came of it, to the new owner, and by forget(task)
 *
 * Handles are good for one table. One that is stale, or no handle at all, is refused by every method, for ever; a
 * lost race is an answer, not an error. Times come in: `wallMs` for what is stored, `monoMs` for waiting.
 * The layout of the memory that C++ writes its answers to is drawn in native/task_binding.cc, the structure of the
 * table in native/task_table.h.
 *
 * Every method but `close` throws ERR_MILLRACE_CLOSED after `close`. Thread: the one that made it.
 */
import { isFloat64Array, isUint8Array } from 'node:util/types';
import type { Instant } from '../core/clock.js';
import { invariant, MillraceError } from '../core/errors.js';
import { badFrame, FrameKind, openFrame } from '../core/frame.js';
import { invalidOption, wholeNumber } from '../core/options.js';
import { readResult, readState, readTask } from '../core/records.js';
import { isTaskState, type TaskState } from '../core/states.js';
import { type NativeTable, nativeTasks } from './native-tasks.js';

/** A task. 0 where there is none. */
export type TaskHandle = number & { readonly __brand: 'TaskHandle' };
/** A segment of tasks. 0 where there is none. */
export type SegmentHandle = number & { readonly __brand: 'SegmentHandle' };
/** Tasks that were claimed together. 0 where there is none. */
export type BatchHandle = number & { readonly __brand: 'BatchHandle' };
/** What one commit writes. */
export type CutHandle = number & { readonly __brand: 'CutHandle' };
/** A task type; from 0. */
export type TypeId = number & { readonly __brand: 'TypeId' };

/** Where tasks of a type run: on worker threads, or on the main thread. */
export const Place = { THREAD: 0, INLINE: 1 } as const;
export type Place = (typeof Place)[keyof typeof Place];

export interface TaskTableOptions {
  /** Incarnation of this node: who runs what is claimed here. */
  readonly executor: string;
  /** The monotonic clock's present time. @defaultValue 0 */
  readonly startMonoMs?: number;
  /**
   * A ready task overtakes those of higher priority when it has waited so much longer per level between them.
   * 0: never. Shorter: less starvation, less strictness.
   *
   * @defaultValue 30_000
   */
  readonly ageingMs?: number;
}

export interface TypeToDefine {
  readonly name: string;
  readonly place: Place;
  /** How many may run at once, from 1. @defaultValue no limit */
  readonly concurrency?: number;
  /** Whether claims ahead (see `ClaimLimits.mode`) leave it where it is. @defaultValue false */
  readonly isJustInTime?: boolean;
  /** How many may run at once of those that share a key, from 1; they are ready one after another. @defaultValue 1 */
  readonly perKey?: number;
}

export interface TypeState {
  readonly running: number;
  /** NaN before the first. */
  readonly averageRunMs: number;
  /** Due tasks, those that run with nothing beside them aside. */
  readonly ready: number;
  /** See `addCredits`; Infinity where there is no such limit. */
  readonly credits: number;
}

/** How much one claim may take. */
export interface ClaimLimits {
  readonly place: Place;
  /** At most 4096. */
  readonly tasksMax: number;
  /** Segments that the cut has not touched yet. */
  readonly segmentsMax: number;
  /** The claim ends with the task that reaches this many payload bytes, */
  readonly bytesMax: number;
  /** or so much work, by the average run time of each type; one that is unknown counts as nothing. */
  readonly workMsMax: number;
  /**
   * `now`: what is claimed runs as soon as that is durable. `ahead`: it waits for a place first, so the claim ends
   * before a task of a type that is claimed just in time. `alone`: one task of those that run with nothing beside
   * them; no other claim takes these. @defaultValue 'now'
   */
  readonly mode?: ClaimMode;
}

export type ClaimMode = 'now' | 'ahead' | 'alone';

export interface Claimed {
  readonly batch: BatchHandle;
  readonly tasks: number;
  /** Payload bytes. */
  readonly bytes: number;
  /** Segments that the cut touches because of it, and how many tasks these hold. */
  readonly segments: number;
  readonly segmentTasks: number;
  /** Whether another claim of this cut could find something: neither the ready tasks nor `segmentsMax` ended it. */
  readonly isMoreLikely: boolean;
}

/** What results left to decide. The columns hold until the next `applyResults`; entries count from 0. */
export interface Verdicts {
  readonly count: number;
  /**
   * 0 when stale. Else RUNNING and in no batch: to be given to `retry` or `end`; those of released segments
   * (`TaskInfo.isReleased`, whatever the outcome) to `forget`, once the new owner has the result.
   */
  readonly tasks: Float64Array;
  /** An `Outcome`, or {@link STALE}. */
  readonly outcomes: Uint32Array;
  readonly slots: Uint32Array;
  /** Of the task; of the result when stale. */
  readonly attempts: Uint32Array;
  readonly types: Uint32Array;
  /** Where the result's bytes are in the frame of results. */
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
}

/** In place of an outcome: the slot has answered before, or does not exist. Count it and go on. */
export const STALE = 255;

/** What filing a segment puts into the commit. */
export interface Filing {
  /** Whether this cut had not touched it before. */
  readonly isNewlyTouched: boolean;
  /** States with result bytes of the ended tasks that are kept; undefined: there are none. */
  readonly frame: Uint8Array<ArrayBuffer> | undefined;
  /** Tasks that failed for good and are kept: `deadLetter` gives the value of each. */
  readonly deadLetters: readonly TaskHandle[];
  /** Whether every task of the segment is filed now: it can be deleted. */
  readonly isComplete: boolean;
  readonly filed: number;
  /** Ended tasks that did not fit; the segment is dirty again. */
  readonly left: number;
}

/** Ends that are durable. */
export interface Settled {
  readonly tasks: number;
  /** Their payload bytes. */
  readonly bytes: number;
  /** The watched ones among them. */
  readonly watched: readonly WatchedEnd[];
}

export interface WatchedEnd {
  readonly task: TaskHandle;
  readonly state: TaskState;
  /** The value, or the wire error, as JSON; empty for `undefined`. */
  readonly json: string;
}

export interface TaskInfo {
  readonly state: TaskState;
  readonly isSettled: boolean;
  readonly isFiled: boolean;
  readonly isReady: boolean;
  /** `cancel` was called while it ran. */
  readonly isCancelAsked: boolean;
  /** It runs with nothing beside it from when it is ready next: two losses, or `isolate`. */
  readonly mustBeAlone: boolean;
  /** It is ready, and waits for others that have its key. */
  readonly isParked: boolean;
  /** Its segment is released: what becomes of it is decided on another node. */
  readonly isReleased: boolean;
  readonly priority: number;
  readonly attempt: number;
  readonly losses: number;
  readonly index: number;
  readonly type: TypeId;
  readonly version: number;
  readonly dueAtMs: number;
  /** 0: as submitted. */
  readonly changedAtMs: number;
  readonly submittedAtMs: number;
  readonly expiresAtMs: number;
  readonly payloadBytes: number;
  readonly segment: SegmentHandle;
}

export interface SegmentInfo {
  /** Of a released one: those that stay. */
  readonly tasks: number;
  /** Tasks whose end is not filed; none of a released one. */
  readonly open: number;
  readonly hasOverlay: boolean;
  readonly isDirty: boolean;
}

/** What a segment leaves behind that went to another node. */
export interface ReleasedSegment {
  /** What was open, for admission: tasks whose end was not durable, and their payload bytes. */
  readonly open: number;
  readonly openBytes: number;
  /** Tasks that stay until `forget`, because they are in batches. With none the segment is gone. */
  readonly running: number;
  /** The watched tasks among the open ones. Handles of those that do not stay are stale. */
  readonly watched: readonly { readonly index: number; readonly task: TaskHandle }[];
}

export interface TaskTableStats {
  readonly segments: number;
  /** All that are held, ended ones included. */
  readonly tasks: number;
  /** Whose end is not durable, and their payload bytes. */
  readonly open: number;
  readonly openBytes: number;
  /** By state. */
  readonly pending: number;
  readonly running: number;
  readonly completed: number;
  readonly failed: number;
  readonly cancelled: number;
  readonly expired: number;
  /** Pending tasks that wait for a time. */
  readonly delayed: number;
  /** Pending tasks that are due, by place. */
  readonly readyThread: number;
  readonly readyInline: number;
  /** Pending tasks that are due and of a type that this node does not run. */
  readonly unhandled: number;
  /** Claimed or running here. */
  readonly busy: number;
  readonly dirtySegments: number;
  /** Held outside the JavaScript heap. */
  readonly bytes: number;
}

// The control block; see native/task_binding.cc.
const LIST_MAX = 4096;
const REGISTERS_AT = 32 * 8;
const HANDLES_AT = REGISTERS_AT + 16 * 8;
const COLUMNS_AT = HANDLES_AT + 2 * LIST_MAX * 8;
const CONTROL_BYTES = COLUMNS_AT + 8 * LIST_MAX * 4;

// Counters, in the order of TaskCounters in native/task_table.h.
const SEGMENTS = 0;
const TASKS = 1;
const OPEN = 2;
const OPEN_BYTES = 3;
const STATES = 4;
const DELAYED = 10;
const READY = 11;
const UNHANDLED = 13;
const BUSY = 14;
const DIRTY = 15;
const EXPIRED = 17;

const NO_LIMIT = 2 ** 32 - 1;
const CLAIM_ENDED_FULL = 0;
// In the order of ClaimMode in native/task_table.h.
const CLAIM_MODES: readonly ClaimMode[] = ['now', 'ahead', 'alone'];
const INGEST_FRAME = -1;
const INGEST_KNOWN = -2;
const INGEST_FULL = -3;
const MS_MAX = Number.MAX_SAFE_INTEGER;
const STRING_BYTES_MAX = 65_535;

export class TaskTable {
  readonly #counters: Float64Array;
  readonly #registers: Float64Array;
  readonly #handles: Float64Array;
  readonly #first: Uint32Array;
  readonly #second: Uint32Array;
  readonly #verdicts: { -readonly [K in keyof Verdicts]: Verdicts[K] };
  #table: NativeTable | undefined;

  /** @throws ERR_MILLRACE_INVALID_OPTION */
  constructor(options: TaskTableOptions) {
    const { executor, startMonoMs = 0, ageingMs = 30_000 } = options;
    if (typeof executor !== 'string' || executor === '' || executor.length > 63) {
      throw invalidOption('executor', executor, 'a name of 1 to 63 characters');
    }
    checkMs('startMonoMs', startMonoMs);
    checkMs('ageingMs', ageingMs);
    const control = new ArrayBuffer(CONTROL_BYTES);
    const column = (n: number): Uint32Array =>
      new Uint32Array(control, COLUMNS_AT + n * LIST_MAX * 4, LIST_MAX);
    this.#counters = new Float64Array(control, 0, 32);
    this.#registers = new Float64Array(control, REGISTERS_AT, 16);
    this.#handles = new Float64Array(control, HANDLES_AT, LIST_MAX);
    this.#verdicts = {
      count: 0,
      tasks: new Float64Array(control, HANDLES_AT + LIST_MAX * 8, LIST_MAX),
      outcomes: column(0),
      slots: column(1),
      attempts: column(2),
      types: column(3),
      offsets: column(4),
      lengths: column(5),
    };
    this.#first = column(6);
    this.#second = column(7);
    this.#table = nativeTasks.create(control, startMonoMs, ageingMs, executor);
  }

  // --- Types and tenants -------------------------------------------------------------------------------------------

  /**
   * A type that this node can run. Tasks of other types wait; defining theirs later makes them ready.
   * Defining a type again changes all but its place. With a concurrency of 0 its tasks wait until it is defined anew.
   */
  defineType(spec: TypeToDefine, now: Instant): TypeId {
    const { name, place, concurrency = Number.POSITIVE_INFINITY } = spec;
    const { isJustInTime = false, perKey = 1 } = spec;
    checkText('name', name);
    if (place !== Place.THREAD && place !== Place.INLINE) {
      throw invalidOption('place', place, 'Place.THREAD or Place.INLINE');
    }
    const limit =
      concurrency === Number.POSITIVE_INFINITY
        ? NO_LIMIT
        : Math.min(wholeNumber(concurrency, 'concurrency', 0, MS_MAX), NO_LIMIT);
    checkNow(now);
    return nativeTasks.defineType(
      this.#open(),
      name,
      place,
      limit,
      isJustInTime,
      wholeNumber(perKey, 'perKey', 1, NO_LIMIT),
      now.wallMs,
      now.monoMs,
    ) as TypeId;
  }

  /** The share of a tenant among others of one priority, 1 unless set; at once, for what is ready too. */
  setWeight(tenant: string, weight: number): void {
    checkText('tenant', tenant);
    checkWeight(weight);
    nativeTasks.setWeight(this.#open(), tenant, weight);
  }

  /** Nothing of a tenant is claimed until it is started again; what is ready of it stays so, and counts so. */
  stopTenant(tenant: string, isStopped: boolean): void {
    nativeTasks.stopTenant(this.#open(), checkText('tenant', tenant), isStopped === true);
  }

  /**
   * Each claim of a type costs a credit, and below one nothing of it is claimed. There is no such limit before the first
   * call, which gives `max`; with Infinity there is none again.
   *
   * @param credits - so many more, at most `max` in all; fractions add up
   */
  addCredits(type: TypeId, credits: number, max: number): void {
    checkCredits(credits, max);
    nativeTasks.addCredits(this.#open(), type, false, credits, max);
  }

  /**
   * The same for each tenant by itself. One that has not been seen, or not for long, has `max`.
   *
   * @param type - undefined: tasks of all types together
   * @returns how many tenants have less than `max` now
   */
  addTenantCredits(type: TypeId | undefined, credits: number, max: number): number {
    checkCredits(credits, max);
    return nativeTasks.addCredits(this.#open(), type ?? NO_LIMIT, true, credits, max);
  }

  /** What a tenant has left; Infinity where there is no such limit. */
  tenantCredits(type: TypeId | undefined, tenant: string): number {
    return nativeTasks.tenantCredits(this.#open(), type ?? NO_LIMIT, checkText('tenant', tenant));
  }

  /** Whether some tenant has fewer credits than it may have, of any kind. */
  get hasSpentTenants(): boolean {
    return nativeTasks.spentTenants(this.#open()) > 0;
  }

  /** The name of a type, or undefined when there is no such type (any more). */
  typeName(type: TypeId): string | undefined {
    return nativeTasks.typeName(this.#open(), type);
  }

  /** How a type stands here; undefined when there is no such type (any more). */
  typeState(type: TypeId): TypeState | undefined {
    const running = nativeTasks.typeState(this.#open(), type);
    if (running === undefined) return undefined;
    const [averageRunMs, ready, credits] = this.#registers;
    return { running, averageRunMs: averageRunMs!, ready: ready!, credits: credits! };
  }

  // --- Segments ----------------------------------------------------------------------------------------------------

  /**
   * Takes a frame of tasks in, with a copy of its bytes: due tasks are ready, in their order, others wait.
   *
   * @param frame - kind `tasks`; the caller's to keep
   * @param ref - the segment's name; new here
   * @param options.dueMonoMs - when each task is due on the monotonic clock; without it, that is worked out from the
   *   wall-clock times
   * @param options.hold - nothing waits or is ready before `resume`: for segments out of the store
   * @throws ERR_MILLRACE_STORE_CORRUPT, ERR_MILLRACE_STORE_FORMAT for a frame that does not decode; nothing was taken
   * @throws ERR_MILLRACE_QUEUE_FULL at 16 million segments
   */
  ingest(
    frame: Uint8Array,
    ref: string,
    now: Instant,
    options: { readonly dueMonoMs?: Float64Array; readonly hold?: boolean } = {},
  ): SegmentHandle {
    checkBytes('frame', frame);
    checkText('ref', ref);
    checkNow(now);
    const { dueMonoMs, hold = false } = options;
    if (dueMonoMs !== undefined) checkTimes(dueMonoMs);
    const handle = nativeTasks.add(
      this.#open(),
      frame,
      ref,
      now.wallMs,
      now.monoMs,
      dueMonoMs,
      hold === true,
    );
    if (handle > 0) return handle as SegmentHandle;
    if (handle === INGEST_FRAME) throw refusal(frame, FrameKind.TASKS, readTask);
    invariant(handle !== INGEST_KNOWN, 'task-table.known', { ref });
    if (handle === INGEST_FULL) {
      throw new MillraceError(
        'ERR_MILLRACE_QUEUE_FULL',
        'the table holds 16 million segments, which is all it can; wait for some to end',
      );
    }
    throw invalidOption('dueMonoMs', dueMonoMs?.length, 'one time for each task of the frame');
  }

  /**
   * Brings a segment up to date that is held since it was ingested; once, and before anything of it changes here.
   *
   * @throws ERR_MILLRACE_STORE_CORRUPT, ERR_MILLRACE_STORE_FORMAT for a frame that does not decode, names a task that
   *   is not there, or names one twice; the segment is as before
   */
  applyOverlay(segment: SegmentHandle, frame: Uint8Array): void {
    checkBytes('frame', frame);
    if (nativeTasks.applyOverlay(this.#open(), segment, frame)) return;
    const isKnown = nativeTasks.viewSegment(this.#open(), segment);
    invariant(isKnown && this.#registers[4] === 1, 'task-table.overlay', { segment });
    throw refusal(frame, FrameKind.STATES, readState);
  }

  /**
   * Starts a held segment. What is pending waits by the wall clock from here on.
   *
   * @returns what is open, for admission; and the tasks that are RUNNING and in no batch. One whose `executorOf` is
   *   gone must be given to `retry` or `end`; one that runs on another node stays as it is until that tells its end
   */
  resume(
    segment: SegmentHandle,
    now: Instant,
  ): { readonly open: number; readonly openBytes: number; readonly lost: readonly TaskHandle[] } {
    checkNow(now);
    const count = nativeTasks.resume(this.#open(), segment, now.wallMs, now.monoMs);
    const [open, openBytes] = [this.#registers[0]!, this.#registers[1]!];
    return { open, openBytes, lost: this.#list(count) };
  }

  /**
   * Stops a segment: its pending tasks leave the wheel and the ready queues and are not claimed any more, as before
   * `resume`, which starts it again. What runs goes on, `retry` and `end` work, what has ended can still be filed.
   *
   * @returns false when there is no such segment, or it is released; true also when it was held already
   */
  hold(segment: SegmentHandle): boolean {
    return nativeTasks.hold(this.#open(), segment);
  }

  /**
   * The wall clock has jumped by so much: what waits since a `retry` of this table is to wait as long as it would have.
   * For a segment that is held; `resume` follows.
   */
  shiftWaits(segment: SegmentHandle, byMs: number): void {
    const table = this.#open();
    if (!Number.isFinite(byMs)) throw invalidOption('byMs', byMs, 'a number of ms');
    nativeTasks.shiftWaits(table, segment, byMs);
  }

  /**
   * Lets go of a segment that another node owns from now on. Tasks that are in no batch are forgotten as by `drop`;
   * those in batches stay until they report, and then until `forget`. A released segment is never dirty, is in no
   * later cut, and is not found by its name: the same name may be ingested again beside it. Its tasks count in none of
   * open, delayed and ready, but in busy.
   *
   * A cut that touched it may still be settled or reverted. What that filed of the segment is nobody's here any more:
   * it counts among `open` and not in what `settle` tells.
   *
   * @returns undefined when there is no such segment, or it is released already
   */
  release(segment: SegmentHandle): ReleasedSegment | undefined {
    const count = nativeTasks.release(this.#open(), segment);
    if (count < 0) return undefined;
    const [open, openBytes, running] = [
      this.#registers[0]!,
      this.#registers[1]!,
      this.#registers[2]!,
    ];
    const watched = this.#list(count).map((task, i) => ({ index: this.#first[i]!, task }));
    return { open, openBytes, running, watched };
  }

  /**
   * Forgets a task of a released segment that is in no batch; with the last one the segment goes.
   *
   * @returns false when it is in a batch, of a segment that is not released, or gone
   */
  forget(task: TaskHandle): boolean {
    return nativeTasks.forget(this.#open(), task);
  }

  /** The segment of this name, or 0. Released ones are not found. */
  findSegment(ref: string): SegmentHandle {
    return nativeTasks.find(this.#open(), checkText('ref', ref)) as SegmentHandle;
  }

  /** The name of a segment, or undefined. */
  segmentRef(segment: SegmentHandle): string | undefined {
    return nativeTasks.ref(this.#open(), segment);
  }

  segmentInfo(segment: SegmentHandle): SegmentInfo | undefined {
    if (!nativeTasks.viewSegment(this.#open(), segment)) return undefined;
    const r = this.#registers;
    return { tasks: r[0]!, open: r[1]!, hasOverlay: r[2] === 1, isDirty: r[3] === 1 };
  }

  /** The task at an index of a segment, or 0. */
  taskAt(segment: SegmentHandle, index: number): TaskHandle {
    if (!(Number.isInteger(index) && index >= 0 && index < LIST_MAX)) return 0 as TaskHandle;
    return nativeTasks.taskAt(this.#open(), segment, index) as TaskHandle;
  }

  /**
   * Forgets a segment and its tasks, whatever their state, and frees its memory. Handles of them are stale from here
   * on. False, and nothing happens, while one of them is in a batch.
   */
  drop(segment: SegmentHandle): boolean {
    return nativeTasks.drop(this.#open(), segment);
  }

  // --- Time --------------------------------------------------------------------------------------------------------

  /**
   * Moves time: tasks become ready, or expire; memory that nothing needed for a second goes back to the system.
   *
   * @param budget - timers to handle at most, so that a burst never blocks the loop
   * @returns whether there may be more to do at this very time: call again in the next turn
   */
  advance(now: Instant, budget = 4096): boolean {
    checkNow(now);
    const max = wholeNumber(budget, 'budget', 1, 2 ** 31);
    return nativeTasks.advance(this.#open(), now.wallMs, now.monoMs, max) === max;
  }

  /**
   * When to call `advance` next, on the monotonic clock: never later than the earliest timer, and within a second
   * while the table keeps memory that it may give back; Infinity: never. To be asked again after every change.
   */
  nextDueMs(): number {
    return nativeTasks.nextDue(this.#open());
  }

  /** Whether `takeExpired` has something. */
  get hasExpired(): boolean {
    return this.#counters[EXPIRED]! > 0;
  }

  /** Tasks that did not start within their time to live; each is PENDING, and must be ended. A part at a time. */
  takeExpired(): TaskHandle[] {
    return this.#list(nativeTasks.takeExpired(this.#open()));
  }

  /** Tasks that became due and are of a type this node does not run; for events. Those beyond 256 are not listed. */
  takeUnhandled(): TaskHandle[] {
    return this.#list(nativeTasks.takeUnhandled(this.#open()));
  }

  // --- Batches -----------------------------------------------------------------------------------------------------

  /**
   * How many tasks could be claimed for a place, counted up to `max`.
   *
   * Where tenants have credits, somebody may have fewer than it has tasks, so this is the most.
   *
   * @param isAlone - of those that run with nothing beside them, which count in no other case; here the limits of
   *   their types are not looked at
   */
  takeable(place: Place, max: number, isAlone = false): number {
    return nativeTasks.takeable(this.#open(), place, isAlone, Math.min(Math.max(0, max), NO_LIMIT));
  }

  /**
   * Takes ready tasks for one batch: RUNNING, attempt + 1.
   * Each batch ends in `loseBatch` (whether anything was lost or not) or `unclaim`.
   *
   * @returns undefined when there was nothing, or no room for its segment
   */
  claim(cut: CutHandle, limits: ClaimLimits, now: Instant): Claimed | undefined {
    checkNow(now);
    const { place, tasksMax, segmentsMax, bytesMax, workMsMax, mode = 'now' } = limits;
    const batch = nativeTasks.claim(
      this.#open(),
      cut,
      place === Place.INLINE ? 1 : 0,
      wholeNumber(tasksMax, 'tasksMax', 1, LIST_MAX),
      Math.min(Math.max(0, segmentsMax), LIST_MAX),
      bytesMax,
      workMsMax,
      CLAIM_MODES.indexOf(mode),
      now.wallMs,
      now.monoMs,
    );
    if (batch === 0) return undefined;
    const r = this.#registers;
    return {
      batch: batch as BatchHandle,
      tasks: r[0]!,
      segments: r[1]!,
      segmentTasks: r[2]!,
      bytes: r[3]!,
      isMoreLikely: r[4] === CLAIM_ENDED_FULL,
    };
  }

  /**
   * The frame of a batch, in a buffer of its own that can be transferred. A task's slot is its place in the batch.
   *
   * @param token - store revision of the commit that claimed it
   */
  launch(batch: BatchHandle, token: number): Uint8Array<ArrayBuffer> {
    checkMs('token', token);
    const length = nativeTasks.measure(this.#open(), batch);
    invariant(length > 0, 'task-table.batch', { batch });
    // All of it is written next, so that zeroing it first would be for nothing.
    const frame = new Uint8Array(Buffer.allocUnsafeSlow(length).buffer as ArrayBuffer);
    nativeTasks.launch(this.#open(), batch, token, frame);
    return frame;
  }

  /**
   * Takes the results of a batch. What completed has ended; what did not start is ready again, unless it shall be
   * cancelled; everything else is left to decide, and so are slots that answer twice, and all tasks of released
   * segments.
   *
   * @returns the same object every time, or undefined when the batch is over
   * @throws ERR_MILLRACE_STORE_CORRUPT, ERR_MILLRACE_STORE_FORMAT for a frame that does not decode; nothing was taken
   */
  applyResults(batch: BatchHandle, frame: Uint8Array, now: Instant): Verdicts | undefined {
    checkBytes('frame', frame);
    checkNow(now);
    const count = nativeTasks.applyResults(this.#open(), batch, frame, now.wallMs, now.monoMs);
    if (count < 0) {
      const isKnown = nativeTasks.unreported(this.#open(), batch) > 0;
      if (!isKnown && isGood(frame, FrameKind.RESULTS, readResult)) return undefined;
      throw refusal(frame, FrameKind.RESULTS, readResult);
    }
    this.#verdicts.count = count;
    return this.#verdicts;
  }

  /**
   * A batch is over. What had not reported is RUNNING and in no batch: to be given to `retry` or `end`, or `forget`.
   */
  loseBatch(batch: BatchHandle): TaskHandle[] {
    return this.#list(nativeTasks.endBatch(this.#open(), batch));
  }

  /**
   * The claim of a batch does not count: its tasks are ready again, the attempt is not spent.
   *
   * @returns what is not ready again, RUNNING and in no batch: tasks that somebody asked to cancel meanwhile, to be
   *   ended; and those of released segments, to be forgotten
   */
  unclaim(batch: BatchHandle, now: Instant): TaskHandle[] {
    checkNow(now);
    return this.#list(nativeTasks.unclaim(this.#open(), batch, now.wallMs, now.monoMs));
  }

  /** Slots of a batch that have not reported. */
  unreported(batch: BatchHandle): number[] {
    const count = nativeTasks.unreported(this.#open(), batch);
    return Array.from(this.#first.subarray(0, count));
  }

  /**
   * The types of a batch's tasks (`TypeId`), by slot; none that exists for those that have reported. Good until the
   * next call of any method.
   */
  typesOf(batch: BatchHandle): Uint32Array {
    const count = nativeTasks.typesOf(this.#open(), batch);
    return this.#first.subarray(0, count);
  }

  /** In which batch a task is, and where; undefined when in none. */
  placeOf(task: TaskHandle): { readonly batch: BatchHandle; readonly slot: number } | undefined {
    const slot = nativeTasks.placeOf(this.#open(), task);
    return slot < 0 ? undefined : { batch: this.#registers[0] as BatchHandle, slot };
  }

  /**
   * The incarnation that runs a RUNNING task, by its claim here or by the overlay, or that ran one which has ended, until
   * that is durable; else undefined.
   */
  executorOf(task: TaskHandle): string | undefined {
    return nativeTasks.executorOf(this.#open(), task);
  }

  // --- Single tasks ------------------------------------------------------------------------------------------------

  /**
   * RUNNING and in no batch -> PENDING. In a held segment it waits for `resume`, and then by `due.wallMs`.
   *
   * @param due.wallMs - when it may start again, as it is stored
   * @param due.monoMs - the same, exactly; not later than now: at once
   * @param due.spent - whether the attempt counts
   * @returns false if the task is in another state, in a batch, of a released segment, or gone
   */
  retry(
    task: TaskHandle,
    due: { readonly wallMs: number; readonly monoMs: number; readonly spent: boolean },
    now: Instant,
  ): boolean {
    checkNow(now);
    checkMs('due.wallMs', due.wallMs);
    checkMs('due.monoMs', due.monoMs);
    return nativeTasks.retry(
      this.#open(),
      task,
      due.wallMs,
      due.monoMs,
      due.spent === true,
      now.wallMs,
      now.monoMs,
    );
  }

  /**
   * PENDING -> PENDING, due at another time; a time to live counts from there. In a held segment it waits for `resume`.
   *
   * @param due.wallMs - when it is due, as it is stored
   * @param due.monoMs - the same, exactly; not later than now: at once
   * @param due.isByDate - it is due at a moment of the wall clock, should that jump, and not after a delay
   * @returns `gone` also for a task of a released segment
   */
  reschedule(
    task: TaskHandle,
    due: { readonly wallMs: number; readonly monoMs: number; readonly isByDate: boolean },
    now: Instant,
  ): 'gone' | 'rescheduled' | 'running' | 'ended' {
    checkNow(now);
    checkMs('due.wallMs', due.wallMs);
    checkMs('due.monoMs', Math.max(0, due.monoMs));
    const answer = nativeTasks.reschedule(
      this.#open(),
      task,
      due.wallMs,
      due.monoMs,
      due.isByDate === true,
      now.wallMs,
      now.monoMs,
    );
    return (['gone', 'rescheduled', 'running', 'ended'] as const)[answer]!;
  }

  /**
   * FAILED, and durably so -> PENDING, at once: the next version of the task. Attempts and losses begin anew; there is no
   * time to live any more. REQUIRES: no cut is open that touched the segment.
   *
   * @returns false if the task is in another state, of a released segment, or gone
   */
  redrive(task: TaskHandle, now: Instant): boolean {
    checkNow(now);
    return nativeTasks.redrive(this.#open(), task, now.wallMs, now.monoMs);
  }

  /**
   * To an ended state: from RUNNING and in no batch, or (CANCELLED, EXPIRED) from PENDING.
   *
   * @param bytes - JSON of the value or the wire error
   * @returns false if the task cannot go there, is of a released segment, or gone
   */
  end(task: TaskHandle, state: TaskState, bytes: Uint8Array, now: Instant): boolean {
    if (!isTaskState(state)) throw invalidOption('state', state, 'a TaskState');
    checkBytes('bytes', bytes);
    checkNow(now);
    return nativeTasks.end(this.#open(), task, state, bytes, now.wallMs, now.monoMs);
  }

  /** A thread or process died under a task. @returns how many have, or 0 when it is of a released segment, or gone */
  noteLoss(task: TaskHandle): number {
    return nativeTasks.noteLoss(this.#open(), task);
  }

  /**
   * From when it is ready next, a task runs with nothing beside it.
   *
   * @returns false when it has ended, is of a released segment, or gone
   */
  isolate(task: TaskHandle): boolean {
    return nativeTasks.isolate(this.#open(), task);
  }

  /**
   * A pending task ends as CANCELLED with these bytes; a running one is marked (`isCancelAsked`): tell its pool, see
   * `placeOf`.
   */
  cancel(
    task: TaskHandle,
    bytes: Uint8Array,
    now: Instant,
  ): 'gone' | 'cancelled' | 'running' | 'ended' {
    checkBytes('bytes', bytes);
    checkNow(now);
    const answer = nativeTasks.cancel(this.#open(), task, bytes, now.wallMs, now.monoMs);
    return (['gone', 'cancelled', 'running', 'ended'] as const)[answer]!;
  }

  /**
   * Asks that the task be listed by `settle` when its end is durable. `settled`: it is already. `gone` also for tasks
   * of released segments, whose end other nodes hear of.
   */
  watch(task: TaskHandle): 'gone' | 'watching' | 'settled' {
    const answer = nativeTasks.watch(this.#open(), task);
    return (['gone', 'watching', 'settled'] as const)[answer]!;
  }

  unwatch(task: TaskHandle): void {
    nativeTasks.unwatch(this.#open(), task);
  }

  /** All about a task but its bytes, or undefined. */
  inspect(task: TaskHandle): TaskInfo | undefined {
    if (!nativeTasks.view(this.#open(), task)) return undefined;
    const r = this.#registers;
    const flags = r[1]!;
    return {
      state: r[0] as TaskState,
      isSettled: (flags & 1) !== 0,
      isFiled: (flags & 2) !== 0,
      isReady: (flags & 4) !== 0,
      isCancelAsked: (flags & 8) !== 0,
      mustBeAlone: (flags & 16) !== 0,
      isParked: (flags & 64) !== 0,
      isReleased: (flags & 32) !== 0,
      priority: r[2]!,
      attempt: r[3]!,
      losses: r[4]!,
      index: r[5]!,
      type: r[6] as TypeId,
      version: r[7]!,
      dueAtMs: r[8]!,
      changedAtMs: r[9]!,
      submittedAtMs: r[10]!,
      expiresAtMs: r[11]!,
      payloadBytes: r[12]!,
      segment: r[13] as SegmentHandle,
    };
  }

  /** '' = none; undefined: the task is gone. */
  tenantOf(task: TaskHandle): string | undefined {
    return nativeTasks.bytesOf(this.#open(), task, 3);
  }

  /** A copy of the payload, or undefined when the task is gone. */
  payloadOf(task: TaskHandle): Uint8Array<ArrayBuffer> | undefined {
    return nativeTasks.bytesOf(this.#open(), task, 0);
  }

  /** A copy of the metadata. */
  metadataOf(task: TaskHandle): Uint8Array<ArrayBuffer> | undefined {
    return nativeTasks.bytesOf(this.#open(), task, 1);
  }

  /** A copy of what the task ended with; empty before that, and again once it is settled. */
  endOf(task: TaskHandle): Uint8Array<ArrayBuffer> | undefined {
    return nativeTasks.bytesOf(this.#open(), task, 2);
  }

  // --- Commits -----------------------------------------------------------------------------------------------------

  /** Opens what one commit writes; ends in `settle` or `revert`. */
  beginCut(): CutHandle {
    return nativeTasks.beginCut(this.#open()) as CutHandle;
  }

  /** The segment that has waited longest to be written, or 0. */
  firstDirty(): SegmentHandle {
    return nativeTasks.firstDirty(this.#open()) as SegmentHandle;
  }

  /**
   * Files the ended tasks of a segment, as far as the commit has room; the first of a cut always fits. The segment is
   * clean afterwards, unless something was left.
   *
   * @param limits.keep - states whose tasks are kept for inspection
   */
  file(
    cut: CutHandle,
    segment: SegmentHandle,
    limits: {
      readonly keep: readonly TaskState[];
      readonly operationsLeft: number;
      readonly bytesLeft: number;
    },
  ): Filing {
    let mask = 0;
    for (const state of limits.keep) mask |= 1 << state;
    const { operationsLeft, bytesLeft } = limits;
    const frame = nativeTasks.file(this.#open(), cut, segment, mask, operationsLeft, bytesLeft);
    const r = this.#registers;
    invariant(r[0] === 1, 'task-table.file', { cut, segment });
    return {
      isNewlyTouched: r[1] === 1,
      frame,
      deadLetters: this.#list(r[4]!),
      isComplete: r[6] === 1,
      filed: r[2]!,
      left: r[3]!,
    };
  }

  /** The value under which a failed task is filed; see `fileDeadLetter` in src/engine/finished.ts. */
  deadLetter(task: TaskHandle): Uint8Array<ArrayBuffer> {
    const value = nativeTasks.deadLetter(this.#open(), task);
    invariant(value !== undefined, 'task-table.dead-letter', { task });
    return value;
  }

  /**
   * The overlay of a segment: every task that is not as it was submitted. Ended tasks are bare, and one whose end is
   * not filed stands as RUNNING here, under the executor that ran it (this one, if none has), so that a crash before
   * the filing makes it run again instead of vanish.
   *
   * @returns undefined when all of them are as submitted, and for a released segment
   */
  overlay(segment: SegmentHandle): Uint8Array<ArrayBuffer> | undefined {
    return nativeTasks.overlay(this.#open(), segment);
  }

  /** Segments that a cut touched by filing and claiming, in this order. */
  touched(cut: CutHandle): SegmentHandle[] {
    const all: SegmentHandle[] = [];
    for (;;) {
      const count = nativeTasks.touched(this.#open(), cut, all.length);
      for (let i = 0; i < count; i++) all.push(this.#handles[i] as SegmentHandle);
      if (count < LIST_MAX) return all;
    }
  }

  /** The commit is done: what it filed has ended for good. */
  settle(cut: CutHandle): Settled {
    const bytes = nativeTasks.settle(this.#open(), cut);
    invariant(bytes !== undefined, 'task-table.cut', { cut });
    const [tasks, freed, count] = [this.#registers[0]!, this.#registers[1]!, this.#registers[2]!];
    const watched: WatchedEnd[] = [];
    // Decoded here: a view of the bytes for each end would cost more than its text.
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    let at = 0;
    while (watched.length < count) {
      const listed = nativeTasks.takeEnded(this.#open(), watched.length);
      for (let i = 0; i < listed; i++) {
        const length = this.#second[i]!;
        watched.push({
          task: this.#handles[i] as TaskHandle,
          state: this.#first[i] as TaskState,
          json: text.toString('utf8', at, at + length),
        });
        at += length;
      }
    }
    return { tasks, bytes: freed, watched };
  }

  /** The commit certainly was not applied: its ends are to be filed again, its segments dirty. */
  revert(cut: CutHandle): void {
    const isKnown = nativeTasks.revert(this.#open(), cut);
    invariant(isKnown, 'task-table.cut', { cut });
  }

  // --- The table ---------------------------------------------------------------------------------------------------

  /** Tasks whose end is not durable. No call into C++. */
  get openCount(): number {
    return this.#counters[OPEN]!;
  }

  /** Tasks that wait for a time. */
  get delayedCount(): number {
    return this.#counters[DELAYED]!;
  }

  /** Due tasks, those of types that this node does not run included. */
  get readyCount(): number {
    const counters = this.#counters;
    return counters[READY]! + counters[READY + 1]! + counters[UNHANDLED]!;
  }

  /** Tasks in batches. */
  get busyCount(): number {
    return this.#counters[BUSY]!;
  }

  get hasDirty(): boolean {
    return this.#counters[DIRTY]! > 0;
  }

  stats(): TaskTableStats {
    const bytes = nativeTasks.bytes(this.#open());
    const counters = this.#counters;
    return {
      segments: counters[SEGMENTS]!,
      tasks: counters[TASKS]!,
      open: counters[OPEN]!,
      openBytes: counters[OPEN_BYTES]!,
      pending: counters[STATES]!,
      running: counters[STATES + 1]!,
      completed: counters[STATES + 2]!,
      failed: counters[STATES + 3]!,
      cancelled: counters[STATES + 4]!,
      expired: counters[STATES + 5]!,
      delayed: counters[DELAYED]!,
      readyThread: counters[READY]!,
      readyInline: counters[READY + 1]!,
      unhandled: counters[UNHANDLED]!,
      busy: counters[BUSY]!,
      dirtySegments: counters[DIRTY]!,
      bytes,
    };
  }

  /** Verifies the table's invariants, in debug builds of the native core; otherwise says yes. O(everything). */
  check(): boolean {
    return nativeTasks.check(this.#open());
  }

  /** Drops everything and frees the memory. More than once is fine. */
  close(): void {
    if (this.#table === undefined) return;
    nativeTasks.close(this.#table);
    this.#table = undefined;
    this.#counters.fill(0);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  #open(): NativeTable {
    if (this.#table !== undefined) return this.#table;
    throw new MillraceError('ERR_MILLRACE_CLOSED', 'the task table is closed; make another');
  }

  /** The first handles of the list; none for a negative count. */
  #list(count: number): TaskHandle[] {
    const handles = new Array<TaskHandle>(Math.max(0, count));
    for (let i = 0; i < count; i++) handles[i] = this.#handles[i] as TaskHandle;
    return handles;
  }
}

/** The error for a frame that the native core refused: the reader of src/core finds the reason again. */
function refusal(
  frame: Uint8Array,
  kind: FrameKind,
  read: (reader: ReturnType<typeof openFrame>, index: number) => unknown,
): MillraceError {
  try {
    const reader = openFrame(frame, kind);
    for (let i = 0; i < reader.count; i++) read(reader, i);
  } catch (cause) {
    if (cause instanceof MillraceError) return cause;
    throw cause;
  }
  return badFrame('its records share bytes, or name something twice or that is not there');
}

function isGood(
  frame: Uint8Array,
  kind: FrameKind,
  read: (reader: ReturnType<typeof openFrame>, index: number) => unknown,
): boolean {
  const reader = openFrame(frame, kind);
  for (let i = 0; i < reader.count; i++) read(reader, i);
  return true;
}

function checkNow(now: Instant): void {
  checkMs('now.wallMs', now.wallMs);
  checkMs('now.monoMs', now.monoMs);
}

function checkMs(name: string, value: unknown): void {
  if (typeof value === 'number' && value >= 0 && value <= MS_MAX) return;
  throw invalidOption(name, value, 'milliseconds from 0 to 2^53 - 1');
}

function checkTimes(times: Float64Array): void {
  if (!isFloat64Array(times)) throw invalidOption('dueMonoMs', times, 'a Float64Array');
  for (let i = 0; i < times.length; i++) {
    const time = times[i]!;
    if (!(time >= -MS_MAX && time <= MS_MAX)) {
      throw invalidOption(`dueMonoMs[${i}]`, time, 'finite milliseconds, at most 2^53 - 1');
    }
  }
}

function checkBytes(name: string, bytes: unknown): void {
  if (!isUint8Array(bytes)) throw invalidOption(name, bytes, 'a Uint8Array');
}

function checkText(name: string, text: unknown): string {
  if (typeof text === 'string' && Buffer.byteLength(text) <= STRING_BYTES_MAX) return text;
  throw invalidOption(name, text, `a string of at most ${STRING_BYTES_MAX} bytes`);
}

function checkCredits(credits: unknown, max: unknown): void {
  if (!(typeof credits === 'number' && credits >= 0 && credits <= MS_MAX)) {
    throw invalidOption('credits', credits, 'a number from 0 to 2^53 - 1');
  }
  if (typeof max === 'number' && max >= 0) return;
  throw invalidOption('max', max, 'a number from 0, or Infinity');
}

function checkWeight(weight: unknown): void {
  if (typeof weight === 'number' && weight >= 1e-6 && weight <= 1e6) return;
  throw invalidOption('weight', weight, 'a number from 0.000001 to 1000000');
}
