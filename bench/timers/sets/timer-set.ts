/**
 * What the contenders of `timers` and `gc` have in common: timers on the caller's clock, as millrace's TimerQueue has
 * them. All promise the same, or the comparison would be of promises:
 *
 * - never early: a due time is rounded up to the next millisecond, the time of `advance` down; the past is due at once;
 * - `advance` gives tokens ordered by due time, and among equals by the order of scheduling;
 * - a handle of a timer that has fired or was cancelled is refused, for ever;
 * - `nextDueMs` is exact.
 *
 * setTimeout cannot be driven by a caller's clock and is measured by itself.
 */

/** A handle is whatever the contender finds cheapest: a number, or the timer's own object. */
export interface TimerSet<Handle> {
  /** Timers that have neither fired nor been cancelled. */
  readonly size: number;
  /** @param token - uint32 */
  schedule(dueMs: number, token: number): Handle;
  /** Whether it was pending. */
  cancel(handle: Handle): boolean;
  /** Writes the tokens that are due and returns how many; when `out` is full, there may be more for the same time. */
  advance(nowMs: number, out: Uint32Array): number;
  /** Infinity when there is none. */
  nextDueMs(): number;
  /** Bytes held outside the JavaScript heap. */
  offHeapBytes(): number;
  close(): void;
}

/** How a contender is made, and where a caller keeps its handles. */
export interface TimerSetKind<Handle> {
  readonly name: string;
  make(): TimerSet<Handle>;
  makeHandles(count: number): { [index: number]: Handle };
}
