/**
 * What a service holds of millrace: submit, take up, wait, count, close.
 *
 * Everything a user passes in is checked here, at the edge; the engine below can trust it.
 */
import type { WritableStream } from 'node:stream/web';
import type { Control } from './admin/control.js';
import type { ControlSocket } from './admin/control-socket.js';
import { BulkSubmission } from './bulk-submission.js';
import type { Coordination } from './coordination/coordination.js';
import type { Clock } from './core/clock.js';
import { MillraceError } from './core/errors.js';
import { requireTaskId, type TaskId } from './core/ids.js';
import { invalidOption } from './core/options.js';
import type { Pool } from './core/pool.js';
import { statusOf } from './core/states.js';
import type { Store } from './core/store.js';
import { type AnyTask, hasHandler, isTask, type Submittable } from './core/task.js';
import { DeadLetters } from './dead-letters.js';
import type { Explanation } from './engine/explanation.js';
import type { TaskInspection } from './engine/inspection.js';
import type { PauseTarget } from './engine/pauses.js';
import { NOT_HELD } from './engine/task-desk.js';
import type { Engines } from './engines.js';
import { NewTasks } from './new-tasks.js';
import type { Health, Observation } from './observation.js';
import { OperatorDesk } from './operator-desk.js';
import { packageVersion } from './package-version.js';
import { ProcessWarnings } from './process-warnings.js';
import { RuntimeAdmission } from './runtime-admission.js';
import type { RuntimeChildren } from './runtime-children.js';
import { type PauseOptions, pauseTarget, RuntimeControl } from './runtime-control.js';
import { type CronHandle, type CronInfo, type CronOptions, RuntimeCron } from './runtime-cron.js';
import type { RuntimeHealing, RuntimeMetrics, RuntimeStats } from './runtime-figures.js';
import { RuntimeGate } from './runtime-gate.js';
import { healthOf } from './runtime-health.js';
import { RuntimeLevers } from './runtime-levers.js';
import { RuntimeLocks } from './runtime-locks.js';
import type { ResolvedOptions } from './runtime-options.js';
import { type RuntimeTuning, tuneRuntime } from './runtime-tuning.js';
import { type SubmittedMany, submitMany } from './submit-many.js';
import type { SubmitManyOptions, SubmitOptions } from './submit-options.js';
import { Submitter } from './submitter.js';
import { TaskHandle } from './task-handle.js';
import { taskSink } from './task-sink.js';
import { Config } from './tenancy/config.js';
import type { Metadata, MetadataApi } from './tenancy/metadata.js';
import { validateInput } from './validate-input.js';

/** What a runtime is put together from, by millrace.ts. */
export interface RuntimeParts {
  readonly clock: Clock;
  /** Keeps the process alive until the returned function is called. */
  readonly holdProcess: (() => () => void) | undefined;
  readonly options: ResolvedOptions;
  readonly tasks: ReadonlyMap<string, AnyTask>;
  readonly store: Store;
  readonly engines: Engines;
  readonly coordination: Coordination;
  /** What handlers submit. */
  readonly children: RuntimeChildren;
  readonly metadata: Metadata;
  readonly threads: Pool | undefined;
  /** Started; stopped when everything else is. */
  readonly observation: Observation;
  /** `host:pid` of this process. */
  readonly host: string;
}

/** A running millrace in this process. Comes from {@link createRuntime}. */
export class Runtime {
  /** The tasks of the module, by name. */
  readonly tasks: ReadonlyMap<string, AnyTask>;
  /** Locks shared with every other process on the same store. */
  readonly locks: RuntimeLocks;
  /** What is counted; see docs/reference/metrics.md. */
  readonly metrics: RuntimeMetrics;
  /** Metadata of tenants, read mostly from a cache in this process. */
  readonly metadata: MetadataApi;
  /** Typed configuration that changes while everything runs, for everybody or for one tenant. */
  readonly config: Config;
  /** What healing did, and whether it may. */
  readonly healing: RuntimeHealing;
  /** What operators ask of the store's tasks and do to them, as the command line does it. */
  readonly operations: Control;
  readonly #clock: Clock;
  readonly #options: ResolvedOptions;
  readonly #store: Store;
  readonly #engines: Engines;
  readonly #coordination: Coordination;
  readonly #metadata: Metadata;
  readonly #threads: Pool | undefined;
  readonly #observation: Observation;
  readonly #levers: RuntimeLevers;
  readonly #cron: RuntimeCron;
  readonly #control: RuntimeControl;
  readonly #admission: RuntimeAdmission;
  readonly #submitter: Submitter;
  readonly #warnings = new ProcessWarnings();
  readonly #holdProcess: (() => () => void) | undefined;
  readonly #cleanUps: (() => void)[] = [];
  #controlSocket: ControlSocket | undefined;
  #hasStarted = false;
  #closed: Promise<void> | undefined;

