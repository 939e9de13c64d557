/**
 * The task engine: submit -> commit -> due -> claim -> run -> settle, on one node of perhaps several.
 *
 *   Submissions   from submit() to its answer: packed into segments              submissions.ts
 *   Cutter        what one commit holds, and who hears of it                     cutter.ts
 *   CommitLane    writes it, one transaction at a time                           commit-lane.ts
 *   TaskTable     native: holds, times and orders single tasks                   timing/task-table.ts
 *   TimeKeeper    wakes for what is due, ends what expires                       time-keeper.ts
 *   Executions    what runs here: a dispatcher per pool, and what comes of it    executions.ts
 *   TaskDesk      what callers want of single tasks                              task-desk.ts
 *   Amendments    other due times, dead letters that run again                   amendments.ts
 *   Cluster       where nodes share the store: whose shards, and letters         cluster.ts
 *   LoneShards    else: all of it is ours                                        lone-shards.ts
 *
 * It starts and ends them, and does none of their work; engine-parts.ts puts them together. The promise: at-least-once execution, exactly-once
 * acceptance of a result. Submitters hear of a task when its segment is durable, of its end when that is.
 *
 * Hermetic: time, randomness, store and threads come in as ports, so the same code runs on virtual time.
 */
import type { Load } from '../coordination/load.js';
import { type Clock, instantOf } from '../core/clock.js';
import type { ConcurrencySpec } from '../core/concurrency.js';
import { MillraceError } from '../core/errors.js';
import { type Incarnation, requireTaskId, type SegmentRef, type TaskId } from '../core/ids.js';
import { BaseService } from '../core/service.js';
import type { TaskStatus } from '../core/states.js';
import type { Store } from '../core/store.js';
import type { TaskHandle } from '../timing/task-table.js';
import type { BulkFrame } from './closed-frame.js';
import type { Cron } from './cron/cron.js';
import { readDeadLetters, type StoredDeadLetter } from './dead-letters.js';
import type { TaskEnd } from './ends.js';
import type { EngineOptions, EngineStats } from './engine-options.js';
import { EngineParts } from './engine-parts.js';
import type { Explanation } from './explanation.js';
import { inspectionOf, type TaskInspection } from './inspection.js';
import { requireLayout } from './layout.js';
import type { Pauses } from './pauses.js';
import type { NewDue } from './reschedules.js';
import type { Room } from './room.js';
import { type ShutdownBudget, shutDown } from './shutdown.js';
import { readStoredTask } from './stored-task.js';
import type { Accepted, NewTask } from './submission.js';
import type { CancelAnswer, TaskPlace } from './task-desk.js';
import type { ConcurrencyInfo } from './task-types.js';

export class Engine extends BaseService {
  /** The engine's time, for those who wait on it. */
  readonly clock: Clock;
  /** This life of this process. */
  readonly incarnation: Incarnation;
  /** What its tasks take of the queue's room, for admission. */
  readonly room: Room;
  /** Tasks that come again and again. */
  readonly cron: Cron;
  /** What rests. */
  readonly pauses: Pauses;
  readonly #parts: EngineParts;
  readonly #store: Store;
  readonly #node: string;
  #foreignTypes: readonly string[] = [];

  constructor(options: EngineOptions) {
    super();
    const parts = new EngineParts(options);
    this.#parts = parts;
    this.#store = options.store;
    this.#node = options.node;
    this.clock = options.clock;
    this.incarnation = options.incarnation;
    this.room = parts.room;
    this.cron = parts.cron;
    this.pauses = parts.pauses;
  }

  // --- Life -------------------------------------------------------------------------------------------------------

