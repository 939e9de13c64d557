/**
 * FinishedTally: how much of what has ended is kept, by when it was due. The store has it by queue and hour, and in an hour by
 * shard and due time (keys.ts).
 *
 *   queue -> hour     bytes, when the last was filed, the shards      goes when it is old, whole
 *              '-> slice of 10 s    bytes, when the last was filed    goes when there is too much, shard by shard
 *
 * An hour of a busy system is more than there may be of all; so what is too much goes in slices, the oldest first.
 *
 * Where nodes share the store, none knows what the others have filed since it counted. So there are two bounds: on all that it
 * knows of, and on what it has filed itself, which is its share of the first one.
 */
import { type SegmentRef, segmentDueAtMs } from '../core/ids.js';
import { finishedWindow } from './keys.js';

export const SLICE_MS = 10_000;

/** What was due in a part of an hour, or in all of it. */
export interface FinishedPart {
  readonly queue: string;
  /** Where the hour begins; epoch ms. */
  readonly hourMs: number;
  /** Where the slice begins; absent: the whole hour. */
  readonly sliceMs?: number;
  readonly shards: readonly number[];
}

/** Some of a segment's tasks have been filed. */
export interface Filed {
  readonly bytes: number;
  /** Wall clock. */
  readonly atMs: number;
  readonly byUs: boolean;
}

/** How much may be kept. */
export interface FinishedBounds {
  /** Of all that is known of. */
  readonly bytesMax: number;
  /** Of what this node has filed. */
  readonly ourBytesMax: number;
}

interface Slice {
  bytes: number;
  ourBytes: number;
  newestAtMs: number;
}

interface Hour {
  readonly queue: string;
  readonly startMs: number;
  readonly shards: Set<number>;
  readonly slices: Map<number, Slice>;
  newestAtMs: number;
}

export class FinishedTally {
  readonly #hours = new Map<string, Hour>();
  #bytes = 0;
  #ourBytes = 0;

  /** Whether more is kept than may be, as far as it was noted. */
  isOver({ bytesMax, ourBytesMax }: FinishedBounds): boolean {
    return this.#bytes > bytesMax || this.#ourBytes > ourBytesMax;
  }

  note(segment: SegmentRef, { bytes, atMs, byUs }: Filed): void {
    const [queue, shard] = segment.split('.');
    const hour = this.#hourOf(queue!, finishedWindow(segment));
    hour.shards.add(Number.parseInt(shard!, 36));
    hour.newestAtMs = Math.max(hour.newestAtMs, atMs);
    const startMs = Math.floor(segmentDueAtMs(segment) / SLICE_MS) * SLICE_MS;
    let slice = hour.slices.get(startMs);
    if (slice === undefined) {
      slice = { bytes: 0, ourBytes: 0, newestAtMs: 0 };
      hour.slices.set(startMs, slice);
    }
    slice.newestAtMs = Math.max(slice.newestAtMs, atMs);
    slice.bytes += bytes;
    this.#bytes += bytes;
    if (!byUs) return;
    slice.ourBytes += bytes;
    this.#ourBytes += bytes;
  }

  clear(): void {
    this.#hours.clear();
    this.#bytes = 0;
    this.#ourBytes = 0;
  }

  /** Hours in which nothing was filed since then. */
  old(beforeMs: number): FinishedPart[] {
    return [...this.#hours.values()].filter((hour) => hour.newestAtMs < beforeMs).map(partOf);
  }

  /** Slices that have to go until no more is kept than may be, of those in which nothing was filed since then. */
  excess({ bytesMax, ourBytesMax }: FinishedBounds, beforeMs: number): FinishedPart[] {
    let over = this.#bytes - bytesMax;
    let ourOver = this.#ourBytes - ourBytesMax;
    if (over <= 0 && ourOver <= 0) return [];
    const slices = [...this.#hours.values()].flatMap((hour) =>
      [...hour.slices].map(([sliceMs, slice]) => ({ ...partOf(hour), sliceMs, ...slice })),
    );
    const parts: FinishedPart[] = [];
    for (const part of slices.sort((a, b) => a.sliceMs - b.sliceMs)) {
      const helps = over > 0 || (ourOver > 0 && part.ourBytes > 0);
      if (!helps || part.newestAtMs >= beforeMs) continue;
      over -= part.bytes;
      ourOver -= part.ourBytes;
      parts.push(part);
    }
    return parts;
  }

  /**
   * A part has been deleted, but for what was filed since `beforeMs`. The hour of a slice stays: it goes once more, whole, when it
   * is old.
   */
  forget({ queue, hourMs, sliceMs }: FinishedPart, beforeMs: number): void {
    const hour = this.#hourOf(queue, hourMs);
    for (const [startMs, slice] of hour.slices) {
      if ((sliceMs ?? startMs) !== startMs || slice.newestAtMs >= beforeMs) continue;
      hour.slices.delete(startMs);
      this.#bytes -= slice.bytes;
      this.#ourBytes -= slice.ourBytes;
    }
    if (sliceMs === undefined && hour.newestAtMs < beforeMs) this.#hours.delete(nameOf(hour));
  }

  /** Something is left in an hour that was filed by others, at that time or before. */
  noteLeft({ queue, hourMs }: FinishedPart, atMs: number): void {
    const hour = this.#hourOf(queue, hourMs);
    hour.newestAtMs = Math.max(hour.newestAtMs, atMs);
  }

  #hourOf(queue: string, startMs: number): Hour {
    const found = this.#hours.get(nameOf({ queue, startMs }));
    if (found !== undefined) return found;
    const hour = { queue, startMs, shards: new Set<number>(), slices: new Map(), newestAtMs: 0 };
    this.#hours.set(nameOf(hour), hour);
    return hour;
  }
}

function nameOf({ queue, startMs }: Pick<Hour, 'queue' | 'startMs'>): string {
  return `${queue}/${startMs}`;
}

function partOf({ queue, startMs, shards }: Hour): FinishedPart {
  return { queue, hourMs: startMs, shards: [...shards] };
}
