/**
 * What a service holds of millrace: submit, take up, wait, count, close.
 *
 * Everything a user passes in is checked here, at the edge; the engine below can trust it.
 */
import { channel } from 'node:diagnostics_channel';
import type { WritableStream } from 'node:stream/web';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Control } from './admin/control.js';
import type { ControlSocket } from './admin/control-socket.js';
import { type BulkPlan, type BulkPorts, BulkSubmission } from './bulk-submission.js';
import { ROUND_MS } from './coordination/compactor.js';
import type { Coordination } from './coordination/coordination.js';
import { type ChannelPayloads, publish } from './core/channels.js';
import type { ChildAsk } from './core/children.js';
import { type Clock, sleep } from './core/clock.js';
import { encodePayload } from './core/codec.js';
import { type Duration, durationMs } from './core/durations.js';
import { MillraceError } from './core/errors.js';
import { requireTaskId, type TaskId } from './core/ids.js';
import { invalidOption, knownOptions, shortText, wholeNumber } from './core/options.js';
import type { Pool } from './core/pool.js';
import { statusOf } from './core/states.js';
import type { Store } from './core/store.js';
import { type AnyTask, hasHandler, isTask, type TaskContract, type TaskSpec } from './core/task.js';
import {
  carrierOfSpan,
  encodeMetadata,
  metadataToWrite,
  type SpanIds,
  type TraceCarrier,
} from './core/task-metadata.js';
import { DeadLetters } from './dead-letters.js';
import { type DebounceOptions, debounceOf } from './debounce-options.js';
import { type DueOptions, dueTime } from './due-time.js';
import type { Engine } from './engine/engine.js';
import type { EngineStats } from './engine/engine-options.js';
import type { Explanation } from './engine/explanation.js';
import type { TaskInspection } from './engine/inspection.js';
import type { Accepted, NewTask } from './engine/intake.js';
import type { PauseTarget } from './engine/pauses.js';
import { NOT_HELD } from './engine/task-desk.js';
import type { Engines } from './engines.js';
import type { HealRecord } from './healing/actions.js';
import type { Health, Observation } from './observation.js';
import { OperatorDesk } from './operator-desk.js';
import { packageVersion } from './package-version.js';
import { Admission } from './pool/admission.js';
import type { RuntimeChildren } from './runtime-children.js';
import {
  type PausedInfo,
  type PauseOptions,
  pauseTarget,
  RuntimeControl,
} from './runtime-control.js';
import { type CronHandle, type CronInfo, type CronOptions, RuntimeCron } from './runtime-cron.js';
import { RuntimeGate } from './runtime-gate.js';
import { RuntimeLevers } from './runtime-levers.js';
import { RuntimeLocks } from './runtime-locks.js';
import type { ResolvedOptions } from './runtime-options.js';
import { type RuntimeTuning, tuneRuntime } from './runtime-tuning.js';
import { type SubmittedMany, submitMany } from './submit-many.js';
import { TaskHandle } from './task-handle.js';
import { taskSink } from './task-sink.js';
import { Config } from './tenancy/config.js';
import type { Metadata, MetadataApi } from './tenancy/metadata.js';

export interface SubmitOptions extends DueOptions {
  /** Higher starts first among tasks that are due; -32768 to 32767. @defaultValue 0 */
  readonly priority?: number;
  /** Whom the task is for; at most 200 characters. */
  readonly tenant?: string;
  /** While a task with the same name and key is known, submit gives that one (`created: false`). At most 200 characters. */
  readonly idempotencyKey?: string;
  /**
   * Of the tasks of a queue with the same one, `concurrencyPerKey` of their type run at a time, on all nodes together, in
   * the order in which they became due. At most 200 characters.
   */
  readonly concurrencyKey?: string;
  /** Of several submissions with one key, shortly after one another, the last one runs. Not with `delay`, `at`, `idempotencyKey`. */
  readonly debounce?: DebounceOptions;
  /** Overrides the task's own `ttl`. */
  readonly ttl?: Duration;
  /** Gives up waiting for room in the queue. Once accepted, the task stays; see `handle.cancel()`. */
  readonly signal?: AbortSignal;
}

