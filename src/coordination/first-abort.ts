/**
 * A signal that aborts with the first of several, and can let go of them.
 *
 * AbortSignal.any does the first half. But what a long-lived signal was once combined with stays attached to it (about
 * a kilobyte each with a listener, Node 20.20), and a process that locks all day combines with its session's signal
 * all day.
 */
export class FirstAbort {
  readonly #aborter = new AbortController();
  readonly #sources: readonly AbortSignal[];
  readonly #onAbort = (event: Event): void => this.#follow(event.target as AbortSignal);

  constructor(...sources: readonly (AbortSignal | undefined)[]) {
    this.#sources = sources.filter((source) => source !== undefined);
    for (const source of this.#sources) {
      if (source.aborted) this.#follow(source);
      else source.addEventListener('abort', this.#onAbort);
    }
  }

  get signal(): AbortSignal {
    return this.#aborter.signal;
  }

  /** Forgets the sources; the signal stays as it is. */
  dispose(): void {
    for (const source of this.#sources) source.removeEventListener('abort', this.#onAbort);
  }

  #follow(source: AbortSignal): void {
    this.#aborter.abort(source.reason);
    this.dispose();
  }
}
