/**
 * From ready to running and back: claims batches for a pool, hands them over once the claim is durable, and turns
 * results into new states.
 *
 *   claim()    inside a cut: picks tasks, marks them RUNNING in memory, reserves the pool's places
 *   launch()   the commit is done: builds batch frames with the commit's revision as fencing token, runs them
 *   unclaim()  the commit failed: back to ready, as if nothing had been
 *
 * A result counts only for the claim that runs: a batch remembers its tasks, and each slot answers once. What a
 * batch did not report when its thread died is lost: the attempt is not spent, the loss is counted. A task that lost
 * two threads runs alone from then on, so that the third loss blames nobody else; then it goes to the dead letters.
 */
import { publish } from '../core/channels.js';
import type { Clock } from '../core/clock.js';
import { toWire } from '../core/error-wire.js';
import { MillraceError } from '../core/errors.js';
import { FrameKind, FrameWriter, openFrame, utf8 } from '../core/frame.js';
import type { Incarnation } from '../core/ids.js';
import type { Pool, RunningBatch } from '../core/pool.js';
import type { Random } from '../core/random.js';
import { copyToBatch, type ResultRecord, readResult } from '../core/records.js';
import { Outcome, TaskState } from '../core/states.js';
import type { Revision } from '../core/store.js';
import type { LiveTask } from './live-task.js';
import { type ReadyQueue, smoothed } from './ready-queue.js';
import { retryDelayMs } from './retry-policy.js';
import type { TaskBook } from './task-book.js';

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
/** After so many losses a task runs alone. */
const LOSSES_BEFORE_ALONE = 2;
/** After so many it does not run again. */
const LOSSES_MAX = 3;

/** Tasks that are claimed together and run as one batch. */
export interface ClaimedBatch {
  readonly tasks: LiveTask[];
}

interface Running {
  readonly tasks: readonly LiveTask[];
  /** Slots that reported. */
  readonly hasReported: boolean[];
  control: RunningBatch | undefined;
}

export interface DispatcherEvents {
  /** A task's state changed: its segment has to be committed. */
  onChanged(task: LiveTask): void;
  /** The task ended with this state; the bytes are JSON. */
  onEnded(task: LiveTask, state: TaskState, bytes: Uint8Array): void;
  /** There may be something to claim. */
  onFree(): void;
}

export class Dispatcher {
  readonly #pool: Pool;
  readonly #ready: ReadyQueue<LiveTask>;
  readonly #book: TaskBook;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #incarnation: Incarnation;
  readonly #events: DispatcherEvents;
  readonly #writer = new FrameWriter(FrameKind.BATCH);
  /** Claimed by a commit that is not done. */
  #claimedBatches = 0;
  /** Tasks in them, and in `waiting`. */
  #claimedCount = 0;
  /** Claimed for good, until the pool has a place. */
  #waiting: { readonly batch: ClaimedBatch; readonly token: Revision }[] = [];
  readonly #running = new Map<LiveTask, { readonly running: Running; readonly slot: number }>();
  /** Of all tasks, ms; NaN before the first. */
  #averageRunMs = Number.NaN;
  #isClosing = false;

