/**
 * WallTimes: segments whose tasks wait for a moment of the wall clock, so that they can be timed anew when that jumps.
 *
 * The table waits on the monotonic clock. That is right for a delay that was asked for here: half an hour is half an hour,
 * whatever the wall clock does. A task that was submitted with a date, and everything out of the store, is due when the wall
 * clock says so: when the two clocks drift apart, by a suspended machine or a corrected clock, such segments are held and
 * started again, which works out their times from the wall clock. But for those of their tasks that wait since they ran here:
 * a retry's delay is one that began here.
 */
import { type Clock, instantOf } from '../core/clock.js';
import type { SegmentHandle, TaskTable } from '../timing/task-table.js';

export class WallTimes {
  readonly #clock: Clock;
  readonly #table: TaskTable;
  readonly #segments = new Set<SegmentHandle>();

  constructor(clock: Clock, table: TaskTable) {
    this.#clock = clock;
    this.#table = table;
  }

  /** A segment that has been started. */
  add(segment: SegmentHandle): void {
    this.#segments.add(segment);
  }

  /** It is dropped, or held for good. */
  delete(segment: SegmentHandle): void {
    this.#segments.delete(segment);
  }

  /** Times all of them anew. @param jumpMs - of the wall clock against the monotonic one */
  renew(jumpMs: number): void {
    const now = instantOf(this.#clock);
    for (const segment of this.#segments) {
      // What runs, here or elsewhere, goes on; what is open is counted already.
      if (this.#table.hold(segment)) {
        this.#table.shiftWaits(segment, jumpMs);
        this.#table.resume(segment, now);
      } else this.#segments.delete(segment);
    }
  }
}
