/**
 * `ctx.submit` of one execution: numbers its children, and speaks with the runtime for them (core/children.ts).
 *
 * Who waits for a child stops waiting when its own signal is aborted: a handler that has run out of time, or was cancelled, must
 * not sit there until its thread is ended.
 */
import type { ChildAnswers, ChildAsk, ChildHandle, ChildOptions } from '../core/children.js';
import { encodePayload, type PayloadLimits } from '../core/codec.js';
import { fromWire } from '../core/error-wire.js';
import { MillraceError } from '../core/errors.js';
import { knownOptions, shortText } from '../core/options.js';
import type { Settlement } from '../core/states.js';
import { isTask } from '../core/task.js';
import type { TraceCarrier } from '../core/task-metadata.js';

/** With a parent's id and number in front it is an idempotency key, which has 200 at most. */
const KEY_CHARS_MAX = 80;
const CHILD_OPTIONS: Readonly<Record<keyof ChildOptions, true>> = {
  key: true,
  delay: true,
  at: true,
  priority: true,
  tenant: true,
  ttl: true,
};

/** The execution whose children these are. */
export interface Parent {
  readonly taskId: string;
  readonly version: number;
  readonly tenant: string | undefined;
  readonly trace: TraceCarrier | undefined;
  readonly signal: () => AbortSignal;
}

/** Asks the runtime. Rejects when the execution is over. */
export type Ask = <Kind extends ChildAsk['kind']>(
  ask: Extract<ChildAsk, { kind: Kind }>,
) => Promise<ChildAnswers[Kind]>;

export class TaskChildren {
  readonly #parent: Parent;
  readonly #limits: PayloadLimits;
  readonly #ask: Ask;
  /** How many were submitted without a key, by type. */
  readonly #counts = new Map<string, number>();

  constructor(parent: Parent, limits: PayloadLimits, ask: Ask) {
    this.#parent = parent;
    this.#limits = limits;
    this.#ask = ask;
  }

  async submit<Output>(
    task: unknown,
    input: unknown,
    options: ChildOptions,
  ): Promise<ChildHandle<Output>> {
    const type = isTask(task) ? task.name : String(task);
    const { key, at, ...rest } = knownOptions<ChildOptions>(options, '', CHILD_OPTIONS);
    if (key !== undefined) shortText(key, 'key', KEY_CHARS_MAX);
    const { taskId: parent, version, tenant, trace } = this.#parent;
    const payload = encodePayload(input, `input of task '${type}'`, this.#limits);
    const asked = this.#ask<'submit'>({
      kind: 'submit',
      type,
      input: payload.text,
      parent,
      idempotencyKey: `${parent}/${version}/${key === undefined ? this.#number(type) : `=${key}`}`,
      options: {
        ...(tenant !== undefined && { tenant }),
        ...rest,
        ...(at !== undefined && { at: typeof at === 'object' ? Number(at?.getTime?.()) : at }),
      },
      trace,
    });
    const answer = await orAborted(asked, this.#parent.signal());
    return new Child<Output>({ ...answer, type }, this.#parent.signal, this.#ask);
  }

  #number(type: string): number {
    const number = (this.#counts.get(type) ?? 0) + 1;
    this.#counts.set(type, number);
    return number;
  }
}

class Child<Output> implements ChildHandle<Output> {
  readonly id: string;
  readonly created: boolean;
  readonly #type: string;
  readonly #signal: () => AbortSignal;
  readonly #ask: Ask;

  constructor(
    child: { readonly id: string; readonly created: boolean; readonly type: string },
    signal: () => AbortSignal,
    ask: Ask,
  ) {
    this.id = child.id;
    this.created = child.created;
    this.#type = child.type;
    this.#signal = signal;
    this.#ask = ask;
  }

  async result(): Promise<Output> {
    const end = await this.settled();
    if (end.status === 'completed') return end.value;
    throw end.error;
  }

  async settled(): Promise<Settlement<Output>> {
    const asked = this.#ask<'end'>({ kind: 'end', type: this.#type, id: this.id });
    const end = await orAborted(asked, this.#signal());
    return end.status === 'completed'
      ? { status: 'completed', value: end.value as Output }
      : { status: end.status, error: fromWire(end.error) };
  }

  cancel(reason?: string): Promise<ChildAnswers['cancel']> {
    return this.#ask<'cancel'>({ kind: 'cancel', type: this.#type, id: this.id, reason });
  }
}

function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** Of handlers that no runtime calls. */
export function noRuntime(): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_UNKNOWN_TASK',
    'a BatchPool has no tasks to submit; ctx.submit is for the tasks of createRuntime',
  );
}

/** Of handlers whose execution is over. */
export function executionOver(): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STALE_EXECUTION',
    'the execution that submits or waits is over; await ctx.submit() and result() before the handler ends',
  );
}
