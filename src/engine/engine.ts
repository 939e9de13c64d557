/**
 * The task engine: submit -> commit -> due -> claim -> run -> settle, for one node.
 *
 * It moves tasks between its parts and owns none of their work: `Intake` packs submissions into segments, `CommitLane`
 * writes, `Cut` decides what a commit holds, `TaskBook` knows when tasks may start, a `Dispatcher` per pool runs
 * them, `finished.ts` files what ended. The promise: at-least-once execution, exactly-once acceptance of a result.
 * Submitters hear of a task when its segment is durable, of its end when that is.
 *
 * Hermetic: time, randomness, store and threads come in as ports, so the same code runs on virtual time.
 */
import { type Clock, sleep } from '../core/clock.js';
import { fromWire, toWire } from '../core/error-wire.js';
import { MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { type Incarnation, requireTaskId, type TaskId } from '../core/ids.js';
import type { Pool } from '../core/pool.js';
import type { Random } from '../core/random.js';
import { BaseService } from '../core/service.js';
import { isEnded, statusOf, TaskState, type TaskStatus } from '../core/states.js';
import type { OperationResult, Store } from '../core/store.js';
import type { TaskSpec } from '../core/task.js';
import { type Commit, type CommitBudget, CommitLane, type CommitSource } from './commit-lane.js';
import { Cut, type CutContext } from './cut.js';
import { cancelledBytes, Dispatcher } from './dispatcher.js';
import { findFinished } from './finished.js';
import {
  type Accepted,
  type ClosedFrame,
  Intake,
  type KeyedFrame,
  type NewTask,
  Submission,
} from './intake.js';
import { Janitor, type RetentionMs } from './janitor.js';
import { existingTask } from './keyed.js';
import { LiveTask, type Segment, type TaskEnd } from './live-task.js';
import { recover } from './recovery.js';
import { TaskBook } from './task-book.js';

export interface EngineOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  readonly pools: { readonly thread?: Pool; readonly inline?: Pool };
  readonly specs: Iterable<TaskSpec>;
  /** This life of this process; new for every start. */
  readonly incarnation: Incarnation;
  /** Names the commit lane in the store. */
  readonly node: string;
  readonly retention: RetentionMs;
}

export type CancelAnswer = 'cancelled' | 'signalled' | 'ended';

export interface EngineStats {
  /** Accepted and not durably ended. */
  readonly open: number;
  readonly delayed: number;
  readonly ready: number;
  readonly running: number;
}

/** What closing allows for the last commits after everything has stopped. */
const LAST_COMMITS_MS = 5_000;
/** One shard while the store belongs to one node. */
const SHARD = 0;

export class Engine extends BaseService implements CommitSource {
  /** The engine's time, for those who wait on it. */
  readonly clock: Clock;
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #options: EngineOptions;
  readonly #incarnation: Incarnation;
  readonly #intake: Intake;
  readonly #lane: CommitLane;
  readonly #book: TaskBook;
  readonly #dispatchers: Dispatcher[] = [];
  readonly #pools: Pool[];
  readonly #janitor: Janitor;
  readonly #dirty = new Set<Segment>();
  readonly #drainWaiters: (() => void)[] = [];
  /** Keyed submissions in a commit that flies. */
  #keyedFlying = 0;
  #commitPart = 0;
  /** Why nothing is taken any more. */
  #refusal: MillraceError | undefined;
  /** Why nothing is taken at the moment: the lane waits for an answer. */
  #stall: MillraceError | undefined;
  #isHalted = false;

  /** Called when a task's end is durable and its place in the queue is free; for admission. */
  onReleased: ((bytes: number) => void) | undefined;
  /** Called for each open task found in the store at start; for admission. */
  onRecovered: ((bytes: number) => void) | undefined;

