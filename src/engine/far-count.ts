/**
 * FarCount: how many tasks of a shard lie beyond the horizon and are open.
 *
 * What is put there, and what comes near, is counted as it goes. After a start or a takeover only the keys of the rest are known, so
 * all of it is read once, in the background, while segments come and go.
 */
import { isMillraceError } from '../core/errors.js';
import { FrameKind, openFrame } from '../core/frame.js';
import type { SegmentRef } from '../core/ids.js';
import { readState } from '../core/records.js';
import { TaskState } from '../core/states.js';
import type { KeyRange, Store } from '../core/store.js';
import { refOfKey, type ShardPlace, shardDueRange } from './keys.js';
import { entriesOf } from './recovery.js';

export interface FarCountPorts {
  readonly store: Store;
  /** Whether a segment is in the table, or went out of it while this reads. */
  isHere(ref: SegmentRef): boolean;
  isClosed(): boolean;
}

export class FarCount {
  readonly #at: ShardPlace;
  readonly #ports: FarCountPorts;
  #tasks = 0;
  /** Put there while it reads; undefined when it does not. */
  #addedMeanwhile: Set<SegmentRef> | undefined;
  /** The same of what came into the table. */
  #subtractedMeanwhile: Set<SegmentRef> | undefined;

  constructor(at: ShardPlace, ports: FarCountPorts) {
    this.#at = at;
    this.#ports = ports;
  }

  /** Right once they have been read. */
  get tasks(): number {
    return Math.max(0, this.#tasks);
  }

  /** A segment has been put there, or has left the table. */
  add(ref: SegmentRef, tasks: number): void {
    this.#tasks += tasks;
    this.#addedMeanwhile?.add(ref);
  }

  /** A segment from there has come into the table. */
  subtract(ref: SegmentRef, tasks: number): void {
    this.#tasks -= tasks;
    this.#subtractedMeanwhile?.add(ref);
  }

  /**
   * Counts all that is stored from `fromMs` on.
   *
   * What is read may be in the table: visited before, and added when it goes again; or put since, and near by the clock as it is
   * now. Only what came into the table from beyond while it was read has been subtracted already.
   *
   * @throws what reads of the store throw; it is to be called again then
   */
  async read(fromMs: number): Promise<void> {
    const { store, isHere, isClosed } = this.#ports;
    const added = new Set<SegmentRef>();
    const subtracted = new Set<SegmentRef>();
    this.#addedMeanwhile = added;
    this.#subtractedMeanwhile = subtracted;
    this.#tasks = 0;
    const beyond = (kind: 't' | 'i' | 's'): KeyRange =>
      shardDueRange(kind, this.#at, fromMs, Number.POSITIVE_INFINITY);
    let tasks = 0;
    for (const kind of ['s', 't', 'i'] as const) {
      for await (const { key, value } of entriesOf(store, beyond(kind))) {
        if (isClosed()) return;
        const ref = refOfKey(key);
        if (added.has(ref) || (isHere(ref) && !subtracted.has(ref))) continue;
        tasks += kind === 's' ? -endedOf(value) : tasksOf(value);
      }
    }
    this.#tasks += tasks;
    this.#addedMeanwhile = undefined;
    this.#subtractedMeanwhile = undefined;
  }
}

/** Of a segment, by its frame. */
export function tasksOf(frame: Uint8Array): number {
  return unlessCorrupt(() => openFrame(frame, FrameKind.TASKS).count);
}

function endedOf(overlay: Uint8Array): number {
  return unlessCorrupt(() => {
    const frame = openFrame(overlay, FrameKind.STATES);
    let ended = 0;
    for (let i = 0; i < frame.count; i++) {
      if (readState(frame, i).state > TaskState.RUNNING) ended++;
    }
    return ended;
  });
}

/** What does not decode is told of when it is loaded; it counts as nothing. */
function unlessCorrupt(count: () => number): number {
  try {
    return count();
  } catch (error) {
    if (!isMillraceError(error)) throw error;
    return 0;
  }
}