  protected async onStart(): Promise<void> {
    const {
      lane,
      pauses,
      lone,
      executions,
      types,
      submissions,
      cluster,
      rates,
      janitor,
      cron,
      time,
    } = this.#parts;
    await requireLayout(this.#store, this.clock);
    await lane.open();
    await pauses.start();
    await lone?.recover();
    await Promise.all(executions.pools.map((pool) => pool.start()));
    lone?.resume();
    this.#foreignTypes = types.foreign;
    if (lone !== undefined) await submissions.recover();
    await cluster?.start();
    await rates?.start();
    await janitor.start();
    await cron.start();
    time.pass();
    time.update();
    lane.request();
  }

  /** Stops at once: what runs is killed and will run again. For a gentle end, `shutdown` first. */
  protected async onStop(): Promise<void> {
    await this.shutdown({ softMs: 0, hardMs: 0 });
  }

  /**
   * Ends gently: takes and starts nothing new, gives running tasks until `softMs`, aborts their signals then, and
   * kills what is left at `hardMs`. What was interrupted stays stored and spends no attempt. Resolves when all is
   * written; the engine is then stopped.
   */
  async shutdown(budget: ShutdownBudget): Promise<void> {
    const parts = this.#parts;
    const { door, executions, amendments, submissions, desk, lane, table } = parts;
    if (door.isClosed) return;
    const closed = new MillraceError('ERR_MILLRACE_CLOSED', 'the runtime is closed');
    const refusal = door.close(closed);
    executions.stopClaiming();
    const noMoreFires = parts.cron.stop();
    amendments.close();
    await parts.rates?.stop();
    await shutDown(parts, budget, { clock: this.clock, node: this.#node, refusal });
    await parts.pauses.stop();
    parts.time.stop();
    desk.waiters.close(refusal);
    // What no commit has taken gets its answer, and whatever asks for one from here on comes too late.
    submissions.rejectUnsent(refusal);
    submissions.refuseOpen(refusal);
    lane.abandon(refusal);
    amendments.end();
    await noMoreFires;
    table.close();
  }

  /** Resolves when every task that has a handler here has ended, retries and delayed ones included. */
  drain(): Promise<void> {
    const { refusal } = this.#parts.door;
    return refusal ? Promise.reject(refusal) : this.#parts.drain.wait();
  }

  // --- Tasks ------------------------------------------------------------------------------------------------------

  /**
   * Puts a task into the store. Callbacks instead of a promise: this is called once per task.
   *
   * @param accept - called when it is durable, with the task, or an earlier one with the same key
   * @param reject - called when it is not stored: ERR_MILLRACE_CLOSED, _STORE_FULL, _STORE_UNAVAILABLE and the like; or
   *   when nobody knows: `details.mayBeStored`. When it is stored after all, `room.onRecovered` takes its room again
   */
  submit(
    task: NewTask,
    accept: (accepted: Accepted) => void,
    reject: (cause: MillraceError) => void,
  ): void {
    this.#parts.submissions.submit(task, accept, reject);
  }

  /** Puts many tasks into the store that are encoded already; as `submit`, with one callback for all. */
  submitBulk(bulk: BulkFrame): void {
    this.#parts.submissions.submitBulk(bulk);
  }

  /** The task when this node holds it, else 0. */
  find(segment: SegmentRef, index: number): TaskHandle {
    return this.#parts.desk.find(segment, index);
  }

  /**
   * How a task ended, once that is durable.
   *
   * @throws ERR_MILLRACE_TASK_GONE when neither memory nor store knows it
   * @throws ERR_MILLRACE_CLOSED when the engine stops first
   */
  ended(task: TaskPlace): Promise<TaskEnd> {
    return this.#parts.desk.ended(task);
  }

  /**
   * What a task that runs in this process says of its progress: the newest value, then the next ones, until its end
   * is durable. Errors are those of `ended`, and the signal's reason.
   */
  progress(task: TaskPlace, signal?: AbortSignal): AsyncIterableIterator<unknown> {
    return this.#parts.desk.progress(task, signal);
  }

  /** Where a task stands. An end that is not durable is not told. @throws ERR_MILLRACE_TASK_GONE */
  status(task: TaskPlace): Promise<TaskStatus> {
    return this.#parts.desk.status(task);
  }

  /**
   * Cancels a task: a pending one ends at once (`cancelled`), a running one gets its signal aborted (`signalled`)
   * and decides itself, one that has ended stays as it is (`ended`).
   *
   * @returns when the answer is durable
   * @throws ERR_MILLRACE_TASK_GONE
   */
  cancel(task: TaskPlace, reason: string | undefined): Promise<CancelAnswer> {
    return this.#parts.desk.cancel(task, reason);
  }

  /**
   * Lets a task that waits be due at another time. Resolves when that is durable.
   *
   * @throws ERR_MILLRACE_CLAIM_LOST when it runs or has ended, ERR_MILLRACE_TASK_GONE, ERR_MILLRACE_CLOSED
   */
  reschedule(task: TaskPlace, due: NewDue): Promise<void> {
    return this.#parts.desk.reschedule(task, due);
  }

  /** What the store has of a task; undefined when it does not know it (any more). @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  async inspect(id: TaskId): Promise<TaskInspection | undefined> {
    const { segment, index } = requireTaskId(id);
    const stored = await readStoredTask(this.#store, segment, index);
    return stored && inspectionOf(segment, index, stored);
  }

  /** Why a task is not running. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  explain(task: TaskInspection): Promise<Explanation> {
    return this.#parts.explainer.explain(task);
  }

  /** All dead letters of a queue, a page of the store at a time. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  deadLetters(queue: string): AsyncIterable<StoredDeadLetter> {
    return readDeadLetters(this.#store, queue);
  }

  /**
   * Lets dead letters run again, under their ids, in the next version: attempts begin anew.
   *
   * @param ids - of one shard
   * @returns those that do, durably; the others are no dead letters (any more)
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE, ERR_MILLRACE_CLOSED
   */
  redrive(ids: readonly TaskId[]): Promise<readonly TaskId[]> {
    return this.#parts.desk.redrive(ids);
  }

  // --- Figures ----------------------------------------------------------------------------------------------------

  /** Why nothing is taken, for good (it is fenced or stops) or until the store answers; undefined: tasks are taken. */
  get notTaking(): { readonly cause: MillraceError; readonly isFinal: boolean } | undefined {
    return this.#parts.door.notTaking;
  }

  get stats(): EngineStats {
    const { tasks } = this.#parts.horizon;
    return {
      open: this.#parts.table.openCount + tasks,
      delayed: this.#parts.table.delayedCount + tasks,
      ready: this.#parts.table.readyCount,
      running: this.#parts.table.busyCount,
      ended: this.#parts.cutter.endedCount,
    };
  }

  /** Types whose executions at once are limited, and how many they are; none once it has stopped. */
  get concurrency(): ConcurrencyInfo[] {
    return this.#parts.door.isClosed ? [] : this.#parts.types.concurrency;
  }

  /** What there is to do here, for others to place their tasks by. */
  get load(): Load {
    return this.#parts.load;
  }

  /** Batches that could start at once. Also after the engine has stopped. */
  get freePlaces(): number {
    return this.#parts.executions.freePlaces;
  }

  /** How long there has been work and a place for it, and nothing was claimed; ms. Seconds of it are a fault. */
  get stalledMs(): number {
    if (this.#parts.door.isClosed || this.#parts.cluster?.mayStart === false) return 0;
    return this.#parts.executions.stalledMs;
  }

  /**
   * Types of tasks that it found at start and does not run. Where nodes share the store it has found none by then: they go to
   * who runs them.
   */
  get foreignTypes(): readonly string[] {
    return this.#foreignTypes;
  }

  /** Whether there are handlers of a type here. */
  runsType(name: string): boolean {
    return this.#parts.types.has(name);
  }

  /** Whether tasks of a type that does not run here have no room where it runs, as far as is known. */
  isFullElsewhere(type: { readonly queue: string; readonly name: string }): boolean {
    return this.#parts.cluster?.isFullElsewhere({ queue: type.queue, type: type.name }) ?? false;
  }

  // --- Levers -----------------------------------------------------------------------------------------------------

  /** At most so many of a type at once from now on; 0: none begins, and they wait. */
  limitType(name: string, atMost: number): void {
    if (this.#parts.door.isClosed) return;
    this.#parts.types.limit(name, atMost, instantOf(this.clock));
    this.#parts.executions.requestClaim();
  }

  /** Other limits of how many of a type run at once, from now on; what runs goes on. */
  setConcurrency(name: string, concurrency: ConcurrencySpec): void {
    if (this.#parts.door.isClosed) return;
    this.#parts.types.setConcurrency(name, concurrency, instantOf(this.clock));
    this.#parts.executions.requestClaim();
  }

  /** How tenants share what runs here, from now on: also what is ready already. Who is not named has the weight 1. */
  setWeights(weights: ReadonlyMap<string, number>): void {
    if (this.#parts.door.isClosed) return;
    this.#parts.weights.set(weights);
  }

  /** Whether batches may be claimed before there is a place for them. */
  allowClaimsAhead(isAllowed: boolean): void {
    this.#parts.executions.allowClaimsAhead(isAllowed);
  }

  /** How long each commit waits for more to share it; 0: no longer than it must. */
  lingerCommits(lingerMs: number): void {
    this.#parts.lane.lingerMs = lingerMs;
  }

  /** Whether nothing new begins: tasks wait, what runs goes on. */
  holdStarts(isHeld: boolean): void {
    if (this.#parts.door.isClosed) return;
    this.#parts.executions.hold(isHeld);
    this.#parts.executions.requestClaim();
  }
}
