/**
 * The task engine: submit -> commit -> due -> claim -> run -> settle, on one node of perhaps several.
 *
 * It moves frames between its parts and owns none of their work: `Intake` packs submissions into segments, the native
 * task table holds, times and orders single tasks, `Cut` decides what a commit holds, `CommitLane` writes it, a
 * `Dispatcher` per pool runs batches, `Waker` wakes for what is due. The promise: at-least-once execution,
 * exactly-once acceptance of a result. Submitters hear of a task when its segment is durable, of its end when that is.
 *
 * Where nodes share the store, `Cluster` says which shards are ours and speaks with the others; without it all tasks of
 * the store are this node's.
 *
 * Hermetic: time, randomness, store and threads come in as ports, so the same code runs on virtual time.
 */
import type { Load } from '../coordination/load.js';
import { publish } from '../core/channels.js';
import { type Clock, sleep } from '../core/clock.js';
import { hasCode, MillraceError } from '../core/errors.js';
import {
  type Incarnation,
  requireTaskId,
  type SegmentRef,
  segmentDueAtMs,
  type TaskId,
  taskId,
} from '../core/ids.js';
import type { Pool } from '../core/pool.js';
import type { Random } from '../core/random.js';
import type { RateSpec } from '../core/rate.js';
import { BaseService } from '../core/service.js';
import { TaskState, type TaskStatus } from '../core/states.js';
import type { Store } from '../core/store.js';
import type { TaskSpec } from '../core/task.js';
import type { Timers } from '../pool/deadlines.js';
import {
  type Instant,
  Place,
  type SegmentHandle,
  type Settled,
  type TaskHandle,
  TaskTable,
} from '../timing/task-table.js';
import type { BulkFrame, ClosedFrame, Home } from './closed-frame.js';
import { Cluster, type ClusterOptions } from './cluster.js';
import { type Commit, type CommitBudget, CommitLane, type CommitSource } from './commit-lane.js';
import { Cron } from './cron/cron.js';
import { Cut, type CutContext, type SharedContext } from './cut.js';
import { readDeadLetters, type StoredDeadLetter } from './dead-letters.js';
import { Debounces } from './debounces.js';
import { type AloneTurn, Dispatcher } from './dispatcher.js';
import { cancelledBytes, expiredBytes, type TaskEnd } from './ends.js';
import { Explainer } from './explainer.js';
import type { Explanation } from './explanation.js';
import { GatedSubmissions } from './gated-submissions.js';
import { Horizon } from './horizon.js';
import { inspectionOf, type TaskInspection } from './inspection.js';
import {
  type Accepted,
  type GatedFrame,
  type HomeOf,
  Intake,
  type NewTask,
  SEGMENT_TASKS_MAX,
  Submission,
} from './intake.js';
import { Janitor, type RetentionMs } from './janitor.js';
import type { ShardPlace } from './keys.js';
import { requireLayout } from './layout.js';
import type { CancelAnswer as AnswerOfOwner, Report } from './letters.js';
import { LoneShards } from './lone-shards.js';
import { type Pause, Pauses } from './pauses.js';
import { ProgressBoard } from './progress.js';
import { RateLimits } from './rates/rate-limits.js';
import { type RedriveAnswer, Redrives } from './redrives.js';
import { type NewDue, Reschedules } from './reschedules.js';
import { SegmentAdditions } from './segment-additions.js';
import { Settler } from './settler.js';
import type { Shard } from './shard.js';
import { type ShutdownBudget, type ShutdownParts, shutDown } from './shutdown.js';
import { readStoredTask } from './stored-task.js';
import {
  type CancelAnswer,
  MOVED_DELAY_MS,
  NOT_HELD,
  TaskDesk,
  type TaskPlace,
} from './task-desk.js';
import { TaskTypes } from './task-types.js';
import { Waker } from './waker.js';
import { WallTimes } from './wall-times.js';

export interface EngineOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  readonly pools: { readonly thread?: Pool; readonly inline?: Pool };
  /** For deadlines of tasks; same time as the clock's. @defaultValue the clock */
  readonly timers?: Timers;
  readonly specs: Iterable<TaskSpec>;
  /** This life of this process; new for every start. */
  readonly incarnation: Incarnation;
  /** Names the commit lane in the store. */
  readonly node: string;
  /** Absent: nobody shares the store. */
  readonly cluster?: ClusterOptions;
  /** How much of what runs here a tenant gets in relation to others. @defaultValue 1 for each */
  readonly weights?: ReadonlyMap<string, number>;
  /** Of each type that has none of its own, or of each tenant. @defaultValue no limit */
  readonly rate?: RateSpec | undefined;
  readonly retention: RetentionMs;
  /** How many single submits may share a segment; less than the default to measure what that is worth. @defaultValue SEGMENT_TASKS_MAX */
  readonly segmentTasksMax?: number;
}

export interface EngineStats {
  /** Accepted and not durably ended. */
  readonly open: number;
  readonly delayed: number;
  readonly ready: number;
  readonly running: number;
  /** How many ends became durable here since it started. */
  readonly ended: number;
}

/** When to try again while the store does not answer. */
const STALL_RETRY_MS = 1_000;
/** Where the store has one writer, all tasks of a queue are in one shard. */
const ONLY_HOME: Home = { shard: 0, owner: undefined, isInbox: false };

