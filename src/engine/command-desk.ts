/**
 * The owner's side of commands: acts on what other nodes ask of its shards' tasks.
 *
 *   results     the execution that the table names is settled with it; what names another one is stale, and counted
 *   cancel      as a cancel of this node's own; of a task that runs elsewhere its executor is told
 *   reschedule  as one of this node's own
 *   supersede   a task that waits ends as cancelled; one that has begun goes on
 *   redrive     what is a dead letter of the shard runs again; what is open already is told as well
 *   subscribe   stays until every one of its tasks has been told of, then it is deleted
 *
 * A command is deleted by a commit that shows its effect, or a later one. So it may be acted on again, by the next owner:
 * results are then stale, a cancel finds the task ended, and a subscriber hears an end twice, which it ignores.
 */
import { publish } from '../core/channels.js';
import { isMillraceError } from '../core/errors.js';
import { requireTaskId, type SegmentRef, type TaskId } from '../core/ids.js';
import { TaskState } from '../core/states.js';
import type { Entry, Key } from '../core/store.js';
import type { SegmentHandle, TaskHandle, TaskTable, WatchedEnd } from '../timing/task-table.js';
import type { Elsewhere } from './elsewhere.js';
import { replacedBy, type TaskEnd } from './ends.js';
import { executionOf, isSameExecution } from './execution-ref.js';
import type { FarSegments } from './far-segments.js';
import { numberOfCommand } from './keys.js';
import {
  type CancelAnswer,
  type Command,
  decodeCommand,
  type ExecutionReport,
  type Report,
} from './letters.js';
import type { Mailroom } from './mailroom.js';
import type { Letter, Outbox } from './outbox.js';
import type { RedriveAnswer } from './redrives.js';
import type { NewDue, RescheduleAnswer } from './reschedules.js';
import type { Shard } from './shard.js';

/** `held`: the table holds it by now; `gone`: nobody knows it; `over`: it is not ours to know any more. */
export type StoredEnd = TaskEnd | 'held' | 'gone' | 'over';

export interface DeskPorts {
  readonly table: TaskTable;
  readonly elsewhere: Elsewhere;
  readonly mailroom: Mailroom;
  readonly outbox: Outbox;
  /** Settles a task that is RUNNING and in no batch. */
  settle(task: TaskHandle, report: Report): void;
  /** Asks a task that this node holds to end. */
  cancel(task: TaskHandle, id: TaskId, reason: string | undefined): CancelAnswer;
  /** Lets a task of a shard be due at another time. Resolves when that is durable, or cannot be. */
  reschedule(task: TaskId, due: NewDue): Promise<RescheduleAnswer>;
  /** Lets a dead letter of a shard run again. Tries until it is known. */
  redrive(shard: Shard, task: TaskId): Promise<RedriveAnswer>;
  /** What the store knows of a task that the table does not hold (any more). Asks until it is known. */
  storedEnd(shard: Shard, id: TaskId): Promise<StoredEnd>;
  /** Where a segment may be in the store only. */
  beyond(segment: SegmentRef): FarSegments | undefined;
  /** There is something to write. */
  onChanged(): void;
}

/** A command that waits until its tasks have ended. */
interface Subscription {
  readonly key: Key;
  readonly shard: Shard;
  readonly from: string;
  left: number;
}

export class CommandDesk {
  readonly #ports: DeskPorts;
  readonly #subscriptions = new Map<Key, Subscription>();
  readonly #subscribers = new Map<TaskHandle, Subscription[]>();
  /** Ids of tasks with subscribers: a task that has ended is out of the table when that is told. */
  readonly #ids = new Map<TaskHandle, TaskId>();
  /** Commands that are being acted on, and under which ownership: what was begun under one that is over comes to nothing. */
  readonly #acting = new Map<Key, Shard>();
  /** Commands to be deleted, with what has to be written first. */
  readonly #dealtWith = new Map<Key, Letter>();

  constructor(ports: DeskPorts) {
    this.#ports = ports;
  }

