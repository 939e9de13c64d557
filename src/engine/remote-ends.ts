/**
 * What this node wants of tasks that other nodes hold: to hear how they end, to end them, to have them due at another time,
 * and to let those that failed run again.
 *
 * All of it goes as commands to the owner of the task's shard, whoever that is by then; a command waits in the store while
 * nobody owns it. A subscription stays there until all its tasks have been told, so it outlives an owner that dies.
 * Those of one moment and shard share a command.
 *
 * A dead letter can run again, so what is told of a failure may be older than the question of somebody who has come while the
 * command was under way. Who comes late therefore asks again, once the first answer is there, and only after a failure: every other
 * end is the last. Commands have numbers in their keys, and answers name them, so that one that comes twice is not taken for the next.
 */
import type { MillraceError } from '../core/errors.js';
import type { Incarnation, TaskId } from '../core/ids.js';
import { TaskState } from '../core/states.js';
import type { Operation } from '../core/store.js';
import type { TaskEnd } from './ends.js';
import { commandKey } from './keys.js';
import {
  type CancelAnswer,
  type Command,
  type DueAnswer,
  type ExecutionReport,
  encodeLetter,
  placeOfTask,
} from './letters.js';
import type { Outbox } from './outbox.js';
import type { NewDue } from './reschedules.js';

/** Keeps a letter far below what a transaction may hold. */
const TASKS_PER_COMMAND = 500;
const RESULT_BYTES_PER_COMMAND = 131_072;

interface Waiter {
  readonly resolve: (end: TaskEnd) => void;
  readonly reject: (cause: MillraceError) => void;
}

/** How a task ends, asked of its owner once, by all who wait for it. */
interface Question {
  /** Of the command that asks; undefined until it is made. */
  number: number | undefined;
  readonly waiters: Waiter[];
  /** Who has come since. */
  readonly late: Waiter[];
}

type Answer = CancelAnswer | DueAnswer | readonly TaskId[];

interface Asker {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (cause: MillraceError) => void;
}

export interface ResultToSend extends ExecutionReport {
  /** The command that tells of it is durable. */
  readonly onSent: () => void;
}

export class RemoteEnds {
  readonly #node: Incarnation;
  readonly #outbox: Outbox;
  readonly #questions = new Map<TaskId, Question>();
  readonly #askers = new Map<number, Asker>();
  /** Tasks that nobody has been asked about yet. */
  #toSubscribe: TaskId[] = [];
  #results: ResultToSend[] = [];
  #counter = 0;

  constructor(node: Incarnation, outbox: Outbox) {
    this.#node = node;
    this.#outbox = outbox;
  }

  /** How many tasks somebody here waits for. */
  get waitingCount(): number {
    return this.#questions.size;
  }

