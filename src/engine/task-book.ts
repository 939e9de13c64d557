/**
 * The tasks this node holds, and when each of them may start.
 *
 * A pending task is in exactly one of three places: the timer queue (not due), the ready queue of its place of
 * execution (due), or nowhere because a commit or a batch has it. Ready tasks with a ttl keep a timer for it. The
 * book owns the one wake-up of the node: armed for the earliest timer, re-armed when an earlier one comes.
 */
import { publish } from '../core/channels.js';
import type { Clock, WakeUp } from '../core/clock.js';
import { invariant } from '../core/errors.js';
import { parseTaskId, type SegmentRef } from '../core/ids.js';
import { TaskState } from '../core/states.js';
import type { TaskSpec } from '../core/task.js';
import { TimerQueue } from '../timing/timer-queue.js';
import type { LiveTask, Segment } from './live-task.js';
import { ReadyQueue, TypeQueue } from './ready-queue.js';

/** Timers handed out at once; the rest follows in the next turn, so that a burst never blocks the loop. */
const DUE_SLICE = 4_096;

export interface TaskBookEvents {
  /** At least one task became ready. */
  onReady(): void;
  /** A pending task was not started within its ttl. */
  onExpired(task: LiveTask): void;
}

export class TaskBook {
  readonly #clock: Clock;
  readonly #events: TaskBookEvents;
  readonly #timers: TimerQueue;
  readonly #due = new Uint32Array(DUE_SLICE);
  /** The task of each timer token, and the tokens that are free. */
  readonly #timed: (LiveTask | undefined)[] = [];
  readonly #freeTokens: number[] = [];
  readonly #types = new Map<string, TypeQueue<LiveTask>>();
  readonly #segments = new Map<SegmentRef, Segment>();
  #openCount = 0;
  #unhandledOpenCount = 0;
  #isClosed = false;
  #wakeUp: WakeUp | undefined;
  #armedForMs = Number.POSITIVE_INFINITY;

  /** Ready tasks by where they run. Tasks without a handler here wait in `unhandled`. */
  readonly ready: Readonly<Record<'thread' | 'inline', ReadyQueue<LiveTask>>> = {
    thread: new ReadyQueue<LiveTask>(),
    inline: new ReadyQueue<LiveTask>(),
  };
  readonly #unhandled = new ReadyQueue<LiveTask>();

  constructor(clock: Clock, specs: Iterable<TaskSpec>, events: TaskBookEvents) {
    this.#clock = clock;
    this.#events = events;
    this.#timers = new TimerQueue({ startMs: clock.monoMs() });
    for (const spec of specs) {
      const type = new TypeQueue<LiveTask>(spec.name, spec);
      this.#types.set(spec.name, type);
      this.ready[spec.exec].addType(type);
    }
  }

  /** Tasks held whose end is not durable. */
  get openCount(): number {
    return this.#openCount;
  }

  /** Tasks that wait for a time. */
  get delayedCount(): number {
    return this.#isClosed ? 0 : this.#timers.size;
  }

  /** Open tasks that this node could run now or later: those with a handler. */
  get runnableCount(): number {
    return this.#openCount - this.#unhandledOpenCount;
  }

  get readyCount(): number {
    return this.ready.thread.length + this.ready.inline.length + this.#unhandled.length;
  }

  get segments(): Iterable<Segment> {
    return this.#segments.values();
  }

  /** The queue of a type; a type this node cannot run gets one too, whose tasks wait. */
  type(name: string): TypeQueue<LiveTask> {
    let type = this.#types.get(name);
    if (type === undefined) {
      type = new TypeQueue<LiveTask>(name, undefined);
      this.#types.set(name, type);
      this.#unhandled.addType(type);
    }
    return type;
  }

  find(id: string): LiveTask | undefined {
    const place = parseTaskId(id);
    return place && this.#segments.get(place.segment)?.tasks[place.index];
  }

  /** Takes a segment with its tasks in. They wait nowhere yet: `await` each of them. */
  add(segment: Segment): void {
    this.#segments.set(segment.ref, segment);
    this.#count(segment, 1);
  }

