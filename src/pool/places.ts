/**
 * How many more batches may be sent to one thread.
 *
 * A batch takes a place until it has ended or is parked: all of its tasks have begun, and those that have not ended
 * wait for something else than the thread. So a thread whose handlers wait for I/O is given more batches, as long
 * as no more than `overlapMax` tasks are unreported there; a thread that computes gets one batch besides the one it
 * works on, and what comes after piles up on our side, where batches grow with what waits.
 *
 * A task that waits for the end of another one, its child, is not counted: were it, a thread full of waiting parents would
 * have no place for the children, and all would wait for ever.
 */
export interface PlaceLimits {
  /** Batches that are not parked; also the least that is allowed in all, however large they are. */
  readonly places: number;
  /** Unreported tasks up to which parked batches do not count. */
  readonly overlapMax: number;
}

export class Places {
  readonly #limits: PlaceLimits;
  #batches = 0;
  #parked = 0;
  #tasks = 0;
  /** Of those, waiting for others to end. */
  #waiting = 0;

  /** @param limits - looked at each time: they may change */
  constructor(limits: PlaceLimits) {
    this.#limits = limits;
  }

  /** Batches here, parked or not. */
  get batches(): number {
    return this.#batches;
  }

  /** Batches that may come now. */
  get free(): number {
    const { places, overlapMax } = this.#limits;
    const working = this.#tasks - this.#waiting;
    const counted = working < overlapMax ? this.#batches - this.#parked : this.#batches;
    return Math.max(0, places - counted);
  }

  take(tasks: number): Place {
    this.#batches++;
    this.#tasks += tasks;
    let left = tasks;
    let waiting = 0;
    let hasLeft = false;
    let isParked = false;
    return {
      get tasksLeft() {
        return left;
      },
      report: (ended) => {
        left -= ended;
        this.#tasks -= ended;
      },
      park: () => {
        if (!isParked) this.#parked++;
        isParked = true;
      },
      waitForOthers: () => {
        waiting++;
        this.#waiting++;
        let isOver = false;
        return () => {
          if (isOver || hasLeft) return;
          isOver = true;
          waiting--;
          this.#waiting--;
        };
      },
      leave: () => {
        hasLeft = true;
        this.#waiting -= waiting;
        this.#batches--;
        this.#tasks -= left;
        left = 0;
        if (isParked) this.#parked--;
      },
    };
  }
}

/** One batch's place. */
export interface Place {
  /** Tasks that have not been reported. */
  readonly tasksLeft: number;
  report(ended: number): void;
  park(): void;
  /** A task waits for the end of another one, until the returned function is called. */
  waitForOthers(): () => void;
  /** Gives the place back. REQUIRES: called once. */
  leave(): void;
}
