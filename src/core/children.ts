/**
 * Children: tasks that a handler submits. What a handler holds of them, and the port through which it reaches the runtime.
 *
 *   handler (any thread) --ask--> ChildDesk (main thread): submit | end | cancel, and before it is called: begin
 *
 * An execution may be repeated, and then submits its children again. So each child has a key, made of the parent's id, how
 * often that was redriven, and the child's number among its siblings of one type, or the name it is given: the same child is
 * submitted once, and a later execution of the parent gets the one that is there.
 */
import type { Duration } from './durations.js';
import type { Settlement } from './states.js';
import type { BeginConditions, TraceCarrier } from './task-metadata.js';

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
  /**
   * When the child fails for good (is cancelled, expires): `keep`, its parent hears of it, in later executions as well. `renew`:
   * a later execution of the parent gets a new child in its place. `fail`: what `result()` throws fails the parent for good.
   * @defaultValue 'keep'
   */
  readonly onFailure?: 'keep' | 'renew' | 'fail';
  /**
   * When the parent ends without having completed (it is cancelled, or fails for good): the child goes on, or is cancelled.
   * @defaultValue 'continue'
   */
  readonly onParentEnd?: 'continue' | 'cancel';
}

/** Of many children at once; `key` names their group. */
export type ChildrenOptions = ChildOptions;

/** Of a task that joins children. */
export interface JoinOptions extends ChildOptions {
  /**
   * When a child ends without having completed: `join`, the joining task begins when all have ended, and sees how. `fail`: it
   * fails for good at once, with the child's error as its cause.
   * @defaultValue 'join'
   */
  readonly ifChildFails?: 'join' | 'fail';
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

/** How a child ended, for the task that joins it; `gone`: longer ago than its end is kept. */
export type JoinedEnd<Output> = { readonly id: string } & (
  | Settlement<Output>
  | { readonly status: 'gone' }
);

/** How a task ended, as plain data. */
export type WireEnd =
  | { readonly status: 'completed'; readonly value: unknown }
  | { readonly status: 'failed' | 'cancelled' | 'expired'; readonly error: unknown };

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
      readonly conditions: BeginConditions | undefined;
      /** How many children that have failed may be replaced: each under a key of its own. */
      readonly renewalsMax: number;
    }
  | { readonly kind: 'begin'; readonly parent: string; readonly conditions: BeginConditions }
  | { readonly kind: 'joined'; readonly type: string; readonly ids: readonly string[] }
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
  /** `cancel`: its handler is not to be called. */
  readonly begin: { readonly cancel: string | undefined };
  readonly joined: readonly (WireEnd | { readonly status: 'gone' })[];
  readonly end: WireEnd;
  readonly cancel: 'cancelled' | 'signalled' | 'ended';
}

export type ChildAnswer = ChildAnswers[keyof ChildAnswers];

/** Does what handlers ask for; the runtime is behind it. Rejects with what they shall see; silent once the runtime closes. */
export type ChildDesk = (ask: ChildAsk) => Promise<ChildAnswer>;
