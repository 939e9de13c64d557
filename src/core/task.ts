/**
 * Tasks as users define them: a contract (name, version, input, policies) and its handler.
 *
 * A tasks module is loaded twice: on the main thread, which needs the contracts, and in every worker thread, which
 * needs the handlers. So definitions are inert: nothing here starts, opens or registers anything.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type {
  ChildHandle,
  ChildOptions,
  ChildrenOptions,
  JoinedEnd,
  JoinOptions,
} from './children.js';
import {
  type Concurrency,
  type ConcurrencyRange,
  concurrencySpec,
  NO_CONCURRENCY_LIMIT,
} from './concurrency.js';
import { type Duration, durationMs } from './durations.js';
import { MillraceError } from './errors.js';
import { isQueueName } from './ids.js';
import { invalidOption, knownOptions, oneOf, wholeNumber } from './options.js';
import { type RateOptions, type RateSpec, rateSpec } from './rate.js';
import type { Settlement } from './states.js';
import { type Timeout, type TimeoutSpec, timeoutSpec } from './timeouts.js';

/** When and how often a failed execution is repeated. */
export interface RetryOptions {
  /** Executions in all, the first included. @defaultValue 3 */
  readonly attempts?: number;
  /** How the delay grows from one attempt to the next. @defaultValue 'exponential' */
  readonly backoff?: 'exponential' | 'linear' | 'fixed';
  /** The first delay. @defaultValue '500ms' */
  readonly min?: Duration;
  /** No delay is longer. @defaultValue '5m' */
  readonly max?: Duration;
  /** `full` draws each delay between 0 and its bound, so that failures do not come back in step. @defaultValue 'full' */
  readonly jitter?: 'full' | 'none';
}

/**
 * What a task is, without how it is done. Producers need no more.
 *
 * @typeParam Input - what is submitted
 * @typeParam Parsed - what the schema makes of it, and the handler gets
 */
export interface ContractOptions<Input = unknown, Parsed = Input> {
  /** Unique in the store; letters, digits, and `. _ - : /` inside; at most 200 characters. */
  readonly name: string;
  /** Of the contract: raise it when the input changes meaning. @defaultValue 1 */
  readonly version?: number;
  /**
   * Checked at submit and again before the task runs. Any Standard Schema (zod, valibot, arktype ...). What was submitted is
   * what is stored; the handler gets what the schema makes of it, with its defaults and transformations.
   */
  readonly input?: StandardSchemaV1<Input, Parsed>;
  /**
   * `thread`: on a worker thread. `inline`: on the main thread, for work that is trivial or only waits for I/O.
   * @defaultValue 'thread'
   */
  readonly exec?: 'thread' | 'inline';
  /** Lower-case letters, digits, `-` and `_`; at most 63. @defaultValue 'default' */
  readonly queue?: string;
  /**
   * Executions of this task at once on one node. `adaptive`, or `{ min, max }`: as many as what they call bears, found out
   * from how long they take and how they fail. @defaultValue no limit
   */
  readonly concurrency?: Concurrency;
  /**
   * Executions at once, on all nodes together, of tasks of this queue that were submitted with the same `concurrencyKey`.
   * Types of one queue share the keys. @defaultValue 1
   */
  readonly concurrencyPerKey?: number;
  /**
   * How many executions may begin in how much time, on all nodes together; what is due beyond waits. Repeated ones count
   * like first ones. @defaultValue that of the runtime, else no limit
   */
  readonly rate?: RateOptions;
  readonly retry?: RetryOptions;
  /** A task not started within this time of its due time expires. @defaultValue never */
  readonly ttl?: Duration;
  /**
   * How long one execution may take, from the call of its handler: a duration, or `adaptive` to take it from the
   * times measured. Then `ctx.signal` is aborted; a handler on a worker thread that has not ended after the grace
   * period (1 s) loses its thread. The execution has failed with ERR_MILLRACE_TASK_TIMEOUT; `retry` says what then.
   *
   * @defaultValue a net for what hangs: adaptive, never below 5 minutes, 24 hours while little has been measured
   */
  readonly timeout?: Timeout;
  /**
   * After the thread or process died under a task: `retry` runs it again, `fail` makes it fail instead
   * (at most once). @defaultValue 'retry'
   */
  readonly onLost?: 'retry' | 'fail';
  /**
   * `stored`: durable before it is acknowledged. `volatile`: in the memory of the process that submits it, which also
   * runs it; no write, and gone with the process. Everything else is alike. @defaultValue 'stored'
   */
  readonly durability?: 'stored' | 'volatile';
}

