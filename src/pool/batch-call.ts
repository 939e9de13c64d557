/**
 * A call of `runBatch`: the tasks of one type that have begun in a batch, handed to their handler together, and what it
 * returned, taken apart again.
 *
 * The handler answers for each item at its place. What has no answer has not been done, as far as anybody can tell: it
 * fails, with an error that says so, and `retry` decides what then. An answer that is no list, or a longer one, says nothing
 * about any item: all of them fail.
 */
import { MillraceError } from '../core/errors.js';
import type { AnyTask, BatchContext } from '../core/task.js';
import type { TaskItem } from './task-context.js';

/** One item, and where it is in its batch. */
export interface GatheredItem {
  readonly index: number;
  readonly item: TaskItem;
}

/** What became of one. */
export type ItemEnd =
  | { readonly kind: 'returned'; readonly value: unknown }
  | { readonly kind: 'threw'; readonly error: unknown };

/** Ends of so many items, by what their handler returned. */
export function itemEnds(task: AnyTask, count: number, outcomes: unknown): ItemEnd[] {
  if (!Array.isArray(outcomes) || outcomes.length > count) {
    const what = Array.isArray(outcomes) ? `${outcomes.length} outcomes` : typeof outcomes;
    const error = badOutcomes(
      `runBatch of task '${task.name}' returned ${what} for ${count} items`,
    );
    return Array.from({ length: count }, () => ({ kind: 'threw', error }));
  }
  return Array.from({ length: count }, (_, i): ItemEnd => {
    if (!Object.hasOwn(outcomes, i)) {
      const missing = `runBatch of task '${task.name}' returned no outcome for item ${i} of ${count}`;
      return { kind: 'threw', error: badOutcomes(missing) };
    }
    const value: unknown = outcomes[i];
    return isError(value) ? { kind: 'threw', error: value } : { kind: 'returned', value };
  });
}

/** What a call gets beside its items; the signal is made when it is asked for. */
export class CallContext implements BatchContext {
  readonly #items: readonly GatheredItem[];
  #controller: AbortController | undefined;

  constructor(items: readonly GatheredItem[]) {
    this.#items = items;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = new AbortController();
      this.#controller = controller;
      const signals = this.#items.map(({ item }) => item.signal);
      const look = (): void => {
        if (signals.every(({ aborted }) => aborted)) controller.abort(signals.at(-1)?.reason);
      };
      for (const signal of signals) signal.addEventListener('abort', look, { once: true });
      look();
    }
    return this.#controller.signal;
  }
}

function badOutcomes(what: string): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_TASK_FAILED',
    `${what}; return an array with a value, an Error, item.snooze() or item.cancel() for each item`,
  );
}

// One of another realm is no instance of this one's class.
function isError(value: unknown): boolean {
  return value instanceof Error || Object.prototype.toString.call(value) === '[object Error]';
}