export class Engine extends BaseService implements CommitSource {
  /** The engine's time, for those who wait on it. */
  readonly clock: Clock;
  /** This life of this process. */
  readonly incarnation: Incarnation;
  /** Tasks that come again and again. */
  readonly cron: Cron;
  /** What rests. */
  readonly pauses: Pauses;
  readonly #store: Store;
  readonly #options: EngineOptions;
  readonly #table: TaskTable;
  readonly #waker: Waker;
  readonly #wallTimes: WallTimes;
  readonly #horizon: Horizon;
  readonly #intake: Intake;
  readonly #lane: CommitLane;
  readonly #dispatchers: Dispatcher[] = [];
  readonly #types: TaskTypes;
  /** Undefined: nothing here has a rate. */
  readonly #rates: RateLimits | undefined;
  readonly #settler: Settler;
  readonly #pools: Pool[];
  readonly #janitor: Janitor;
  readonly #progress = new ProgressBoard();
  readonly #keep: readonly TaskState[];
  #foreignTypes: readonly string[] = [];
  readonly #desk: TaskDesk;
  readonly #gated: GatedSubmissions;
  readonly #debounces: Debounces;
  readonly #lone: LoneShards;
  readonly #explainer: Explainer;
  readonly #additions: SegmentAdditions;
  readonly #reschedules: Reschedules;
  readonly #redrives: Redrives;
  readonly #cluster: Cluster | undefined;
  readonly #drainWaiters: (() => void)[] = [];
  #restingTenants: ReadonlySet<string> = new Set();
  #commitPart = 0;
  #endedCount = 0;
  /** Why nothing is taken any more. */
  #refusal: MillraceError | undefined;
  /** Why nothing is taken at the moment: the lane waits for an answer. */
  #stall: MillraceError | undefined;
  #isHalted = false;
  /** Of tenants that do not have the weight 1. */
  #weights: ReadonlyMap<string, number> = new Map();

  /** Called when ends are durable and their room in the queue is free; for admission. */
  onReleased: ((bytes: number, tasks: number) => void) | undefined;
  /** Called with what is open in the store and nobody here has room for; for admission. */
  onRecovered: ((bytes: number, tasks: number) => void) | undefined;
  /** What admission has room for, and lets go of; for the load. */
  roomHere: (() => { readonly room: number; readonly endedPerSecond: number }) | undefined;

