/**
 * Shards: what this node owns of the queues, from the moment its key is there until it has let go.
 *
 *   acquired   overlays, segments and inbox are read into the table, held; then all of it is resumed: `active`
 *   active     inbox and commands are followed; new segments are put here
 *   leaving    somebody else is to have it: its tasks are held, what ended is written by one more commit; then it is
 *              let go of, and the owner key deleted. What runs goes on here and reports to the next owner
 *   lost       it is somebody else's already: let go of as it is
 *
 * Reading needs no single revision: from the moment that the owner key is ours nobody else writes segments and overlays
 * (an older owner's transactions compare its epoch), and we do not before all is read. Only the inbox and the commands
 * grow meanwhile, and those are followed from a list of their own.
 *
 * What is due beyond the horizon is not read at all until it comes near (far-segments.ts).
 *
 * The table may only let go between two commits, so `settle()` is called as one is cut, when none is under way.
 *
 * Invariants: (1) nothing is written to a shard that is not `active` or `leaving`; (2) a segment is in the table once:
 * an ownership waits with reading until the one before it is over; (3) `over` is final.
 */

import type { OwnedShard, ShardOwner } from '../coordination/shard-keeper.js';
import { Backoff, isTransient } from '../core/backoff.js';
import { publish } from '../core/channels.js';
import { type Clock, instantOf, sleep } from '../core/clock.js';
import { hasCode, isMillraceError, type MillraceError } from '../core/errors.js';
import { follow } from '../core/follow.js';
import type { SegmentRef } from '../core/ids.js';
import type { Random } from '../core/random.js';
import type { Entry, Key, Revision, Store } from '../core/store.js';
import type { SegmentHandle, TaskTable } from '../timing/task-table.js';
import type { Guard } from './commit-lane.js';
import { FarSegments } from './far-segments.js';
import type { Horizon } from './horizon.js';
import { inboxKey, refOfKey, type ShardPlace, segmentKey, shardRange } from './keys.js';
import { entriesOf } from './recovery.js';
import { Shard } from './shard.js';

/** After a read of the store that failed. */
const RETRY_MS = 200;

export interface ShardEvents {
  /** Starts a segment that is in the table, held. */
  resume(segment: SegmentHandle): void;
  /** Everything is resumed. */
  onActive(shard: Shard): void;
  onCommand(shard: Shard, entry: Entry): void;
  onCommandGone(key: Key): void;
  /** A segment is held for good: its shard goes to somebody else. */
  onHeld(segment: SegmentHandle): void;
  /** The table is to let go of a segment of a shard. @returns how many of its tasks were open */
  release(segment: SegmentHandle, shard: Shard): number;
  onOver(shard: Shard): void;
  /** There may be something to write, or to claim. */
  onChanged(): void;
}

export class Shards implements ShardOwner {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #store: Store;
  readonly #table: TaskTable;
  readonly #horizon: Horizon;
  readonly #events: ShardEvents;
  /** Those that are not over, by owner key; a key may have an older ownership that still ends. */
  readonly #current = new Map<Key, Shard>();
  readonly #ending = new Set<Shard>();
  readonly #lost = new Set<Shard>();
  readonly #bySegment = new Map<SegmentHandle, Shard>();
  /** By queue, and which of them gets the next frame. */
  readonly #active = new Map<string, { readonly shards: Shard[]; turn: number }>();
  readonly #readers = new Set<Promise<void>>();

  constructor(
    ports: {
      readonly clock: Clock;
      readonly random: Random;
      readonly store: Store;
      readonly table: TaskTable;
      readonly horizon: Horizon;
    },
    events: ShardEvents,
  ) {
    this.#clock = ports.clock;
    this.#random = ports.random;
    this.#store = ports.store;
    this.#table = ports.table;
    this.#horizon = ports.horizon;
    this.#events = events;
  }

  /** The shard that the next new segment of a queue goes to; undefined: none is active here. */
  next(queue: string): Shard | undefined {
    const active = this.#active.get(queue);
    if (active === undefined) return undefined;
    active.turn = (active.turn + 1) % active.shards.length;
    return active.shards[active.turn];
  }