  constructor(parts: RuntimeParts) {
    this.tasks = parts.tasks;
    this.#clock = parts.clock;
    this.#holdProcess = parts.holdProcess;
    this.#options = parts.options;
    this.#store = parts.store;
    this.#engines = parts.engines;
    this.#coordination = parts.coordination;
    this.locks = new RuntimeLocks(parts.coordination);
    this.#metadata = parts.metadata;
    this.metadata = parts.metadata;
    this.config = new Config(parts.metadata);
    this.#threads = parts.threads;
    this.#observation = parts.observation;
    this.healing = parts.observation.healing;
    this.metrics = { prometheus: () => parts.observation.prometheus() };
    this.operations = new OperatorDesk(parts.clock, parts.store, {
      engines: parts.engines,
      runtime: this,
      self: {
        node: parts.engines.stored.incarnation,
        host: parts.host,
        queues: [...new Set([...parts.tasks.values()].map(({ spec }) => spec.queue))],
      },
    });
    this.#levers = new RuntimeLevers(parts.engines, parts.threads, () => this.close());
    this.#cron = new RuntimeCron({
      cron: parts.engines.stored.cron,
      clock: parts.clock,
      limits: parts.options.payload,
    });
    this.#control = new RuntimeControl(parts.engines);
    parts.children.adopt({
      submit: (ask) => this.#submitter.submitChild(this.#contract(ask.type).spec, ask),
      handle: (type, id) => this.handle(type, id),
      status: async (id) => (await this.operations.inspect(id)).status,
      untilEnded: async (id) => {
        const { segment, index } = requireTaskId(id);
        const { engine } = await this.#engines.find(id as TaskId);
        return statusOf((await engine.ended({ segment, index, task: NOT_HELD })).state);
      },
    });
    parts.observation.follow(this);
    this.#admission = new RuntimeAdmission({ ...parts, requireOpen: () => this.#requireOpen() });
    this.#submitter = new Submitter({
      clock: parts.clock,
      engines: parts.engines,
      limits: parts.options.payload,
      admission: this.#admission,
      newTasks: new NewTasks({
        clock: parts.clock,
        limits: parts.options.payload,
        debounceMsMax: parts.options.retention.idempotencyMs,
        tracing: parts.observation.tracing,
        levers: this.#levers,
        admission: this.#admission,
        requireOpen: () => this.#requireOpen(),
      }),
    });
  }

  /** Called once, by createRuntime. */
  async start(): Promise<void> {
    this.#warnings.start();
    // Where nodes share the store, this one is there before it takes anything on; a store with a quota has to be compacted.
    const isShared = this.#store.lockSpace !== undefined;
    if (isShared || this.#coordination.compactor !== undefined) await this.#coordination.start();
    await this.#engines.start();
    for (const type of this.#missingHandlers(isShared)) this.#warnings.tellUnhandled(type);
    await this.#observation.heal(this.#levers, new RuntimeGate(this.#store, this.locks));
    await this.#openControlSocket();
    const release = this.#holdProcess?.();
    if (release) this.#cleanUps.push(release);
    if (this.#options.signals) this.#closeOnSignals();
    this.#hasStarted = true;
  }

  /**
   * Submits a task. Resolves when it is durable: from then on it is never lost.
   *
   * @param task - a task or contract, or the name of a task of the module
   * @throws ERR_MILLRACE_UNKNOWN_TASK, ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION
   * @throws ERR_MILLRACE_INVALID_INPUT when the input does not satisfy the task's schema
   * @throws ERR_MILLRACE_PAYLOAD_TOO_LARGE, _TOO_DEEP, _NOT_SERIALIZABLE
   * @throws ERR_MILLRACE_QUEUE_FULL with `queue.onFull: 'reject'`, and for priorities below 0 while the runtime is degraded
   * @throws ERR_MILLRACE_STORE_FULL, from 80 % of the store's quota on (above 60 % a submit takes 100 ms longer)
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE when the store gives no answer within about 8 s. With `details.mayBeStored` the
   *   task was on its way and nobody knows; submit it again with the same `idempotencyKey`, which makes one task of both
   * @throws ERR_MILLRACE_CLOSED
   */
  submit<Input, Output>(
    task: Submittable<Input, Output> | string,
    input: Input,
    options: SubmitOptions = {},
  ): Promise<TaskHandle<Output>> {
    try {
      return this.#submitter.submit(this.#contract(task).spec, input, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Submits many tasks, with no object for each. Resolves when all of them are durable.
   *
   * The source is read as fast as the store writes, and as there is room in the queue (`queue.onFull`); one that has
   * nothing at hand holds up nothing that was read before. Options are those of all tasks; `delay` and `ttl` count
   * from when an item is read.
   *
   * @param items - the inputs; any iterable, also an async one
   * @returns how many were accepted, their ids, and a way to hear how they end
   * @throws what {@link submit} throws, for the first item that cannot be submitted: `details.index` says which, and
   *   `details.accepted` how many were accepted by then; these stay
   */
  async submitMany<Input, Output>(
    task: Submittable<Input, Output> | string,
    items: Iterable<Input> | AsyncIterable<Input>,
    options: SubmitManyOptions<Input> = {},
  ): Promise<SubmittedMany<Output>> {
    if (typeof items !== 'object' || items === null) {
      throw invalidOption('items', items, 'an iterable of inputs');
    }
    const { ports, plan } = this.#submitter.bulk(this.#contract(task).spec, options);
    return submitMany<Input, Output>(ports, plan, items);
  }

  /**
   * A stream that submits what is written to it: `await readable.pipeTo(runtime.writable(task))`. It takes items as fast as the
   * store writes and as there is room (`queue.onFull`), keeps nothing of what was accepted, and closes when all of it is
   * durable. Options are those of all tasks, as of {@link submitMany}. Its `signal` is looked at with every item, and ends waiting
   * for room; a signal of `pipeTo` alone does not, since a pipe first waits for what it has begun to write.
   *
   * Writing and closing reject with what `submitMany` throws, with `details.accepted`; what was accepted by then stays.
   *
   * @throws ERR_MILLRACE_UNKNOWN_TASK, ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION, ERR_MILLRACE_CLOSED
   */
  writable<Input, Output>(
    task: Submittable<Input, Output> | string,
    options: SubmitManyOptions<Input> = {},
  ): WritableStream<Input> {
    const { spec } = this.#contract(task);
    // Wrong options are told here, and not by the first item.
    this.#submitter.bulk(spec, options);
    return taskSink<Input>(this.#clock, (aborted) => {
      const { signal: given } = options;
      const signal = given === undefined ? aborted : AbortSignal.any([given, aborted]);
      const { ports, plan } = this.#submitter.bulk<Input>(spec, { ...options, signal });
      return new BulkSubmission(ports, plan);
    });
  }

  /**
   * Submits a task if there is room for it now; nobody waits.
   *
   * @returns its handle when it is durable; undefined: there is no room, or the store is filling up. Do something else, and
   *   try again later
   * @throws what {@link submit} throws, but for ERR_MILLRACE_QUEUE_FULL of a full queue
   */
  async trySubmit<Input, Output>(
    task: Submittable<Input, Output> | string,
    input: Input,
    options: Omit<SubmitOptions, 'signal'> = {},
  ): Promise<TaskHandle<Output> | undefined> {
    return this.#submitter.trySubmit(this.#contract(task).spec, input, options);
  }

  /** Takes up a task by its id, e.g. one submitted by an earlier process. */
  handle<Input, Output>(task: Submittable<Input, Output> | string, id: string): TaskHandle<Output> {
    const engine = this.#engines.of(this.#contract(task).spec);
    const { segment, index } = requireTaskId(id);
    const held = engine.find(segment, index);
    return new TaskHandle(engine, { segment, index, task: held, isCreated: false });
  }

  /**
   * Defines a task that comes again and again: `cron('nightly', '0 3 * * *', report, { day: 'yesterday' })`. It is stored,
   * by name: to define it again as it is, at every start of every node, does nothing; to define it otherwise replaces it.
   * A fire happens once in the cluster, by the clock of the node that owns it.
   *
   * @param expression - five fields (minute hour day month weekday), or six with seconds first; at most 1000 characters
   * @param input - of every task that it makes
   * @throws ERR_MILLRACE_INVALID_OPTION for an expression, zone or option that is none
   * @throws ERR_MILLRACE_UNKNOWN_TASK, ERR_MILLRACE_INVALID_INPUT, ERR_MILLRACE_INVALID_DURATION
   * @throws ERR_MILLRACE_PAYLOAD_TOO_LARGE, _TOO_DEEP, _NOT_SERIALIZABLE
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE, ERR_MILLRACE_STORE_FULL, ERR_MILLRACE_CLOSED
   */
  async cron<Input, Output>(
    name: string,
    expression: string,
    task: Submittable<Input, Output> | string,
    input: Input,
    options: CronOptions = {},
  ): Promise<CronHandle> {
    this.#requireOpen();
    const { spec } = this.#contract(task);
    await validateInput(spec, input);
    return this.#cron.define(name, expression, { spec, input }, options);
  }

  /** Every cron entry of the store, by name. */
  async crons(): Promise<CronInfo[]> {
    this.#requireOpen();
    return this.#cron.list();
  }

  /**
   * Lets the tasks of a type, of a queue, or of a tenant rest, on all nodes: none of them begins any more. What runs goes
   * on; tasks are accepted, delayed and expire as ever, and nobody else waits for them. It is stored, and so outlives every
   * process; `stats().paused` shows it. Resolves when it is durable; to pause what rests already changes nothing.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_UNKNOWN_TASK, ERR_MILLRACE_STORE_UNAVAILABLE, ERR_MILLRACE_CLOSED
   */
  async pause(target: PauseOptions): Promise<void> {
    this.#requireOpen();
    return this.#control.pause(this.#pauseTarget(target));
  }

  /** Ends what {@link pause} began, for the very same target; does nothing when that does not rest. */
  async resume(target: PauseOptions): Promise<void> {
    this.#requireOpen();
    return this.#control.resume(this.#pauseTarget(target));
  }

  /**
   * What the store has of a task: from any node, whatever its type, and also after its end as long as its retention lasts.
   *
   * @throws ERR_MILLRACE_TASK_GONE when the store does not know the task (any more)
   * @throws ERR_MILLRACE_INVALID_OPTION for what is no task id; ERR_MILLRACE_STORE_UNAVAILABLE
   */
  inspect(id: string): Promise<TaskInspection> {
    return this.operations.inspect(id);
  }

  /**
   * Why a task is not running: the first reason that applies, from the task outwards. Works from any node; the one that
   * holds the task knows most.
   *
   * @throws as {@link inspect}
   */
  explain(id: string): Promise<Explanation> {
    return this.operations.explain(id);
  }

  /**
   * Tasks of a type that failed for good: to be read, counted, and made to run again, from any node. Volatile tasks have
   * theirs in this process.
   *
   * @throws ERR_MILLRACE_UNKNOWN_TASK
   */
  deadLetters<Input, Output>(task: Submittable<Input, Output> | string): DeadLetters<Input> {
    const { spec } = this.#contract(task);
    return new DeadLetters<Input>(this.#engines.of(spec), spec);
  }

  /**
   * Changes knobs while everything runs, in this process: names and values are those of `createRuntime`. What has begun goes
   * on, and nothing waits for it. This is how a runtime follows its configuration:
   * `runtime.config.watch(weights, (value) => runtime.tune({ fairness: { weights: value ?? {} } }))`.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION, ERR_MILLRACE_UNKNOWN_TASK, ERR_MILLRACE_CLOSED; nothing
   *   has changed then
   */
  tune(tuning: RuntimeTuning): void {
    this.#requireOpen();
    tuneRuntime(tuning, {
      engines: this.#engines,
      breakers: this.#observation.breakers,
      contract: (name) => this.#contract(name).spec,
    });
  }

  /** Resolves when every task that has a handler here has ended: delayed ones and retries included. */
  drain(): Promise<void> {
    return this.#engines.drain();
  }

  /** Counts, as of now. Cheap. */
  stats(): RuntimeStats {
    return {
      ...this.#engines.stats,
      waiting: this.#admission.waiting,
      openBytes: this.#admission.pendingBytes,
      threads: this.#threads?.threadCount ?? 0,
      concurrency: this.#engines.concurrency,
      paused: this.#control.paused,
      freePlaces: this.#engines.stored.freePlaces,
    };
  }

  /** Whether it works, and whether it takes tasks now. Cheap. */
  health(): Health {
    const begun = this.#hasStarted ? 'started' : 'starting';
    return healthOf({
      stage: this.#closed ? 'closing' : begun,
      engines: this.#engines,
      compactor: this.#coordination.compactor,
    });
  }

  /** Where the HTTP server of `admin` listens; undefined without one. */
  get adminAddress(): { readonly host: string; readonly port: number } | undefined {
    return this.#observation.adminAddress;
  }

  /**
   * Ends gently, within `shutdown.soft` and `shutdown.hard`: nothing new is taken or started, running tasks finish;
   * what does not is interrupted, stays stored and spends no attempt. Idempotent.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const closed = new MillraceError('ERR_MILLRACE_CLOSED', 'the runtime is closed');
    this.#admission.refuseWaiters(closed);
    try {
      await this.#observation.stopHealing();
      await this.#controlSocket?.stop();
      await this.#engines.shutdown(this.#options.shutdown);
      await this.#engines.stop();
      await this.#metadata.stop();
      await this.#coordination.stop();
      await this.#store.close();
    } finally {
      this.#warnings.stop();
      for (const cleanUp of this.#cleanUps) cleanUp();
      await this.#observation.stop();
    }
  }

  /** Where the store is a directory of this process, operators find it there. */
  async #openControlSocket(): Promise<void> {
    const { kind, location } = this.#options.store;
    if (kind !== 'embedded') return;
    const { ControlSocket } = await import('./admin/control-socket.js');
    const nowMs = (): number => this.#clock.monoMs();
    try {
      const socket = new ControlSocket(location, this.operations, {
        version: packageVersion(),
        nowMs,
      });
      this.#controlSocket = socket;
      await socket.start();
    } catch (cause) {
      // Tasks run all the same.
      this.#warnings.tellUnreachable(cause);
    }
  }

  /** Types that nobody runs as long as this process has the store: contracts without a handler, and what the store holds. */
  #missingHandlers(isShared: boolean): readonly string[] {
    const tasks = [...this.tasks.values()];
    const isProducer = !tasks.some(hasHandler);
    if (isShared || isProducer) return [];
    const contracts = tasks.filter((task) => !hasHandler(task));
    return [...contracts.map(({ name }) => name), ...this.#engines.stored.foreignTypes];
  }

  #requireOpen(): void {
    if (this.#closed) throw new MillraceError('ERR_MILLRACE_CLOSED', 'the runtime is closed');
  }

  #pauseTarget(target: PauseOptions): PauseTarget {
    return pauseTarget(target, (task) => this.#contract(task).name);
  }

  #contract(taskOrName: Submittable<never, unknown> | string): AnyTask {
    const name = isTask(taskOrName) ? taskOrName.name : (taskOrName as string);
    const task = this.tasks.get(name);
    if (task !== undefined) return task;
    const known = [...this.tasks.keys()];
    throw new MillraceError(
      'ERR_MILLRACE_UNKNOWN_TASK',
      `no task '${String(name).slice(0, 80)}' is defined; the tasks module has ${known.map((n) => `'${n}'`).join(', ')}`,
      { details: { name: String(name).slice(0, 200), known } },
    );
  }

  #closeOnSignals(): void {
    const onSignal = (): void => void this.close();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, onSignal);
      this.#cleanUps.push(() => process.removeListener(signal, onSignal));
    }
  }
}