export interface SubmitManyOptions<Input>
  extends Omit<SubmitOptions, 'idempotencyKey' | 'debounce'> {
  /** The idempotency key of each item: see {@link SubmitOptions.idempotencyKey}. Each is a transaction of its own then. */
  readonly idempotencyKey?: (input: Input, index: number) => string;
}

export interface RuntimeStats extends EngineStats {
  /** Batches that it could start at once. */
  readonly freePlaces: number;
  /** Submitters that wait for room. */
  readonly waiting: number;
  /** Encoded inputs of open tasks. */
  readonly openBytes: number;
  /** Worker threads that are ready. */
  readonly threads: number;
  /** What rests until somebody resumes it, on all nodes. */
  readonly paused: readonly PausedInfo[];
}

/** `runtime.healing`. */
export interface RuntimeHealing {
  /** The kill switch: nothing is done to the runtime while it is false. Breakers and degradation stay as they are. */
  enabled: boolean;
  /** The last 200 actions that were asked for, oldest first, with what came of each. */
  audit(): readonly HealRecord[];
}

/** `runtime.metrics`. */
export interface RuntimeMetrics {
  /** Everything counted, as text in Prometheus' format 0.0.4; '' with `metrics: false`. Also after close(). */
  prometheus(): string;
}

const NAME_CHARS_MAX = 200;
/** What is due later is no part of what its submitter does. */
const TRACED_DELAY_MS_MAX = 60_000;
/** What a submit waits while the store fills up. */
const SLOW_MS = 100;
/** How often to look whether another node has room. */
const FULL_ELSEWHERE_MS = 100;
/** Work that is ready, and threads that are idle, for so long are a stall. */
const STALL_MS = 5_000;
/** When what was shed may come back. */
const SHED_RETRY_MS = 30_000;
const SUBMIT_OPTIONS: Readonly<Record<keyof SubmitOptions, true>> = {
  delay: true,
  at: true,
  priority: true,
  tenant: true,
  idempotencyKey: true,
  concurrencyKey: true,
  debounce: true,
  ttl: true,
  signal: true,
};

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
  readonly #admission: Admission;
  readonly #holdProcess: (() => () => void) | undefined;
  readonly #cleanUps: (() => void)[] = [];
  #controlSocket: ControlSocket | undefined;
  #hasStarted = false;
  #closed: Promise<void> | undefined;

  constructor(parts: {
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
  }) {
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
      submit: (ask) => this.#submitChild(ask),
      handle: (type, id) => this.handle(type, id),
      status: async (id) => (await this.operations.inspect(id)).status,
      untilEnded: async (id) => {
        const { segment, index } = requireTaskId(id);
        const { engine } = await this.#engines.find(id as TaskId);
        return statusOf((await engine.ended({ segment, index, task: NOT_HELD })).state);
      },
    });
    parts.observation.follow(this);
    const { tasksMax, bytesMax } = parts.options.queue;
    const nowMs = (): number => parts.clock.monoMs();
    const admission = new Admission({ tasksMax, bytesMax, nowMs });
    this.#admission = admission;
    this.#engines.onReleased((bytes, tasks) => admission.release(bytes, tasks));
    this.#engines.onRecovered((bytes, tasks) => admission.occupy(bytes, tasks));
    this.#engines.stored.room.here = () => ({
      room: admission.room,
      endedPerSecond: admission.releasedPerSecond,
    });
  }

  /** Types that nobody runs as long as this process has the store: contracts without a handler, and what the store holds. */
  #missingHandlers(isShared: boolean): readonly string[] {
    const tasks = [...this.tasks.values()];
    const isProducer = !tasks.some(hasHandler);
    if (isShared || isProducer) return [];
    const contracts = tasks.filter((task) => !hasHandler(task));
    return [...contracts.map(({ name }) => name), ...this.#engines.stored.foreignTypes];
  }

  /** Called once, by createRuntime. */
  async start(): Promise<void> {
    this.#warnOf(
      'millrace:store:corrupt',
      ({ key, cause }) => `${key}: ${cause.message}; it was set aside`,
    );
    const warnOfUnhandled = this.#warnOf(
      'millrace:task:unhandled',
      ({ type }) =>
        `task '${type}' has no handler here; what is stored of it waits for a node that has one`,
    );
    this.#warnOf(
      'millrace:commit:failed',
      ({ cause }) => `the store refuses to write: ${cause.message}`,
    );
    // Where nodes share the store, this one is there before it takes anything on; a store with a quota has to be compacted.
    const isShared = this.#store.lockSpace !== undefined;
    if (isShared || this.#coordination.compactor !== undefined) await this.#coordination.start();
    await this.#engines.start();
    for (const type of this.#missingHandlers(isShared)) warnOfUnhandled({ taskId: '', type });
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
    task: TaskContract<Input, Output> | string,
    input: Input,
    options: SubmitOptions = {},
  ): Promise<TaskHandle<Output>> {
    // Without a schema nothing has to be waited for before the task is queued: one promise in all.
    try {
      const contract = this.#contract(task);
      return contract.spec.schema === undefined
        ? this.#submitChecked(contract.spec, input, options)
        : this.#checkAndSubmit(contract.spec, input, options);
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
    task: TaskContract<Input, Output> | string,
    items: Iterable<Input> | AsyncIterable<Input>,
    options: SubmitManyOptions<Input> = {},
  ): Promise<SubmittedMany<Output>> {
    if (typeof items !== 'object' || items === null) {
      throw invalidOption('items', items, 'an iterable of inputs');
    }
    const { ports, plan } = this.#bulk(this.#contract(task).spec, options);
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
    task: TaskContract<Input, Output> | string,
    options: SubmitManyOptions<Input> = {},
  ): WritableStream<Input> {
    const { spec } = this.#contract(task);
    // Wrong options are told here, and not by the first item.
    this.#bulk(spec, options);
    return taskSink<Input>(this.#clock, (aborted) => {
      const { signal: given } = options;
      const signal = given === undefined ? aborted : AbortSignal.any([given, aborted]);
      const { ports, plan } = this.#bulk<Input>(spec, { ...options, signal });
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
    task: TaskContract<Input, Output> | string,
    input: Input,
    options: Omit<SubmitOptions, 'signal'> = {},
  ): Promise<TaskHandle<Output> | undefined> {
    const { spec } = this.#contract(task);
    if (spec.schema !== undefined) await this.#validate(spec, input);
    const prepared = this.#prepare(spec, input, options);
    const mayTry = !this.#mustSlowDown(spec) && !this.#isFullElsewhere(spec);
    if (mayTry && this.#admission.tryAcquire(prepared.payloadBytes)) {
      return this.#enqueue(this.#engines.of(spec), prepared);
    }
    this.#tellRejected(spec.queue, 'backpressure');
    return undefined;
  }

  /** Takes up a task by its id, e.g. one submitted by an earlier process. */
  handle<Input, Output>(
    task: TaskContract<Input, Output> | string,
    id: string,
  ): TaskHandle<Output> {
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
   * @param expression - five fields (minute hour day month weekday), or six with seconds first
   * @param input - of every task that it makes
   * @throws ERR_MILLRACE_INVALID_OPTION for an expression, zone or option that is none
   * @throws ERR_MILLRACE_UNKNOWN_TASK, ERR_MILLRACE_INVALID_INPUT, ERR_MILLRACE_INVALID_DURATION
   * @throws ERR_MILLRACE_PAYLOAD_TOO_LARGE, _TOO_DEEP, _NOT_SERIALIZABLE
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE, ERR_MILLRACE_STORE_FULL, ERR_MILLRACE_CLOSED
   */
  async cron<Input, Output>(
    name: string,
    expression: string,
    task: TaskContract<Input, Output> | string,
    input: Input,
    options: CronOptions = {},
  ): Promise<CronHandle> {
    this.#requireOpen();
    const { spec } = this.#contract(task);
    if (spec.schema !== undefined) await this.#validate(spec, input);
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
  deadLetters<Input, Output>(task: TaskContract<Input, Output> | string): DeadLetters<Input> {
    const { spec } = this.#contract(task);
    return new DeadLetters<Input>(this.#engines.of(spec), spec);
  }

  /**
   * Changes knobs while everything runs, in this process: names and values are those of `createRuntime`. What has begun goes
   * on, and nothing waits for it. This is how a runtime follows its configuration:
   * `runtime.config.watch(weights, (value) => runtime.tune({ fairness: { weights: value ?? {} } }))`.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION, ERR_MILLRACE_CLOSED; nothing has changed then
   */
  tune(tuning: RuntimeTuning): void {
    this.#requireOpen();
    tuneRuntime(tuning, { engines: this.#engines, breakers: this.#observation.breakers });
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
      paused: this.#control.paused,
      freePlaces: this.#engines.stored.freePlaces,
    };
  }

  /** Whether it works, and whether it takes tasks now. Cheap. */
  health(): Health {
    const reasons: string[] = [];
    const notTaking = this.#engines.stored.notTaking;
    if (this.#closed) reasons.push('it is closing');
    else if (!this.#hasStarted) reasons.push('it is starting');
    else if (notTaking) reasons.push(notTaking.cause.message);
    if (this.#coordination.compactor?.pressure === 'refuse') reasons.push('the store is full');
    const { stalledMs } = this.#engines;
    if (stalledMs >= STALL_MS) reasons.push(stalled(stalledMs, this.stats().ready));
    // One that closes does its work until it is done.
    const live = this.#closed !== undefined || notTaking?.isFinal !== true;
    return { live, ready: reasons.length === 0, reasons };
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
      const why = cause instanceof Error ? cause.message : String(cause);
      process.emitWarning(`the command line cannot reach this process: ${why}`, {
        type: 'MillraceWarning',
        code: 'millrace:control:unreachable',
      });
    }
  }

  /**
   * For a handler. It waits for no room: its parent has a place there, and would keep it while the child waits for one.
   */
  async #submitChild(ask: Extract<ChildAsk, { kind: 'submit' }>): Promise<TaskHandle<unknown>> {
    const { spec } = this.#contract(ask.type);
    const input: unknown = ask.input === '' ? undefined : JSON.parse(ask.input);
    if (spec.schema !== undefined) await this.#validate(spec, input);
    const { idempotencyKey, parent, trace, conditions } = ask;
    const task: NewTask = {
      ...this.#prepare(spec, input, { ...ask.options, idempotencyKey }),
      metadata: encodeMetadata({ key: idempotencyKey, trace, parent, conditions }),
    };
    if (this.#mustSlowDown(spec)) await sleep(this.#clock, SLOW_MS);
    this.#admission.occupy(task.payloadBytes, 1);
    return this.#enqueue(this.#engines.of(spec), task);
  }

  /** @throws for options that are none */
  #bulk<Input>(
    spec: TaskSpec,
    options: SubmitManyOptions<Input>,
  ): { readonly ports: BulkPorts; readonly plan: BulkPlan<Input> } {
    const { idempotencyKey, ...shared } = options;
    if ('debounce' in shared) {
      throw invalidOption('debounce', shared.debounce, 'it to submit(), for each of them');
    }
    if (idempotencyKey !== undefined && typeof idempotencyKey !== 'function') {
      throw invalidOption('idempotencyKey', idempotencyKey, 'a function of input and index');
    }
    const engine = this.#engines.of(spec);
    const prepared = this.#prepare(spec, undefined, shared, true);
    const { signal } = options;
    return {
      plan: {
        what: `input of task '${spec.name}'`,
        template: () => ({ ...prepared, ...this.#times(spec, shared) }),
        validate: spec.schema && ((input) => this.#validate(spec, input)),
        idempotencyKey: idempotencyKey && ((input, index) => keyOf(idempotencyKey(input, index))),
        signal,
      },
      ports: {
        clock: this.#clock,
        engine,
        limits: this.#options.payload,
        admit: (payloadBytes, tasks) =>
          this.#admitMany(spec, { payloadBytes, queue: spec.queue }, tasks, signal),
        release: (bytes, tasks) => this.#admission.release(bytes, tasks),
        submitKeyed: (keyed) => this.#submitTo(engine, keyed, (accepted) => accepted),
      },
    };
  }

  async #checkAndSubmit<Output>(
    spec: TaskSpec,
    input: unknown,
    options: SubmitOptions,
  ): Promise<TaskHandle<Output>> {
    await this.#validate(spec, input);
    return this.#submitChecked(spec, input, options);
  }

  /** @throws ERR_MILLRACE_INVALID_INPUT */
  #validate(spec: TaskSpec, input: unknown): void | Promise<void> {
    const refuse = ({ issues }: StandardSchemaV1.Result<unknown>): void => {
      if (issues) throw invalidInput(spec.name, issues);
    };
    const checked = spec.schema!['~standard'].validate(input);
    return checked instanceof Promise ? checked.then(refuse) : refuse(checked);
  }

  #submitChecked<Output>(
    spec: TaskSpec,
    input: unknown,
    options: SubmitOptions,
  ): Promise<TaskHandle<Output>> {
    const task = this.#prepare(spec, input, options);
    const engine = this.#engines.of(spec);
    if (this.#mustSlowDown(spec) || this.#isFullElsewhere(spec)) {
      return this.#slowDown(spec, options.signal).then(() =>
        this.#admit(engine, task, options.signal),
      );
    }
    return this.#admit(engine, task, options.signal);
  }

  /** Whether the store fills up. @throws ERR_MILLRACE_STORE_FULL when new tasks would take the room that old ones need */
  #mustSlowDown({ queue, durability }: TaskSpec): boolean {
    const pressure = this.#coordination.compactor?.pressure ?? 'none';
    if (pressure === 'none' || durability === 'volatile') return false;
    if (pressure === 'slow') return true;
    this.#tellRejected(queue, 'store');
    throw fillingUp();
  }

  /** Whether those who run a type that does not run here are full. */
  #isFullElsewhere(spec: TaskSpec): boolean {
    const task = this.tasks.get(spec.name);
    const isRunHere = task !== undefined && hasHandler(task);
    return !isRunHere && this.#engines.stored.isFullElsewhere(spec);
  }

  /** While the store fills up, a while; while those who run a type are full, until one of them has room. */
  async #slowDown(spec: TaskSpec, signal: AbortSignal | undefined): Promise<void> {
    if (this.#mustSlowDown(spec)) await sleep(this.#clock, SLOW_MS, signal);
    while (this.#isFullElsewhere(spec)) {
      if (this.#options.queue.onFull === 'reject') {
        this.#tellRejected(spec.queue, 'backpressure');
        throw fullElsewhere(spec);
      }
      await sleep(this.#clock, FULL_ELSEWHERE_MS, signal);
      this.#requireOpen();
    }
  }

  async #admitMany(
    spec: TaskSpec,
    room: Pick<NewTask, 'payloadBytes' | 'queue'>,
    tasks: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    this.#requireOpen();
    if (this.#mustSlowDown(spec) || this.#isFullElsewhere(spec)) await this.#slowDown(spec, signal);
    if (!this.#admission.tryAcquire(room.payloadBytes, tasks)) {
      await this.#waitForRoom(room, signal, tasks);
    }
  }

  #admit<Output>(
    engine: Engine,
    task: NewTask,
    signal: AbortSignal | undefined,
  ): Promise<TaskHandle<Output>> {
    const { payloadBytes } = task;
    if (this.#admission.tryAcquire(payloadBytes)) return this.#enqueue(engine, task);
    return this.#waitForRoom(task, signal).then(() => this.#enqueue(engine, task));
  }

  #enqueue<Output>(engine: Engine, task: NewTask): Promise<TaskHandle<Output>> {
    return this.#submitTo(engine, task, (accepted) => new TaskHandle(engine, accepted));
  }

  /** Hands an admitted task to the engine. */
  #submitTo<Told>(
    engine: Engine,
    task: NewTask,
    tell: (accepted: Accepted) => Told,
  ): Promise<Told> {
    return new Promise((resolve, reject) => {
      engine.submit(
        task,
        (accepted) => {
          if (!accepted.isCreated) this.#admission.release(task.payloadBytes);
          resolve(tell(accepted));
        },
        (cause) => {
          this.#admission.release(task.payloadBytes);
          const isClosed = cause.code === 'ERR_MILLRACE_CLOSED';
          this.#tellRejected(task.queue, isClosed ? 'draining' : 'store');
          reject(cause);
        },
      );
    });
  }

  /** @param isBulk - whether it stands for many */
  #prepare(spec: TaskSpec, input: unknown, options: SubmitOptions, isBulk = false): NewTask {
    this.#requireOpen();
    knownOptions(options, '', SUBMIT_OPTIONS);
    const payload = encodePayload(input, `input of task '${spec.name}'`, this.#options.payload);
    const { idempotencyKey } = options;
    const debounce = options.debounce && debounceOf(options, this.#options.retention.idempotencyMs);
    const due = debounce ? { ...options, delay: debounce.waitMs } : options;
    const { delayMs, ...times } = this.#times(spec, due);
    if (idempotencyKey !== undefined) shortText(idempotencyKey, 'idempotencyKey', NAME_CHARS_MAX);
    const { concurrencyKey } = options;
    if (concurrencyKey !== undefined) shortText(concurrencyKey, 'concurrencyKey', NAME_CHARS_MAX);
    if (options.tenant !== undefined) shortText(options.tenant, 'tenant', NAME_CHARS_MAX);
    const priority = wholeNumber(options.priority ?? 0, 'priority', -32_768, 32_767);
    if (priority < (this.#levers.shedPriority ?? Number.NEGATIVE_INFINITY)) {
      this.#tellRejected(spec.queue, 'shed');
      throw shed(priority);
    }
    return {
      type: spec.name,
      queue: spec.queue,
      tenant: options.tenant ?? '',
      priority,
      ...times,
      attempt: 0,
      losses: 0,
      version: 0,
      payload: payload.text,
      payloadBytes: payload.byteLength,
      metadata: metadataToWrite({
        key: idempotencyKey,
        trace: this.#trace(isBulk || delayMs > TRACED_DELAY_MS_MAX),
        parent: undefined,
      }),
      idempotencyKey,
      // Keys are of a queue; no name of one holds a space.
      ...(concurrencyKey !== undefined && { concurrencyKey: `${spec.queue} ${concurrencyKey}` }),
      ...(debounce && { debounce }),
    };
  }

  /** When a task is due that is submitted now. @throws for times that are none */
  #times(spec: TaskSpec, options: SubmitOptions) {
    const nowMs = this.#clock.wallMs();
    const { delayMs, dueAtMs, isByDate } = dueTime(options, nowMs);
    const ttlMs = options.ttl === undefined ? spec.ttlMs : durationMs(options.ttl, 'ttl');
    return {
      delayMs,
      dueAtMs,
      dueMonoMs: this.#clock.monoMs() + delayMs,
      isDueByDate: isByDate,
      submittedAtMs: nowMs,
      expiresAtMs: Number.isFinite(ttlMs) ? dueAtMs + ttlMs : 0,
    };
  }

  /** What a task carries of the context it is submitted in. */
  #trace(isLoose: boolean): TraceCarrier | SpanIds | undefined {
    const trace = this.#observation.tracing?.capture();
    if (trace === undefined || !isLoose) return trace;
    return { ...('traceparent' in trace ? trace : carrierOfSpan(trace)), isLoose };
  }

  #requireOpen(): void {
    if (this.#closed) throw new MillraceError('ERR_MILLRACE_CLOSED', 'the runtime is closed');
  }

  #pauseTarget(target: PauseOptions): PauseTarget {
    return pauseTarget(target, (task) => this.#contract(task).name);
  }

  #contract(taskOrName: AnyTask | string): AnyTask {
    const name = isTask(taskOrName) ? taskOrName.name : taskOrName;
    const task = this.tasks.get(name);
    if (task !== undefined) return task;
    const known = [...this.tasks.keys()];
    throw new MillraceError(
      'ERR_MILLRACE_UNKNOWN_TASK',
      `no task '${String(name).slice(0, 80)}' is defined; the tasks module has ${known.map((n) => `'${n}'`).join(', ')}`,
      { details: { name: String(name).slice(0, 200), known } },
    );
  }

  async #waitForRoom(
    { payloadBytes, queue }: Pick<NewTask, 'payloadBytes' | 'queue'>,
    signal: AbortSignal | undefined,
    tasks = 1,
  ): Promise<void> {
    if (this.#options.queue.onFull === 'wait') {
      return this.#admission.acquire(payloadBytes, tasks, signal);
    }
    this.#tellRejected(queue, 'backpressure');
    throw this.#admission.full(
      'tasks',
      'try again later, or raise queue.maxTasks and queue.maxBytes',
    );
  }

  #tellRejected(queue: string, reason: ChannelPayloads['millrace:tasks:rejected']['reason']): void {
    const { incarnation } = this.#engines.stored;
    publish('millrace:tasks:rejected', () => ({ incarnation, queue, reason }));
  }

  /**
   * Makes the process warn once per message of a channel, as long as this runtime lives.
   *
   * @returns warns of one that no channel told
   */
  #warnOf<Name extends keyof ChannelPayloads>(
    name: Name,
    describe: (payload: ChannelPayloads[Name]) => string,
  ): (payload: ChannelPayloads[Name]) => void {
    const said = new Set<string>();
    const warn = (payload: ChannelPayloads[Name]): void => {
      const message = describe(payload);
      if (said.size >= 100 || said.has(message)) return;
      said.add(message);
      process.emitWarning(message, { type: 'MillraceWarning', code: name });
    };
    const listener = (payload: unknown): void => warn(payload as ChannelPayloads[Name]);
    const source = channel(name);
    source.subscribe(listener);
    this.#cleanUps.push(() => source.unsubscribe(listener));
    return warn;
  }

  #closeOnSignals(): void {
    const onSignal = (): void => void this.close();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, onSignal);
      this.#cleanUps.push(() => process.removeListener(signal, onSignal));
    }
  }
}

