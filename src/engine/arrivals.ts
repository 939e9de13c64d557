/**
 * Arrivals: where tasks go that a commit puts into the store.
 *
 *   near        into the table, before they can be claimed by the same commit
 *   beyond      the horizon: they are in the store, and leave the table with their acknowledgement
 *   elsewhere   into the inbox of another node, or into a shard that was lost meanwhile: whoever has it finds them there
 *
 * With them goes the account of room: a submitter has taken room for what it submits. What is not open here gives it back; and
 * what nobody waits for any more, since its fate was open for too long, takes it again when it is stored after all.
 */
import { publish } from '../core/channels.js';
import { type Clock, instantOf } from '../core/clock.js';
import { type Incarnation, segmentDueAtMs, taskId } from '../core/ids.js';
import type { SegmentHandle, TaskHandle, TaskTable } from '../timing/task-table.js';
import type { ClosedFrame } from './closed-frame.js';
import type { Horizon } from './horizon.js';
import type { GatedFrame } from './intake.js';
import type { Room } from './room.js';
import type { ShardHolder } from './shard-holder.js';
import { NOT_HELD } from './task-desk.js';
import type { WallTimes } from './wall-times.js';

export interface ArrivalPorts {
  readonly clock: Clock;
  readonly table: TaskTable;
  readonly horizon: Horizon;
  readonly wallTimes: WallTimes;
  readonly room: Room;
  readonly holder: ShardHolder;
  /** Of the engine; its events say so. */
  readonly incarnation: Incarnation;
}

export class Arrivals {
  readonly #ports: ArrivalPorts;

  constructor(ports: ArrivalPorts) {
    this.#ports = ports;
  }

  /** Gives the tasks of a frame to the table, ready or waiting. */
  adopt(frame: ClosedFrame): SegmentHandle {
    const { clock, table, wallTimes, holder } = this.#ports;
    const segment = table.ingest(frame.frame, frame.ref, instantOf(clock), {
      dueMonoMs: frame.dueMonoMs,
    });
    if (frame.isDueByDate) wallTimes.add(segment);
    holder.adopted(segment, frame.home);
    return segment;
  }

  /**
   * A frame is durable; its submitters hear of that.
   *
   * @param segment - 0 for one that went to an inbox
   * @param isAwaited - whether somebody waits to hear of it; else it was given up as unclear
   */
  accept(frame: ClosedFrame, segment: SegmentHandle, isAwaited: boolean): void {
    const { table, horizon } = this.#ports;
    // The clock may have gone back since the cut, which has claimed what was due then.
    const isBeyond = segment !== 0 && this.#isBeyond(frame) && !this.#hasClaims(frame, segment);
    if (isAwaited) {
      frame.owner.accept(frame.ref, (index) =>
        isBeyond ? NOT_HELD : table.taskAt(segment, index),
      );
    } else this.#occupyAgain(frame);
    this.tellSubmitted(frame, { tasks: frame.owner.count, deduplicated: 0 });
    if (frame.home.isInbox) this.#handOver(frame);
    if (isBeyond) horizon.of(frame.ref)?.letGo(segment, frame.ref);
  }

  /**
   * Tasks with a gate have come into being.
   *
   * @param isAwaited - as of `accept`
   * @returns which task an index of the frame is; 0 when this node does not hold them
   */
  takeUp(frame: GatedFrame, isAwaited: boolean): (index: number) => TaskHandle {
    if (!isAwaited) this.#occupyAgain(frame);
    // Who has the shard by now finds it there.
    const { owner, isInbox } = frame.home;
    const isElsewhere = isInbox || (owner !== undefined && owner.stage !== 'active');
    const isBeyond = !isElsewhere && this.#isBeyond(frame);
    if (!isElsewhere && !isBeyond) {
      const segment = this.adopt(frame);
      return (index) => this.#ports.table.taskAt(segment, index);
    }
    this.#handOver(frame);
    if (isBeyond) this.#ports.horizon.of(frame.ref)?.note(frame.ref, frame.owner.count);
    return () => NOT_HELD;
  }

  tellSubmitted(
    { ref }: ClosedFrame,
    counts: { readonly tasks: number; readonly deduplicated: number },
  ): void {
    publish('millrace:tasks:submitted', () => ({
      incarnation: this.#ports.incarnation,
      queue: ref.slice(0, ref.indexOf('.')),
      ...counts,
    }));
  }

  /** Whether what was put stays in the store only, until it is near. */
  #isBeyond({ ref, home }: ClosedFrame): boolean {
    const { horizon, holder } = this.#ports;
    if (segmentDueAtMs(ref) < horizon.untilMs) return false;
    holder.know(ref, home);
    return horizon.isBeyond(ref);
  }

  #hasClaims({ owner }: ClosedFrame, segment: SegmentHandle): boolean {
    const { table } = this.#ports;
    for (let index = 0; index < owner.count; index++) {
      if (table.placeOf(table.taskAt(segment, index)) !== undefined) return true;
    }
    return false;
  }

  /** They are stored after all: their submitters were told that nobody knows, and gave their room back. */
  #occupyAgain({ owner }: ClosedFrame): void {
    this.#ports.room.occupy(owner.payloadBytes, owner.count);
  }

  /** They are not open here any more. */
  #handOver({ ref, queue, type, owner }: ClosedFrame): void {
    const { room, holder } = this.#ports;
    if (!holder.isRun(queue, type)) {
      for (let index = 0; index < owner.count; index++) {
        publish('millrace:task:unhandled', () => ({ taskId: taskId(ref, index), type }));
      }
    }
    room.release(owner.payloadBytes, owner.count);
  }
}