  constructor(options: EngineOptions) {
    super();
    this.#options = options;
    this.clock = options.clock;
    this.#store = options.store;
    const { incarnation, retention } = options;
    this.incarnation = incarnation;
    this.#table = new TaskTable({ executor: incarnation, startMonoMs: options.clock.monoMs() });
    this.setWeights(options.weights ?? new Map());
    this.#waker = new Waker(
      options.clock,
      this.#table,
      () => this.#onTimePassed(),
      (jumpMs) => this.#onDrift(jumpMs),
    );
    this.#wallTimes = new WallTimes(options.clock, this.#table);
    this.#horizon = new Horizon(options.clock);
    const specs = [...options.specs];
    const handled = new Set(specs.map(({ name }) => name));
    this.#intake = new Intake({
      incarnation,
      keyWindowMs: retention.idempotencyMs,
      handled,
      segmentTasksMax: options.segmentTasksMax ?? SEGMENT_TASKS_MAX,
      shardCount: options.cluster?.shardCount ?? 1,
    });
    this.#lane = new CommitLane(options.store, options.clock, {
      node: options.node,
      incarnation,
      source: this,
    });
    const { thread, inline } = options.pools;
    const types = new TaskTypes(this.#table, specs, this.#now());
    this.#types = types;
    this.#rates = this.#limitRates();
    const { clock, random } = options;
    this.#settler = new Settler({ table: this.#table, types, clock, random, incarnation });
    const turn = { holder: undefined };
    if (thread) this.#addDispatcher(thread, Place.THREAD, { types, turn });
    if (inline) this.#addDispatcher(inline, Place.INLINE, { types, turn });
    this.#pools = [thread, inline].filter((pool) => pool !== undefined);
    this.#janitor = new Janitor(options.store, options.clock, retention);
    this.#keep = keptStates(retention);
    this.#desk = this.#openDesk();
    this.#gated = this.#takeGatedIn();
    this.#debounces = this.#takeDebouncedIn();
    this.#lone = this.#ownShards();
    this.#explainer = this.#openExplainer();
    this.#additions = new SegmentAdditions({
      table: this.#table,
      isOurs: (ref) => this.#isOurs(ref),
      onWritten: () => {
        this.#redrives.onWritten();
        this.#reschedules.onWritten();
      },
    });
    this.#reschedules = this.#rescheduleHere();
    this.#redrives = this.#takeBackFailed();
    this.#cluster = options.cluster && this.#joinCluster(options.cluster, handled);
    this.cron = this.#fireCron();
    this.pauses = this.#openPauses();
  }

  /** Why nothing is taken, for good (it is fenced or stops) or until the store answers; undefined: tasks are taken. */
  get notTaking(): { readonly cause: MillraceError; readonly isFinal: boolean } | undefined {
    if (this.#refusal) return { cause: this.#refusal, isFinal: true };
    return this.#stall && { cause: this.#stall, isFinal: false };
  }

  get stats(): EngineStats {
    const { tasks } = this.#horizon;
    return {
      open: this.#table.openCount + tasks,
      delayed: this.#table.delayedCount + tasks,
      ready: this.#table.readyCount,
      running: this.#table.busyCount,
      ended: this.#endedCount,
    };
  }

  /**
   * Types of tasks that it found at start and does not run. Where nodes share the store it has found none by then: they go to
   * who runs them.
   */
  get foreignTypes(): readonly string[] {
    return this.#foreignTypes;
  }

  protected async onStart(): Promise<void> {
    await requireLayout(this.#store, this.clock);
    await this.#lane.open();
    await this.pauses.start();
    const near = this.#cluster === undefined ? await this.#lone.recover() : [];
    await Promise.all(this.#pools.map((pool) => pool.start()));
    for (const segment of near) this.#resume(segment);
    this.#foreignTypes = this.#types.foreign;
    if (this.#cluster === undefined) await this.#debounces.recover();
    await this.#cluster?.start();
    await this.#rates?.start();
    await this.#janitor.start();
    await this.cron.start();
    this.#onTimePassed();
    this.#waker.update();
    this.#lane.request();
  }

  /** Stops at once: what runs is killed and will run again. For a gentle end, `shutdown` first. */
  protected async onStop(): Promise<void> {
    await this.shutdown({ softMs: 0, hardMs: 0 });
  }

  /**
   * Puts a task into the store. Callbacks instead of a promise: this is called once per task.
   *
   * @param accept - called when it is durable, with the task, or an earlier one with the same key
   * @param reject - called when it is not stored: ERR_MILLRACE_CLOSED, _STORE_FULL, _STORE_UNAVAILABLE and the like; or
   *   when nobody knows: `details.mayBeStored`. When it is stored after all, `onRecovered` takes its room again
   */
  submit(
    task: NewTask,
    accept: (accepted: Accepted) => void,
    reject: (cause: MillraceError) => void,
  ): void {
    const refusal = this.#refusal ?? this.#stall;
    if (refusal) return reject(refusal);
    if (task.debounce !== undefined && task.gate === undefined) {
      return this.#debounces.submit(task, accept, reject);
    }
    this.#intake.add(new Submission(task, accept, reject), this.clock.wallMs());
    this.#lane.request();
  }

  /** Puts many tasks into the store that are encoded already; as `submit`, with one callback for all. */
  submitBulk(bulk: BulkFrame): void {
    const refusal = this.#refusal ?? this.#stall;
    if (refusal) return bulk.reject(refusal);
    this.#intake.addBulk(bulk);
    this.#lane.request();
  }

  /** The task when this node holds it, else 0. */
  find(segment: SegmentRef, index: number): TaskHandle {
    return this.#desk.find(segment, index);
  }

  /**
   * How a task ended, once that is durable.
   *
   * @throws ERR_MILLRACE_TASK_GONE when neither memory nor store knows it
   * @throws ERR_MILLRACE_CLOSED when the engine stops first
   */
  ended(task: TaskPlace): Promise<TaskEnd> {
    return this.#desk.ended(task);
  }

  /**
   * What a task that runs in this process says of its progress: the newest value, then the next ones, until its end
   * is durable. Errors are those of `ended`, and the signal's reason.
   */
  progress(task: TaskPlace, signal?: AbortSignal): AsyncIterableIterator<unknown> {
    return this.#desk.progress(task, signal);
  }

  /** Where a task stands. An end that is not durable is not told. @throws ERR_MILLRACE_TASK_GONE */
  status(task: TaskPlace): Promise<TaskStatus> {
    return this.#desk.status(task);
  }

  /**
   * Cancels a task: a pending one ends at once (`cancelled`), a running one gets its signal aborted (`signalled`)
   * and decides itself, one that has ended stays as it is (`ended`).
   *
   * @returns when the answer is durable
   * @throws ERR_MILLRACE_TASK_GONE
   */
  cancel(task: TaskPlace, reason: string | undefined): Promise<CancelAnswer> {
    return this.#desk.cancel(task, reason);
  }

  /**
   * Lets a task that waits be due at another time. Resolves when that is durable.
   *
   * @throws ERR_MILLRACE_CLAIM_LOST when it runs or has ended, ERR_MILLRACE_TASK_GONE, ERR_MILLRACE_CLOSED
   */
  reschedule(task: TaskPlace, due: NewDue): Promise<void> {
    return this.#desk.reschedule(task, due);
  }

  /** What the store has of a task; undefined when it does not know it (any more). @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  async inspect(id: TaskId): Promise<TaskInspection | undefined> {
    const { segment, index } = requireTaskId(id);
    const stored = await readStoredTask(this.#store, segment, index);
    return stored && inspectionOf(segment, index, stored);
  }

  /** Why a task is not running. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  explain(task: TaskInspection): Promise<Explanation> {
    return this.#explainer.explain(task);
  }

  /** How long there has been work and a place for it, and nothing was claimed; ms. Seconds of it are a fault. */
  get stalledMs(): number {
    if (this.#isHalted || this.#cluster?.mayStart === false) return 0;
    return Math.max(0, ...this.#dispatchers.map((dispatcher) => dispatcher.stalledMs()));
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
  async redrive(ids: readonly TaskId[]): Promise<readonly TaskId[]> {
    for (;;) {
      if (this.#refusal) throw this.#refusal;
      const cluster = this.#cluster;
      const isElsewhere =
        cluster && ![...cluster.shards.active()].some((shard) => isIn(ids[0]!, shard));
      if (cluster !== undefined && isElsewhere) {
        const redriven = cluster.remote.redrive(ids);
        this.#lane.request();
        return redriven;
      }
      const answers = await Promise.all(ids.map((id) => this.#redrives.redrive(id)));
      const isRedriven = (answer: RedriveAnswer) => answer === 'redriven' || answer === 'open';
      if (!answers.includes('moved')) return ids.filter((_, i) => isRedriven(answers[i]!));
      // The shard has gone to another node meanwhile; what was done is open there.
      await sleep(this.clock, MOVED_DELAY_MS);
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
  async shutdown(budget: ShutdownBudget): Promise<void> {
    if (this.#isHalted) return;
    this.#isHalted = true;
    const closed = new MillraceError('ERR_MILLRACE_CLOSED', 'the runtime is closed');
    const refusal = this.#refusal ?? closed;
    this.#refusal = refusal;
    this.#stopClaiming();
    const noMoreFires = this.cron.stop();
    const parts: ShutdownParts = {
      clock: this.clock,
      node: this.#options.node,
      lane: this.#lane,
      dispatchers: this.#dispatchers,
      pools: this.#pools,
      janitor: this.#janitor,
      horizon: this.#horizon,
      cluster: this.#cluster,
      running: () => this.#table.busyCount,
    };
    this.#redrives.close();
    this.#reschedules.close();
    this.#additions.close();
    await this.#rates?.stop();
    await shutDown(parts, budget, refusal);
    await this.pauses.stop();
    this.#waker.stop();
    this.#desk.waiters.rejectAll(refusal);
    // What no commit has taken gets its answer, and whatever asks for one from here on comes too late.
    this.#rejectUnsent(refusal);
    this.#gated.refuseOpen(refusal);
    this.#lane.abandon(refusal);
    await noMoreFires;
    this.#table.close();
  }

  // --- Levers -----------------------------------------------------------------------------------------------------

  /** At most so many of a type at once from now on; 0: none begins, and they wait. */
  limitType(name: string, atMost: number): void {
    if (this.#isHalted) return;
    this.#types.limit(name, atMost, this.#now());
    this.#requestClaim();
  }

  /** How tenants share what runs here, from now on: also what is ready already. Who is not named has the weight 1. */
  setWeights(weights: ReadonlyMap<string, number>): void {
    if (this.#isHalted) return;
    for (const tenant of this.#weights.keys()) {
      if (!weights.has(tenant)) this.#table.setWeight(tenant, 1);
    }
    for (const [tenant, weight] of weights) this.#table.setWeight(tenant, weight);
    this.#weights = weights;
  }

  /** Whether batches may be claimed before there is a place for them. */
  allowClaimsAhead(isAllowed: boolean): void {
    for (const dispatcher of this.#dispatchers) dispatcher.claimsAhead = isAllowed;
  }

  /** Whether nothing new begins: tasks wait, what runs goes on. */
  holdStarts(isHeld: boolean): void {
    if (this.#isHalted) return;
    for (const dispatcher of this.#dispatchers) dispatcher.hold(isHeld);
    this.#requestClaim();
  }

  // --- CommitSource -----------------------------------------------------------------------------------------------

  cut(budget: CommitBudget): Commit | undefined {
    this.#stall = undefined;
    this.#cluster?.beforeCut();
    this.#additions.beforeCut();
    this.#redrives.beforeCut();
    this.#reschedules.beforeCut();
    this.#horizon.settle();
    const commit = Cut.make(this.#cutContext(), budget);
    this.#rates?.look();
    // The cut has taken submissions in: some may wait for a time, or be late already.
    this.#waker.update();
    if (this.#table.hasExpired) this.#expire();
    this.#tellUnhandled();
    return commit;
  }

  onStalled(cause: MillraceError): void {
    this.#stall = new MillraceError(
      'ERR_MILLRACE_STORE_UNAVAILABLE',
      `the store gives no definite answer: ${cause.message}; try again later`,
      { details: { retryAfterMs: STALL_RETRY_MS }, cause },
    );
    this.#rejectUnsent(this.#stall);
  }

  onFenced(cause: MillraceError): void {
    this.#refusal = cause;
    this.#rejectUnsent(cause);
    this.#stopClaiming();
    this.#desk.waiters.rejectAll(cause);
    this.#cluster?.giveUp(cause);
  }

  /** Rejects what was submitted and is in no commit yet. */
  #rejectUnsent(cause: MillraceError): void {
    this.#intake.rejectAll(cause);
  }

  #cutContext(): CutContext {
    const { incarnation } = this.#options;
    const homeOf: HomeOf = (segment) => this.#cluster?.home(segment) ?? ONLY_HOME;
    return {
      shared: this.#cluster && this.#sharedContext(this.#cluster),
      table: this.#table,
      dispatchers: this.#dispatchers,
      keep: this.#keep,
      part: `${incarnation}${(this.#commitPart++).toString(36).padStart(8, '0')}`,
      onFiled: (segment, bytes) => this.#janitor.noteFiled(segment, bytes, this.clock.wallMs()),
      onDeadLetter: (bytes) => this.#janitor.noteDeadLetter(bytes),
      takeFrame: (bytesMax) => this.#intake.takeFrame(bytesMax, homeOf),
      takeGated: (bytesMax) => {
        const frame = this.#intake.takeGated(bytesMax, this.clock.wallMs(), homeOf);
        if (frame) this.#gated.taken();
        return frame;
      },
      adopt: (frame) => this.#adopt(frame),
      onAccepted: (frame, segment, isAwaited) => {
        const isBeyond = segment !== 0 && this.#isBeyond(frame);
        if (isAwaited) {
          frame.owner.accept(frame.ref, (index) =>
            isBeyond ? NOT_HELD : this.#table.taskAt(segment, index),
          );
        } else this.#occupyAgain(frame);
        this.#tellSubmitted(frame, { tasks: frame.owner.count, deduplicated: 0 });
        if (frame.home.isInbox) this.#tellHandedOver(frame);
        if (isBeyond) this.#horizon.of(frame.ref)?.letGo(segment, frame.ref);
      },
      onUnclear: (frame, cause) => frame.owner.reject(mayBeStored(cause)),
      onRejected: (frame, cause) => frame.owner.reject(cause),
      onGatedDone: (frame, result) => void this.#gated.done(frame, result),
      onGatedUnclear: (frame, cause) => this.#gated.unclear(frame, mayBeStored(cause)),
      onGatedFailed: (frame, cause) => this.#gated.failed(frame, cause),
      additions: this.#additions,
      onSettled: (settled) => this.#onSettled(settled),
      onDropped: (segment) => {
        this.#wallTimes.delete(segment);
        this.#horizon.dropped(this.#table.segmentRef(segment) as SegmentRef);
      },
    };
  }

  #sharedContext(cluster: Cluster): SharedContext {
    const { shards, outbox } = cluster;
    return {
      mayStart: cluster.mayStart && this.pauses.isKnown,
      pauses: this.pauses.guard!,
      guardsOf: (segment) => shards.guardsOf(segment),
      keyOf: (segment, ref) => shards.keyOf(segment, ref),
      takeLetters: (fits) => outbox.take(this.#table, fits),
      onLettersSent: (letters) => outbox.sent(letters),
      onLettersFailed: (letters) => outbox.putBack(letters),
      onDropped: (segment) => shards.dropped(segment),
      onDisplaced: (frame, isAwaited) => {
        if ('gate' in frame) this.#gated.displaced(frame as GatedFrame);
        if (isAwaited) this.#intake.putBack(frame);
      },
      onBroken: (broken) => {
        if (broken.some((guard) => 'modRevision' in guard)) this.pauses.onBroken();
        cluster.onBroken(broken.filter((guard) => 'createRevision' in guard));
      },
    };
  }

  #joinCluster(options: ClusterOptions, handled: ReadonlySet<string>): Cluster {
    const { clock, random, store, incarnation } = this.#options;
    return new Cluster(options, {
      clock,
      random: random.fork('cluster'),
      store,
      table: this.#table,
      incarnation,
      handled,
      horizon: this.#horizon,
      wallTimes: this.#wallTimes,
      load: () => this.load,
      onRecovered: (bytes, tasks) => this.onRecovered?.(bytes, tasks),
      onHandedOver: (bytes, tasks) => this.onReleased?.(bytes, tasks),
      settle: (task, report) => this.#settleReport(task, report),
      cancel: (task, id, reason) => this.#cancelHeld(task, id, reason),
      reschedule: (id, due) => this.#reschedules.reschedule(id, due),
      redrive: (id) => this.#redrives.redrive(id),
      abort: (task, reason) => {
        for (const dispatcher of this.#dispatchers) dispatcher.cancel(task, reason);
      },
      moveWaiters: (task, id) => this.#desk.moveWaiters(task, id),
      onChanged: () => this.#onShardsChanged(),
    });
  }

  /** Whether tasks of a type that does not run here have no room where it runs, as far as is known. */
  isFullElsewhere(type: { readonly queue: string; readonly name: string }): boolean {
    return this.#cluster?.isFullElsewhere({ queue: type.queue, type: type.name }) ?? false;
  }

  /** Batches that could start at once. Also after the engine has stopped. */
  get freePlaces(): number {
    return this.#sum(({ freePlaces }) => freePlaces);
  }

  /** What there is to do here, for others to place their tasks by. */
  get load(): Load {
    const { open, readyThread, readyInline, busy, bytes } = this.#table.stats();
    return {
      open,
      ready: readyThread + readyInline,
      running: busy,
      threads: this.#sum(({ threadCount }) => threadCount),
      freePlaces: this.freePlaces,
      bytes,
      ...this.roomHere?.(),
    };
  }

  #sum(count: (pool: Pool) => number): number {
    return this.#pools.reduce((total, pool) => total + count(pool), 0);
  }

  #onShardsChanged(): void {
    for (const dispatcher of this.#dispatchers) dispatcher.resume();
    this.cron.onShardsChanged();
    this.#waker.update();
    this.#lane.request();
  }

  /** What an execution came to that ran on another node, or under a process that is gone. */
  #settleReport(task: TaskHandle, report: Report): void {
    this.#waker.noteDrift();
    const { overranMs } = report;
    if (report.kind === 'lost') return this.#settler.lose(task, report.death, { overranMs });
    this.#settler.settle(task, report.outcome, Buffer.from(report.json), overranMs);
  }

  #cancelHeld(held: TaskHandle, id: TaskId, reason: string | undefined): AnswerOfOwner {
    const answer = this.#table.cancel(held, cancelledBytes(id, reason), this.#now());
    if (answer !== 'running') return answer;
    if (this.#cluster?.abortElsewhere(held, id, reason ?? '')) {
      this.#settler.cancelReasons.set(held, reason ?? '');
    } else {
      for (const dispatcher of this.#dispatchers) dispatcher.cancel(held, reason ?? '');
    }
    return 'signalled';
  }

  /** They are stored after all: their submitters were told that nobody knows, and gave their room back. */
  #occupyAgain({ owner }: ClosedFrame): void {
    this.onRecovered?.(owner.payloadBytes, owner.count);
  }

  /** Tasks in somebody's inbox are not open here any more. */
  #tellHandedOver({ ref, queue, type, owner }: ClosedFrame): void {
    if (this.#cluster?.isRun(queue, type) === false) {
      for (let index = 0; index < owner.count; index++) {
        publish('millrace:task:unhandled', () => ({ taskId: taskId(ref, index), type }));
      }
    }
    this.onReleased?.(owner.payloadBytes, owner.count);
  }

  #adopt(frame: ClosedFrame): SegmentHandle {
    const segment = this.#table.ingest(frame.frame, frame.ref, this.#now(), {
      dueMonoMs: frame.dueMonoMs,
    });
    if (frame.isDueByDate) this.#wallTimes.add(segment);
    const { owner } = frame.home;
    if (owner !== undefined) this.#cluster?.shards.adopted(segment, owner);
    return segment;
  }

  /** Whether what was put stays in the store only, until it is near. */
  #isBeyond({ ref, home }: ClosedFrame): boolean {
    if (segmentDueAtMs(ref) < this.#horizon.untilMs) return false;
    if (this.#cluster === undefined) this.#lone.know(ref, home.shard);
    return this.#horizon.isBeyond(ref);
  }

  /** A task with a gate has come into being. @returns 0 when this node does not hold it */
  #takeUpGated(frame: GatedFrame, isAwaited: boolean): TaskHandle {
    if (!isAwaited) this.#occupyAgain(frame);
    // Who has the shard by now finds it there.
    const { owner, isInbox } = frame.home;
    const isElsewhere = isInbox || (owner !== undefined && owner.stage !== 'active');
    const isBeyond = !isElsewhere && this.#isBeyond(frame);
    const isHere = !isElsewhere && !isBeyond;
    const task = isHere ? this.#table.taskAt(this.#adopt(frame), 0) : NOT_HELD;
    if (!isHere) this.#tellHandedOver(frame);
    if (isBeyond) this.#horizon.of(frame.ref)?.note(frame.ref, 1);
    return task;
  }

  #tellSubmitted(
    frame: ClosedFrame,
    counts: { readonly tasks: number; readonly deduplicated: number },
  ): void {
    publish('millrace:tasks:submitted', () => ({
      incarnation: this.#options.incarnation,
      queue: frame.ref.slice(0, frame.ref.indexOf('.')),
      ...counts,
    }));
  }

  #onSettled(settled: Settled): void {
    this.#endedCount += settled.tasks;
    if (settled.tasks > 0) this.onReleased?.(settled.bytes, settled.tasks);
    this.#desk.waiters.settle(settled.watched);
    this.#cluster?.onSettled(settled);
    if (this.#cluster?.hasLetters) this.#lane.request();
    this.#checkDrained();
  }

  #checkDrained(): void {
    if (this.#drainWaiters.length === 0) return;
    const { open, unhandled } = this.#table.stats();
    if (open > unhandled || !this.#intake.isEmpty || !this.#gated.isEmpty) return;
    if (this.#cluster?.hasLetters || !this.#horizon.isEmpty) return;
    for (const resolve of this.#drainWaiters.splice(0)) resolve();
  }

  #openPauses(): Pauses {
    const { clock, random, incarnation } = this.#options;
    return new Pauses({
      clock,
      random,
      store: this.#store,
      incarnation,
      isShared: this.#options.cluster !== undefined,
      apply: (pauses) => this.#rest(pauses),
      onChanged: () => this.#requestClaim(),
    });
  }

  #limitRates(): RateLimits | undefined {
    const { clock, random, cluster, rate } = this.#options;
    const ports = {
      clock,
      random,
      store: this.#store,
      table: this.#table,
      types: this.#types,
      onRefilled: () => this.#requestClaim(),
    };
    return RateLimits.of(cluster ? { ...ports, cluster } : ports, rate);
  }

  /** These rest from now on, and nothing else. */
  #rest(pauses: readonly Pause[]): void {
    if (this.#isHalted) return;
    const named = (kind: Pause['kind']) =>
      new Set(pauses.filter((pause) => pause.kind === kind).map(({ name }) => name));
    const [tasks, queues, tenants] = [named('task'), named('queue'), named('tenant')];
    const isPaused = ({ name, queue }: TaskSpec) => tasks.has(name) || queues.has(queue);
    this.#types.rest('paused', isPaused, this.#now());
    for (const tenant of this.#restingTenants) {
      if (!tenants.has(tenant)) this.#table.stopTenant(tenant, false);
    }
    for (const tenant of tenants) this.#table.stopTenant(tenant, true);
    this.#restingTenants = tenants;
  }

  /** The shard of ours that a segment is in. */
  #activeShard(ref: SegmentRef): Shard | undefined {
    return this.#cluster && [...this.#cluster.shards.active()].find((shard) => isIn(ref, shard));
  }

  #isOurs(ref: SegmentRef): boolean {
    return this.#cluster === undefined || this.#activeShard(ref) !== undefined;
  }

  #rescheduleHere(): Reschedules {
    return new Reschedules({
      clock: this.clock,
      table: this.#table,
      additions: this.#additions,
      isOurs: (ref) => this.#isOurs(ref),
      farOf: (ref) => this.#horizon.of(ref),
      onDated: (ref) => this.#wallTimes.add(this.#table.findSegment(ref)),
      onChanged: () => {
        this.#waker.update();
        this.#lane.request();
      },
    });
  }

  #takeBackFailed(): Redrives {
    return new Redrives({
      clock: this.clock,
      store: this.#store,
      table: this.#table,
      additions: this.#additions,
      isOurs: (ref) => this.#isOurs(ref),
      adopt: (segment, ref) => {
        const shard = this.#activeShard(ref);
        if (shard !== undefined) this.#cluster?.shards.adopted(segment, shard);
        else this.#lone.know(ref, 0);
        this.#resume(segment);
      },
      onOpened: (payloadBytes) => this.onRecovered?.(payloadBytes, 1),
      onRedriven: (ref, tasks) => {
        const queue = ref.slice(0, ref.indexOf('.'));
        const { incarnation } = this.#options;
        publish('millrace:tasks:redriven', () => ({ incarnation, queue, tasks }));
      },
      onChanged: () => {
        this.#waker.update();
        this.#lane.request();
      },
    });
  }

  #openDesk(): TaskDesk {
    return new TaskDesk({
      clock: this.clock,
      store: this.#store,
      table: this.#table,
      horizon: this.#horizon,
      progress: this.#progress,
      cluster: () => this.#cluster,
      refusal: () => this.#refusal,
      cancel: (task, id, reason) => this.#cancelHeld(task, id, reason),
      reschedule: (id, due) => this.#reschedules.reschedule(id, due),
      requestCommit: () => this.#lane.request(),
    });
  }

  #openExplainer(): Explainer {
    return new Explainer({
      clock: this.clock,
      store: this.#store,
      table: this.#table,
      types: this.#types,
      rateWait: (type, tenant) => this.#rates?.waitOf(type, tenant),
      dispatchers: this.#dispatchers,
      horizon: this.#horizon,
      cluster: () => this.#cluster,
      pauses: () => this.pauses.all,
      notTaking: () => this.notTaking,
      load: () => this.load,
      held: (task) => this.#desk.held({ ...requireTaskId(task.id), task: NOT_HELD }),
    });
  }

  #takeGatedIn(): GatedSubmissions {
    return new GatedSubmissions({
      clock: this.clock,
      store: this.#store,
      haltedBy: () => (this.#isHalted ? this.#refusal : undefined),
      takeJoined: (first) => this.#intake.takeJoined(first),
      find: (id) => {
        const { segment, index } = requireTaskId(id);
        return this.find(segment, index);
      },
      takeUp: (frame, isAwaited) => this.#takeUpGated(frame, isAwaited),
      tellSubmitted: (frame, counts) => this.#tellSubmitted(frame, counts),
      onSettled: () => this.#checkDrained(),
      onNew: () => {
        this.#waker.update();
        this.#lane.request();
      },
    });
  }

  #takeDebouncedIn(): Debounces {
    return new Debounces({
      clock: this.clock,
      store: this.#store,
      windowMs: this.#options.retention.idempotencyMs,
      submit: (task) => new Promise((resolve, reject) => this.submit(task, resolve, reject)),
      supersedeBy: (task, by) => this.#cluster?.remote.supersede(task, by),
      supersede: async (task, by) => {
        // Where nodes share the store, a command has been put with the task that replaces it.
        if (this.#cluster === undefined) await this.#desk.supersede(task, by);
      },
    });
  }

  #fireCron(): Cron {
    const place = (task: TaskId): TaskPlace => ({ ...requireTaskId(task), task: NOT_HELD });
    /** A task that is not known any more has ended. */
    const unlessGone = <T>(known: Promise<T>, gone: T): Promise<T> =>
      known.catch((cause: unknown) => {
        if (hasCode(cause, 'ERR_MILLRACE_TASK_GONE')) return gone;
        throw cause;
      });
    return new Cron({
      clock: this.clock,
      random: this.#options.random,
      store: this.#store,
      shardCount: this.#options.cluster?.shardCount ?? 1,
      isOurs: (at) =>
        this.#cluster === undefined ||
        (this.#cluster.mayStart && this.#cluster.shards.isActive(at)),
      submit: (task) => {
        this.onRecovered?.(task.payloadBytes, 1);
        return new Promise((resolve, reject) => {
          this.submit(task, resolve, (cause) => {
            this.onReleased?.(task.payloadBytes, 1);
            reject(cause);
          });
        });
      },
      isOpen: (task) => {
        const status = this.status(place(task));
        return unlessGone(
          status.then((is) => is === 'pending' || is === 'running'),
          false,
        );
      },
      untilEnded: (task) =>
        unlessGone(
          this.ended(place(task)).then(() => {}),
          undefined,
        ),
      cancel: (task, reason) =>
        unlessGone(
          this.cancel(place(task), reason).then(() => {}),
          undefined,
        ),
    });
  }

  #ownShards(): LoneShards {
    const { clock } = this;
    const ports = { clock, store: this.#store, table: this.#table, horizon: this.#horizon };
    return new LoneShards(ports, {
      resume: (segment) => {
        this.#resume(segment);
        this.#onShardsChanged();
      },
      release: (segment) => this.#releaseFar(segment),
      onChanged: () => this.#lane.request(),
    });
  }

  /** A segment stays in the store until it is near. @returns how many of its tasks are open */
  #releaseFar(segment: SegmentHandle): number {
    const ref = this.#table.segmentRef(segment) as SegmentRef;
    this.#wallTimes.delete(segment);
    const released = this.#table.release(segment);
    if (released === undefined) return 0;
    if (released.open > 0) this.onReleased?.(released.openBytes, released.open);
    for (const { index, task } of released.watched) {
      this.#desk.moveWaiters(task, taskId(ref, index));
    }
    return released.open;
  }

  // --- Tasks on their way ------------------------------------------------------------------------------------------

  #addDispatcher(
    pool: Pool,
    place: Place,
    shared: { readonly types: TaskTypes; readonly turn: AloneTurn },
  ): void {
    this.#dispatchers.push(
      new Dispatcher({
        ...shared,
        place,
        pool,
        table: this.#table,
        settler: this.#settler,
        clock: this.clock,
        timers: this.#options.timers ?? this.clock,
        incarnation: this.#options.incarnation,
        events: {
          mayStart: () => this.#cluster?.mayStart ?? true,
          beforeReport: () => this.#waker.noteDrift(),
          onOrphan: (task, report) => {
            this.#cluster?.report(task, this.#settler.toldOf(task, report));
          },
          onChanged: () => {
            this.#waker.update();
            this.#lane.request();
          },
          onFree: () => this.#requestClaim(),
          onProgress: (task, json) => this.#progress.note(task, json),
          onProgressOver: (tasks) => {
            for (const task of tasks) this.#progress.forget(task);
          },
        },
      }),
    );
  }

  /** Brings a stored segment's tasks back to life: what ran under a dead process is lost, the rest waits. */
  #resume(segment: SegmentHandle): void {
    const resumed = this.#table.resume(segment, this.#now());
    this.#wallTimes.add(segment);
    if (resumed.open > 0) this.onRecovered?.(resumed.openBytes, resumed.open);
    const death = { reason: 'exit', begun: resumed.lost.length } as const;
    for (const task of resumed.lost) this.#settler.lose(task, death, {});
  }

  #stopClaiming(): void {
    this.#settler.isClosing = true;
    for (const dispatcher of this.#dispatchers) dispatcher.stopClaiming();
  }

  #onTimePassed(): void {
    if (this.#table.hasExpired) this.#expire();
    this.#tellUnhandled();
    this.#checkDrained();
    this.#rates?.look();
    this.#requestClaim();
  }

  /** The wall clock has moved against the monotonic one: what is due by it is timed anew. */
  #onDrift(jumpMs: number): void {
    this.#wallTimes.renew(jumpMs);
    this.#horizon.look();
    this.#onShardsChanged();
  }

  /** Tells of tasks that turned due and have no handler here. */
  #tellUnhandled(): void {
    for (const task of this.#table.takeUnhandled()) {
      const info = this.#table.inspect(task);
      if (info === undefined) continue;
      const ref = this.#table.segmentRef(info.segment) as SegmentRef;
      const type = this.#table.typeName(info.type) ?? '';
      publish('millrace:task:unhandled', () => ({ taskId: taskId(ref, info.index), type }));
      this.#cluster?.onUnhandled(task, type);
    }
  }

  #expire(): void {
    while (this.#table.hasExpired) {
      for (const task of this.#table.takeExpired()) {
        const info = this.#table.inspect(task);
        if (info === undefined) continue;
        const ref = this.#table.segmentRef(info.segment) as SegmentRef;
        const bytes = expiredBytes(taskId(ref, info.index), info.expiresAtMs);
        this.#table.end(task, TaskState.EXPIRED, bytes, this.#now());
      }
    }
    this.#lane.request();
  }

  #requestClaim(): void {
    if (this.#dispatchers.some((dispatcher) => dispatcher.canClaim)) this.#lane.request();
  }

  #now(): Instant {
    return { wallMs: this.clock.wallMs(), monoMs: this.clock.monoMs() };
  }
}

/** What submitters hear whose commit has no definite answer. */
function mayBeStored(cause: MillraceError): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_UNAVAILABLE',
    `the store gives no definite answer: ${cause.message}; the task may be stored all the same. Submit it again with an idempotencyKey, which makes one task of both`,
    { details: { retryAfterMs: STALL_RETRY_MS, mayBeStored: true }, cause },
  );
}

/** Whether a segment, or a task, is in a shard. */
function isIn(ref: string, { queue, shard }: ShardPlace): boolean {
  return ref.startsWith(`${queue}.${shard.toString(36).padStart(2, '0')}.`);
}

function keptStates(retention: RetentionMs): TaskState[] {
  const ended = [TaskState.COMPLETED, TaskState.CANCELLED, TaskState.EXPIRED];
  return [
    ...(retention.completedMs > 0 ? ended : []),
    ...(retention.failedMs > 0 ? [TaskState.FAILED] : []),
  ];
}
