/**
 * LoneShards: what a store holds that nobody shares, where all shards are this node's from start to end. What is near comes
 * into the table at start, the rest when it is (far-segments.ts). Where nodes share the store, `Shards` does this.
 */
import { publish } from '../core/channels.js';
import { type Clock, sleep } from '../core/clock.js';
import { isMillraceError } from '../core/errors.js';
import type { SegmentRef } from '../core/ids.js';
import type { Entry, Store } from '../core/store.js';
import type { Instant, SegmentHandle, TaskTable } from '../timing/task-table.js';
import { FarSegments } from './far-segments.js';
import type { Horizon } from './horizon.js';
import type { ShardPlace } from './keys.js';
import { storedShards, takeStored } from './recovery.js';

/** After a read of the store that failed. */
const RETRY_MS = 200;

export interface LoneEvents {
  /** A segment is near: starts it. */
  resume(segment: SegmentHandle): void;
  /** The table is to let go of a segment. @returns how many of its tasks were open */
  release(segment: SegmentHandle): number;
  /** There may be something to write. */
  onChanged(): void;
}

export class LoneShards {
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #table: TaskTable;
  readonly #horizon: Horizon;
  readonly #events: LoneEvents;
  #isRecovered = false;

  constructor(
    ports: {
      readonly clock: Clock;
      readonly store: Store;
      readonly table: TaskTable;
      readonly horizon: Horizon;
    },
    events: LoneEvents,
  ) {
    this.#clock = ports.clock;
    this.#store = ports.store;
    this.#table = ports.table;
    this.#horizon = ports.horizon;
    this.#events = events;
  }

  /** What is stored comes into the table as far as the horizon, held. */
  async recover(): Promise<SegmentHandle[]> {
    const near: SegmentHandle[] = [];
    for (const place of await storedShards(this.#store)) {
      const far = this.#farOf(place);
      await far.load(this.#horizon.untilMs, (segment) => near.push(segment));
      this.#horizon.add(far);
    }
    this.#isRecovered = true;
    return near;
  }

  /** A segment was put: its shard is known to the horizon from here on. */
  know(ref: SegmentRef, shard: number): void {
    if (this.#horizon.of(ref) !== undefined) return;
    // The first one of its queue since this node began, and there was none before.
    const far = this.#farOf({ queue: ref.slice(0, ref.indexOf('.')), shard });
    far.begin(this.#horizon.untilMs);
    this.#horizon.add(far);
  }

  #farOf(place: ShardPlace): FarSegments {
    return new FarSegments(place, {
      store: this.#store,
      table: this.#table,
      take: (entry, overlay) => this.#take(entry, overlay),
      resume: (segment) => this.#events.resume(segment),
      release: (segment) => this.#events.release(segment),
      pause: () => sleep(this.#clock, RETRY_MS),
      onChanged: () => {
        this.#horizon.update();
        this.#events.onChanged();
      },
    });
  }

  /** A newer version's segment keeps this node from starting; later it is set aside, as one that is damaged. */
  #take(entry: Entry, overlay: Uint8Array | undefined): SegmentHandle | undefined {
    try {
      return takeStored(this.#table, entry, overlay, this.#now());
    } catch (cause) {
      if (!this.#isRecovered || !isMillraceError(cause)) throw cause;
      publish('millrace:store:corrupt', () => ({ key: entry.key, cause }));
      return undefined;
    }
  }

  #now(): Instant {
    return { wallMs: this.#clock.wallMs(), monoMs: this.#clock.monoMs() };
  }
}
