/**
 * Children: tasks that a handler submits. What a handler holds of one, and the port through which it reaches the runtime.
 *
 *   handler (any thread) --ask--> ChildDesk (main thread): submit | end | cancel
 *
 * An execution may be repeated, and then submits its children again. So each child has a key, made of the parent's id, how
 * often that was redriven, and the child's number among its siblings of one type, or the name it is given: the same child is
 * submitted once, and a later execution of the parent gets the one that is there.
 */
import type { Duration } from './durations.js';
import type { Settlement } from './states.js';
import type { TraceCarrier } from './task-metadata.js';

export interface ChildOptions {
  /**
   * Names the child among those of its type and parent; at most 80 characters. Wanted where another execution may submit others,
   * or in another order. @defaultValue its number, in the order of the calls
   */
  readonly key?: string;
  /** Start no earlier than this long from now. Not together with `at`. */
  readonly delay?: Duration;
  /** Start no earlier than this moment: a Date, or ms since the epoch. */
  readonly at?: { getTime(): number } | number;
  /** Higher starts first among tasks that are due; -32768 to 32767. @defaultValue 0 */
  readonly priority?: number;
  /** Whom the child is for. @defaultValue the parent's */
  readonly tenant?: string;
  /** Overrides the task's own `ttl`. */
  readonly ttl?: Duration;
}

/** What a handler holds of a child. */
export interface ChildHandle<Output> {
  readonly id: string;
  /** False when an earlier execution of the parent has submitted it. */
  readonly created: boolean;
  /**
   * The value the child returned. While a handler waits here, it takes no place of its thread: others run there.
   *
   * @throws ERR_MILLRACE_TASK_FAILED, _TASK_CANCELLED, _TASK_EXPIRED, _TASK_LOST as the child ended; ERR_MILLRACE_TASK_GONE
   * @throws the reason of `ctx.signal`, when that is aborted first; the child goes on
   */
  result(): Promise<Output>;
  /** Like `result`, with every end of the child as a value. */
  settled(): Promise<Settlement<Output>>;
  /** Cancels the child: `cancelled` at once, `signalled` while it runs, or `ended` before. */
  cancel(reason?: string): Promise<'cancelled' | 'signalled' | 'ended'>;
}

/** What is asked for a handler: plain data, since it may cross threads. */
export type ChildAsk =
  | {
      readonly kind: 'submit';
      readonly type: string;
      /** JSON; '' for undefined. */
      readonly input: string;
      readonly parent: string;
      readonly idempotencyKey: string;
      readonly options: Omit<ChildOptions, 'key' | 'at'> & { readonly at?: number };
      /** Of the parent's execution. */
      readonly trace: TraceCarrier | undefined;
    }
  | { readonly kind: 'end'; readonly type: string; readonly id: string }
  | {
      readonly kind: 'cancel';
      readonly type: string;
      readonly id: string;
      readonly reason: string | undefined;
    };

/** What it comes to: plain data as well. Errors of ends are in their wire form. */
export interface ChildAnswers {
  readonly submit: { readonly id: string; readonly created: boolean };
  readonly end:
    | { readonly status: 'completed'; readonly value: unknown }
    | { readonly status: 'failed' | 'cancelled' | 'expired'; readonly error: unknown };
  readonly cancel: 'cancelled' | 'signalled' | 'ended';
}

export type ChildAnswer = ChildAnswers[keyof ChildAnswers];

/** Does what handlers ask for; the runtime is behind it. Rejects with what they shall see; silent once the runtime closes. */
export type ChildDesk = (ask: ChildAsk) => Promise<ChildAnswer>;