function stalled(stalledMs: number, ready: number): string {
  const what =
    ready === 1
      ? '1 task is ready and there is a place for it'
      : `${ready} tasks are ready and there is a place for them`;
  return `${what}, and nothing was claimed for ${Math.round(stalledMs / 1_000)} s`;
}

function shed(priority: number): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_QUEUE_FULL',
    `the runtime is degraded and takes no tasks of priority ${priority}, only from 0 up; try again later`,
    { details: { reason: 'shed', priority, retryAfterMs: SHED_RETRY_MS } },
  );
}

function fullElsewhere({ name, queue }: TaskSpec): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_QUEUE_FULL',
    `every node that runs '${name}' has its queue full; try again later, add nodes, or raise their queue.maxTasks and queue.maxBytes`,
    { details: { reason: 'elsewhere', queue, retryAfterMs: 10 * FULL_ELSEWHERE_MS } },
  );
}

/** What is stored already must be able to end, and ending writes: so new tasks are refused before the store is full. */
function fillingUp(): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_FULL',
    'the store is more than 80 % full and takes no new tasks, so that those it has can end; wait until it has room, or raise its quota',
    { details: { retryAfterMs: ROUND_MS } },
  );
}

function keyOf(key: string): string {
  shortText(key, 'idempotencyKey', NAME_CHARS_MAX);
  return key;
}

function invalidInput(
  name: string,
  issues: readonly { readonly message: string; readonly path?: unknown }[],
): MillraceError {
  const shown = issues.slice(0, 10).map((issue) => issue.message);
  return new MillraceError(
    'ERR_MILLRACE_INVALID_INPUT',
    `the input of task '${name}' does not satisfy its schema: ${shown.join('; ')}`,
    { details: { name, issues: shown } },
  );
}
