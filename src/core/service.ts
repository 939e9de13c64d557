/**
 * The life of everything that runs in the background.
 *
 * `start()` resolves when the service does its work, `stop()` when nothing of it is left running. Both are
 * idempotent: a second call returns the first one's promise, stop without start is fine, and stop during start
 * waits for start and then stops. A stopped service stays stopped.
 */

export interface Service {
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Implements the contract of {@link Service} over two hooks that are called at most once each, in order. */
export abstract class BaseService implements Service {
  #started: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;

  /** Whether stop() has been called. */
  protected get isStopping(): boolean {
    return this.#stopped !== undefined;
  }

  start(): Promise<void> {
    this.#started ??= this.#stopped ?? Promise.resolve().then(() => this.onStart());
    return this.#started;
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stopAfterStart();
    return this.#stopped;
  }

  async #stopAfterStart(): Promise<void> {
    if (this.#started === undefined) return;
    // A failed start has been reported to its caller; what it did open is still to be closed.
    await this.#started.catch(() => {});
    await this.onStop();
  }

  protected abstract onStart(): Promise<void>;
  protected abstract onStop(): Promise<void>;
}
