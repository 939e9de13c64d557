/**
 * Ctrl-C, once and twice: the first asks to end gently, the second ends at once.
 *
 * SIGTERM, as an init system or a container sends it, is taken for the same wish.
 */
import { setMaxListeners } from 'node:events';
import { ExitCode } from './command.js';

/** What a command says when the first signal comes. */
export const STOPPING = 'stopping: running tasks end first; once more to exit at once';

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

export class Interruption {
  readonly #controller = new AbortController();
  readonly #onSignal = (): void => {
    if (this.signal.aborted) process.exit(ExitCode.INTERRUPTED);
    this.request();
  };

  /** Starts to listen for the signals. */
  constructor() {
    // Every task in flight may listen: that is no leak.
    setMaxListeners(0, this.signal);
    for (const name of SIGNALS) process.on(name, this.#onSignal);
  }

  /** Aborted by the first signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** As if the first signal had come. Idempotent. */
  request(): void {
    this.#controller.abort(new Error('interrupted'));
  }

  /** Stops listening. */
  dispose(): void {
    for (const name of SIGNALS) process.removeListener(name, this.#onSignal);
  }
}
