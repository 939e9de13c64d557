/**
 * What nodes write to one another, as bytes: commands to the owner of a shard, and mail to a node.
 *
 *   command, c/<queue>/<shard>/<seq>     the owner acts on it, and deletes it in the transaction that shows the effect
 *     subscribe   tell me how these tasks end; stays until all of them have been told
 *     cancel      end this task; the answer comes by mail
 *     reschedule  let this task be due then; the answer comes by mail
 *     supersede   end this task if it still waits, since another stands in for it; there is no answer
 *     redrive     let these dead letters run again; how many did comes by mail
 *     results     what executions came to that the owner's overlay names, and that run, or ran, elsewhere
 *
 *   mail, r/<node>/<seq>                 the node reads it, and deletes it
 *     ends        how tasks ended that it subscribed to; `gone`: nobody knows them
 *     answers     to its cancels and reschedules, by the number it gave them
 *     aborts      executions of its that somebody wants to end
 *     redriven    dead letters that run again, by the number of the command
 *     probes      executions that the owner of a shard takes to be its: those it knows nothing of are lost
 *
 * JSON with a format version: letters are few beside tasks, and one carries up to hundreds of tasks. They are read like
 * everything out of a store: a letter that does not decode is set aside with an event, one of a newer format as well.
 */
import { MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { parseTaskId, type TaskId } from '../core/ids.js';
import { isEnded, isOutcome, isTaskState, Outcome, TaskState } from '../core/states.js';
import type { Death } from '../pool/loss-policy.js';
import type { TaskEnd } from './ends.js';
import type { ExecutionRef } from './execution-ref.js';

/** Letters of another format are not read. */
const FORMAT = 1;

/** What an execution came to. */
export type Report =
  | {
      readonly kind: 'outcome';
      readonly outcome: Outcome;
      /** The value, error, delay or reason, as JSON. */
      readonly json: string;
      /** Its limit, if its time was over before it ended. */
      readonly overranMs?: number;
    }
  | { readonly kind: 'lost'; readonly death: Death; readonly overranMs?: number };

/**
 * What an execution came to, out of the end that this node made of it; the owner makes the same of it. Undefined for what died
 * with its thread or ran too long: that is judged by what else the owner knows.
 */
export function reportOfEnd({ state, json }: TaskEnd): Report | undefined {
  if (state === TaskState.COMPLETED) {
    return { kind: 'outcome', outcome: Outcome.COMPLETED, json };
  }
  const error = objectOf(JSON.parse(json));
  if (state === TaskState.CANCELLED) {
    const { reason } = objectOf(error.details);
    return { kind: 'outcome', outcome: Outcome.CANCELLED, json: JSON.stringify(reason) };
  }
  const hasThrown = state === TaskState.FAILED && error.code === 'ERR_MILLRACE_TASK_FAILED';
  if (!hasThrown) return undefined;
  return {
    kind: 'outcome',
    outcome: Outcome.FAILED_FOR_GOOD,
    json: JSON.stringify(error.cause),
  };
}

export interface ExecutionReport extends ExecutionRef {
  readonly report: Report;
}

export type Command =
  | { readonly kind: 'subscribe'; readonly from: string; readonly tasks: readonly TaskId[] }
  | {
      readonly kind: 'cancel';
      readonly from: string;
      /** Names the answer. */
      readonly number: number;
      readonly task: TaskId;
      readonly reason?: string;
    }
  | {
      readonly kind: 'reschedule';
      readonly from: string;
      /** Names the answer. */
      readonly number: number;
      readonly task: TaskId;
      readonly dueAtMs: number;
      readonly isByDate: boolean;
    }
  | {
      readonly kind: 'supersede';
      readonly from: string;
      readonly task: TaskId;
      readonly by: TaskId;
    }
  | {
      readonly kind: 'redrive';
      readonly from: string;
      /** Names the answer. */
      readonly number: number;
      readonly tasks: readonly TaskId[];
    }
  | {
      readonly kind: 'results';
      /** The executor. */
      readonly from: string;
      readonly results: readonly ExecutionReport[];
    };

export type CancelAnswer = 'cancelled' | 'signalled' | 'ended' | 'gone';
/** To a reschedule. */
export type DueAnswer = 'rescheduled' | 'running' | 'ended' | 'gone';

export interface Mail {
  /** `number`: of the command that asked, as its key says; absent from an owner of an older version. */
  readonly ends?: readonly ({ readonly task: TaskId; readonly number?: number } & TaskEnd)[];
  readonly gone?: readonly TaskId[];
  readonly answers?: readonly {
    readonly number: number;
    readonly answer: CancelAnswer | DueAnswer;
  }[];
  readonly aborts?: readonly { readonly task: TaskId; readonly reason: string }[];
  readonly probes?: readonly ExecutionRef[];
  readonly redriven?: readonly { readonly number: number; readonly tasks: readonly TaskId[] }[];
}

export function encodeLetter(letter: Command | Mail): Uint8Array {
  return Buffer.from(JSON.stringify({ format: FORMAT, ...letter }));
}

/** @throws ERR_MILLRACE_STORE_CORRUPT, ERR_MILLRACE_STORE_FORMAT */
export function decodeCommand(value: Uint8Array): Command {
  const given = parse(value);
  const from = textOf(given, 'from');
  switch (given.kind) {
    case 'subscribe':
      return { kind: 'subscribe', from, tasks: listOf(given, 'tasks').map(taskOf) };
    case 'cancel':
      return {
        kind: 'cancel',
        from,
        number: numberOf(given, 'number'),
        task: taskOf(given.task),
        ...(typeof given.reason === 'string' && { reason: given.reason }),
      };
    case 'reschedule':
      return {
        kind: 'reschedule',
        from,
        number: numberOf(given, 'number'),
        task: taskOf(given.task),
        dueAtMs: numberOf(given, 'dueAtMs'),
        isByDate: given.isByDate === true,
      };
    case 'supersede':
      return { kind: 'supersede', from, task: taskOf(given.task), by: taskOf(given.by) };
    case 'redrive':
      return {
        kind: 'redrive',
        from,
        number: numberOf(given, 'number'),
        tasks: listOf(given, 'tasks').map(taskOf),
      };
    case 'results':
      return { kind: 'results', from, results: listOf(given, 'results').map(reportOf) };
    default:
      throw badLetter(`a command of kind ${JSON.stringify(given.kind)}`);
  }
}

/** @throws ERR_MILLRACE_STORE_CORRUPT, ERR_MILLRACE_STORE_FORMAT */
export function decodeMail(value: Uint8Array): Mail {
  const given = parse(value);
  return {
    ends: listOf(given, 'ends').map((item) => {
      const end = objectOf(item);
      const state = numberOf(end, 'state');
      if (!isTaskState(state) || !isEnded(state)) throw badLetter(`an end with state ${state}`);
      const number = end.number === undefined ? {} : { number: numberOf(end, 'number') };
      return { task: taskOf(end.task), ...number, state, json: textOf(end, 'json') };
    }),
    gone: listOf(given, 'gone').map(taskOf),
    answers: listOf(given, 'answers').map((item) => {
      const answer = objectOf(item);
      return {
        number: numberOf(answer, 'number'),
        answer: textOf(answer, 'answer') as CancelAnswer | DueAnswer,
      };
    }),
    aborts: listOf(given, 'aborts').map((item) => {
      const abort = objectOf(item);
      return { task: taskOf(abort.task), reason: textOf(abort, 'reason') };
    }),
    probes: listOf(given, 'probes').map((item) => executionOf(objectOf(item))),
    redriven: listOf(given, 'redriven').map((item) => {
      const told = objectOf(item);
      return { number: numberOf(told, 'number'), tasks: listOf(told, 'tasks').map(taskOf) };
    }),
  };
}

type Given = Readonly<Record<string, unknown>>;

function parse(value: Uint8Array): Given {
  let given: unknown;
  try {
    given = JSON.parse(utf8(value));
  } catch {
    throw badLetter('a letter is no JSON');
  }
  const letter = objectOf(given);
  const { format } = letter;
  if (typeof format !== 'number' || !(format >= 1)) throw badLetter('a letter without a format');
  if (format > FORMAT) {
    throw new MillraceError(
      'ERR_MILLRACE_STORE_FORMAT',
      `a letter has format ${format}, and this version reads up to ${FORMAT}; upgrade this node`,
      { details: { format, formatMax: FORMAT } },
    );
  }
  return letter;
}

function reportOf(item: unknown): ExecutionReport {
  const given = objectOf(item);
  const report = objectOf(given.report);
  const overran =
    report.overranMs === undefined ? {} : { overranMs: numberOf(report, 'overranMs') };
  if (report.kind === 'lost') {
    const death = objectOf(report.death);
    const reason = textOf(death, 'reason') as Death['reason'];
    const lost = { kind: 'lost', death: { reason, begun: numberOf(death, 'begun') } } as const;
    return { ...executionOf(given), report: { ...lost, ...overran } };
  }
  const outcome = numberOf(report, 'outcome');
  if (!isOutcome(outcome)) throw badLetter(`a result with outcome ${outcome}`);
  const json = textOf(report, 'json');
  return { ...executionOf(given), report: { kind: 'outcome', outcome, json, ...overran } };
}

function executionOf(given: Given): ExecutionRef {
  return {
    task: taskOf(given.task),
    attempt: numberOf(given, 'attempt'),
    ...(given.losses !== undefined && { losses: numberOf(given, 'losses') }),
    ...(given.version !== undefined && { version: numberOf(given, 'version') }),
  };
}

function objectOf(item: unknown): Given {
  if (typeof item === 'object' && item !== null && !Array.isArray(item)) return item as Given;
  throw badLetter('a letter holds something other than objects');
}

function listOf(given: Given, name: string): readonly unknown[] {
  const list = given[name] ?? [];
  if (Array.isArray(list)) return list;
  throw badLetter(`the ${name} of a letter are no list`);
}

function taskOf(item: unknown): TaskId {
  if (parseTaskId(item) !== undefined) return item as TaskId;
  throw badLetter(`a letter names ${JSON.stringify(item)} as a task`);
}

function textOf(given: Given, name: string): string {
  const text = given[name];
  if (typeof text === 'string') return text;
  throw badLetter(`the ${name} of a letter is no text`);
}

function numberOf(given: Given, name: string): number {
  const number = given[name];
  if (typeof number === 'number' && Number.isFinite(number) && number >= 0) return number;
  throw badLetter(`the ${name} of a letter is no number`);
}

/** Where a task's shard is. */
export function placeOfTask(task: TaskId): { readonly queue: string; readonly shard: number } {
  const [queue, shard] = task.split('.');
  return { queue: queue!, shard: Number.parseInt(shard!, 36) };
}

function badLetter(what: string): MillraceError {
  return new MillraceError('ERR_MILLRACE_STORE_CORRUPT', `a letter does not decode: ${what}`);
}
