/**
 * The parts of an engine, put together: each gets those that it works with, and is told by callbacks what others come to later.
 *
 * The order is that of need. What is made first and has to reach what is made last, as the shards have to reach whoever runs tasks,
 * does so when it is called, and nothing is called before the engine starts.
 */
import type { Load } from '../coordination/load.js';
import { instantOf } from '../core/clock.js';
import { requireTaskId } from '../core/ids.js';
import { TaskTable } from '../timing/task-table.js';
import { Amendments } from './amendments.js';
import { Cluster } from './cluster.js';
import type { ClusterOptions } from './cluster-ports.js';
import { CommitLane } from './commit-lane.js';
import { Cron } from './cron/cron.js';
import { FiredTasks } from './cron/fired-tasks.js';
import { Cutter } from './cutter.js';
import { Door } from './door.js';
import { Drain } from './drain.js';
import type { EngineOptions } from './engine-options.js';
import { Executions } from './executions.js';
import { Explainer } from './explainer.js';
import { Horizon } from './horizon.js';
import { Janitor } from './janitor.js';
import { LoneShards } from './lone-shards.js';
import { Pauses } from './pauses.js';
import { RateLimits } from './rates/rate-limits.js';
import { Resting } from './resting.js';
import { Room } from './room.js';
import { Submissions } from './submissions.js';
import { NOT_HELD, TaskDesk } from './task-desk.js';
import { TaskTypes } from './task-types.js';
import { TenantWeights } from './tenant-weights.js';
import { TimeKeeper } from './time-keeper.js';

export class EngineParts {
  readonly door: Door = new Door();
  readonly room: Room = new Room();
  readonly table: TaskTable;
  readonly weights: TenantWeights;
  readonly types: TaskTypes;
  readonly horizon: Horizon;
  readonly time: TimeKeeper;
  /** Undefined: nothing here has a rate. */
  readonly rates: RateLimits | undefined;
  /** Undefined: nobody shares the store, and all of it is `lone`'s. */
  readonly cluster: Cluster | undefined;
  readonly lone: LoneShards | undefined;
  readonly pauses: Pauses;
  readonly executions: Executions;
  readonly amendments: Amendments;
  readonly desk: TaskDesk;
  readonly submissions: Submissions;
  readonly explainer: Explainer;
  readonly cron: Cron;
  readonly janitor: Janitor;
  readonly drain: Drain = new Drain(() => this.#isDrained());
  readonly lane: CommitLane;
  readonly cutter: Cutter;
  readonly #options: EngineOptions;

  constructor(options: EngineOptions) {
    this.#options = options;
    const { clock, random, store, incarnation, retention } = options;
    const table = new TaskTable({ executor: incarnation, startMonoMs: clock.monoMs() });
    const specs = [...options.specs];
    const handled = new Set(specs.map(({ name }) => name));
    this.table = table;
    this.weights = new TenantWeights(table, options.weights);
    this.types = new TaskTypes(table, specs, instantOf(clock));
    this.horizon = new Horizon(clock);
    this.time = this.#keepTime();
    this.rates = this.#limitRates();
    this.cluster = options.cluster && this.#joinCluster(options.cluster, handled);
    this.lone = this.cluster === undefined ? this.#ownStore() : undefined;
    this.pauses = this.#openPauses();
    const common = {
      clock,
      random,
      store,
      incarnation,
      table,
      types: this.types,
      door: this.door,
      room: this.room,
      horizon: this.horizon,
      time: this.time,
      wallTimes: this.time.wallTimes,
      rates: this.rates,
      pauses: this.pauses,
      cluster: this.cluster,
      holder: this.cluster ?? this.lone!,
      requestCommit: () => this.lane.request(),
    };
    const timers = options.timers ?? clock;
    this.executions = new Executions({ ...common, timers }, options.pools);
    this.amendments = new Amendments(common);
    const working = { ...common, executions: this.executions, amendments: this.amendments };
    this.desk = new TaskDesk(working);
    this.submissions = new Submissions(
      { ...common, desk: this.desk, onAnswered: () => this.drain.look() },
      {
        keyWindowMs: retention.idempotencyMs,
        handled,
        segmentTasksMax: options.segmentTasksMax,
        shardCount: options.cluster?.shardCount,
      },
    );
    this.explainer = new Explainer({
      ...working,
      load: () => this.load,
      held: (task) => this.desk.held({ ...requireTaskId(task.id), task: NOT_HELD }),
    });
    this.cron = new Cron({
      ...common,
      shardCount: options.cluster?.shardCount ?? 1,
      tasks: new FiredTasks(this.submissions, this.desk, this.room),
    });
    this.janitor = new Janitor(store, clock, retention, () => this.cluster?.runnerCount ?? 1);
    this.cutter = new Cutter(
      {
        ...working,
        submissions: this.submissions,
        janitor: this.janitor,
        waiters: this.desk.waiters,
        drain: this.drain,
      },
      retention,
    );
    this.lane = new CommitLane(store, clock, {
      node: options.node,
      incarnation,
      source: this.cutter,
    });
  }

  /** What there is to do here, for others to place their tasks by. */
  get load(): Load {
    const { open, readyThread, readyInline, busy, bytes } = this.table.stats();
    const { threadCount, freePlaces } = this.executions;
    return {
      open,
      ready: readyThread + readyInline,
      running: busy,
      threads: threadCount,
      freePlaces,
      bytes,
      ...this.room.here?.(),
    };
  }

  #keepTime(): TimeKeeper {
    return new TimeKeeper(
      { clock: this.#options.clock, table: this.table, horizon: this.horizon },
      {
        onPassed: () => {
          this.drain.look();
          this.rates?.look();
          this.executions.requestClaim();
        },
        onDrift: () => this.#onShardsChanged(),
        onUnhandled: (task, type) => this.cluster?.onUnhandled(task, type),
        onExpired: () => this.lane.request(),
      },
    );
  }

  #limitRates(): RateLimits | undefined {
    const { clock, random, store, cluster, rate } = this.#options;
    const onRefilled = (): void => this.executions.requestClaim();
    const ports = { clock, random, store, table: this.table, types: this.types, onRefilled };
    return RateLimits.of(cluster ? { ...ports, cluster } : ports, rate);
  }

