/**
 * `ctx.submit` and `ctx.submitMany` of one execution: numbers its children, and speaks with the runtime for them
 * (core/children.ts).
 *
 * Who waits for a child stops waiting when its own signal is aborted: a handler that has run out of time, or was cancelled, must
 * not sit there until its thread is ended.
 */
import type {
  ChildAnswers,
  ChildAsk,
  ChildHandle,
  ChildOptions,
  ChildrenOptions,
  JoinedEnd,
  JoinOptions,
  WireEnd,
} from '../core/children.js';
import { encodePayload, type PayloadLimits } from '../core/codec.js';
import { fromWire } from '../core/error-wire.js';
import { MillraceError, NonRetryableError } from '../core/errors.js';
import { invalidOption, knownOptions, oneOf, shortText } from '../core/options.js';
import type { Settlement } from '../core/states.js';
import { type Children, isTask } from '../core/task.js';
import type { BeginConditions, TraceCarrier } from '../core/task-metadata.js';
import { unlessAborted } from '../core/unless-aborted.js';

/** With a parent's id and number in front it is an idempotency key, which has 200 at most. */
const KEY_CHARS_MAX = 80;
const CHILD_OPTIONS: Readonly<Record<keyof ChildOptions, true>> = {
  key: true,
  delay: true,
  at: true,
  priority: true,
  tenant: true,
  ttl: true,
  onFailure: true,
  onParentEnd: true,
};
const JOIN_OPTIONS: Readonly<Record<keyof JoinOptions, true>> = {
  ...CHILD_OPTIONS,
  ifChildFails: true,
};
/** Their ids travel with the task that joins them. */
const JOINED_MAX = 1_000;
/** Of one call, on their way at a time: they share commits. */
const AT_ONCE = 256;

/** The execution whose children these are. */
export interface Parent {
  readonly taskId: string;
  readonly version: number;
  readonly attempt: number;
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
    const { key, ...shared } = knownOptions<ChildOptions>(options, '', CHILD_OPTIONS);
    if (key !== undefined) shortText(key, 'key', KEY_CHARS_MAX);
    const name = key === undefined ? String(this.#number(nameOf(task))) : `=${key}`;
    return this.#submitNamed(task, input, { name, options: shared });
  }