  constructor(options: EngineOptions) {
    super();
    this.#options = options;
    this.clock = options.clock;
    this.#clock = options.clock;
    this.#store = options.store;
    this.#incarnation = options.incarnation;
    this.#intake = new Intake({
      incarnation: this.#incarnation,
      keyWindowMs: options.retention.idempotencyMs,
    });
    this.#lane = new CommitLane(options.store, options.clock, {
      node: options.node,
      incarnation: this.#incarnation,
      source: this,
    });
    this.#book = new TaskBook(options.clock, options.specs, {
      onReady: () => this.#requestClaim(),
      onExpired: (task) => this.#expire(task),
    });
    const { thread, inline } = options.pools;
    if (thread) this.#addDispatcher(thread, 'thread');
    if (inline) this.#addDispatcher(inline, 'inline');
    this.#pools = [thread, inline].filter((pool) => pool !== undefined);
    this.#janitor = new Janitor(options.store, options.clock, options.retention);
  }

  get stats(): EngineStats {
    return {
      open: this.#book.openCount,
      delayed: this.#book.delayedCount,
      ready: this.#book.readyCount,
      running: this.#dispatchers.reduce((sum, dispatcher) => sum + dispatcher.busyCount, 0),
    };
  }

  protected async onStart(): Promise<void> {
    await this.#lane.open();
    const segments = await recover(this.#store, (name) => this.#book.type(name));
    for (const segment of segments) this.#book.add(segment);
    await Promise.all(this.#pools.map((pool) => pool.start()));
    for (const segment of segments) this.#resume(segment);
    await this.#janitor.start();
    this.#lane.request();
  }

  /** Stops at once: what runs is killed and will run again. For a gentle end, `shutdown` first. */
  protected async onStop(): Promise<void> {
    await this.shutdown({ softMs: 0, hardMs: 0 });
  }

  /**
   * Puts a task into the store. Callbacks instead of a promise: this is called once per task.
   *
   * @param accept - called when it is durable, with the task, or the id of an earlier one with the same key
   * @param reject - called when it is not stored: ERR_MILLRACE_CLOSED, _STORE_FULL, _STORE_UNAVAILABLE and the like
   */
  submit(
    task: NewTask,
    accept: (accepted: Accepted) => void,
    reject: (cause: MillraceError) => void,
  ): void {
    const refusal = this.#refusal ?? this.#stall;
    if (refusal) return reject(refusal);
    this.#intake.add(new Submission(task, SHARD, accept, reject), this.#clock.wallMs());
    this.#lane.request();
  }

  /** The task when this node holds it; undefined when it has ended durably, or never was. */
  find(id: string): LiveTask | undefined {
    return this.#book.find(id);
  }

  /**
   * How a task ended, once that is durable.
   *
   * @throws ERR_MILLRACE_TASK_GONE when neither memory nor store knows it
   * @throws ERR_MILLRACE_CLOSED when the engine stops first
   */
  async ended(id: TaskId): Promise<TaskEnd> {
    const held = this.#book.find(id);
    if (held) return this.endOf(held);
    return this.#storedEnd(id);
  }

  /** Like {@link ended}, of a task this engine holds or held. */
  endOf(task: LiveTask): Promise<TaskEnd> {
    if (task.isSettled) return task.end ? Promise.resolve(task.end) : this.#storedEnd(task.id);
    if (this.#refusal) return Promise.reject(this.#refusal);
    return new Promise((resolve, reject) => {
      task.waiter = { resolve, reject, next: task.waiter };
    });
  }

  /** The status of a task by its id. @throws ERR_MILLRACE_TASK_GONE */
  async status(id: TaskId): Promise<TaskStatus> {
    const held = this.#book.find(id);
    return held ? this.statusOf(held) : statusOf((await this.#storedEnd(id)).state);
  }

  /** The status of a task this engine holds or held. An end that is not durable is not told. */
  async statusOf(task: LiveTask): Promise<TaskStatus> {
    return task.isSettled || !isEnded(task.state) ? statusOf(task.state) : 'running';
  }

  async #storedEnd(id: TaskId): Promise<TaskEnd> {
    requireTaskId(id);
    const filed = await findFinished(this.#store, id);
    if (filed !== undefined) return { state: filed.state, bytes: filed.bytes };
    throw new MillraceError(
      'ERR_MILLRACE_TASK_GONE',
      `the store does not know task ${id}; it never existed, or its retention is over`,
      { details: { taskId: id } },
    );
  }

  /**
   * Cancels a task: a pending one ends at once (`cancelled`), a running one gets its signal aborted (`signalled`)
   * and decides itself, one that has ended stays as it is (`ended`).
   *
   * @returns when the answer is durable
   * @throws ERR_MILLRACE_TASK_GONE
   */
  async cancel(id: TaskId, reason: string | undefined): Promise<CancelAnswer> {
    const task = this.#book.find(id);
    if (task === undefined) {
      await this.#storedEnd(id);
      return 'ended';
    }
    if (this.#refusal) throw this.#refusal;
    switch (task.state) {
      case TaskState.PENDING:
        task.cancelReason = reason ?? '';
        this.#book.forgetTimer(task);
        this.#end(task, TaskState.CANCELLED, cancelledBytes(task, new Uint8Array(0)));
        await this.endOf(task);
        return 'cancelled';
      case TaskState.RUNNING:
        for (const dispatcher of this.#dispatchers) dispatcher.cancel(task, reason ?? '');
        return 'signalled';
      default:
        return 'ended';
    }
  }

  /** Resolves when every task that has a handler here has ended, retries and delayed ones included. */
  drain(): Promise<void> {
    if (this.#refusal) return Promise.reject(this.#refusal);
    return new Promise((resolve) => {
      this.#drainWaiters.push(resolve);
      this.#checkDrained();
    });
  }

  /**
   * Ends gently: takes and starts nothing new, gives running tasks until `softMs`, aborts their signals then, and
   * kills what is left at `hardMs`. What was interrupted stays stored and spends no attempt. Resolves when all is
   * written; the engine is then stopped.
   */
  async shutdown(budget: { readonly softMs: number; readonly hardMs: number }): Promise<void> {
    if (this.#isHalted) return;
    this.#isHalted = true;
    this.#refusal ??= new MillraceError('ERR_MILLRACE_CLOSED', 'the runtime is closed');
    const deadlineMs = this.#clock.monoMs() + budget.hardMs + LAST_COMMITS_MS;
    for (const dispatcher of this.#dispatchers) dispatcher.stopClaiming();
    await this.#untilIdle(budget.softMs);
    for (const dispatcher of this.#dispatchers) dispatcher.interruptAll('the runtime shuts down');
    const graceMs = Math.max(0, budget.hardMs - budget.softMs);
    await Promise.all(this.#pools.map((pool) => pool.drain(graceMs)));
    await this.#janitor.stop();
    // What was submitted gets its answer, and what ended is written: unless the store does not let us.
    this.#lane.request();
    await this.#lanesLast(deadlineMs);
    await Promise.all(this.#pools.map((pool) => pool.stop()));
    this.#book.close();
    this.#rejectWaiters(this.#refusal);
  }

  // --- CommitSource -----------------------------------------------------------------------------------------------

  cut(budget: CommitBudget): Commit | undefined {
    this.#stall = undefined;
    const part = `${this.#incarnation}${(this.#commitPart++).toString(36).padStart(8, '0')}`;
    return Cut.make(this.#cutContext(), budget, part);
  }

  onStalled(cause: MillraceError): void {
    this.#stall = new MillraceError(
      'ERR_MILLRACE_STORE_UNAVAILABLE',
      `the store gives no definite answer: ${cause.message}; try again later`,
      { details: { retryAfterMs: 1_000 }, cause },
    );
    this.#rejectUnsent(this.#stall);
  }

  onFenced(cause: MillraceError): void {
    this.#refusal = cause;
    this.#rejectUnsent(cause);
    for (const dispatcher of this.#dispatchers) dispatcher.stopClaiming();
    this.#rejectWaiters(cause);
  }

  /** Rejects what was submitted and is in no commit yet. */
  #rejectUnsent(cause: MillraceError): void {
    for (const submission of this.#intake.takeAll()) {
      submission.reject(cause);
      for (const joined of this.#intake.takeJoined(submission)) joined.reject(cause);
    }
  }

  #cutContext(): CutContext {
    return {
      incarnation: this.#incarnation,
      nowMs: this.#clock.wallMs(),
      dirty: this.#dirty,
      dispatchers: this.#dispatchers,
      onFiled: (segment, bytes) =>
        this.#janitor.noteFiled(segment.ref, bytes, this.#clock.wallMs()),
      keeps: (state) =>
        state === TaskState.FAILED
          ? this.#options.retention.failedMs > 0
          : this.#options.retention.completedMs > 0,
      takeFrame: (bytesMax) => this.#intake.takeFrame(bytesMax),
      takeKeyed: (bytesMax) => {
        const frame = this.#intake.takeKeyed(bytesMax, this.#clock.wallMs());
        if (frame) this.#keyedFlying++;
        return frame;
      },
      adopt: (frame) => this.#adopt(frame),
      disown: (frame, cause) => this.#disown(frame, cause),
      onAccepted: (frame) => {
        frame.submissions.forEach((submission, index) => {
          submission.accept(frame.segment.tasks[index]!);
        });
      },
      onKeyedDone: (frame, result) => void this.#onKeyedDone(frame, result),
      onKeyedFailed: (frame, cause) =>
        this.#settleKeyed(frame, (submission) => submission.reject(cause)),
      onSettled: (task) => this.#onSettled(task),
      onSegmentDone: (segment) => this.#book.remove(segment),
    };
  }

  #adopt(frame: ClosedFrame): void {
    const segment = frame.segment;
    frame.submissions.forEach((submission, index) => {
      const { task: source } = submission;
      const task = new LiveTask(segment, index, source, this.#book.type(source.type));
      segment.tasks.push(task);
    });
    segment.openCount = segment.tasks.length;
    this.#book.add(segment);
    frame.submissions.forEach((submission, index) => {
      this.#book.waitUntil(segment.tasks[index]!, submission.task.dueMonoMs);
    });
  }

  #disown(frame: ClosedFrame, cause: MillraceError): void {
    for (const task of frame.segment.tasks) {
      this.#book.forgetTimer(task);
      // Any ended state keeps the ready queue from starting it.
      task.state = TaskState.CANCELLED;
    }
    this.#dirty.delete(frame.segment);
    this.#book.remove(frame.segment);
    for (const submission of frame.submissions) submission.reject(cause);
  }

  async #onKeyedDone(frame: KeyedFrame, result: OperationResult | undefined): Promise<void> {
    let existing: TaskId | undefined;
    try {
      existing = await existingTask(this.#store, frame, result);
    } catch (cause) {
      return this.#settleKeyed(frame, (submission) => submission.reject(cause as MillraceError));
    }
    if (existing !== undefined) {
      const id = existing;
      return this.#settleKeyed(frame, (submission) => submission.accept(id));
    }
    this.#adopt(frame);
    const task = frame.segment.tasks[0]!;
    this.#settleKeyed(frame, (submission) =>
      // Those that joined the first did not create anything.
      submission.accept(submission === frame.submissions[0] ? task : task.id),
    );
  }

  #settleKeyed(frame: KeyedFrame, settle: (submission: Submission) => void): void {
    this.#keyedFlying--;
    const first = frame.submissions[0]!;
    settle(first);
    for (const joined of this.#intake.takeJoined(first)) settle(joined);
    this.#checkDrained();
  }

  #onSettled(task: LiveTask): void {
    task.isSettled = true;
    this.#book.noteSettled(task);
    this.onReleased?.(task.admittedBytes);
    let { waiter } = task;
    task.waiter = undefined;
    for (; waiter !== undefined; waiter = waiter.next) waiter.resolve(task.end!);
    this.#checkDrained();
  }

  #checkDrained(): void {
    if (this.#drainWaiters.length === 0) return;
    if (this.#book.runnableCount > 0 || !this.#intake.isEmpty || this.#keyedFlying > 0) return;
    for (const resolve of this.#drainWaiters.splice(0)) resolve();
  }

  // --- Tasks on their way ------------------------------------------------------------------------------------------

  #addDispatcher(pool: Pool, exec: 'thread' | 'inline'): void {
    this.#dispatchers.push(
      new Dispatcher({
        pool,
        ready: this.#book.ready[exec],
        book: this.#book,
        clock: this.#clock,
        random: this.#options.random,
        incarnation: this.#incarnation,
        events: {
          onChanged: (task) => this.#markDirty(task),
          onEnded: (task, state, bytes) => this.#end(task, state, bytes),
          onFree: () => this.#requestClaim(),
        },
      }),
    );
  }

  /** Brings a stored segment's tasks back to life: what ran under a dead process is lost, the rest waits. */
  #resume(segment: Segment): void {
    for (const task of segment.tasks) {
      if (isEnded(task.state)) continue;
      this.onRecovered?.(task.admittedBytes);
      if (task.state === TaskState.RUNNING) this.#dispatchers[0]?.lose(task, undefined);
      else this.#book.waitUntil(task, this.#book.monoOf(task.dueAtMs));
    }
    if (segment.openCount === 0) this.#dirty.add(segment);
  }

  #end(task: LiveTask, state: TaskState, bytes: Uint8Array): void {
    task.moveTo(state, this.#clock.wallMs());
    task.end = { state, bytes };
    task.segment.endedTasks.push(task);
    this.#markDirty(task);
  }

  #expire(task: LiveTask): void {
    const error = new MillraceError(
      'ERR_MILLRACE_TASK_EXPIRED',
      `task ${task.id} did not start within its ttl`,
      { details: { taskId: task.id, expiresAtMs: task.expiresAtMs } },
    );
    this.#end(task, TaskState.EXPIRED, Buffer.from(JSON.stringify(toWire(error))));
  }

  #markDirty(task: LiveTask): void {
    this.#dirty.add(task.segment);
    this.#lane.request();
  }

  #requestClaim(): void {
    if (this.#dispatchers.some((dispatcher) => dispatcher.canClaim)) this.#lane.request();
  }

  /** Resolves when the lane has written everything, or gives up at the deadline. */
  async #lanesLast(deadlineMs: number): Promise<void> {
    const patience = new AbortController();
    const limit = sleep(this.#clock, deadlineMs - this.#clock.monoMs(), patience.signal).then(
      () =>
        this.#lane.abandon(
          new MillraceError(
            'ERR_MILLRACE_STORE_UNAVAILABLE',
            'the store did not answer before the runtime had to close; what was not acknowledged may be stored all the same',
          ),
        ),
      () => {},
    );
    await Promise.race([this.#lane.idle(), limit]);
    patience.abort();
  }

  /** Resolves when nothing runs, or after `limitMs`. */
  async #untilIdle(limitMs: number): Promise<void> {
    const untilMs = this.#clock.monoMs() + limitMs;
    while (this.stats.running > 0 && this.#clock.monoMs() < untilMs) {
      await sleep(this.#clock, Math.min(20, untilMs - this.#clock.monoMs()));
    }
  }

  #rejectWaiters(cause: MillraceError): void {
    for (const segment of this.#book.segments) {
      for (const task of segment.tasks) {
        let { waiter } = task;
        task.waiter = undefined;
        for (; waiter !== undefined; waiter = waiter.next) waiter.reject(cause);
      }
    }
  }
}

/** The error an ended task's bytes describe. */
export function errorOfEnd(end: TaskEnd): Error {
  try {
    return fromWire(JSON.parse(utf8(end.bytes)));
  } catch (cause) {
    return new MillraceError('ERR_MILLRACE_STORE_CORRUPT', 'a stored error does not decode', {
      cause,
    });
  }
}
