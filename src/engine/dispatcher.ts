/**
 * From ready to running and back: claims batches for a pool, hands them over once the claim is durable, and gives
 * what ended without a value to the policies.
 *
 *   claim()    inside a cut: the table picks tasks and marks them RUNNING, the pool's places are reserved
 *   launch()   the commit is done: batch frames with the commit's revision as fencing token run
 *   unclaim()  the commit failed: back to ready, as if nothing had been
 *
 * A result counts only for the claim that runs: the table knows each batch, and each slot answers once. What a batch
 * did not report when its thread died is lost: the attempt is not spent, the loss is counted. A task that lost two
 * threads runs alone from then on, so that the third loss blames nobody else; then it goes to the dead letters.
 */
import { publish } from '../core/channels.js';
import type { Clock } from '../core/clock.js';
import { toWire } from '../core/error-wire.js';
import type { MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { type SegmentRef, type TaskId, taskId } from '../core/ids.js';
import type { Pool, RunningBatch } from '../core/pool.js';
import type { Random } from '../core/random.js';
import { Outcome, TaskState } from '../core/states.js';
import type { Revision } from '../core/store.js';
import {
  type BatchHandle,
  type CutHandle,
  type Instant,
  type Place,
  STALE,
  type TaskHandle,
  type TaskInfo,
  type TaskTable,
} from '../timing/task-table.js';
import { cancelledBytes, failedBytes, lostError } from './ends.js';
import { retryDelayMs } from './retry-policy.js';
import { meanRunMs } from './run-times.js';
import type { TaskTypes } from './task-types.js';

const BATCH_TASKS_MAX = 64;
/** About so much work per batch: enough to pay for the message, little enough to keep places coming free. */
const BATCH_WORK_MS = 10;
/** A payload-heavy batch is closed early. */
const BATCH_BYTES_MAX = 1_048_576;
/**
 * Claims go ahead of the pool's places by about so much work per thread: a claim costs a commit, and threads that
 * run short tasks would stand idle until the next one is done.
 */
const AHEAD_WORK_MS = 10;
/** However short the tasks: what is claimed counts as lost when the process dies. */
const AHEAD_BATCHES_PER_THREAD_MAX = 4;
/** After so many losses a task does not run again. (After two it runs alone: the table sees to that.) */
const LOSSES_MAX = 3;

/** What a commit has room for; the claim takes from it. */
export interface ClaimRoom {
  /** Segments that it may touch newly. */
  readonly segmentsMax: number;
  note(claimed: { readonly segments: number; readonly segmentTasks: number }): void;
}

interface ClaimedBatch {
  readonly batch: BatchHandle;
  readonly token: Revision;
}

export interface DispatcherEvents {
  /** Something changed that a commit has to write. */
  onChanged(): void;
  /** There may be something to claim. */
  onFree(): void;
  /** A running task says how far it is. */
  onProgress(task: TaskId, json: string): void;
  /** Nothing of what these tasks said holds any more. */
  onProgressOver(tasks: Iterable<TaskId>): void;
}

export class Dispatcher {
  readonly #place: Place;
  readonly #pool: Pool;
  readonly #table: TaskTable;
  readonly #types: TaskTypes;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #events: DispatcherEvents;
  /** Batches claimed by a commit that is not done. */
  #claimedCount = 0;
  /** Claimed for good, until the pool has a place. */
  #waiting: ClaimedBatch[] = [];
  readonly #running = new Map<BatchHandle, RunningBatch>();
  /** Why tasks that run, or are claimed, shall end. */
  readonly #cancelReasons = new Map<TaskHandle, string>();
  /** Of all tasks, ms; NaN before the first. */
  #averageRunMs = Number.NaN;
  #isClosing = false;

  constructor(options: {
    readonly place: Place;
    readonly pool: Pool;
    readonly table: TaskTable;
    readonly types: TaskTypes;
    readonly clock: Clock;
    readonly random: Random;
    readonly events: DispatcherEvents;
  }) {
    this.#place = options.place;
    this.#pool = options.pool;
    this.#table = options.table;
    this.#types = options.types;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#events = options.events;
    this.#pool.onFree = () => {
      this.#launchWaiting();
      this.#events.onFree();
    };
  }

  /** Whether claim() would find a task and a place. */
  get canClaim(): boolean {
    return !this.#isClosing && this.#freePlaces > 0 && this.#table.takeable(this.#place, 1) > 0;
  }

  /** Batches that may be claimed now; the ones beyond the pool's free places wait their turn, claimed. */
  get #freePlaces(): number {
    return this.#pool.freePlaces + this.#aheadMax() - this.#claimedCount - this.#waiting.length;
  }

  /** Unknown run times go nowhere ahead: the first batches find out. */
  #aheadMax(): number {
    if (Number.isNaN(this.#averageRunMs) || this.#types.hasRunOnce) return 0;
    const perThread = Math.floor(AHEAD_WORK_MS / (BATCH_TASKS_MAX * this.#averageRunMs));
    return Math.min(perThread, AHEAD_BATCHES_PER_THREAD_MAX) * this.#pool.threadCount;
  }

  /**
   * Claims ready tasks for every free place.
   *
   * @returns the batches; each must end in `launch` or `unclaim`
   */
  claim(cut: CutHandle, room: ClaimRoom): BatchHandle[] {
    const batches: BatchHandle[] = [];
    let places = this.#isClosing ? 0 : this.#freePlaces;
    if (places <= 0) return batches;
    const takeable = this.#table.takeable(this.#place, places * BATCH_TASKS_MAX);
    if (takeable === 0) return batches;
    // The threads share what there is evenly; only what is left over goes ahead.
    const shares = Math.max(1, Math.min(places, this.#pool.freePlaces));
    const tasksMax = Math.min(Math.max(1, Math.ceil(takeable / shares)), BATCH_TASKS_MAX);
    const now = this.#now();
    for (; places > 0; places--) {
      const limits = {
        place: this.#place,
        tasksMax,
        segmentsMax: Math.max(0, room.segmentsMax),
        bytesMax: BATCH_BYTES_MAX,
        workMsMax: BATCH_WORK_MS,
      };
      const claimed = this.#table.claim(cut, limits, now);
      if (claimed === undefined) break;
      room.note(claimed);
      batches.push(claimed.batch);
      this.#claimedCount++;
      if (!claimed.isMoreLikely) break;
    }
    return batches;
  }

  /** The claim is durable: runs the batches, each task with `token`. */
  launch(batches: readonly BatchHandle[], token: Revision): void {
    if (this.#isClosing) return this.unclaim(batches);
    this.#claimedCount -= batches.length;
    for (const batch of batches) this.#waiting.push({ batch, token });
    this.#launchWaiting();
  }

  /** The claim is not in the store, or shall not be used: the tasks are ready again. */
  unclaim(batches: readonly BatchHandle[]): void {
    this.#claimedCount -= batches.length;
    this.#putBack(batches);
  }

  /** Asks a claimed or running task to end. */
  cancel(task: TaskHandle, reason: string): void {
    const place = this.#table.placeOf(task);
    if (place === undefined) return;
    this.#cancelReasons.set(task, reason);
    this.#running.get(place.batch)?.cancel(place.slot, reason);
  }

  /** Claims nothing from here on. */
  stopClaiming(): void {
    this.#isClosing = true;
    this.#putBack(this.#waiting.splice(0).map(({ batch }) => batch));
  }

  /** Aborts the signal of everything that runs. */
  interruptAll(reason: string): void {
    for (const [batch, running] of this.#running) {
      for (const slot of this.#table.unreported(batch)) running.cancel(slot, reason);
    }
  }

  /** A thread or process died under tasks: they are RUNNING and in no batch. */
  lose(tasks: readonly TaskHandle[], cause: MillraceError | undefined): void {
    for (const task of tasks) this.#lose(task, cause);
  }

  #putBack(batches: readonly BatchHandle[]): void {
    for (const batch of batches) {
      for (const task of this.#table.unclaim(batch, this.#now())) this.#cancelled(task, undefined);
    }
    if (batches.length > 0) this.#events.onChanged();
  }

  #launchWaiting(): void {
    while (this.#waiting.length > 0 && this.#pool.freePlaces > 0) {
      const { batch, token } = this.#waiting.shift()!;
      this.#run(batch, token);
    }
  }

  #run(batch: BatchHandle, token: Revision): void {
    const heard = new Set<TaskId>();
    const running = this.#pool.run(this.#table.launch(batch, token), {
      onResults: (frame) => this.#onResults(batch, frame),
      onProgress: ({ taskId: task, json }) => {
        heard.add(task as TaskId);
        this.#events.onProgress(task as TaskId, json);
      },
      onEnd: (loss) => {
        this.#events.onProgressOver(heard);
        this.#onEnd(batch, loss);
      },
    });
    this.#running.set(batch, running);
    for (const [task, reason] of this.#cancelReasons) {
      const place = this.#table.placeOf(task);
      if (place?.batch === batch) running.cancel(place.slot, reason);
    }
  }

  #onResults(batch: BatchHandle, frame: Uint8Array): void {
    const now = this.#now();
    const verdicts = this.#table.applyResults(batch, frame, now);
    if (verdicts === undefined) return;
    this.#averageRunMs = meanRunMs(frame, this.#averageRunMs);
    const { tasks, outcomes, slots, attempts, offsets, lengths } = verdicts;
    for (let i = 0; i < verdicts.count; i++) {
      if (outcomes[i] === STALE) {
        const [slot, attempt] = [slots[i]!, attempts[i]!];
        publish('millrace:result:stale', () => ({ taskId: `slot ${slot}`, attempt }));
        continue;
      }
      const bytes = frame.subarray(offsets[i]!, offsets[i]! + lengths[i]!);
      this.#decide(tasks[i] as TaskHandle, outcomes[i] as Outcome, bytes, now);
    }
    this.#events.onChanged();
  }

  #onEnd(batch: BatchHandle, loss: MillraceError | undefined): void {
    this.#running.delete(batch);
    this.#forgetReasons();
    const lost = this.#table.loseBatch(batch);
    if (loss?.details.reason === 'shutdown') {
      for (const task of lost) this.#runAgain(task, 0, { spent: false });
    } else {
      this.lose(lost, loss);
    }
    if (lost.length > 0) this.#events.onChanged();
    this.#events.onFree();
  }

  /** A task may complete although it was asked to end. */
  #forgetReasons(): void {
    for (const task of this.#cancelReasons.keys()) {
      if (this.#table.inspect(task)?.state !== TaskState.RUNNING) this.#cancelReasons.delete(task);
    }
  }

  #decide(task: TaskHandle, outcome: Outcome, bytes: Uint8Array, now: Instant): void {
    switch (outcome) {
      case Outcome.FAILED:
        return this.#retryOrFail(task, bytes);
      case Outcome.FAILED_FOR_GOOD:
        return this.#fail(task, bytes);
      case Outcome.SNOOZED:
        return this.#runAgain(task, Number(utf8(bytes)) || 0, { spent: false });
      case Outcome.NOT_STARTED:
        return this.#runAgain(task, 0, { spent: false });
      case Outcome.CANCELLED:
        // A shutdown aborts signals too, and what it interrupts runs again.
        if (this.#isClosing && !this.#cancelReasons.has(task)) {
          return this.#runAgain(task, 0, { spent: false });
        }
        return this.#cancelled(task, bytes);
      case Outcome.COMPLETED:
        this.#table.end(task, TaskState.COMPLETED, bytes, now);
    }
  }

  #retryOrFail(task: TaskHandle, errorJson: Uint8Array): void {
    const info = this.#infoOf(task);
    const spec = this.#types.specOf(info.type);
    const delayMs = spec && retryDelayMs(spec.retry, info.attempt, this.#random);
    if (delayMs === undefined) return this.#fail(task, errorJson);
    publish('millrace:task:retry', () => ({
      taskId: this.#idOf(info),
      type: this.#typeOf(info),
      attempt: info.attempt,
      delayMs,
      error: JSON.parse(utf8(errorJson)),
    }));
    this.#runAgain(task, delayMs, { spent: true });
  }

  #fail(task: TaskHandle, errorJson: Uint8Array): void {
    const info = this.#infoOf(task);
    const facts = { id: this.#idOf(info), type: this.#typeOf(info), attempt: info.attempt };
    publish('millrace:task:failed', () => ({
      taskId: facts.id,
      type: facts.type,
      attempt: facts.attempt,
      error: JSON.parse(utf8(errorJson)),
    }));
    this.#end(task, TaskState.FAILED, failedBytes(facts, errorJson));
  }

  #cancelled(task: TaskHandle, reasonJson: Uint8Array | undefined): void {
    const given: unknown =
      reasonJson === undefined || reasonJson.length === 0
        ? undefined
        : JSON.parse(utf8(reasonJson));
    const asked = this.#cancelReasons.get(task);
    const reason = asked ?? (typeof given === 'string' ? given : undefined);
    this.#end(task, TaskState.CANCELLED, cancelledBytes(this.#idOf(this.#infoOf(task)), reason));
  }

  #lose(task: TaskHandle, cause: MillraceError | undefined): void {
    const losses = this.#table.noteLoss(task);
    const info = this.#infoOf(task);
    const facts = { taskId: this.#idOf(info), type: this.#typeOf(info) };
    publish('millrace:task:lost', () => ({ ...facts, losses }));
    const mayRunAgain = this.#types.specOf(info.type)?.onLost !== 'fail' && losses < LOSSES_MAX;
    if (mayRunAgain) return this.#runAgain(task, 0, { spent: false });
    const error = lostError(facts.taskId, { count: losses, max: LOSSES_MAX }, cause);
    publish('millrace:task:failed', () => ({ ...facts, attempt: info.attempt, error }));
    this.#end(task, TaskState.FAILED, Buffer.from(JSON.stringify(toWire(error))));
  }

  #end(task: TaskHandle, state: TaskState, bytes: Uint8Array): void {
    this.#cancelReasons.delete(task);
    this.#table.end(task, state, bytes, this.#now());
  }

  /** Pending again; unless somebody has asked it to end. */
  #runAgain(task: TaskHandle, delayMs: number, options: { readonly spent: boolean }): void {
    if (this.#cancelReasons.has(task)) return this.#cancelled(task, undefined);
    const now = this.#now();
    const due = {
      // Rounded up: what is stored must not be early either.
      wallMs: now.wallMs + Math.ceil(delayMs),
      monoMs: now.monoMs + delayMs,
      spent: options.spent,
    };
    this.#table.retry(task, due, now);
  }

  #infoOf(task: TaskHandle): TaskInfo {
    return this.#table.inspect(task)!;
  }

  #idOf(info: TaskInfo): TaskId {
    return taskId(this.#table.segmentRef(info.segment) as SegmentRef, info.index);
  }

  #typeOf(info: TaskInfo): string {
    return this.#table.typeName(info.type) ?? '';
  }

  #now(): Instant {
    return { wallMs: this.#clock.wallMs(), monoMs: this.#clock.monoMs() };
  }
}
