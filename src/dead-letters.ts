/**
 * Dead letters of one task type: tasks that failed for good, kept with their inputs. They are read from the store, page by
 * page, and made to run again by whoever owns their shards.
 */
import { fromWire } from './core/error-wire.js';
import { utf8 } from './core/frame.js';
import type { TaskId } from './core/ids.js';
import { invalidOption, knownOptions, wholeNumber } from './core/options.js';
import type { StoredDeadLetter } from './engine/dead-letters.js';
import type { Engine } from './engine/engine.js';

/** A task that failed for good. */
export interface DeadLetter<Input> {
  readonly id: TaskId;
  readonly input: Input;
  /** What it ended with: usually ERR_MILLRACE_TASK_FAILED, whose `cause` is what the handler threw. */
  readonly error: Error;
  readonly failedAt: Date;
  readonly submittedAt: Date;
  /** Executions that counted, in this version. */
  readonly attempts: number;
  /** Times redriven before. */
  readonly version: number;
  /** '' without one. */
  readonly tenant: string;
  readonly priority: number;
}

export interface DeadLetterQuery<Input> {
  /** Which of them. @defaultValue all */
  readonly filter?: (letter: DeadLetter<Input>) => boolean;
  /** At most so many, oldest due time first. @defaultValue no limit */
  readonly limit?: number;
  readonly signal?: AbortSignal;
}

export interface RedriveOptions<Input> extends DeadLetterQuery<Input> {
  /** These, and no others. */
  readonly ids?: readonly string[];
  /** Only says which would run again. @defaultValue false */
  readonly dryRun?: boolean;
}

export interface Redriven {
  /** How many were to run again. */
  readonly matched: number;
  /** Those that do, durably; of a dry run none. Fewer when somebody else was first. */
  readonly ids: readonly TaskId[];
}

const QUERY_OPTIONS: Readonly<Record<keyof DeadLetterQuery<unknown>, true>> = {
  filter: true,
  limit: true,
  signal: true,
};
const REDRIVE_OPTIONS: Readonly<Record<keyof RedriveOptions<unknown>, true>> = {
  ...QUERY_OPTIONS,
  ids: true,
  dryRun: true,
};
/** Asked of one owner at once. */
const PER_REQUEST = 64;

export class DeadLetters<Input> implements AsyncIterable<DeadLetter<Input>> {
  readonly #engine: Engine;
  readonly #type: string;
  readonly #queue: string;

  /** Comes from `runtime.deadLetters(task)`. */
  constructor(engine: Engine, { name, queue }: { readonly name: string; readonly queue: string }) {
    this.#engine = engine;
    this.#type = name;
    this.#queue = queue;
  }

  [Symbol.asyncIterator](): AsyncGenerator<DeadLetter<Input>> {
    return this.list();
  }

  /**
   * Reads them, by due time within a shard, a page of the store at a time; what comes and goes meanwhile may be in it or not.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_STORE_UNAVAILABLE; the signal's reason
   */
  async *list(query: DeadLetterQuery<Input> = {}): AsyncGenerator<DeadLetter<Input>> {
    const { filter, limit, signal } = checkQuery(knownOptions(query, '', QUERY_OPTIONS));
    let count = 0;
    if (limit === 0) return;
    for await (const stored of this.#engine.deadLetters(this.#queue)) {
      signal?.throwIfAborted();
      if (stored.type !== this.#type) continue;
      const letter = shown<Input>(stored);
      if (filter !== undefined && !filter(letter)) continue;
      yield letter;
      if (++count === limit) return;
    }
  }

  /** How many there are. Reads them all. */
  async count(query: DeadLetterQuery<Input> = {}): Promise<number> {
    let count = 0;
    for await (const _ of this.list(query)) count++;
    return count;
  }

  /**
   * Lets them run again: all, those of `ids`, or those of a filter. Each keeps its id and input, has its attempts anew, and
   * `execution.version` is one more than before; whoever waits for it waits for the next end. Resolves when that is durable.
   *
   * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_STORE_UNAVAILABLE, ERR_MILLRACE_CLOSED; those before it run again
   */
  async redrive(options: RedriveOptions<Input> = {}): Promise<Redriven> {
    const { ids, dryRun = false, ...rest } = knownOptions(options, '', REDRIVE_OPTIONS);
    if (ids !== undefined && !Array.isArray(ids)) throw invalidOption('ids', ids, 'a list of ids');
    const wanted = ids && new Set<string>(ids);
    const query = checkQuery(rest as DeadLetterQuery<Input>);
    const filter = (letter: DeadLetter<Input>): boolean =>
      wanted?.has(letter.id) !== false && query.filter?.(letter) !== false;
    const redriven: TaskId[] = [];
    let matched = 0;
    let shard = '';
    let some: TaskId[] = [];
    const flush = async (): Promise<void> => {
      if (some.length > 0) redriven.push(...(await this.#engine.redrive(some)));
      some = [];
    };
    for await (const { id } of this.list({ ...query, filter })) {
      matched++;
      if (dryRun) continue;
      const place = id.split('.', 2).join('.');
      if (place !== shard || some.length === PER_REQUEST) await flush();
      shard = place;
      some.push(id);
    }
    await flush();
    return { matched, ids: redriven };
  }
}

function checkQuery<Input>(query: DeadLetterQuery<Input>): DeadLetterQuery<Input> {
  const { filter, limit } = query;
  if (filter !== undefined && typeof filter !== 'function') {
    throw invalidOption('filter', filter, 'a function of a dead letter');
  }
  if (limit !== undefined) wholeNumber(limit, 'limit', 0, Number.MAX_SAFE_INTEGER);
  return query;
}

function shown<Input>({ id, task, state }: StoredDeadLetter): DeadLetter<Input> {
  const input = task.payload.length === 0 ? undefined : JSON.parse(utf8(task.payload));
  return {
    id,
    input: input as Input,
    error: fromWire(JSON.parse(utf8(state.bytes))),
    failedAt: new Date(state.atMs),
    submittedAt: new Date(task.submittedAtMs),
    attempts: state.attempt,
    version: task.version,
    tenant: task.tenant,
    priority: task.priority,
  };
}