  /** Resolves with the end of a task that another node holds. */
  wait(task: TaskId): Promise<TaskEnd> {
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject };
      const question = this.#questions.get(task);
      if (question === undefined) this.#subscribe(task, [waiter]);
      else if (question.number === undefined) question.waiters.push(waiter);
      else question.late.push(waiter);
    });
  }

  cancel(task: TaskId, reason: string | undefined): Promise<CancelAnswer> {
    const number = this.#counter++;
    const command: Command = {
      kind: 'cancel',
      from: this.#node,
      number,
      task,
      ...(reason !== undefined && { reason }),
    };
    return this.#ask(number, task, command) as Promise<CancelAnswer>;
  }

  reschedule(task: TaskId, { dueAtMs, isByDate }: NewDue): Promise<DueAnswer> {
    const number = this.#counter++;
    const command: Command = {
      kind: 'reschedule',
      from: this.#node,
      number,
      task,
      dueAtMs,
      isByDate,
    };
    return this.#ask(number, task, command) as Promise<DueAnswer>;
  }

  /** The command that a task is replaced by another, for a transaction of the caller's. */
  supersede(task: TaskId, by: TaskId): Operation {
    const key = commandKey(placeOfTask(task), this.#node, this.#counter++);
    const value = encodeLetter({ kind: 'supersede', from: this.#node, task, by });
    return { type: 'put', key, value };
  }

  /** @param tasks - dead letters of one shard. @returns those that run again */
  redrive(tasks: readonly TaskId[]): Promise<readonly TaskId[]> {
    const number = this.#counter++;
    const command: Command = { kind: 'redrive', from: this.#node, number, tasks };
    return this.#ask(number, tasks[0]!, command) as Promise<readonly TaskId[]>;
  }

  #ask(number: number, task: TaskId, command: Command): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#askers.set(number, { resolve, reject });
      this.#post(task, command, { onDropped: (cause) => this.#fail(number, cause) });
    });
  }

  /** What an execution came to whose task belongs to somebody else by now. */
  report(result: ResultToSend): void {
    this.#results.push(result);
  }

  /** Whether `flush` has something to post. */
  get isEmpty(): boolean {
    return this.#toSubscribe.length === 0 && this.#results.length === 0;
  }

  /** Posts what has gathered since the last commit. */
  flush(): void {
    for (const tasks of byShard(this.#toSubscribe, (task) => task)) {
      for (let at = 0; at < tasks.length; at += TASKS_PER_COMMAND) {
        const some = tasks.slice(at, at + TASKS_PER_COMMAND);
        const number = this.#post(some[0]!, { kind: 'subscribe', from: this.#node, tasks: some });
        for (const task of some) {
          const question = this.#questions.get(task);
          if (question !== undefined) question.number = number;
        }
      }
    }
    this.#toSubscribe = [];
    for (const results of byShard(this.#results, ({ task }) => task)) this.#postResults(results);
    this.#results = [];
  }

  /** @param number - of the command that it answers; undefined from an owner of an older version, who does not say */
  onEnd(task: TaskId, end: TaskEnd, number: number | undefined): void {
    const question = this.#questions.get(task);
    // An answer that comes twice, when this is another question already.
    if (question === undefined || (number ?? question.number) !== question.number) return;
    this.#questions.delete(task);
    for (const { resolve } of question.waiters) resolve(end);
    if (question.late.length === 0) return;
    if (end.state === TaskState.FAILED) this.#subscribe(task, question.late);
    else for (const { resolve } of question.late) resolve(end);
  }

  /** Nobody knows the task, and nobody ever will. */
  onGone(task: TaskId, cause: MillraceError): void {
    const question = this.#questions.get(task);
    this.#questions.delete(task);
    for (const { reject } of question?.waiters ?? []) reject(cause);
    for (const { reject } of question?.late ?? []) reject(cause);
  }

  /** To a cancel or a reschedule, or which of a redrive run again. */
  onAnswer(number: number, answer: Answer): void {
    this.#askers.get(number)?.resolve(answer);
    this.#askers.delete(number);
  }

  /** Nobody will learn of anything here any more. */
  rejectAll(cause: MillraceError): void {
    for (const task of [...this.#questions.keys()]) this.onGone(task, cause);
    for (const number of [...this.#askers.keys()]) this.#fail(number, cause);
  }

  #subscribe(task: TaskId, waiters: Waiter[]): void {
    this.#questions.set(task, { number: undefined, waiters, late: [] });
    this.#toSubscribe.push(task);
  }

  #fail(number: number, cause: MillraceError): void {
    this.#askers.get(number)?.reject(cause);
    this.#askers.delete(number);
  }

  #postResults(results: readonly ResultToSend[]): void {
    let bytes = 0;
    let some: ResultToSend[] = [];
    const post = (): void => {
      const sent = some;
      const plain = sent.map(({ onSent: _, ...result }) => result);
      const command: Command = { kind: 'results', from: this.#node, results: plain };
      this.#post(sent[0]!.task, command, {
        onSent: () => {
          for (const { onSent } of sent) onSent();
        },
      });
      some = [];
      bytes = 0;
    };
    for (const result of results) {
      const size = result.report.kind === 'outcome' ? result.report.json.length : 0;
      if (some.length > 0 && bytes + size > RESULT_BYTES_PER_COMMAND) post();
      some.push(result);
      bytes += size;
    }
    post();
  }

  /** @returns the command's number */
  #post(
    task: TaskId,
    command: Command,
    fate: {
      readonly onSent?: () => void;
      readonly onDropped?: (cause: MillraceError) => void;
    } = {},
  ): number {
    const number = this.#counter++;
    const key = commandKey(placeOfTask(task), this.#node, number);
    this.#outbox.post({ key, value: encodeLetter(command), ...fate });
    return number;
  }
}

/** In groups whose tasks are of one shard. */
function byShard<Item>(items: readonly Item[], taskOf: (item: Item) => TaskId): Item[][] {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const [queue, shard] = taskOf(item).split('.');
    const name = `${queue}.${shard}`;
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [item]);
    else group.push(item);
  }
  return [...groups.values()];
}
