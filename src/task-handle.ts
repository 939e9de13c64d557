/**
 * What a submitter holds of a task: its id, and ways to wait for it or to end it.
 *
 * While this process holds the task, waiting for it happens in memory; when it has ended, the store is asked, which
 * knows it as long as its retention lasts.
 */

import { type Duration, durationMs } from './core/durations.js';
import { MillraceError } from './core/errors.js';
import { type TaskId, taskId } from './core/ids.js';
import { invalidOption, knownOptions } from './core/options.js';
import { type Settlement, statusOf, TaskState, type TaskStatus } from './core/states.js';
import { type DueOptions, dueTime } from './due-time.js';
import { errorOfEnd, type TaskEnd, valueOfEnd } from './engine/ends.js';
import type { Engine } from './engine/engine.js';
import type { Accepted } from './engine/submission.js';
import type { CancelAnswer } from './engine/task-desk.js';

export interface WaitOptions {
  /** Give up waiting after this time; the task goes on. @defaultValue no limit */
  readonly timeout?: Duration;
  readonly signal?: AbortSignal;
}

const DUE_OPTIONS: Readonly<Record<keyof DueOptions, true>> = { delay: true, at: true };

export class TaskHandle<Output> {
  readonly #engine: Engine;
  readonly #place: Accepted;
  #id: TaskId | undefined;

  /** Handles come from `submit()` and `handle()`. */
  constructor(engine: Engine, place: Accepted) {
    this.#engine = engine;
    this.#place = place;
  }

  get id(): TaskId {
    this.#id ??= taskId(this.#place.segment, this.#place.index);
    return this.#id;
  }

  /** False when an earlier task with the same idempotency key stands for it. */
  get created(): boolean {
    return this.#place.isCreated;
  }

  /**
   * The value the task returned, once its end is durable.
   *
   * @throws ERR_MILLRACE_TASK_FAILED (`cause`: what the handler threw), ERR_MILLRACE_TASK_CANCELLED,
   *   ERR_MILLRACE_TASK_EXPIRED, ERR_MILLRACE_TASK_LOST as the task ended
   * @throws ERR_MILLRACE_RESULT_TIMEOUT when `timeout` is over first
   * @throws ERR_MILLRACE_TASK_GONE when the store does not know the task (any more)
   * @throws ERR_MILLRACE_CLOSED when the runtime closes first; the task stays stored
   */
  async result(options?: WaitOptions): Promise<Output> {
    const end = await this.#ended(options);
    if (end.state === TaskState.COMPLETED) return valueOfEnd(end) as Output;
    throw errorOfEnd(end);
  }

  /** Like {@link result}, with every end of the task as a value; only not knowing it rejects. */
  async settled(options?: WaitOptions): Promise<Settlement<Output>> {
    const end = await this.#ended(options);
    if (end.state === TaskState.COMPLETED) {
      return { status: 'completed', value: valueOfEnd(end) as Output };
    }
    const status = statusOf(end.state) as 'failed' | 'cancelled' | 'expired';
    return { status, error: errorOfEnd(end) };
  }

  /** Where the task stands. @throws ERR_MILLRACE_TASK_GONE */
  async status(): Promise<TaskStatus> {
    return this.#engine.status(this.#place);
  }

  /**
   * Cancels the task: a pending one ends at once (`cancelled`), a running one gets its signal aborted (`signalled`)
   * and decides itself, one that has ended stays as it is (`ended`).
   *
   * @throws ERR_MILLRACE_TASK_GONE
   */
  cancel(reason?: string): Promise<CancelAnswer> {
    return this.#engine.cancel(this.#place, reason);
  }

  /**
   * Lets the task be due at another time, earlier or later: its id stays, and so does everything else of it; a `ttl` counts
   * from there. From any node, as long as it waits, be it for its first execution or the next. Resolves when that is
   * durable.
   *
   * @throws ERR_MILLRACE_CLAIM_LOST when the task runs or has ended; `details.status` says which
   * @throws ERR_MILLRACE_TASK_GONE, ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION, ERR_MILLRACE_CLOSED
   */
  async reschedule(due: DueOptions): Promise<void> {
    knownOptions(due, '', DUE_OPTIONS);
    if (due?.at === undefined && due?.delay === undefined) {
      throw invalidOption('reschedule options', due, '`at` or `delay`');
    }
    return this.#engine.reschedule(this.#place, dueTime(due, this.#engine.clock.wallMs()));
  }

  /**
   * What the handler says of its progress (`ctx.progress`), as it says it: a slow reader misses values, but not the
   * newest. Ends with the task, whichever way that ended. Only the process that runs the task hears it.
   *
   * @throws ERR_MILLRACE_TASK_GONE, ERR_MILLRACE_CLOSED as {@link result}; the signal's reason
   */
  progress(options: { readonly signal?: AbortSignal } = {}): AsyncIterableIterator<unknown> {
    return this.#engine.progress(this.#place, options.signal);
  }

  #ended(options: WaitOptions | undefined): Promise<TaskEnd> {
    const ended = this.#engine.ended(this.#place);
    return options === undefined ? ended : this.#orGiveUp(ended, options);
  }

  #orGiveUp(ended: Promise<TaskEnd>, { timeout, signal }: WaitOptions): Promise<TaskEnd> {
    const limitMs = timeout === undefined ? undefined : durationMs(timeout, 'timeout');
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        wakeUp?.cancel();
        signal?.removeEventListener('abort', onAbort);
        settle();
      };
      const onAbort = (): void => finish(() => reject(signal?.reason));
      const wakeUp =
        limitMs === undefined
          ? undefined
          : this.#engine.clock.wakeIn(limitMs, () => finish(() => reject(this.#timedOut(limitMs))));
      if (signal?.aborted) return onAbort();
      signal?.addEventListener('abort', onAbort, { once: true });
      ended.then(
        (end) => finish(() => resolve(end)),
        (error) => finish(() => reject(error)),
      );
    });
  }

  #timedOut(limitMs: number): MillraceError {
    return new MillraceError(
      'ERR_MILLRACE_RESULT_TIMEOUT',
      `task ${this.id} had no result after ${limitMs} ms; it goes on, ask again later`,
      { details: { taskId: this.id, timeoutMs: limitMs } },
    );
  }
}
