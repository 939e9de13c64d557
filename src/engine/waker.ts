/**
 * The one wake-up of the node: armed for the table's earliest timer, armed anew when an earlier one comes.
 *
 * While something waits, the wall clock is looked at every second: where it has drifted away from the monotonic one by more than
 * half a second, a machine was suspended or a clock corrected, and `onDrift` is called.
 *
 * A burst of due tasks is handled in slices with a turn of the event loop between them, so it never blocks the loop.
 */
import { type Clock, instantOf, type WakeUp } from '../core/clock.js';
import type { TaskTable } from '../timing/task-table.js';

/** Timers handled in one turn. */
const DUE_SLICE = 4_096;
const DRIFT_LOOK_MS = 1_000;
const DRIFT_MS_MAX = 500;

export class Waker {
  readonly #clock: Clock;
  readonly #table: TaskTable;
  readonly #onAdvanced: () => void;
  #wakeUp: WakeUp | undefined;
  #armedForMs = Number.POSITIVE_INFINITY;
  #isStopped = false;
  readonly #onDrift: ((jumpMs: number) => void) | undefined;
  #driftLook: WakeUp | undefined;
  /** Wall minus monotonic clock, when the times of what waits were right. */
  #offsetMs: number;

  /**
   * @param onAdvanced - called after time has passed: tasks may be ready, or have expired
   * @param onDrift - called when times by the wall clock are to be worked out anew, with how far it has moved against
   *   the monotonic one
   */
  constructor(
    clock: Clock,
    table: TaskTable,
    onAdvanced: () => void,
    onDrift?: (jumpMs: number) => void,
  ) {
    this.#clock = clock;
    this.#table = table;
    this.#onAdvanced = onAdvanced;
    this.#onDrift = onDrift;
    this.#offsetMs = this.#offset();
  }

  /** Tasks may wait for a time that is earlier than all before. Cheap; call it after every change. */
  update(): void {
    if (this.#isStopped) return;
    const dueMs = this.#table.nextDueMs();
    if (dueMs < this.#armedForMs) this.#arm(dueMs);
    if (this.#onDrift !== undefined && this.#driftLook === undefined) this.#lookForDrift();
  }

  stop(): void {
    this.#isStopped = true;
    this.#wakeUp?.cancel();
    this.#driftLook?.cancel();
  }

  /** Looks at the wall clock now: before a wait begins that a jump of before is not to move. Costs two reads of clocks. */
  noteDrift(): void {
    const jumpMs = this.#offset() - this.#offsetMs;
    if (this.#isStopped || Math.abs(jumpMs) <= DRIFT_MS_MAX) return;
    this.#offsetMs += jumpMs;
    this.#onDrift?.(jumpMs);
  }

  #lookForDrift(): void {
    this.noteDrift();
    if (this.#table.delayedCount === 0) return;
    this.#driftLook = this.#clock.wakeIn(DRIFT_LOOK_MS, () => {
      this.#driftLook = undefined;
      if (!this.#isStopped) this.#lookForDrift();
    });
  }

  #offset(): number {
    return this.#clock.wallMs() - this.#clock.monoMs();
  }

  #arm(dueMs: number): void {
    this.#wakeUp?.cancel();
    this.#armedForMs = dueMs;
    this.#wakeUp = this.#clock.wakeIn(dueMs - this.#clock.monoMs(), () => this.#onWake());
  }

  #onWake(): void {
    if (this.#isStopped) return;
    const hasMore = this.#table.advance(instantOf(this.#clock), DUE_SLICE);
    this.#armedForMs = Number.POSITIVE_INFINITY;
    this.#onAdvanced();
    if (hasMore) {
      this.#armedForMs = 0;
      this.#wakeUp = this.#clock.wakeSoon(() => this.#onWake());
    } else {
      this.update();
    }
  }
}