  /** The end of a task is durable. */
  noteSettled(task: LiveTask): void {
    this.#openCount--;
    if (task.type.spec === undefined) this.#unhandledOpenCount--;
  }

  /** Forgets a segment. Its tasks are all settled, or were never accepted (`openCount` of them). */
  remove(segment: Segment): void {
    if (this.#segments.delete(segment.ref)) this.#count(segment, -1);
  }

  #count(segment: Segment, sign: 1 | -1): void {
    this.#openCount += sign * segment.openCount;
    for (const task of segment.tasks) {
      if (task.type.spec === undefined && !task.isFiled) this.#unhandledOpenCount += sign;
    }
  }

  /** A pending task waits until `dueMonoMs`; due already, it is ready. */
  waitUntil(task: LiveTask, dueMonoMs: number): void {
    if (dueMonoMs <= this.#clock.monoMs()) this.makeReady(task);
    else this.#setTimer(task, dueMonoMs);
  }

  /** The monotonic moment of a wall-clock time, as both clocks stand now. */
  monoOf(wallMs: number): number {
    return this.#clock.monoMs() + (wallMs - this.#clock.wallMs());
  }

  /** A pending task may start. */
  makeReady(task: LiveTask): void {
    this.forgetTimer(task);
    if (task.expiresAtMs > 0 && task.attempt === 0) {
      const leftMs = task.expiresAtMs - this.#clock.wallMs();
      if (leftMs <= 0) return this.#events.onExpired(task);
      this.#setTimer(task, this.#clock.monoMs() + leftMs);
    }
    const spec = task.type.spec;
    if (spec === undefined) {
      publish('millrace:task:unhandled', () => ({ taskId: task.id, type: task.type.name }));
      this.#unhandled.push(task, task.type);
    } else {
      this.ready[spec.exec].push(task, task.type);
      this.#events.onReady();
    }
  }

  /** The task waits for no time any more. */
  forgetTimer(task: LiveTask): void {
    if (task.timer === undefined) return;
    this.#timers.cancel(task.timer);
    this.#freeToken(task.timerToken);
    task.timer = undefined;
  }

  /** Stops waking. */
  close(): void {
    this.#isClosed = true;
    this.#wakeUp?.cancel();
    this.#timers.close();
  }

  #setTimer(task: LiveTask, atMonoMs: number): void {
    // The timer queue counts whole milliseconds; waking for a fraction would find nothing due.
    const dueMonoMs = Math.ceil(atMonoMs);
    const token = this.#freeTokens.pop() ?? this.#timed.length;
    this.#timed[token] = task;
    task.timerToken = token;
    task.timer = this.#timers.schedule(dueMonoMs, token);
    if (dueMonoMs < this.#armedForMs) this.#arm(dueMonoMs);
  }

  #arm(dueMonoMs: number): void {
    this.#wakeUp?.cancel();
    this.#armedForMs = dueMonoMs;
    this.#wakeUp = this.#clock.wakeIn(dueMonoMs - this.#clock.monoMs(), () => this.#onWake());
  }

  #onWake(): void {
    this.#armedForMs = Number.POSITIVE_INFINITY;
    const count = this.#timers.advance(this.#clock.monoMs(), this.#due);
    for (let i = 0; i < count; i++) this.#onDue(this.#due[i]!);
    if (count === this.#due.length) {
      this.#armedForMs = 0;
      this.#wakeUp = this.#clock.wakeSoon(() => this.#onWake());
      return;
    }
    const next = this.#timers.nextDueMs();
    if (next < this.#armedForMs) this.#arm(next);
  }

  #onDue(token: number): void {
    const task = this.#timed[token];
    invariant(task !== undefined, 'task-book.token', { token });
    this.#freeToken(token);
    task.timer = undefined;
    if (task.state !== TaskState.PENDING) return;
    if (task.isReady) this.#events.onExpired(task);
    else this.makeReady(task);
  }

  #freeToken(token: number): void {
    this.#timed[token] = undefined;
    this.#freeTokens.push(token);
  }
}
