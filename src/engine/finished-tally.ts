/**
 * FinishedTally: how much of what has ended is kept, by when it was due. The store has it by queue and hour, and in an hour by
 * shard and due time (keys.ts).
 *
 *   queue -> hour     bytes, when the last was filed, the shards      goes when it is old, whole
 *              '-> slice of 10 s    bytes, when the last was filed    goes when there is too much, shard by shard
 *
 * An hour of a busy system is more than there may be of all; so what is too much goes in slices, the oldest first.
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

interface Slice {
  bytes: number;
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

  /** Of all that is kept, as far as it was noted. */
  get bytes(): number {
    return this.#bytes;
  }

  /** So many bytes of a segment's tasks were filed at that time of the wall clock. */
  note(segment: SegmentRef, bytes: number, atMs: number): void {
    const [queue, shard] = segment.split('.');
    const hour = this.#hourOf(queue!, finishedWindow(segment));
    hour.shards.add(Number.parseInt(shard!, 36));
    hour.newestAtMs = Math.max(hour.newestAtMs, atMs);
    const startMs = Math.floor(segmentDueAtMs(segment) / SLICE_MS) * SLICE_MS;
    let slice = hour.slices.get(startMs);
    if (slice === undefined) {
      slice = { bytes: 0, newestAtMs: 0 };
      hour.slices.set(startMs, slice);
    }
    slice.bytes += bytes;
    slice.newestAtMs = Math.max(slice.newestAtMs, atMs);
    this.#bytes += bytes;
  }

  clear(): void {
    this.#hours.clear();
    this.#bytes = 0;
  }

  /** Hours in which nothing was filed since then. */
  old(beforeMs: number): FinishedPart[] {
    return [...this.#hours.values()].filter((hour) => hour.newestAtMs < beforeMs).map(partOf);
  }

  /** Slices that have to go until no more than so many bytes are left, of those in which nothing was filed since then. */
  excess(bytesMax: number, beforeMs: number): FinishedPart[] {
    let over = this.#bytes - bytesMax;
    if (over <= 0) return [];
    const slices = [...this.#hours.values()].flatMap((hour) =>
      [...hour.slices].map(([sliceMs, slice]) => ({ ...partOf(hour), sliceMs, ...slice })),
    );
    const parts: FinishedPart[] = [];
    for (const part of slices.sort((a, b) => a.sliceMs - b.sliceMs)) {
      if (over <= 0) break;
      if (part.newestAtMs >= beforeMs) continue;
      over -= part.bytes;
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
