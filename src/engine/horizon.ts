/**
 * Horizon: how far ahead a node holds its tasks in memory, for all of its shards.
 *
 * What is due within the horizon is in the table, what lies beyond is in the store (far-segments.ts). A shard is read on when
 * its next segment is half a horizon away, and then for a whole one: so tasks arrive in memory minutes before they are
 * due, and a steady stream of them costs a range read per shard in half a horizon.
 *
 * Due times are by the wall clock, which may jump, and a machine may have slept. So while something lies beyond, the clock is
 * looked at every five seconds: far less than what is loaded ahead.
 */
import type { Clock, WakeUp } from '../core/clock.js';
import { hasCode, isMillraceError } from '../core/errors.js';
import type { SegmentRef } from '../core/ids.js';
import type { FarSegments } from './far-segments.js';
import type { ShardPlace } from './keys.js';

const HORIZON_MS = 15 * 60_000;
/** So long before it is due a task is in memory. */
const AHEAD_MS = HORIZON_MS / 2;
const LOOK_MS = 5_000;

export class Horizon {
  readonly #clock: Clock;
  readonly #shards = new Map<string, FarSegments>();
  readonly #loading = new Map<FarSegments, Promise<void>>();
  readonly #counting = new Set<Promise<void>>();
  #wakeUp: WakeUp | undefined;
  #isClosed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Up to when what is taken up now is loaded, by the wall clock. */
  get untilMs(): number {
    return this.#clock.wallMs() + HORIZON_MS;
  }

  /** Tasks beyond. */
  get tasks(): number {
    let tasks = 0;
    for (const far of this.#shards.values()) tasks += far.tasks;
    return tasks;
  }

  /** Whether nothing lies beyond. */
  get isEmpty(): boolean {
    for (const { nextDueMs } of this.#shards.values())
      if (nextDueMs !== Number.POSITIVE_INFINITY) return false;
    return true;
  }

  /** A shard whose first part is loaded. */
  add(far: FarSegments): void {
    this.#shards.set(nameOf(far.at), far);
    this.count(far);
    this.update();
  }

  /** Counts what a shard has beyond, in the background. */
  count(far: FarSegments): void {
    const counting = far
      .count()
      .catch((error: unknown) => {
        if (!hasCode(error, 'ERR_MILLRACE_CLOSED')) throw error;
      })
      .finally(() => this.#counting.delete(counting));
    this.#counting.add(counting);
  }

  /** It is not ours any more. */
  remove(far: FarSegments): void {
    far.close();
    if (this.#shards.get(nameOf(far.at)) === far) this.#shards.delete(nameOf(far.at));
  }

  /** The shard that a segment is in, if it is one of ours. */
  of(ref: SegmentRef): FarSegments | undefined {
    if (this.#shards.size === 0) return undefined;
    const at = ref.indexOf('.');
    return this.#shards.get(ref.slice(0, ref.indexOf('.', at + 1)));
  }

  /** The same, where the segment may be beyond. */
  beyond(ref: SegmentRef): FarSegments | undefined {
    const far = this.of(ref);
    far?.roll(this.untilMs);
    return far?.mayHave(ref) ? far : undefined;
  }

  /** Whether a segment that is put now stays in the store only. */
  isBeyond(ref: SegmentRef): boolean {
    return this.of(ref)?.isBeyond(ref, this.untilMs) === true;
  }

  /** A segment has gone out of the table. Cheap. */
  dropped(ref: SegmentRef): void {
    this.of(ref)?.dropped(ref);
  }

  at(place: ShardPlace): FarSegments | undefined {
    return this.#shards.get(nameOf(place));
  }

  /** Lets go of what was visited and is written. REQUIRES: no commit is under way. */
  settle(): void {
    for (const far of this.#shards.values()) far.settle();
  }

  /** Something may be nearer than before. Cheap. */
  update(): void {
    if (this.#wakeUp !== undefined || this.#isClosed || this.isEmpty) return;
    this.#wakeUp = this.#clock.wakeIn(LOOK_MS, () => {
      this.#wakeUp = undefined;
      this.look();
    });
  }

  /** Loads what has come near. */
  look(): void {
    const nearMs = this.#clock.wallMs() + AHEAD_MS;
    for (const far of this.#shards.values()) {
      if (far.nextDueMs <= nearMs && !this.#loading.has(far)) {
        this.#inBackground(far, far.advance(this.untilMs));
      }
    }
    this.update();
  }

  /** Reads no more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wakeUp?.cancel();
    for (const far of [...this.#shards.values()]) this.remove(far);
    await Promise.all([...this.#loading.values(), ...this.#counting]);
  }

  /** One thing at a time per shard. What fails is tried again at the next look. */
  #inBackground(far: FarSegments, work: Promise<void>): void {
    const settled = work
      .catch((error: unknown) => {
        if (!isMillraceError(error)) throw error;
        if (hasCode(error, 'ERR_MILLRACE_CLOSED')) this.remove(far);
      })
      .finally(() => {
        this.#loading.delete(far);
        this.update();
      });
    this.#loading.set(far, settled);
  }
}

function nameOf({ queue, shard }: ShardPlace): string {
  return `${queue}.${shard.toString(36).padStart(2, '0')}`;
}
