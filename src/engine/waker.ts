/**
 * The one wake-up of the node: armed for the table's earliest timer, armed anew when an earlier one comes.
 *
 * A burst of due tasks is handled in slices with a turn of the event loop between them, so it never blocks the loop.
 */
import type { Clock, WakeUp } from '../core/clock.js';
import type { TaskTable } from '../timing/task-table.js';

/** Timers handled in one turn. */
const DUE_SLICE = 4_096;

export class Waker {
  readonly #clock: Clock;
  readonly #table: TaskTable;
  readonly #onAdvanced: () => void;
  #wakeUp: WakeUp | undefined;
  #armedForMs = Number.POSITIVE_INFINITY;
  #isStopped = false;

  /** @param onAdvanced - called after time has passed: tasks may be ready, or have expired */
  constructor(clock: Clock, table: TaskTable, onAdvanced: () => void) {
    this.#clock = clock;
    this.#table = table;
    this.#onAdvanced = onAdvanced;
  }

  /** Tasks may wait for a time that is earlier than all before. Cheap; call it after every change. */
  update(): void {
    if (this.#isStopped) return;
    const dueMs = this.#table.nextDueMs();
    if (dueMs < this.#armedForMs) this.#arm(dueMs);
  }

  stop(): void {
    this.#isStopped = true;
    this.#wakeUp?.cancel();
  }

  #arm(dueMs: number): void {
    this.#wakeUp?.cancel();
    this.#armedForMs = dueMs;
    this.#wakeUp = this.#clock.wakeIn(dueMs - this.#clock.monoMs(), () => this.#onWake());
  }

  #onWake(): void {
    if (this.#isStopped) return;
    const now = { wallMs: this.#clock.wallMs(), monoMs: this.#clock.monoMs() };
    const hasMore = this.#table.advance(now, DUE_SLICE);
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