/** What a handler gets beside its input. */
export interface ExecutionContext {
  /** Aborted when the task is cancelled, its time is over, or the runtime gives up waiting; `reason` is an Error. */
  readonly signal: AbortSignal;
  readonly execution: {
    /** Names this one attempt. */
    readonly id: string;
    readonly taskId: string;
    /** 1 for the first. */
    readonly attempt: number;
    /** Times the task was redriven out of the dead letters. */
    readonly version: number;
    /**
     * Fencing token: rises with every attempt and every owner. Hand it to outside systems that can refuse a
     * lower token than the highest they saw.
     */
    readonly token: bigint;
  };
  readonly tenant: string | undefined;
  /** The id of the task whose handler submitted this one, if one did. */
  readonly parentId: string | undefined;
  /**
   * Submits a child of this task, and resolves when it is durable. An execution that is repeated gets the children that an
   * earlier one has submitted, as long as idempotency keys are kept. Children never wait for room in the queue.
   *
   * @param task - a task or contract of this runtime, or its name
   * @throws what `runtime.submit` throws
   * @throws ERR_MILLRACE_STALE_EXECUTION when the handler has ended
   */
  submit<ChildInput, ChildOutput>(
    task: Submittable<ChildInput, ChildOutput> | string,
    input: ChildInput,
    options?: ChildOptions,
  ): Promise<ChildHandle<ChildOutput>>;
  /**
   * Submits many children of one type; resolves when all are durable. As {@link submit} for each, with the same options; in an
   * execution that is repeated give the same inputs in the same order, or groups of different inputs different `key`s.
   *
   * @throws as {@link submit}, for the first that cannot be submitted; those before it stay
   */
  submitMany<ChildInput, ChildOutput>(
    task: Submittable<ChildInput, ChildOutput> | string,
    inputs: Iterable<ChildInput> | AsyncIterable<ChildInput>,
    options?: ChildrenOptions,
  ): Promise<Children<ChildOutput>>;
  /**
   * How the children ended that this task joins ({@link Children.join}), in their order; empty for every other task.
   *
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE; ERR_MILLRACE_STALE_EXECUTION when the handler has ended
   */
  joined<ChildOutput = unknown>(): Promise<readonly JoinedEnd<ChildOutput>[]>;
  /**
   * The span that this execution is, as the HTTP header `traceparent` names it; that of the submitter where executions
   * have no spans. Undefined when the task was submitted outside of any trace.
   */
  readonly traceparent: string | undefined;
  /**
   * Lines about this execution, published on the main thread's channel `millrace:task:log`. Never waits and never
   * throws; a task has 500 lines a second, and says when it had more.
   */
  readonly log: TaskLog;
  /**
   * How far the task is, for `handle.progress()`: any JSON value of at most 16 KiB. Only the newest counts, and about
   * 20 a second are sent. Ignored once the task has ended.
   *
   * @throws ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE, _TOO_LARGE, _TOO_DEEP
   */
  progress(value: unknown): void;
  /** `return ctx.snooze('1m')`: run again later; no attempt is spent. */
  snooze(delay: Duration): Snooze;
  /** `return ctx.cancel('reason')`: end as cancelled. */
  cancel(reason?: string): Cancel;
}

