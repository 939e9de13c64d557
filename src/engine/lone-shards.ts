/**
 * LoneShards: what a store holds that nobody shares, where all shards are this node's from start to end. What is near comes
 * into the table at start, the rest when it is (far-segments.ts). Where nodes share the store, `Cluster` does this.
 */
import { publish } from '../core/channels.js';
import { type Clock, instantOf, sleep } from '../core/clock.js';
import { isMillraceError } from '../core/errors.js';
import { type SegmentRef, type TaskId, taskId } from '../core/ids.js';
import type { Entry, Revision, Store } from '../core/store.js';
import type { SegmentHandle, TaskHandle, TaskTable } from '../timing/task-table.js';
import type { Home } from './closed-frame.js';
import { FarSegments } from './far-segments.js';
import type { Horizon } from './horizon.js';
import type { ShardPlace } from './keys.js';
import { storedShards, takeStored } from './recovery.js';
import type { Room } from './room.js';
import type { ShardHolder } from './shard-holder.js';
import type { WallTimes } from './wall-times.js';

/** After a read of the store that failed. */
const RETRY_MS = 200;
/** Where the store has one writer, all tasks of a queue are in one shard. */
const ONLY_HOME: Home = { shard: 0, owner: undefined, isInbox: false };

/** What the engine does for it. */
export interface LonePorts {
  readonly clock: Clock;
  readonly store: Store;
  readonly table: TaskTable;
  readonly horizon: Horizon;
  readonly wallTimes: WallTimes;
  readonly room: Room;
  /** These ran in a process that died. */
  lose(tasks: readonly TaskHandle[]): void;
  /** Whoever waits here for this task, which leaves the table, is to wait on. */
  moveWaiters(task: TaskHandle, id: TaskId): void;
  /** What has come near is started. */
  onStarted(): void;
  /** There may be something to write. */
  onChanged(): void;
}

export class LoneShards implements ShardHolder {
  readonly mayStart = true;
  readonly #ports: LonePorts;
  /** Recovered, and not started yet. */
  #near: SegmentHandle[] = [];
  #isRecovered = false;

  constructor(ports: LonePorts) {
    this.#ports = ports;
  }

  /** What is stored comes into the table as far as the horizon, held. */
  async recover(): Promise<void> {
    const { store, horizon } = this.#ports;
    for (const place of await storedShards(store)) {
      const far = this.#farOf(place);
      await far.load(horizon.untilMs, (segment) => this.#near.push(segment));
      horizon.add(far);
    }
    this.#isRecovered = true;
  }

  /** Starts what has been recovered. */
  resume(): void {
    for (const segment of this.#near) this.#start(segment);
    this.#near = [];
  }

  // --- ShardHolder ------------------------------------------------------------------------------------------------

  home(): Home {
    return ONLY_HOME;
  }

  mayBeginIn(): boolean {
    return true;
  }

  /** From start to end the same. */
  epochOf(): Revision {
    return 0 as Revision;
  }

  stillWrites(): boolean {
    return true;
  }

  startsIn(): boolean {
    return true;
  }

  know(ref: SegmentRef, { shard }: Pick<Home, 'shard'>): void {
    const { horizon } = this.#ports;
    if (horizon.of(ref) !== undefined) return;
    // The first one of its queue since this node began, and there was none before.
    const far = this.#farOf({ queue: ref.slice(0, ref.indexOf('.')), shard });
    far.begin(horizon.untilMs);
    horizon.add(far);
  }

  adopted(): void {}

  takeBack(segment: SegmentHandle, ref: SegmentRef): void {
    this.know(ref, ONLY_HOME);
    this.#start(segment);
  }

  isRun(): boolean {
    return true;
  }

  // ----------------------------------------------------------------------------------------------------------------

  /** Brings a stored segment's tasks back to life: what ran under a dead process is lost, the rest waits. */
  #start(segment: SegmentHandle): void {
    const { clock, table, wallTimes, room, lose } = this.#ports;
    const resumed = table.resume(segment, instantOf(clock));
    wallTimes.add(segment);
    if (resumed.open > 0) room.occupy(resumed.openBytes, resumed.open);
    lose(resumed.lost);
  }

  /** A segment stays in the store until it is near. @returns how many of its tasks are open */
  #release(segment: SegmentHandle): number {
    const { table, wallTimes, room, moveWaiters } = this.#ports;
    const ref = table.segmentRef(segment) as SegmentRef;
    wallTimes.delete(segment);
    const released = table.release(segment);
    if (released === undefined) return 0;
    if (released.open > 0) room.release(released.openBytes, released.open);
    for (const { index, task } of released.watched) moveWaiters(task, taskId(ref, index));
    return released.open;
  }

  #farOf(place: ShardPlace): FarSegments {
    const { clock, store, table, horizon, onStarted, onChanged } = this.#ports;
    return new FarSegments(place, {
      store,
      table,
      take: (entry, overlay) => this.#take(entry, overlay),
      resume: (segment) => {
        this.#start(segment);
        onStarted();
      },
      release: (segment) => this.#release(segment),
      pause: () => sleep(clock, RETRY_MS),
      onChanged: () => {
        horizon.update();
        onChanged();
      },
    });
  }

  /** A newer version's segment keeps this node from starting; later it is set aside, as one that is damaged. */
  #take(entry: Entry, overlay: Uint8Array | undefined): SegmentHandle | undefined {
    const { clock, table } = this.#ports;
    try {
      return takeStored(table, entry, overlay, instantOf(clock));
    } catch (cause) {
      if (!this.#isRecovered || !isMillraceError(cause)) throw cause;
      publish('millrace:store:corrupt', () => ({ key: entry.key, cause }));
      return undefined;
    }
  }
}