  #openPauses(): Pauses {
    const { clock, random, store, incarnation, cluster } = this.#options;
    const resting = new Resting(clock, this.table, this.types);
    return new Pauses({
      clock,
      random,
      store,
      incarnation,
      isShared: cluster !== undefined,
      insert: (commit) => this.lane.insert(commit),
      apply: (pauses) => {
        if (!this.door.isClosed) resting.apply(pauses);
      },
      onChanged: () => this.executions.requestClaim(),
    });
  }

  #ownStore(): LoneShards {
    return new LoneShards({
      clock: this.#options.clock,
      store: this.#options.store,
      table: this.table,
      horizon: this.horizon,
      wallTimes: this.time.wallTimes,
      room: this.room,
      lose: (tasks) => this.executions.lose(tasks),
      moveWaiters: (task, id) => this.desk.moveWaiters(task, id),
      onStarted: () => this.#onShardsChanged(),
      onChanged: () => this.lane.request(),
    });
  }

  #joinCluster(options: ClusterOptions, handled: ReadonlySet<string>): Cluster {
    const { clock, random, store, incarnation } = this.#options;
    return new Cluster(options, {
      clock,
      random: random.fork('cluster'),
      store,
      incarnation,
      handled,
      table: this.table,
      horizon: this.horizon,
      wallTimes: this.time.wallTimes,
      room: this.room,
      load: () => this.load,
      settle: (task, report) => this.executions.settle(task, report),
      cancel: (task, id, reason) => this.executions.cancel(task, id, reason),
      abort: (task, reason) => this.executions.abort(task, reason),
      reschedule: (id, due) => this.amendments.reschedule(id, due),
      redrive: (id) => this.amendments.redrive(id),
      moveWaiters: (task, id) => this.desk.moveWaiters(task, id),
      onChanged: () => this.#onShardsChanged(),
    });
  }

  /** Shards have come or gone, what is near has come into memory, or something may be started again. */
  #onShardsChanged(): void {
    this.executions.resume();
    this.cron.onShardsChanged();
    this.time.update();
    this.lane.request();
  }

  #isDrained(): boolean {
    const { open, unhandled } = this.table.stats();
    if (open > unhandled || !this.submissions.isEmpty) return false;
    return !this.cluster?.hasLetters && this.horizon.isEmpty;
  }
}