  constructor(options: {
    readonly pool: Pool;
    readonly ready: ReadyQueue<LiveTask>;
    readonly book: TaskBook;
    readonly clock: Clock;
    readonly random: Random;
    readonly incarnation: Incarnation;
    readonly events: DispatcherEvents;
  }) {
    this.#pool = options.pool;
    this.#ready = options.ready;
    this.#book = options.book;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#incarnation = options.incarnation;
    this.#events = options.events;
    this.#pool.onFree = () => {
      this.#launchWaiting();
      this.#events.onFree();
    };
  }

  /** Executions claimed or running. */
  get busyCount(): number {
    return this.#running.size + this.#claimedCount;
  }

  /** Whether claim() would find a task and a place. */
  get canClaim(): boolean {
    return !this.#isClosing && this.#freePlaces > 0 && this.#ready.takeable(1) > 0;
  }

  /** Batches that may be claimed now; the ones beyond the pool's free places wait their turn, claimed. */
  get #freePlaces(): number {
    return this.#pool.freePlaces + this.#aheadMax() - this.#claimedBatches - this.#waiting.length;
  }

  /** Unknown run times go nowhere ahead: the first batches find out. */
  #aheadMax(): number {
    if (Number.isNaN(this.#averageRunMs)) return 0;
    const perThread = Math.floor(AHEAD_WORK_MS / (BATCH_TASKS_MAX * this.#averageRunMs));
    return Math.min(perThread, AHEAD_BATCHES_PER_THREAD_MAX) * this.#pool.threadCount;
  }

  /**
   * Picks ready tasks for every free place and marks them RUNNING.
   *
   * @param mayTouch - asked before each task; false ends the claim (no room in the commit for its segment)
   * @returns the batches; each must end in `launch` or `unclaim`
   */
  claim(mayTouch: (task: LiveTask) => boolean): ClaimedBatch[] {
    const batches: ClaimedBatch[] = [];
    let places = this.#isClosing ? 0 : this.#freePlaces;
    if (places <= 0) return batches;
    const takeable = this.#ready.takeable(places * BATCH_TASKS_MAX);
    // The threads share what there is evenly; only what is left over goes ahead.
    const shares = Math.max(1, Math.min(places, this.#pool.freePlaces));
    const evenShare = Math.max(1, Math.ceil(takeable / shares));
    const nowMs = this.#clock.wallMs();
    let isOpen = true;
    let placesLeft = this.#pool.freePlaces - this.#claimedBatches - this.#waiting.length;
    for (; places > 0 && isOpen; places--) {
      const tasks: LiveTask[] = [];
      const isAhead = placesLeft-- <= 0;
      isOpen = this.#fillBatch(tasks, Math.min(evenShare, BATCH_TASKS_MAX), nowMs, (task) => {
        // What may run once only is claimed just in time: a claim that never ran would count as its one run.
        return (!isAhead || task.type.spec?.onLost !== 'fail') && mayTouch(task);
      });
      if (tasks.length === 0) break;
      batches.push({ tasks });
      this.#claimedBatches++;
      this.#claimedCount += tasks.length;
    }
    return batches;
  }

  /** The claim is durable: runs the batches, each task with `token`. */
  launch(batches: readonly ClaimedBatch[], token: Revision): void {
    if (this.#isClosing) return this.unclaim(batches);
    for (const batch of batches) {
      this.#claimedBatches--;
      this.#waiting.push({ batch, token });
    }
    this.#launchWaiting();
  }

  /** The claim is not in the store, or shall not be used: the tasks are ready again. */
  unclaim(batches: readonly ClaimedBatch[]): void {
    for (const batch of batches) {
      this.#claimedBatches--;
      this.#claimedCount -= batch.tasks.length;
      for (const task of batch.tasks) this.#backToPending(task, this.#clock.wallMs());
    }
  }

  /** Asks a claimed or running task to end. */
  cancel(task: LiveTask, reason: string): void {
    task.cancelReason = reason;
    const place = this.#running.get(task);
    place?.running.control?.cancel(place.slot, reason);
  }

  /** Claims nothing from here on. */
  stopClaiming(): void {
    this.#isClosing = true;
    for (const { batch } of this.#waiting.splice(0)) {
      this.#claimedCount -= batch.tasks.length;
      for (const task of batch.tasks) this.#backToPending(task, this.#clock.wallMs());
    }
  }

  /** Aborts the signal of everything that runs. */
  interruptAll(reason: string): void {
    for (const [, { running, slot }] of this.#running) running.control?.cancel(slot, reason);
  }

  #fillBatch(
    tasks: LiveTask[],
    tasksMax: number,
    nowMs: number,
    mayTouch: (task: LiveTask) => boolean,
  ): boolean {
    let workMs = 0;
    let bytes = 0;
    while (tasks.length < tasksMax && workMs < BATCH_WORK_MS && bytes < BATCH_BYTES_MAX) {
      const type = this.#ready.next();
      if (type === undefined) return false;
      const task = type.head!;
      if (task.state !== TaskState.PENDING) {
        // Cancelled or expired while it was ready.
        this.#ready.takeFrom(type);
        continue;
      }
      const isSuspect = task.losses >= LOSSES_BEFORE_ALONE;
      if (isSuspect && tasks.length > 0) return true;
      if (!mayTouch(task)) return false;
      this.#ready.takeFrom(type);
      this.#book.forgetTimer(task);
      task.moveTo(TaskState.RUNNING, nowMs);
      task.executor = this.#incarnation;
      task.attempt++;
      type.runningCount++;
      tasks.push(task);
      bytes += task.admittedBytes;
      // An unknown run time counts as little: the first batch finds out.
      workMs += Number.isNaN(type.averageRunMs) ? 0 : type.averageRunMs;
      if (isSuspect) return true;
    }
    return true;
  }

  #launchWaiting(): void {
    while (this.#waiting.length > 0 && this.#pool.freePlaces > 0) {
      const { batch, token } = this.#waiting.shift()!;
      this.#run(batch.tasks, token);
    }
  }

  #run(tasks: readonly LiveTask[], token: Revision): void {
    const running: Running = { tasks, hasReported: tasks.map(() => false), control: undefined };
    this.#claimedCount -= tasks.length;
    const writer = this.#writer;
    writer.reset();
    tasks.forEach((task, slot) => {
      this.#running.set(task, { running, slot });
      const { attempt, index, segment } = task;
      copyToBatch(writer, segment.frame, index, { slot, token, attempt, segment: segment.ref });
    });
    running.control = this.#pool.run(writer.finish(), {
      onResults: (frame) => this.#onResults(running, frame),
      onEnd: (loss) => this.#onEnd(running, loss),
    });
    tasks.forEach((task, slot) => {
      if (task.cancelReason !== undefined) running.control?.cancel(slot, task.cancelReason);
    });
  }

  #onResults(running: Running, frame: Uint8Array): void {
    const reader = openFrame(frame, FrameKind.RESULTS);
    const nowMs = this.#clock.wallMs();
    for (let i = 0; i < reader.count; i++) {
      const result = readResult(reader, i);
      const task = running.tasks[result.slot];
      if (task === undefined || running.hasReported[result.slot]) {
        publish('millrace:result:stale', () => ({
          taskId: task?.id ?? `slot ${result.slot}`,
          attempt: result.attempt,
        }));
        continue;
      }
      running.hasReported[result.slot] = true;
      this.#release(task);
      task.type.noteRun(result.runMs);
      this.#averageRunMs = smoothed(this.#averageRunMs, result.runMs);
      this.#settle(task, result, nowMs);
    }
  }

  #onEnd(running: Running, loss: MillraceError | undefined): void {
    const isShutdown = loss?.details.reason === 'shutdown';
    running.tasks.forEach((task, slot) => {
      if (running.hasReported[slot]) return;
      running.hasReported[slot] = true;
      this.#release(task);
      if (isShutdown) this.#backToPending(task, this.#clock.wallMs());
      else this.lose(task, loss);
    });
    this.#events.onFree();
  }

  #release(task: LiveTask): void {
    this.#running.delete(task);
    task.type.runningCount--;
  }

  #settle(task: LiveTask, result: ResultRecord, nowMs: number): void {
    switch (result.outcome) {
      case Outcome.COMPLETED:
        return this.#events.onEnded(task, TaskState.COMPLETED, result.bytes);
      case Outcome.FAILED:
        return this.#retryOrFail(task, result.bytes, nowMs);
      case Outcome.FAILED_FOR_GOOD:
        return this.#fail(task, result.bytes);
      case Outcome.SNOOZED:
        return this.#runAgainIn(task, Number(utf8(result.bytes)) || 0, nowMs, { spent: false });
      case Outcome.NOT_STARTED:
        return this.#backToPending(task, nowMs);
      case Outcome.CANCELLED:
        // A shutdown aborts signals too, and what it interrupts runs again.
        if (this.#isClosing && task.cancelReason === undefined) {
          return this.#backToPending(task, nowMs);
        }
        return this.#events.onEnded(task, TaskState.CANCELLED, cancelledBytes(task, result.bytes));
    }
  }

  #retryOrFail(task: LiveTask, errorJson: Uint8Array, nowMs: number): void {
    const delayMs = retryDelayMs(task.type.spec!.retry, task.attempt, this.#random);
    if (delayMs === undefined) return this.#fail(task, errorJson);
    publish('millrace:task:retry', () => ({
      taskId: task.id,
      type: task.type.name,
      attempt: task.attempt,
      delayMs,
      error: JSON.parse(utf8(errorJson)),
    }));
    this.#runAgainIn(task, delayMs, nowMs, { spent: true });
  }

  #fail(task: LiveTask, errorJson: Uint8Array): void {
    publish('millrace:task:failed', () => ({
      taskId: task.id,
      type: task.type.name,
      attempt: task.attempt,
      error: JSON.parse(utf8(errorJson)),
    }));
    this.#events.onEnded(task, TaskState.FAILED, failedBytes(task, errorJson));
  }

  /** A thread or process died under the task (it is RUNNING and released). */
  lose(task: LiveTask, cause: MillraceError | undefined): void {
    task.losses++;
    publish('millrace:task:lost', () => ({
      taskId: task.id,
      type: task.type.name,
      losses: task.losses,
    }));
    const mayRunAgain = task.type.spec?.onLost !== 'fail' && task.losses < LOSSES_MAX;
    if (mayRunAgain) return this.#backToPending(task, this.#clock.wallMs());
    const error = new MillraceError(
      'ERR_MILLRACE_TASK_LOST',
      task.losses < LOSSES_MAX
        ? `task ${task.id} was lost with its thread or process, and may run at most once`
        : `task ${task.id} was lost ${task.losses} times with its thread or process; look for process.exit, native crashes or memory`,
      { details: { taskId: task.id, losses: task.losses }, cause },
    );
    const bytes = Buffer.from(JSON.stringify(toWire(error)));
    publish('millrace:task:failed', () => ({
      taskId: task.id,
      type: task.type.name,
      attempt: task.attempt,
      error,
    }));
    this.#events.onEnded(task, TaskState.FAILED, bytes);
  }

  /** Ready again at once; the attempt does not count. */
  #backToPending(task: LiveTask, nowMs: number): void {
    this.#runAgainIn(task, 0, nowMs, { spent: false });
  }

  #runAgainIn(
    task: LiveTask,
    delayMs: number,
    nowMs: number,
    options: { readonly spent: boolean },
  ): void {
    task.moveTo(TaskState.PENDING, nowMs);
    if (!options.spent) task.attempt--;
    // Rounded up: what is stored must not be early either.
    task.dueAtMs = nowMs + Math.ceil(delayMs);
    if (task.cancelReason !== undefined) {
      return this.#events.onEnded(task, TaskState.CANCELLED, cancelledBytes(task, NO_BYTES));
    }
    this.#events.onChanged(task);
    this.#book.waitUntil(task, this.#clock.monoMs() + delayMs);
  }
}

