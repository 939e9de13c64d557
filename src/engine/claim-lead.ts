/**
 * ClaimLead: how far claims go ahead of the pool's places. A claim costs a commit, and threads that run short tasks would stand idle
 * until the next one is done; what is claimed counts as lost when the process dies.
 */

/** About so much work per thread is claimed ahead. */
const AHEAD_WORK_MS = 10;
/** However short the tasks: what runs meanwhile has to fill a commit, or commits would be many and small. */
const AHEAD_TASKS_PER_THREAD_MAX = 2_048;
/** Weight of a frame's mean against the average run time so far. */
const NEW_RUN_SHARE = 0.3;

export class ClaimLead {
  /** Whether batches may be claimed before there is a place for them. */
  isAllowed = true;
  readonly #batchTasksMax: number;
  /** Of all tasks, ms; NaN before the first. */
  #averageRunMs = Number.NaN;

  /** @param batchTasksMax - of one batch */
  constructor(batchTasksMax: number) {
    this.#batchTasksMax = batchTasksMax;
  }

  /** Tasks of a frame ran so long, on average; undefined: none of them ran. */
  note(meanRunMs: number | undefined): void {
    if (meanRunMs === undefined) return;
    this.#averageRunMs = Number.isNaN(this.#averageRunMs)
      ? meanRunMs
      : this.#averageRunMs * (1 - NEW_RUN_SHARE) + meanRunMs * NEW_RUN_SHARE;
  }

  /** Batches that may be claimed ahead. Unknown run times go nowhere ahead: the first batches find out. */
  batches(threads: number): number {
    if (!this.isAllowed || Number.isNaN(this.#averageRunMs)) return 0;
    const tasks = Math.min(AHEAD_WORK_MS / this.#averageRunMs, AHEAD_TASKS_PER_THREAD_MAX);
    return Math.floor(tasks / this.#batchTasksMax) * threads;
  }
}
