/**
 * What handlers ask of the runtime that runs them: submit a child, hear how it ended, cancel it (core/children.ts).
 *
 * A runtime that closes does not answer any more. Who asked waits until it is interrupted, as everything is that does not end in
 * time, and runs again without an attempt spent; with an error it would fail.
 *
 * Pools are built before the runtime that is behind them; it takes over here when it is there, before anything runs.
 */
import type { ChildAnswer, ChildAsk, ChildDesk } from './core/children.js';
import { toWire } from './core/error-wire.js';
import { hasCode, invariant } from './core/errors.js';
import type { TaskHandle } from './task-handle.js';

/** What is needed of a runtime. */
export interface ChildRuntime {
  submit(ask: Extract<ChildAsk, { kind: 'submit' }>): Promise<TaskHandle<unknown>>;
  handle(type: string, id: string): TaskHandle<unknown>;
}

export class RuntimeChildren {
  /** For the pools. */
  readonly desk: ChildDesk = (ask) =>
    this.#answer(ask).catch((cause: unknown) => {
      if (hasCode(cause, 'ERR_MILLRACE_CLOSED')) return new Promise<never>(() => {});
      throw cause;
    });
  #runtime: ChildRuntime | undefined;

  adopt(runtime: ChildRuntime): void {
    this.#runtime = runtime;
  }

  async #answer(ask: ChildAsk): Promise<ChildAnswer> {
    const runtime = this.#runtime;
    invariant(runtime !== undefined, 'children-without-runtime');
    if (ask.kind === 'submit') {
      const { id, created } = await runtime.submit(ask);
      return { id, created };
    }
    const child = runtime.handle(ask.type, ask.id);
    if (ask.kind === 'cancel') return child.cancel(ask.reason);
    const end = await child.settled();
    return end.status === 'completed' ? end : { status: end.status, error: toWire(end.error) };
  }
}