/** Children that were submitted together, of one type, in the order of the inputs. */
export interface Children<Output> {
  readonly ids: readonly string[];
  /** How many of them no earlier execution of the parent has submitted. */
  readonly created: number;
  /** The values of all. @throws as `result` of a child, for the first that fails; the others go on */
  results(): Promise<Output[]>;
  /** How all ended. @throws the reason of `ctx.signal` */
  settled(): Promise<Settlement<Output>[]>;
  /** Cancels those that have not ended. @returns how many are cancelled at once or have had their signal aborted */
  cancel(reason?: string): Promise<number>;
  /**
   * Submits a task that begins when all of these have ended; the parent need not wait for any of them. Its handler reads how
   * they ended with `ctx.joined()`.
   *
   * @throws what `ctx.submit` throws; ERR_MILLRACE_INVALID_OPTION for more than 1000 children
   */
  join<JoinInput, JoinOutput>(
    task: Submittable<JoinInput, JoinOutput> | string,
    input: JoinInput,
    options?: JoinOptions,
  ): Promise<ChildHandle<JoinOutput>>;
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal';

/** One method per level: a message; or fields, an Error among them or alone, and a message. */
export type TaskLog = Readonly<Record<LogLevel, LogMethod>>;

export interface LogMethod {
  (message: string): void;
  /** @param fields - JSON of at most 16 KiB; what has none is replaced by the reason */
  (fields: object, message?: string): void;
}

/** Returned by `ctx.snooze()`. */
export class Snooze {
  readonly delayMs: number;
  constructor(delayMs: number) {
    this.delayMs = delayMs;
  }
}

/** Returned by `ctx.cancel()`. */
export class Cancel {
  readonly reason: string;
  constructor(reason: string) {
    this.reason = reason;
  }
}

export type Handler<Input, Output> = (
  input: Input,
  ctx: ExecutionContext,
) => Output | Snooze | Cancel | Promise<Output | Snooze | Cancel>;

/** One task of a call of `runBatch`: its input, and what a handler gets beside that. */
export interface BatchItem<Input> extends ExecutionContext {
  readonly input: Input;
}

/** What a call of `runBatch` gets beside its items. */
export interface BatchContext {
  /** Aborted once the signal of every item is. */
  readonly signal: AbortSignal;
}

/** How one item ended: its value; an Error, as if its handler had thrown it; `item.snooze()` or `item.cancel()`. */
export type ItemOutcome<Output> = Output | Error | Snooze | Cancel;

/**
 * Handles the tasks of a type that one thread has been given together, 1 to 64.
 *
 * @returns an outcome for each item, in their order. An item without one fails, and is tried again by its `retry`; what is
 *   thrown is the error of every item
 */
export type BatchHandler<Input, Output> = (
  items: readonly BatchItem<Input>[],
  ctx: BatchContext,
) => readonly ItemOutcome<Output>[] | Promise<readonly ItemOutcome<Output>[]>;

/** How a task is done: one by one, or several in one call. */
export type Implementation<Input, Output> =
  | { readonly run: Handler<Input, Output> }
  | { readonly runBatch: BatchHandler<Input, Output> };

/** A contract with every default filled in. Times in ms. */
export interface TaskSpec {
  readonly name: string;
  readonly version: number;
  readonly schema: StandardSchemaV1 | undefined;
  readonly exec: 'thread' | 'inline';
  readonly queue: string;
  /** The most at once on one node; Infinity = no limit. */
  readonly concurrency: number;
  /** Where the limit may be; undefined: it is `concurrency`. */
  readonly adaptiveConcurrency: ConcurrencyRange | undefined;
  readonly concurrencyPerKey: number;
  /** Undefined: the runtime's, if it has one. */
  readonly rate: RateSpec | undefined;
  readonly retry: {
    readonly attempts: number;
    readonly backoff: 'exponential' | 'linear' | 'fixed';
    readonly minMs: number;
    readonly maxMs: number;
    readonly jitter: 'full' | 'none';
  };
  /** Infinity = never expires. */
  readonly ttlMs: number;
  /** Undefined: the engine's net for what hangs. */
  readonly timeout: TimeoutSpec | undefined;
  readonly onLost: 'retry' | 'fail';
  readonly durability: 'stored' | 'volatile';
  /** Whether its handler takes several in one call. */
  readonly isBatched: boolean;
}

// The brand tells tasks from other exports, also those of another installed copy.
const BRAND: unique symbol = Symbol.for('millrace.task') as never;

// What is submitted has no other place in the type of a task whose schema makes something else of it.
declare const SUBMITTED: unique symbol;

/**
 * A task that can be submitted.
 *
 * @typeParam Input - what is submitted
 * @typeParam Output - what its result resolves to
 * @typeParam Parsed - what its handler gets: the input, unless a schema makes something else of it
 */
export interface TaskContract<Input, Output, Parsed = Input> {
  readonly [BRAND]: true;
  readonly [SUBMITTED]?: (input: Input) => void;
  readonly name: string;
  readonly spec: TaskSpec;
  /** Undefined for a contract without a handler, and where that is `runBatch`. */
  readonly run: Handler<Parsed, Output> | undefined;
  /** Undefined for a contract without a handler, and where that is `run`. */
  readonly runBatch: BatchHandler<Parsed, Output> | undefined;
  /** The same task with its handler. */
  implement(implementation: { readonly run: Handler<Parsed, Output> }): Task<Input, Output, Parsed>;
  implement(implementation: {
    readonly runBatch: BatchHandler<Parsed, Output>;
  }): BatchTask<Input, Output, Parsed>;
}

/** A task with its handler. */
export interface Task<Input, Output, Parsed = Input> extends TaskContract<Input, Output, Parsed> {
  readonly run: Handler<Parsed, Output>;
}

/** A task whose handler takes several in one call. */
export interface BatchTask<Input, Output, Parsed = Input>
  extends TaskContract<Input, Output, Parsed> {
  readonly runBatch: BatchHandler<Parsed, Output>;
}

/** Any task that takes such an input and comes to such an output, whatever its schema makes of the one for the handler. */
export type Submittable<Input, Output> = TaskContract<Input, Output, never>;

// biome-ignore lint/suspicious/noExplicitAny: the one place where tasks of all types meet.
export type AnyTask = TaskContract<any, any, any>;

type Settled<Result> = Exclude<Awaited<Result>, Snooze | Cancel>;

/** What is submitted: what the schema takes; where that is anything, or there is none, what the handler gets. */
type Submitted<Input, Parsed> = unknown extends Input ? Parsed : Input;

/**
 * Defines a task. With `run`, or `runBatch` for several in one call, it can be executed; without, it is a contract for
 * producers, to be completed by `contract.implement({ run })` where it runs.
 *
 * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION
 */
export function defineTask<Parsed, Result, Input = unknown>(
  options: ContractOptions<Input, Parsed> & {
    readonly run: (input: Parsed, ctx: ExecutionContext) => Result;
  },
): Task<Submitted<Input, Parsed>, Settled<Result>, Parsed>;
export function defineTask<Parsed, Result, Input = unknown>(
  options: ContractOptions<Input, Parsed> & {
    readonly runBatch: (
      items: readonly BatchItem<Parsed>[],
      ctx: BatchContext,
    ) => readonly Result[] | Promise<readonly Result[]>;
  },
): BatchTask<Submitted<Input, Parsed>, Exclude<Settled<Result>, Error>, Parsed>;
export function defineTask<Input = unknown, Output = unknown, Parsed = Input>(
  options: ContractOptions<Input, Parsed>,
): TaskContract<Submitted<Input, Parsed>, Output, Parsed>;
export function defineTask(options: ContractOptions<unknown> & Handlers): AnyTask {
  return contractOf(specOf(options), options);
}

/** The default export of a tasks module. */
export interface TaskModule<Tasks extends Record<string, AnyTask> = Record<string, AnyTask>> {
  readonly tasks: Tasks;
}

/**
 * Gathers the tasks of a module: `export default defineTasks({ fingerprint, report })`.
 *
 * @throws ERR_MILLRACE_INVALID_OPTION when two tasks share a name, or an entry is no task
 */
export function defineTasks<Tasks extends Record<string, AnyTask>>(
  tasks: Tasks,
): TaskModule<Tasks> {
  tasksByName(Object.values(tasks));
  return { tasks };
}

/** A task as its producers see it: without its handler. */
export function withoutHandler(task: AnyTask): AnyTask {
  return hasHandler(task) ? contractOf(task.spec, {}) : task;
}

/** Whether it can be executed here. */
export function hasHandler({ run, runBatch }: AnyTask): boolean {
  return run !== undefined || runBatch !== undefined;
}

export function isTask(value: unknown): value is AnyTask {
  return typeof value === 'object' && value !== null && BRAND in value;
}

/**
 * The tasks of a loaded module: those of its default export (`defineTasks`), else its exported tasks.
 *
 * @throws ERR_MILLRACE_TASKS_MODULE when there are none
 */
export function tasksOfModule(
  module: Readonly<Record<string, unknown>>,
  location: string,
): ReadonlyMap<string, AnyTask> {
  // What a CommonJS module exports arrives whole under `default`; its own default export is one level deeper.
  const exported = memberOf(module, 'default');
  const places = [
    memberOf(exported, 'tasks'),
    memberOf(memberOf(exported, 'default'), 'tasks'),
    module,
    exported,
  ];
  for (const place of places) {
    if (typeof place !== 'object' || place === null) continue;
    const tasks = Object.values(place).filter(isTask);
    if (tasks.length > 0) return tasksByName(tasks);
  }
  throw new MillraceError(
    'ERR_MILLRACE_TASKS_MODULE',
    `${location} exports no task; export default defineTasks({ ... })`,
    { details: { location, exports: Object.keys(module) } },
  );
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

/** Tasks by their names. @throws ERR_MILLRACE_INVALID_OPTION */
export function tasksByName(tasks: Iterable<unknown>): ReadonlyMap<string, AnyTask> {
  const byName = new Map<string, AnyTask>();
  for (const task of tasks) {
    if (!isTask(task)) {
      throw new MillraceError(
        'ERR_MILLRACE_INVALID_OPTION',
        'defineTasks was given something that defineTask did not make',
      );
    }
    const other = byName.get(task.name);
    if (other !== undefined && other !== task) {
      throw new MillraceError(
        'ERR_MILLRACE_INVALID_OPTION',
        `two tasks are called '${task.name}'; names are unique in a store`,
        { details: { name: task.name } },
      );
    }
    byName.set(task.name, task);
  }
  return byName;
}

interface Handlers {
  readonly run?: Handler<unknown, unknown>;
  readonly runBatch?: BatchHandler<unknown, unknown>;
}

function contractOf(spec: TaskSpec, { run, runBatch }: Handlers): AnyTask {
  const isBatched = runBatch !== undefined;
  return {
    [BRAND]: true,
    name: spec.name,
    spec: isBatched === spec.isBatched ? spec : { ...spec, isBatched },
    run,
    runBatch,
    implement: (implementation: Handlers) => {
      const option = `task '${spec.name}': run`;
      if (implementation?.run === undefined && implementation?.runBatch === undefined) {
        throw invalidOption(option, implementation?.run, 'a function');
      }
      checkHandlers(implementation, `task '${spec.name}': `);
      return contractOf(spec, implementation) as never;
    },
  };
}

function checkHandlers({ run, runBatch }: TaskOptions | Handlers, option: string): void {
  for (const [name, handler] of Object.entries({ run, runBatch })) {
    if (handler === undefined || typeof handler === 'function') continue;
    throw invalidOption(`${option}${name}`, handler, 'a function');
  }
  if (run !== undefined && runBatch !== undefined) {
    throw invalidOption(`${option}runBatch`, 'given with run', 'either `run` or `runBatch`');
  }
}

type TaskOptions = ContractOptions<unknown> & {
  readonly run?: unknown;
  readonly runBatch?: unknown;
};

const TASK_OPTIONS: Readonly<Record<keyof TaskOptions, true>> = {
  name: true,
  version: true,
  input: true,
  exec: true,
  queue: true,
  concurrency: true,
  concurrencyPerKey: true,
  rate: true,
  retry: true,
  ttl: true,
  timeout: true,
  onLost: true,
  durability: true,
  run: true,
  runBatch: true,
};
const RETRY_OPTIONS: Readonly<Record<keyof RetryOptions, true>> = {
  attempts: true,
  backoff: true,
  min: true,
  max: true,
  jitter: true,
};
const NAME_FORM = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$/;

function specOf(options: TaskOptions): TaskSpec {
  if (typeof options !== 'object' || options === null) {
    throw invalidOption('defineTask options', options, 'an object');
  }
  const { name } = options;
  if (typeof name !== 'string' || !NAME_FORM.test(name)) {
    throw invalidOption('name', name, "letters, digits and '._-:/', at most 200 characters");
  }
  const option = `task '${name}': `;
  knownOptions<TaskOptions>(options, option, TASK_OPTIONS);
  const queue = options.queue ?? 'default';
  if (!isQueueName(queue)) {
    throw invalidOption(
      `${option}queue`,
      queue,
      "lower-case letters, digits, '-' and '_', at most 63",
    );
  }
  checkHandlers(options, option);
  const schema = options.input;
  if (schema !== undefined && typeof schema?.['~standard']?.validate !== 'function') {
    throw invalidOption(`${option}input`, schema, 'a Standard Schema (zod, valibot, arktype ...)');
  }
  const retry = knownOptions<RetryOptions>(options.retry, `${option}retry.`, RETRY_OPTIONS);
  const minMs = durationMs(retry.min ?? 500, `${option}retry.min`);
  const concurrency =
    options.concurrency === undefined
      ? NO_CONCURRENCY_LIMIT
      : concurrencySpec(options.concurrency, `${option}concurrency`);
  return {
    name,
    version: wholeNumber(options.version ?? 1, `${option}version`, 1, 0xffff_ffff),
    schema,
    exec: oneOf(options.exec ?? 'thread', `${option}exec`, ['thread', 'inline']),
    queue,
    concurrency: concurrency.max,
    adaptiveConcurrency: concurrency.adaptive,
    concurrencyPerKey: wholeNumber(
      options.concurrencyPerKey ?? 1,
      `${option}concurrencyPerKey`,
      1,
      1_000_000,
    ),
    rate: options.rate === undefined ? undefined : rateSpec(options.rate, `${option}rate`),
    retry: {
      attempts: wholeNumber(retry.attempts ?? 3, `${option}retry.attempts`, 1, 65_535),
      backoff: oneOf(retry.backoff ?? 'exponential', `${option}retry.backoff`, [
        'exponential',
        'linear',
        'fixed',
      ]),
      minMs,
      maxMs: Math.max(minMs, durationMs(retry.max ?? 300_000, `${option}retry.max`)),
      jitter: oneOf(retry.jitter ?? 'full', `${option}retry.jitter`, ['full', 'none']),
    },
    ttlMs:
      options.ttl === undefined
        ? Number.POSITIVE_INFINITY
        : durationMs(options.ttl, `${option}ttl`),
    timeout: options.timeout === undefined ? undefined : timeoutSpec(options.timeout, option),
    onLost: oneOf(options.onLost ?? 'retry', `${option}onLost`, ['retry', 'fail']),
    durability: oneOf(options.durability ?? 'stored', `${option}durability`, [
      'stored',
      'volatile',
    ]),
    isBatched: options.runBatch !== undefined,
  };
}
