/**
 * A bounded number of things in flight: who feeds them waits for a free slot.
 */
export class Slots {
  readonly #max: number;
  #used = 0;
  readonly #waiters: (() => void)[] = [];
  readonly #idle: (() => void)[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  /** How many are in flight. */
  get used(): number {
    return this.#used;
  }

  /** Resolves when a slot is free, and takes it; first come, first served. */
  async acquire(): Promise<void> {
    if (this.#used < this.#max) this.#used++;
    else await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  /** Gives a slot back; who waits longest gets it at once. */
  release(): void {
    const next = this.#waiters.shift();
    if (next !== undefined) return next();
    this.#used--;
    if (this.#used === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Resolves when nothing is in flight. */
  async idle(): Promise<void> {
    if (this.#used > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }
}