  onCommand(shard: Shard, { key, value }: Entry): void {
    const isKnown = this.#subscriptions.has(key) || this.#dealtWith.has(key);
    if (isKnown || this.#ports.outbox.isDeleting(key)) return;
    let command: Command;
    try {
      command = decodeCommand(value);
    } catch (cause) {
      if (!isMillraceError(cause)) throw cause;
      // It stays: a newer version may read it.
      publish('millrace:store:corrupt', () => ({ key, cause }));
      return;
    }
    switch (command.kind) {
      case 'results':
        return this.#onResults(shard, key, command);
      case 'cancel':
        return void this.#onCancel(shard, key, command);
      case 'reschedule':
        return void this.#onReschedule(shard, key, command);
      case 'supersede':
        return void this.#onSupersede(shard, key, command);
      case 'redrive':
        return void this.#onRedrive(shard, key, command);
      case 'subscribe':
        return this.#onSubscribe(shard, key, command);
    }
  }

  /** A command is not there any more: nobody waits for its answer. */
  onCommandGone(key: Key): void {
    this.#subscriptions.delete(key);
  }

  /** Posts the deletion of what has been dealt with. REQUIRES: the mail about it has been posted. */
  flush(): void {
    for (const letter of this.#dealtWith.values()) this.#ports.outbox.post(letter);
    this.#dealtWith.clear();
  }

  /** Whether `flush` has something to post. */
  get isEmpty(): boolean {
    return this.#dealtWith.size === 0;
  }

  /** Whether every command of a shard that was dealt with has been posted. */
  isEmptyFor(shard: Shard): boolean {
    for (const letter of this.#dealtWith.values()) if (letter.shard === shard) return false;
    return true;
  }

  /** Ends of watched tasks are durable. */
  onEnded(ends: readonly WatchedEnd[]): void {
    for (const { task, state, json } of ends) {
      const subscribers = this.#subscribers.get(task);
      if (subscribers === undefined) continue;
      this.#subscribers.delete(task);
      const id = this.#idOf(task);
      for (const subscription of subscribers) this.#tell(subscription, id, { state, json });
    }
  }

  /** The shard is somebody else's: its commands are for the next owner. */
  onOver(shard: Shard): void {
    for (const [key, subscription] of this.#subscriptions) {
      if (subscription.shard === shard) this.#subscriptions.delete(key);
    }
    for (const [key, letter] of this.#dealtWith) {
      if (letter.shard === shard) this.#dealtWith.delete(key);
    }
  }

  /** A task is not held here any more. Where it is only beyond the horizon, its subscribers wait for it to come back. */
  forget(task: TaskHandle): void {
    const subscribers = this.#subscribers.get(task);
    if (subscribers === undefined) return;
    this.#subscribers.delete(task);
    const id = this.#idOf(task);
    for (const subscription of subscribers) {
      // Once the table has let go.
      void Promise.resolve().then(() => this.#tellOf(subscription, id));
    }
  }

  // --- Results -----------------------------------------------------------------------------------------------------

  #onResults(
    shard: Shard,
    key: Key,
    { from, results }: Extract<Command, { kind: 'results' }>,
  ): void {
    const touched = new Set<SegmentHandle>();
    for (const result of results) {
      const task = this.#held(result.task);
      if (!this.#isExecutedBy(task, from, result)) {
        const { task: taskId, attempt } = result;
        publish('millrace:result:stale', () => ({ taskId, attempt }));
        continue;
      }
      touched.add(this.#ports.table.inspect(task)!.segment);
      this.#ports.elsewhere.forget(task);
      this.#ports.settle(task, result.report);
    }
    this.#delete(shard, key, [...touched]);
  }

  #isExecutedBy(task: TaskHandle, executor: string, execution: ExecutionReport): boolean {
    const { table, elsewhere } = this.#ports;
    return (
      table.inspect(task)?.state === TaskState.RUNNING &&
      isSameExecution(executionOf(table, task), execution) &&
      elsewhere.executorOf(task) === executor
    );
  }

  // --- Cancel ------------------------------------------------------------------------------------------------------

  async #onCancel(
    shard: Shard,
    key: Key,
    { from, number, task: id, reason }: Extract<Command, { kind: 'cancel' }>,
  ): Promise<void> {
    const { segment } = requireTaskId(id);
    const isHeld = this.#ports.table.findSegment(segment) !== 0;
    const visitOver = isHeld ? undefined : await this.#ports.beyond(segment)?.visit(segment);
    if (isOver(shard)) return;
    let answer: CancelAnswer = 'gone';
    const touched: SegmentHandle[] = [];
    for (let isKnown = false; !isKnown; ) {
      const task = this.#held(id);
      if (task !== 0) {
        touched.push(this.#ports.table.inspect(task)!.segment);
        answer = this.#ports.cancel(task, id, reason);
        if (answer !== 'gone') break;
      }
      const end = await this.#ports.storedEnd(shard, id);
      if (end === 'over' || isOver(shard)) return;
      isKnown = end !== 'held';
      if (isKnown && end !== 'gone') answer = 'ended';
    }
    visitOver?.();
    const segments = this.#stillHere(touched);
    // Nobody is told before it is durable; what is not, is for the next owner to do and to tell.
    this.#ports.mailroom.post(from, { answers: [{ number, answer }] }, { shard, after: segments });
    this.#delete(shard, key, segments);
  }

  // --- Reschedule --------------------------------------------------------------------------------------------------

  /** One that is acted on again, by another owner, says the same again, or finds that the task has begun by now. */
  async #onReschedule(
    shard: Shard,
    key: Key,
    { from, number, task: id, dueAtMs, isByDate }: Extract<Command, { kind: 'reschedule' }>,
  ): Promise<void> {
    if (!this.#begin(shard, key)) return;
    const answer = await this.#reschedule(shard, id, { dueAtMs, isByDate });
    this.#end(shard, key);
    if (answer === 'moved' || isOver(shard)) return;
    this.#ports.mailroom.write(from, 'answers', { number, answer });
    this.#delete(shard, key, []);
  }

  async #reschedule(shard: Shard, id: TaskId, due: NewDue): Promise<RescheduleAnswer> {
    const { segment } = requireTaskId(id);
    for (;;) {
      const isHeld = this.#ports.table.findSegment(segment) !== 0;
      const visitOver = isHeld ? undefined : await this.#ports.beyond(segment)?.visit(segment);
      if (isOver(shard)) return 'moved';
      const answer = await this.#ports.reschedule(id, due);
      visitOver?.();
      if (answer !== 'gone') return answer;
      const end = await this.#ports.storedEnd(shard, id);
      if (end === 'over' || isOver(shard)) return 'moved';
      if (end === 'gone') return 'gone';
      if (end !== 'held') return 'ended';
    }
  }

  // --- Supersede ---------------------------------------------------------------------------------------------------

  async #onSupersede(
    shard: Shard,
    key: Key,
    { task: id, by }: Extract<Command, { kind: 'supersede' }>,
  ): Promise<void> {
    if (!this.#begin(shard, key)) return;
    const { table, beyond, cancel, storedEnd } = this.#ports;
    const { segment } = requireTaskId(id);
    const visitOver =
      table.findSegment(segment) === 0 ? await beyond(segment)?.visit(segment) : undefined;
    const touched: SegmentHandle[] = [];
    // A segment that the inbox has not told of yet is looked for in the store.
    while (!isOver(shard)) {
      const task = this.#held(id);
      const info = table.inspect(task);
      if (info !== undefined) {
        if (info.state === TaskState.PENDING) cancel(task, id, replacedBy(by));
        touched.push(info.segment);
        break;
      }
      if ((await storedEnd(shard, id)) !== 'held') break;
    }
    this.#end(shard, key);
    visitOver?.();
    if (isOver(shard)) return;
    this.#delete(shard, key, this.#stillHere(touched));
  }

  // --- Redrive -----------------------------------------------------------------------------------------------------

  async #onRedrive(
    shard: Shard,
    key: Key,
    { from, number, tasks }: Extract<Command, { kind: 'redrive' }>,
  ): Promise<void> {
    if (!this.#begin(shard, key)) return;
    const answers = await Promise.all(tasks.map((task) => this.#ports.redrive(shard, task)));
    this.#end(shard, key);
    // The next owner answers; what was done by then is open there.
    if (isOver(shard) || answers.includes('moved')) return;
    // A command that is acted on again, by another owner, finds them open: they are told as well.
    const redriven = tasks.filter((_, i) => answers[i] === 'redriven' || answers[i] === 'open');
    this.#ports.mailroom.write(from, 'redriven', { number, tasks: redriven });
    this.#delete(shard, key, []);
  }

  // --- Subscriptions -----------------------------------------------------------------------------------------------

  #onSubscribe(
    shard: Shard,
    key: Key,
    { from, tasks }: Extract<Command, { kind: 'subscribe' }>,
  ): void {
    const subscription: Subscription = { key, shard, from, left: tasks.length };
    this.#subscriptions.set(key, subscription);
    for (const id of tasks) this.#tellOf(subscription, id);
    if (tasks.length === 0) this.#finish(subscription);
  }

  /** Tells of a task's end, when it has come. */
  #tellOf(subscription: Subscription, id: TaskId): void {
    if (!this.#watch(subscription, id)) void this.#tellLater(subscription, id);
  }

  /** @returns whether the table holds it, and will say how it ends */
  #watch(subscription: Subscription, id: TaskId): boolean {
    const task = this.#held(id);
    if (this.#ports.table.watch(task) !== 'watching') return false;
    const others = this.#subscribers.get(task);
    if (others === undefined) this.#subscribers.set(task, [subscription]);
    else others.push(subscription);
    this.#ids.set(task, id);
    return true;
  }

  async #tellLater(subscription: Subscription, id: TaskId): Promise<void> {
    // The next owner answers.
    if (isOver(subscription.shard)) return;
    const { segment, index } = requireTaskId(id);
    const { table, beyond } = this.#ports;
    const far = table.findSegment(segment) === 0 ? beyond(segment) : undefined;
    if (far === undefined || !(await far.untilHeld(segment, index))) {
      return this.#tellStored(subscription, id);
    }
    if (this.#subscriptions.get(subscription.key) === subscription) this.#tellOf(subscription, id);
  }

  async #tellStored(subscription: Subscription, id: TaskId): Promise<void> {
    for (;;) {
      const end = await this.#ports.storedEnd(subscription.shard, id);
      if (end === 'over') return;
      if (end === 'held') {
        if (this.#watch(subscription, id)) return;
        continue;
      }
      this.#tell(subscription, id, end);
      return this.#ports.onChanged();
    }
  }

  #tell(subscription: Subscription, id: TaskId, end: TaskEnd | 'gone'): void {
    const { key, from } = subscription;
    if (this.#subscriptions.get(key) !== subscription) return;
    if (end === 'gone') this.#ports.mailroom.write(from, 'gone', id);
    else {
      const { state, json } = end;
      const number = numberOfCommand(key);
      this.#ports.mailroom.write(from, 'ends', { task: id, number, state, json });
    }
    subscription.left--;
    if (subscription.left === 0) this.#finish(subscription);
  }

  #finish({ key, shard }: Subscription): void {
    this.#subscriptions.delete(key);
    this.#delete(shard, key, []);
  }

  // -----------------------------------------------------------------------------------------------------------------

  /** @returns whether it is not being acted on yet */
  #begin(shard: Shard, key: Key): boolean {
    if (this.#acting.get(key) === shard) return false;
    this.#acting.set(key, shard);
    return true;
  }

  #end(shard: Shard, key: Key): void {
    // The shard may be back, and the command be acted on anew.
    if (this.#acting.get(key) === shard) this.#acting.delete(key);
  }

  #idOf(task: TaskHandle): TaskId {
    const id = this.#ids.get(task)!;
    this.#ids.delete(task);
    return id;
  }

  #held(id: TaskId): TaskHandle {
    const { segment, index } = requireTaskId(id);
    const { table } = this.#ports;
    return table.taskAt(table.findSegment(segment), index);
  }

  /** Those that the table has not let go of meanwhile: their effect is still to be written. */
  #stillHere(touched: readonly SegmentHandle[]): SegmentHandle[] {
    return touched.filter((segment) => this.#ports.table.segmentInfo(segment) !== undefined);
  }

  #delete(shard: Shard, key: Key, after: readonly SegmentHandle[]): void {
    this.#dealtWith.set(key, { key, value: undefined, shard, after });
    this.#ports.onChanged();
  }
}

/** Its commands are for the next owner. */
function isOver({ stage }: Shard): boolean {
  return stage === 'over';
}
