/**
 * Amendments: what is changed of tasks that are stored, beside how they go on their own, by the owner of their shard.
 *
 *   Reschedules        another due time for a task that waits                reschedules.ts
 *   Redrives           a dead letter runs again                              redrives.ts
 *   SegmentAdditions   what the commit with either writes besides            segment-additions.ts
 */
import { publish } from '../core/channels.js';
import type { Clock } from '../core/clock.js';
import type { Incarnation, TaskId } from '../core/ids.js';
import type { Store } from '../core/store.js';
import type { TaskTable } from '../timing/task-table.js';
import type { Horizon } from './horizon.js';
import { type RedriveAnswer, Redrives } from './redrives.js';
import { type NewDue, type RescheduleAnswer, Reschedules } from './reschedules.js';
import type { Room } from './room.js';
import { SegmentAdditions } from './segment-additions.js';
import type { ShardHolder } from './shard-holder.js';
import type { TimeKeeper } from './time-keeper.js';

/** What the engine knows and does for them. */
export interface AmendmentPorts {
  readonly clock: Clock;
  readonly store: Store;
  readonly table: TaskTable;
  readonly horizon: Horizon;
  readonly time: TimeKeeper;
  readonly room: Room;
  readonly holder: ShardHolder;
  /** Of the engine; its events say so. */
  readonly incarnation: Incarnation;
  /** There is something to write. */
  requestCommit(): void;
}

export class Amendments {
  /** For the cut. */
  readonly additions: SegmentAdditions;
  readonly #reschedules: Reschedules;
  readonly #redrives: Redrives;

  constructor(ports: AmendmentPorts) {
    const { clock, store, table, horizon, time, room, holder, incarnation } = ports;
    const onChanged = (): void => {
      time.update();
      ports.requestCommit();
    };
    this.additions = new SegmentAdditions({
      table,
      stillWrites: (segment) => holder.stillWrites(segment),
      onWritten: () => {
        this.#redrives.onWritten();
        this.#reschedules.onWritten();
      },
    });
    const common = { clock, table, additions: this.additions, onChanged };
    this.#reschedules = new Reschedules({
      ...common,
      mayBeginIn: (ref) => holder.mayBeginIn(ref),
      farOf: (ref) => horizon.of(ref),
      onDated: (ref) => time.wallTimes.add(table.findSegment(ref)),
    });
    this.#redrives = new Redrives({
      ...common,
      store,
      epochOf: (ref) => holder.epochOf(ref),
      adopt: (segment, ref) => holder.takeBack(segment, ref),
      onOpened: (payloadBytes) => room.occupy(payloadBytes, 1),
      onRedriven: (ref, tasks) => {
        const queue = ref.slice(0, ref.indexOf('.'));
        publish('millrace:tasks:redriven', () => ({ incarnation, queue, tasks }));
      },
    });
  }

  /** Lets a task that this node holds be due at another time. Resolves when that is durable, or cannot be. */
  reschedule(id: TaskId, due: NewDue): Promise<RescheduleAnswer> {
    return this.#reschedules.reschedule(id, due);
  }

  /**
   * Makes a dead letter of a shard of ours run again. Resolves when that is durable, or cannot be.
   *
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE; nothing has changed then
   */
  redrive(id: TaskId): Promise<RedriveAnswer> {
    return this.#redrives.redrive(id);
  }

  /**
   * Changes what is wanted, as far as one commit goes. REQUIRES: no commit is under way.
   *
   * @param operationsMax - of the next commit
   */
  beforeCut(operationsMax: number): void {
    this.additions.beforeCut(operationsMax);
    this.#redrives.beforeCut();
    this.#reschedules.beforeCut();
  }

  /** Takes nothing more in. What has been taken in is still written: its overlays must not go without it. */
  close(): void {
    this.#redrives.close();
    this.#reschedules.close();
  }

  /** Nothing is written any more. */
  end(): void {
    // What had been read for already when no more was taken in.
    this.close();
    this.additions.close();
  }
}
