/**
 * TimeKeeper: what happens to tasks because time passes.
 *
 *   they are due         the table makes them ready; a task that has no handler here is told of
 *   they expire          a task that was not started within its ttl ends
 *   the clocks drift     what waits for a moment of the wall clock is timed anew, here and beyond the horizon
 */
import { publish } from '../core/channels.js';
import { type Clock, instantOf } from '../core/clock.js';
import { type SegmentRef, type TaskId, taskId } from '../core/ids.js';
import { TaskState } from '../core/states.js';
import type { TaskHandle, TaskInfo, TaskTable } from '../timing/task-table.js';
import { expiredBytes } from './ends.js';
import type { Horizon } from './horizon.js';
import { Waker } from './waker.js';
import { WallTimes } from './wall-times.js';

export interface TimeEvents {
  /** Time has passed: tasks may be ready, or have ended. */
  onPassed(): void;
  /** The wall clock has moved against the monotonic one, and what is due by it is timed anew. */
  onDrift(): void;
  /** A task is due that has no handler here. */
  onUnhandled(task: TaskHandle, type: string): void;
  /** Tasks have expired, which is to be written. */
  onExpired(): void;
}

export class TimeKeeper {
  /** Segments that are due by the wall clock. */
  readonly wallTimes: WallTimes;
  readonly #clock: Clock;
  readonly #table: TaskTable;
  readonly #horizon: Horizon;
  readonly #events: TimeEvents;
  readonly #waker: Waker;

  constructor(
    {
      clock,
      table,
      horizon,
    }: { readonly clock: Clock; readonly table: TaskTable; readonly horizon: Horizon },
    events: TimeEvents,
  ) {
    this.#clock = clock;
    this.#table = table;
    this.#horizon = horizon;
    this.#events = events;
    this.wallTimes = new WallTimes(clock, table);
    this.#waker = new Waker(
      clock,
      table,
      () => this.pass(),
      (jumpMs) => this.#onDrift(jumpMs),
    );
  }

  /** Tasks may wait for a time that is earlier than all before. Cheap; call it after every change. */
  update(): void {
    this.#waker.update();
  }

  /** Looks at the wall clock now: before a wait begins that a jump of before is not to move. */
  noteDrift(): void {
    this.#waker.noteDrift();
  }

  /** Acts on what is due and on what has expired, as the table knows it by now. */
  look(): void {
    if (this.#table.hasExpired) this.#expire();
    for (const task of this.#table.takeUnhandled()) this.#tellUnhandled(task);
  }

  /** The same, for everybody: time has passed. */
  pass(): void {
    this.look();
    this.#events.onPassed();
  }

  stop(): void {
    this.#waker.stop();
  }

  #onDrift(jumpMs: number): void {
    this.wallTimes.renew(jumpMs);
    this.#horizon.look();
    this.#events.onDrift();
  }

  #tellUnhandled(task: TaskHandle): void {
    const info = this.#table.inspect(task);
    if (info === undefined) return;
    const type = this.#table.typeName(info.type) ?? '';
    publish('millrace:task:unhandled', () => ({ taskId: this.#idOf(info), type }));
    this.#events.onUnhandled(task, type);
  }

  #expire(): void {
    while (this.#table.hasExpired) {
      for (const task of this.#table.takeExpired()) {
        const info = this.#table.inspect(task);
        if (info === undefined) continue;
        const bytes = expiredBytes(this.#idOf(info), info.expiresAtMs);
        this.#table.end(task, TaskState.EXPIRED, bytes, instantOf(this.#clock));
      }
    }
    this.#events.onExpired();
  }

  #idOf({ segment, index }: TaskInfo): TaskId {
    return taskId(this.#table.segmentRef(segment) as SegmentRef, index);
  }
}
