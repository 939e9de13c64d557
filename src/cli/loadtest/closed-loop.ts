/**
 * A closed loop: so many submitters, each of which waits for the end of its task before the next one. It finds out what a system can
 * do, and slows down with it; `Arrivals` is the open one.
 */
import { setTimeout as sleep } from 'node:timers/promises';

export class ClosedLoop {
  readonly #submitters: Promise<unknown>;
  readonly #failing = new AbortController();
  #ended = 0;
  #isOver = false;

  /**
   * Begins at once.
   *
   * @param one - does one task to its end: the `n`th of a submitter, both from 0
   */
  constructor(inFlight: number, one: (n: number, submitter: number) => Promise<unknown>) {
    const submitter = async (index: number): Promise<void> => {
      for (let n = 0; !this.#isOver; n++) {
        await one(n, index);
        this.#ended++;
      }
    };
    this.#submitters = Promise.all(
      Array.from({ length: inFlight }, (_, index) =>
        submitter(index).catch((cause: unknown) => this.#fail(cause)),
      ),
    );
  }

  /** Tasks that have ended since it began. */
  get ended(): number {
    return this.#ended;
  }

  /** Lets it go on for so long, or until the signal. @throws what a task failed with, as soon as it does: then all is over */
  async goOn(ms: number, signal?: AbortSignal): Promise<void> {
    const failing = this.#failing.signal;
    const until = signal === undefined ? failing : AbortSignal.any([failing, signal]);
    await sleep(ms, undefined, { signal: until }).catch(() => {});
    failing.throwIfAborted();
  }

  /** No task begins any more; resolves when the last one has ended. @throws what a task failed with */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#submitters;
    this.#failing.signal.throwIfAborted();
  }

  #fail(cause: unknown): void {
    this.#isOver = true;
    this.#failing.abort(cause);
  }
}
