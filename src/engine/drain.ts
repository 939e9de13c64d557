/**
 * Drain: who waits until every task that has a handler here has ended, retries and delayed ones included.
 */
export class Drain {
  readonly #waiters: (() => void)[] = [];
  readonly #isDrained: () => boolean;

  /** @param isDrained - looks whether anything is left; only called while somebody waits */
  constructor(isDrained: () => boolean) {
    this.#isDrained = isDrained;
  }

  wait(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
      this.look();
    });
  }

  /** Something has ended, or been answered. Cheap. */
  look(): void {
    if (this.#waiters.length === 0 || !this.#isDrained()) return;
    for (const resolve of this.#waiters.splice(0)) resolve();
  }
}
