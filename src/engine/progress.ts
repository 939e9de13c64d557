/**
 * How far running tasks are, in the words of their handlers, for whoever asks in this process.
 *
 *   pool --note(task, json)--> newest by task --> watchers     forget(task): its batch is over
 *
 * A value lives as long as the execution it came from: nothing of it is stored, and another process does not see it.
 * A watcher that is slow misses values, never the newest.
 */
import type { TaskId } from '../core/ids.js';

type Listener = (json: string) => void;

export class ProgressBoard {
  readonly #newest = new Map<TaskId, string>();
  readonly #listeners = new Map<TaskId, Set<Listener>>();

  note(task: TaskId, json: string): void {
    this.#newest.set(task, json);
    for (const listener of this.#listeners.get(task) ?? []) listener(json);
  }

  /** The execution is over. */
  forget(task: TaskId): void {
    this.#newest.delete(task);
  }

  /** Calls back with the newest value, if there is one, and with every later one. Returns how to stop. */
  listen(task: TaskId, listener: Listener): () => void {
    const listeners = this.#listeners.get(task) ?? new Set();
    this.#listeners.set(task, listeners.add(listener));
    const newest = this.#newest.get(task);
    if (newest !== undefined) listener(newest);
    return () => {
      if (listeners.delete(listener) && listeners.size === 0) this.#listeners.delete(task);
    };
  }
}

/** The values of one task as an async iterator that ends with the task. */
export class ProgressStream implements AsyncIterableIterator<unknown> {
  /** The newest value nobody has taken. */
  #json: string | undefined;
  #isOver = false;
  /** What ends it with an error, once. */
  #failure: { readonly reason: unknown } | undefined;
  readonly #unlisten: () => void;
  /** Calls of next() that wait, in order. */
  readonly #waiting: {
    readonly resolve: (result: IteratorResult<unknown>) => void;
    readonly reject: (reason: unknown) => void;
  }[] = [];

  /** @param ended - when the task has; its rejection is the stream's */
  constructor(
    listen: (listener: Listener) => () => void,
    ended: Promise<unknown>,
    signal: AbortSignal | undefined,
  ) {
    const onAbort = (): void => this.#finish({ reason: signal?.reason });
    const unlisten = listen((json) => {
      this.#json = json;
      this.#serve();
    });
    this.#unlisten = () => {
      unlisten();
      signal?.removeEventListener('abort', onAbort);
    };
    ended.then(
      () => this.#finish(undefined),
      (reason) => this.#finish({ reason }),
    );
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<unknown>> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#serve();
    });
  }

  async return(value?: unknown): Promise<IteratorResult<unknown>> {
    this.#json = undefined;
    this.#finish(undefined);
    return { done: true, value };
  }

  #finish(failure: { readonly reason: unknown } | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#failure = failure;
    this.#unlisten();
    this.#serve();
  }

  #serve(): void {
    while (this.#waiting.length > 0) {
      if (this.#json !== undefined) {
        const value: unknown = JSON.parse(this.#json);
        this.#json = undefined;
        this.#waiting.shift()!.resolve({ done: false, value });
      } else if (!this.#isOver) {
        return;
      } else if (this.#failure !== undefined) {
        const { reason } = this.#failure;
        this.#failure = undefined;
        this.#waiting.shift()!.reject(reason);
      } else {
        this.#waiting.shift()!.resolve({ done: true, value: undefined });
      }
    }
  }
}