  /** Children of one type. Their names are numbers within the call's: the same call has the same in every execution. */
  async submitMany<Output>(
    task: unknown,
    inputs: Iterable<unknown> | AsyncIterable<unknown>,
    options: ChildrenOptions,
  ): Promise<Children<Output>> {
    const { key, ...shared } = knownOptions<ChildrenOptions>(options, '', CHILD_OPTIONS);
    if (key !== undefined) shortText(key, 'key', KEY_CHARS_MAX - 8);
    if (typeof inputs !== 'object' || inputs === null) {
      throw invalidOption('inputs', inputs, 'an iterable of inputs');
    }
    const group = key === undefined ? `${this.#number(`${nameOf(task)}[]`)}` : `=${key}`;
    const children: ChildHandle<Output>[] = [];
    let some: Promise<ChildHandle<Output>>[] = [];
    const land = async (): Promise<void> => {
      const landed = await Promise.allSettled(some);
      some = [];
      for (const one of landed) {
        if (one.status === 'rejected') throw one.reason;
        children.push(one.value);
      }
    };
    let index = 0;
    for await (const input of inputs) {
      some.push(this.#submitNamed(task, input, { name: `${group}[${index++}]`, options: shared }));
      if (some.length === AT_ONCE) await land();
    }
    await land();
    return new Siblings(children, (joining, input, given) =>
      this.#join({ type: nameOf(task), ids: children.map(({ id }) => id) }, joining, input, given),
    );
  }

  #join<Output>(
    joins: NonNullable<BeginConditions['joins']>,
    task: unknown,
    input: unknown,
    given: JoinOptions,
  ): Promise<ChildHandle<Output>> {
    const options = knownOptions<JoinOptions>(given, '', JOIN_OPTIONS);
    const { key, ifChildFails = 'join', ...shared } = options;
    if (key !== undefined) shortText(key, 'key', KEY_CHARS_MAX);
    const policy = oneOf(ifChildFails, 'ifChildFails', ['join', 'fail']);
    if (joins.ids.length > JOINED_MAX) {
      throw invalidOption(
        'children',
        joins.ids.length,
        `at most ${JOINED_MAX} to one joining task; join groups of them`,
      );
    }
    const name = key === undefined ? `join${this.#number(`join ${nameOf(task)}`)}` : `=${key}`;
    return this.#submitNamed(task, input, {
      name,
      options: shared,
      joins,
      failsWithJoined: policy === 'fail',
    });
  }

  async #submitNamed<Output>(
    task: unknown,
    input: unknown,
    child: {
      /** Among the parent's children of this type. */
      readonly name: string;
      readonly options: Omit<ChildOptions, 'key'>;
      readonly joins?: BeginConditions['joins'];
      readonly failsWithJoined?: boolean;
    },
  ): Promise<ChildHandle<Output>> {
    const type = nameOf(task);
    const { at, onFailure = 'keep', onParentEnd = 'continue', ...rest } = child.options;
    const policy = oneOf(onFailure, 'onFailure', ['keep', 'renew', 'fail']);
    const parentPolicy = oneOf(onParentEnd, 'onParentEnd', ['continue', 'cancel']);
    const { taskId: parent, version, attempt, tenant, trace } = this.#parent;
    const payload = encodePayload(input, `input of task '${type}'`, this.#limits);
    const conditions: BeginConditions = {
      cancelsWithParent: parentPolicy === 'cancel',
      failsWithJoined: child.failsWithJoined ?? false,
      joins: child.joins,
    };
    const isConditional = conditions.cancelsWithParent || conditions.joins !== undefined;
    const asked = this.#ask<'submit'>({
      kind: 'submit',
      type,
      input: payload.text,
      parent,
      idempotencyKey: `${parent}/${version}/${child.name}`,
      options: {
        ...(tenant !== undefined && { tenant }),
        ...rest,
        ...(at !== undefined && { at: typeof at === 'object' ? Number(at?.getTime?.()) : at }),
      },
      trace,
      conditions: isConditional ? conditions : undefined,
      renewalsMax: policy === 'renew' ? attempt - 1 : 0,
    });
    const answer = await unlessAborted(asked, this.#parent.signal());
    const isFatal = policy === 'fail';
    return new Child<Output>({ ...answer, type, isFatal }, this.#parent.signal, this.#ask);
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
  readonly #isFatal: boolean;
  readonly #signal: () => AbortSignal;
  readonly #ask: Ask;

  constructor(
    child: {
      readonly id: string;
      readonly created: boolean;
      readonly type: string;
      /** Whether its failure is the parent's, for good. */
      readonly isFatal: boolean;
    },
    signal: () => AbortSignal,
    ask: Ask,
  ) {
    this.id = child.id;
    this.created = child.created;
    this.#type = child.type;
    this.#isFatal = child.isFatal;
    this.#signal = signal;
    this.#ask = ask;
  }

  async result(): Promise<Output> {
    const end = await this.settled();
    if (end.status === 'completed') return end.value;
    if (!this.#isFatal) throw end.error;
    const message = `child ${this.id} of type '${this.#type}' ended ${end.status}`;
    throw new NonRetryableError(message, { cause: end.error });
  }

  async settled(): Promise<Settlement<Output>> {
    const asked = this.#ask<'end'>({ kind: 'end', type: this.#type, id: this.id });
    return settlementOf<Output>(await unlessAborted(asked, this.#signal()));
  }

  cancel(reason?: string): Promise<ChildAnswers['cancel']> {
    return this.#ask<'cancel'>({ kind: 'cancel', type: this.#type, id: this.id, reason });
  }
}

class Siblings<Output> implements Children<Output> {
  readonly ids: readonly string[];
  readonly created: number;
  readonly #children: readonly ChildHandle<Output>[];
  readonly #joinAll: Join;

  constructor(children: readonly ChildHandle<Output>[], joinAll: Join) {
    this.#children = children;
    this.#joinAll = joinAll;
    this.ids = children.map(({ id }) => id);
    this.created = children.filter(({ created }) => created).length;
  }

  results(): Promise<Output[]> {
    return Promise.all(this.#children.map((child) => child.result()));
  }

  settled(): Promise<Settlement<Output>[]> {
    return Promise.all(this.#children.map((child) => child.settled()));
  }

  async cancel(reason?: string): Promise<number> {
    const answers = await Promise.all(this.#children.map((child) => child.cancel(reason)));
    return answers.filter((answer) => answer !== 'ended').length;
  }

  async join<JoinOutput>(
    task: unknown,
    input: unknown,
    options: JoinOptions = {},
  ): Promise<ChildHandle<JoinOutput>> {
    return this.#joinAll(task, input, options) as Promise<ChildHandle<JoinOutput>>;
  }
}

type Join = (task: unknown, input: unknown, options: JoinOptions) => Promise<ChildHandle<unknown>>;

/** Ends of those that a task joins. @param ids - as they were asked for */
export function joinedEnds<Output>(
  ids: readonly string[],
  ends: ChildAnswers['joined'],
): JoinedEnd<Output>[] {
  return ids.map((id, i) => {
    const end = ends[i]!;
    return end.status === 'gone' ? { id, status: 'gone' } : { id, ...settlementOf<Output>(end) };
  });
}

function settlementOf<Output>(end: WireEnd): Settlement<Output> {
  return end.status === 'completed'
    ? { status: 'completed', value: end.value as Output }
    : { status: end.status, error: fromWire(end.error) };
}

function nameOf(task: unknown): string {
  return isTask(task) ? task.name : String(task);
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
