/**
 * A bounded number of things in flight: who feeds them waits for a free slot.
 */
export class Slots {
  readonly #max: number;
  #used = 0;
  #waiters: (() => void)[] = [];
  #idle: (() => void)[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  /** How many are in flight. */
  get used(): number {
    return this.#used;
  }

  /** Resolves when a slot is free, and takes it. */
  async acquire(): Promise<void> {
    while (this.#used >= this.#max) {
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
    this.#used++;
  }

  /** Gives a slot back. */
  release(): void {
    this.#used--;
    this.#waiters.shift()?.();
    if (this.#used === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Resolves when nothing is in flight. */
  async idle(): Promise<void> {
    if (this.#used > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }
}
