/**
 * Submitter: the way of what is submitted, up to the engine.
 *
 *   schema ──> NewTasks: checked, encoded ──> RuntimeAdmission: room ──> engine ──> handle, when it is durable
 */
import type { BulkPlan, BulkPorts } from './bulk-submission.js';
import type { ChildAsk } from './core/children.js';
import type { Clock } from './core/clock.js';
import type { PayloadLimits } from './core/codec.js';
import { invalidOption } from './core/options.js';
import type { TaskSpec } from './core/task.js';
import { encodeMetadata } from './core/task-metadata.js';
import type { Engine } from './engine/engine.js';
import type { Accepted, NewTask } from './engine/submission.js';
import type { Engines } from './engines.js';
import type { NewTasks } from './new-tasks.js';
import type { RuntimeAdmission } from './runtime-admission.js';
import { idempotencyKeyOf, type SubmitManyOptions, type SubmitOptions } from './submit-options.js';
import { TaskHandle } from './task-handle.js';
import { validateInput } from './validate-input.js';

export interface SubmitterPorts {
  readonly clock: Clock;
  readonly limits: PayloadLimits;
  readonly engines: Engines;
  readonly admission: RuntimeAdmission;
  readonly newTasks: NewTasks;
}

export class Submitter {
  readonly #ports: SubmitterPorts;
  readonly #admission: RuntimeAdmission;

  constructor(ports: SubmitterPorts) {
    this.#ports = ports;
    this.#admission = ports.admission;
  }

  /** See `Runtime.submit`. @throws, or rejects */
  submit<Output>(
    spec: TaskSpec,
    input: unknown,
    options: SubmitOptions,
  ): Promise<TaskHandle<Output>> {
    // Without a schema nothing has to be waited for before the task is queued: one promise in all.
    return spec.schema === undefined
      ? this.#submitValid(spec, input, options)
      : this.#validateAndSubmit(spec, input, options);
  }

  /** See `Runtime.trySubmit`. */
  async trySubmit<Output>(
    spec: TaskSpec,
    input: unknown,
    options: SubmitOptions,
  ): Promise<TaskHandle<Output> | undefined> {
    if (spec.schema !== undefined) await validateInput(spec, input);
    const task = this.#ports.newTasks.make(spec, input, options);
    if (!this.#admission.mustSlowDown(spec) && this.#admission.tryTake(task.payloadBytes)) {
      return this.#enqueue(this.#ports.engines.of(spec), task);
    }
    this.#admission.tellRejected(spec.queue, 'backpressure');
    return undefined;
  }

  /** For a handler. */
  async submitChild(
    spec: TaskSpec,
    ask: Extract<ChildAsk, { kind: 'submit' }>,
  ): Promise<TaskHandle<unknown>> {
    const input: unknown = ask.input === '' ? undefined : JSON.parse(ask.input);
    if (spec.schema !== undefined) await validateInput(spec, input);
    const { idempotencyKey, parent, trace, conditions } = ask;
    const task: NewTask = {
      ...this.#ports.newTasks.make(spec, input, { ...ask.options, idempotencyKey }),
      metadata: encodeMetadata({ key: idempotencyKey, trace, parent, conditions }),
    };
    await this.#admission.takeForChild(spec, task.payloadBytes);
    return this.#enqueue(this.#ports.engines.of(spec), task);
  }

  /** For many tasks of a type. @throws for options that are none */
  bulk<Input>(
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
    const { clock, limits, engines, newTasks } = this.#ports;
    const engine = engines.of(spec);
    const prepared = newTasks.make(spec, undefined, shared, true);
    const { signal } = options;
    return {
      plan: {
        what: `input of task '${spec.name}'`,
        template: () => ({ ...prepared, ...newTasks.times(spec, shared) }),
        validate: spec.schema && ((input) => validateInput(spec, input)),
        idempotencyKey:
          idempotencyKey && ((input, index) => idempotencyKeyOf(idempotencyKey(input, index))),
        signal,
      },
      ports: {
        clock,
        engine,
        limits,
        admit: (payloadBytes, tasks) =>
          this.#admission.takeMany(spec, { payloadBytes, tasks }, signal),
        release: (bytes, tasks) => this.#admission.release(bytes, tasks),
        submitKeyed: (keyed) => this.#submitTo(engine, keyed, (accepted) => accepted),
      },
    };
  }

  async #validateAndSubmit<Output>(
    spec: TaskSpec,
    input: unknown,
    options: SubmitOptions,
  ): Promise<TaskHandle<Output>> {
    await validateInput(spec, input);
    return this.#submitValid(spec, input, options);
  }

  #submitValid<Output>(
    spec: TaskSpec,
    input: unknown,
    options: SubmitOptions,
  ): Promise<TaskHandle<Output>> {
    const { newTasks, engines } = this.#ports;
    const task = newTasks.make(spec, input, options);
    const engine = engines.of(spec);
    const { signal } = options;
    if (!this.#admission.mustSlowDown(spec)) return this.#admit(engine, task, signal);
    return this.#admission.slowDown(spec, signal).then(() => this.#admit(engine, task, signal));
  }

  #admit<Output>(
    engine: Engine,
    task: NewTask,
    signal: AbortSignal | undefined,
  ): Promise<TaskHandle<Output>> {
    if (this.#admission.tryTake(task.payloadBytes)) return this.#enqueue(engine, task);
    return this.#admission.take(task, signal).then(() => this.#enqueue(engine, task));
  }

  #enqueue<Output>(engine: Engine, task: NewTask): Promise<TaskHandle<Output>> {
    return this.#submitTo(engine, task, (accepted) => new TaskHandle(engine, accepted));
  }

  /** Hands a task to the engine that has room. */
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
          this.#admission.tellRejected(task.queue, isClosed ? 'draining' : 'store');
          reject(cause);
        },
      );
    });
  }
}
