/**
 * Hold: a lock in somebody's hands, from the grant to the moment when the next one may have it.
 */
import type { MillraceError } from '../core/errors.js';
import type { Compare } from '../core/store.js';

export interface HoldFacts {
  readonly token: bigint;
  readonly compare: Compare;
  /** When it was granted, on the monotonic clock. */
  readonly grantedAtMs: number;
  /** Whether it came from another holder in this process. */
  readonly isHandOff: boolean;
}

export class Hold {
  readonly facts: HoldFacts;
  /** Resolves when the holder is done. */
  readonly released: Promise<void>;
  readonly #free: Promise<void>;
  #setReleased: () => void = () => {};
  #setFree: () => void = () => {};
  #aborter: AbortController | undefined;
  #lost: MillraceError | undefined;
  #isReleased = false;

  constructor(facts: HoldFacts) {
    this.facts = facts;
    this.released = new Promise((resolve) => {
      this.#setReleased = resolve;
    });
    this.#free = new Promise((resolve) => {
      this.#setFree = resolve;
    });
  }

  /** Aborted when the lock is no longer safely held. */
  get signal(): AbortSignal {
    // Most holders never ask for it.
    if (this.#aborter === undefined) {
      this.#aborter = new AbortController();
      if (this.#lost) this.#aborter.abort(this.#lost);
    }
    return this.#aborter.signal;
  }

  /** Why it is no longer safely held; undefined while it is. */
  get lost(): MillraceError | undefined {
    return this.#lost;
  }

  get isReleased(): boolean {
    return this.#isReleased;
  }

  lose(cause: MillraceError): void {
    if (this.#lost || this.#isReleased) return;
    this.#lost = cause;
    this.#aborter?.abort(cause);
  }

  /** Resolves when the next one has the lock, the store was told once that it is free, or the lease has ended. Idempotent. */
  release(): Promise<void> {
    this.#isReleased = true;
    this.#setReleased();
    return this.#free;
  }

  /** What {@link release} waits for. */
  setFree(): void {
    this.#setFree();
  }
}