  /** Those that tasks run of, and are put to. */
  *active(): Generator<Shard, void, undefined> {
    for (const { shards } of this.#active.values()) yield* shards;
  }

  /** Whether tasks of a shard may be started here. */
  isActive({ queue, shard }: ShardPlace): boolean {
    const active = this.#active.get(queue)?.shards ?? [];
    return active.some((one) => one.shard === shard);
  }

  /** What a commit that writes of this segment stands on. */
  guardsOf(segment: SegmentHandle): readonly Guard[] {
    const shard = this.#bySegment.get(segment);
    if (shard === undefined) return [];
    const inbox = shard.segments.get(segment);
    return inbox === undefined ? [shard.guard] : [shard.guard, inbox];
  }

  /** The segment of an inbox that a guard stands for. */
  segmentOf({ key, createRevision }: Guard): SegmentHandle | undefined {
    if (!key.startsWith('i/')) return undefined;
    const segment = this.#table.findSegment(refOfKey(key));
    const guard = this.#bySegment.get(segment)?.segments.get(segment);
    return guard?.createRevision === createRevision ? segment : undefined;
  }

  /** Whether the tasks of a segment are open here. */
  isResumed(segment: SegmentHandle): boolean {
    return this.#bySegment.get(segment)?.isResumed === true;
  }

  /** Where a segment is stored. */
  keyOf(segment: SegmentHandle, ref: SegmentRef): Key {
    const isInbox = this.#bySegment.get(segment)?.segments.get(segment) !== undefined;
    return isInbox ? inboxKey(ref) : segmentKey(ref);
  }

  /** A segment of this node's own has come into the table. */
  adopted(segment: SegmentHandle, shard: Shard, inbox?: Guard): void {
    shard.segments.set(segment, inbox);
    this.#bySegment.set(segment, shard);
  }

  /** The table has dropped a segment. */
  dropped(segment: SegmentHandle): void {
    this.#bySegment.get(segment)?.segments.delete(segment);
    this.#bySegment.delete(segment);
  }

  // --- ShardOwner -------------------------------------------------------------------------------------------------

  onAcquired(owned: OwnedShard): void {
    const before = this.#current.get(owned.key);
    if (before !== undefined) this.#end(before, this.#lost);
    const shard = new Shard(owned);
    this.#current.set(owned.key, shard);
    const reader = this.#read(shard).finally(() => this.#readers.delete(reader));
    this.#readers.add(reader);
  }

  onReleaseAsked(owned: OwnedShard): Promise<void> {
    const shard = this.#current.get(owned.key);
    if (shard?.owned !== owned) return Promise.resolve();
    return new Promise((resolve) => {
      shard.onOver.push(resolve);
      this.#end(shard, this.#ending);
    });
  }

  onLost(owned: OwnedShard, _cause: MillraceError): void {
    const shard = this.#current.get(owned.key);
    if (shard?.owned === owned) this.#end(shard, this.#lost);
    else for (const ending of this.#ending) if (ending.owned === owned) this.#lost.add(ending);
  }

  /** A commit has found that the shard is not ours any more, before anybody told us. */
  onBroken({ key, createRevision }: Guard): void {
    const shard = this.#current.get(key);
    if (shard?.epoch === createRevision) this.#end(shard, this.#lost);
    for (const ending of this.#ending) {
      if (ending.guard.key === key && ending.epoch === createRevision) this.#lost.add(ending);
    }
  }

  // ----------------------------------------------------------------------------------------------------------------

  /**
   * Lets go of what can be let go of. REQUIRES: no commit is under way.
   *
   * @param hasMore - whether something other than tasks is still to be written for a shard
   */
  settle(hasMore: (shard: Shard) => boolean): void {
    for (const shard of this.#lost) this.#letGo(shard);
    for (const shard of this.#ending) {
      if (!hasMore(shard) && !this.#isDirty(shard)) this.#letGo(shard);
    }
  }

  /** No commit comes any more: lets go of everything as it is. */
  abandon(): void {
    for (const shard of [...this.#current.values()]) this.#end(shard, this.#lost);
    for (const shard of [...this.#lost, ...this.#ending]) this.#letGo(shard);
  }

  /** Resolves when no earlier ownership of a shard is still to be let go of. */
  async untilOver(at: ShardPlace): Promise<void> {
    const before = [...this.#ending, ...this.#lost].filter(
      ({ queue, shard }) => queue === at.queue && shard === at.shard,
    );
    await Promise.all(
      before.map((shard) => new Promise<void>((resolve) => shard.onOver.push(resolve))),
    );
  }

  /**
   * Whether a segment is stored. Somebody speaks of its tasks and it is not here: then the watch of the inbox is behind,
   * and what has come there is taken in.
   *
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE
   */
  async fetch(shard: Shard, ref: SegmentRef): Promise<boolean> {
    const entry = await this.#store.get(inboxKey(ref));
    if (entry === undefined) return (await this.#store.get(segmentKey(ref))) !== undefined;
    const isBeyond = shard.far?.isBeyond(ref, this.#horizon.untilMs) === true;
    if (shard.stage === 'active' && !isBeyond && this.#onInbox(shard, entry)) {
      this.#events.onChanged();
    }
    return true;
  }

  /** The shard that a segment in the table belongs to. */
  shardOf(segment: SegmentHandle): Shard | undefined {
    return this.#bySegment.get(segment);
  }

  /** Reads no more. */
  async close(): Promise<void> {
    for (const shard of this.#current.values()) shard.reading.abort();
    await Promise.all(this.#readers);
  }

  #isDirty({ segments }: Shard): boolean {
    for (const segment of segments.keys()) {
      if (this.#table.segmentInfo(segment)?.isDirty) return true;
    }
    return false;
  }

  #activate(shard: Shard): void {
    shard.stage = 'active';
    shard.isResumed = true;
    const active = this.#active.get(shard.queue);
    if (active === undefined) this.#active.set(shard.queue, { shards: [shard], turn: 0 });
    else active.shards.push(shard);
  }

  #deactivate(shard: Shard): void {
    shard.stage = 'leaving';
    const active = this.#active.get(shard.queue);
    const at = active?.shards.indexOf(shard) ?? -1;
    if (at >= 0) active!.shards.splice(at, 1);
    if (active?.shards.length === 0) this.#active.delete(shard.queue);
  }

  #end(shard: Shard, into: Set<Shard>): void {
    this.#deactivate(shard);
    shard.reading.abort();
    this.#current.delete(shard.owned.key);
    into.add(shard);
    if (shard.far !== undefined) this.#horizon.remove(shard.far);
    for (const segment of shard.segments.keys()) {
      this.#table.hold(segment);
      this.#events.onHeld(segment);
    }
    this.#events.onChanged();
  }

  #letGo(shard: Shard): void {
    this.#lost.delete(shard);
    this.#ending.delete(shard);
    shard.stage = 'over';
    for (const segment of shard.segments.keys()) {
      this.#bySegment.delete(segment);
      this.#events.release(segment, shard);
    }
    shard.segments.clear();
    this.#events.onOver(shard);
    for (const tell of shard.onOver) tell();
  }

  // --- Reading ----------------------------------------------------------------------------------------------------

  async #read(shard: Shard): Promise<void> {
    const { signal } = shard.reading;
    // It may still hold the segments.
    await this.untilOver(shard);
    await this.#retrying(signal, () => this.#load(shard));
    if (signal.aborted) return;
    await Promise.all([
      this.#retrying(signal, () => this.#followInbox(shard)),
      this.#retrying(signal, () => this.#followCommands(shard)),
    ]);
  }

  async #retrying(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    const backoff = new Backoff(this.#clock, this.#random);
    while (!signal.aborted) {
      try {
        return await work();
      } catch (error) {
        if (hasCode(error, 'ERR_MILLRACE_CLOSED')) return;
        if (!isMillraceError(error) || !isTransient(error)) throw error;
        await backoff.pause(signal).catch(() => {});
      }
    }
  }

  async #load(shard: Shard): Promise<void> {
    const { signal } = shard.reading;
    // What is put into the inbox while it is read is told by its watch.
    const inbox = await this.#store.range(shardRange('i', shard), { limit: 1, keysOnly: true });
    shard.inboxFrom = (inbox.revision + 1) as Revision;
    shard.far ??= this.#farOf(shard);
    // What an earlier try has read is there already.
    await shard.far.load(this.#horizon.untilMs);
    if (signal.aborted) return;
    this.#activate(shard);
    for (const segment of shard.segments.keys()) this.#events.resume(segment);
    this.#horizon.add(shard.far);
    this.#events.onActive(shard);
    this.#events.onChanged();
  }

  #farOf(shard: Shard): FarSegments {
    return new FarSegments(shard.owned, {
      store: this.#store,
      table: this.#table,
      take: (entry, overlay) => this.#take(shard, entry, overlay),
      resume: (segment) => {
        this.#events.resume(segment);
        this.#events.onChanged();
      },
      release: (segment) => {
        this.dropped(segment);
        return this.#events.release(segment, shard);
      },
      pause: () => sleep(this.#clock, RETRY_MS, shard.reading.signal).catch(() => {}),
      onChanged: () => {
        this.#horizon.update();
        this.#events.onChanged();
      },
    });
  }

  async #followInbox(shard: Shard): Promise<void> {
    const { signal } = shard.reading;
    const range = shardRange('i', shard);
    try {
      const options = { startRevision: shard.inboxFrom, signal };
      for await (const { events, revision } of this.#store.watch(range, options)) {
        if (signal.aborted) return;
        let isNew = false;
        for (const event of events) {
          if (event.type === 'put') isNew = this.#onInbox(shard, event.entry) || isNew;
        }
        shard.inboxFrom = (revision + 1) as Revision;
        if (isNew) this.#events.onChanged();
      }
    } catch (error) {
      if (!hasCode(error, 'ERR_MILLRACE_COMPACTED')) throw error;
      await this.#listInbox(shard);
      return this.#followInbox(shard);
    }
  }

  /** The watch has lost its place: what is there and due within the horizon, and what lies beyond counted anew. */
  async #listInbox(shard: Shard): Promise<void> {
    const range = shardRange('i', shard);
    const { revision } = await this.#store.range(range, { limit: 1, keysOnly: true });
    await shard.far!.reading(async () => {
      for await (const entry of entriesOf(this.#store, range)) {
        if (shard.reading.signal.aborted) return;
        this.#onInbox(shard, entry);
      }
    });
    this.#horizon.count(shard.far!);
    shard.inboxFrom = (revision + 1) as Revision;
    this.#events.onChanged();
  }

  /** @returns whether there is something new to do */
  #onInbox(shard: Shard, entry: Entry): boolean {
    const ref = refOfKey(entry.key);
    const far = shard.far!;
    if (this.#table.findSegment(ref) === 0 && far.isBeyond(ref, this.#horizon.untilMs)) {
      far.noteStored(ref, entry.value);
      return false;
    }
    const segment = far.takeNow(entry);
    return segment !== undefined;
  }

  async #followCommands(shard: Shard): Promise<void> {
    const { signal } = shard.reading;
    for await (const { events } of follow(this.#store, shardRange('c', shard), { signal })) {
      if (signal.aborted) return;
      for (const event of events) {
        if (event.type === 'put') this.#events.onCommand(shard, event.entry);
        else this.#events.onCommandGone(event.key);
      }
      this.#events.onChanged();
    }
  }

  /** Takes a stored segment into the table, held, once; one that does not decode is set aside with a loud event. */
  #take(
    shard: Shard,
    { key, value, createRevision }: Entry,
    overlay: Uint8Array | undefined,
  ): SegmentHandle | undefined {
    const ref = refOfKey(key);
    // Read for a shard that was let go of meanwhile: nobody would ever let go of it again.
    if (shard.stage === 'over' || this.#table.findSegment(ref) !== 0) return undefined;
    let segment = 0 as SegmentHandle;
    try {
      segment = this.#table.ingest(value, ref, instantOf(this.#clock), { hold: true });
      if (overlay !== undefined) this.#table.applyOverlay(segment, overlay);
    } catch (cause) {
      if (!isMillraceError(cause)) throw cause;
      if (segment !== 0) this.#table.drop(segment);
      publish('millrace:store:corrupt', () => ({ key, cause }));
      return undefined;
    }
    this.adopted(segment, shard, key.startsWith('i/') ? { key, createRevision } : undefined);
    return segment;
  }
}