const NO_BYTES = new Uint8Array(0);

/** The error a failed task ends with: ours, with what the handler threw as its cause. */
function failedBytes(task: LiveTask, errorJson: Uint8Array): Uint8Array {
  const cause = utf8(errorJson);
  const message = (JSON.parse(cause) as { message?: unknown }).message;
  const error = toWire(
    new MillraceError(
      'ERR_MILLRACE_TASK_FAILED',
      `task '${task.type.name}' failed in attempt ${task.attempt}: ${String(message)}`,
      { details: { taskId: task.id, attempt: task.attempt } },
    ),
  );
  const { stack: _, ...shown } = error;
  return Buffer.from(`${JSON.stringify(shown).slice(0, -1)},"cause":${cause}}`);
}

/** The error a cancelled task ends with. */
export function cancelledBytes(task: LiveTask, reasonJson: Uint8Array): Uint8Array {
  const given = reasonJson.length === 0 ? undefined : JSON.parse(utf8(reasonJson));
  const reason = task.cancelReason ?? (typeof given === 'string' ? given : undefined);
  const { stack: _, ...shown } = toWire(
    new MillraceError(
      'ERR_MILLRACE_TASK_CANCELLED',
      `task ${task.id} was cancelled${reason ? `: ${reason}` : ''}`,
      { details: { taskId: task.id, reason: reason ?? '' } },
    ),
  );
  return Buffer.from(JSON.stringify(shown));
}
