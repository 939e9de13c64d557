/**
 * What becomes of a task that has run: an end, or another run. Policy only; the table does what is decided here.
 *
 *   the outcome                               becomes                              attempt
 *   completed                                 COMPLETED                            spent
 *   threw                                     PENDING by the retry policy, FAILED  spent
 *   threw NonRetryableError                   FAILED                               spent
 *   overran: threw at its signal, or killed   as if it had thrown                  spent
 *   snoozed, not started, interrupted         PENDING                              given back
 *   lost: its thread or the process died      by pool/loss-policy.ts: PENDING,     given back
 *                                             PENDING and alone, FAILED
 *   gave up at its signal, or said so         CANCELLED                            spent
 *
 * Somebody may ask a task to end at any moment of this. Then it does not run again, whatever its outcome.
 *
 * REQUIRES of every method: the task is RUNNING and in no batch. Each call takes it out of there.
 */
import { publish } from '../core/channels.js';
import { type Clock, instantOf } from '../core/clock.js';
import { toWire } from '../core/error-wire.js';
import type { MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { type Incarnation, type SegmentRef, taskId } from '../core/ids.js';
import type { Random } from '../core/random.js';
import { Outcome, TaskState } from '../core/states.js';
import { overdueReason } from '../pool/deadlines.js';
import { type Death, judge, LOSSES_MAX } from '../pool/loss-policy.js';
import type { TaskHandle, TaskTable } from '../timing/task-table.js';
import { cancelledBytes, failedBytes, lostError, type TaskFacts, timedOutBytes } from './ends.js';
import type { Report } from './letters.js';
import { retryDelayMs } from './retry-policy.js';
import type { TaskTypes } from './task-types.js';

export interface SettlerOptions {
  readonly table: TaskTable;
  readonly types: TaskTypes;
  readonly clock: Clock;
  readonly random: Random;
  /** Of the engine; its events say so. */
  readonly incarnation: Incarnation;
}

export class Settler {
  /** Why tasks that run, or are claimed, shall end. */
  readonly cancelReasons: Map<TaskHandle, string> = new Map();
  /** From here on, who gives up at its signal was interrupted, and runs again. */
  isClosing = false;
  readonly #table: TaskTable;
  readonly #types: TaskTypes;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #incarnation: Incarnation;

  constructor({ table, types, clock, random, incarnation }: SettlerOptions) {
    this.#table = table;
    this.#types = types;
    this.#clock = clock;
    this.#random = random;
    this.#incarnation = incarnation;
  }

  /**
   * A task reported.
   *
   * @param bytes - JSON of the value, error, delay or reason
   * @param overranMs - its limit, if its time was over before it ended
   */
  settle(
    task: TaskHandle,
    outcome: Outcome,
    bytes: Uint8Array,
    overranMs: number | undefined,
  ): void {
    switch (outcome) {
      case Outcome.FAILED:
        return this.#retryOrFail(task, bytes);
      case Outcome.FAILED_FOR_GOOD:
        return this.#fail(task, bytes);
      case Outcome.SNOOZED:
        return this.#runAgain(task, Number(utf8(bytes)) || 0, { spent: false });
      case Outcome.NOT_STARTED:
        return this.runAgain(task);
      case Outcome.CANCELLED: {
        const isAsked = this.cancelReasons.has(task);
        const reason = reasonOf(bytes);
        if (!isAsked && overranMs !== undefined && reason === overdueReason(overranMs, 'task')) {
          return this.#timeOut(task, overranMs, { mayRunAgain: true });
        }
        // A shutdown aborts signals too, and what it interrupts runs again.
        if (!isAsked && this.isClosing) return this.runAgain(task);
        return this.cancel(task, reason);
      }
      case Outcome.COMPLETED:
        this.#end(task, TaskState.COMPLETED, bytes);
    }
  }

  /** What the owner of a task that only runs here is to hear of it: as above, who gave up because we close runs again. */
  toldOf(task: TaskHandle, report: Report): Report {
    const isAsked = this.cancelReasons.delete(task);
    const mayBeInterrupted = this.isClosing && !isAsked && report.kind === 'outcome';
    if (!mayBeInterrupted || report.outcome !== Outcome.CANCELLED) return report;
    const { overranMs, json } = report;
    const isOverdue =
      overranMs !== undefined && reasonOf(Buffer.from(json)) === overdueReason(overranMs, 'task');
    return isOverdue ? report : { kind: 'outcome', outcome: Outcome.NOT_STARTED, json: '' };
  }

  /**
   * A task's thread, or the process that ran it, died before it reported.
   *
   * @param overranMs - its limit, if its time was over by then
   */
  lose(
    task: TaskHandle,
    death: Death,
    options: {
      readonly overranMs?: number | undefined;
      readonly cause?: MillraceError | undefined;
    },
  ): void {
    const { overranMs, cause } = options;
    const info = this.#table.inspect(task)!;
    const onLost = this.#types.specOf(info.type)?.onLost ?? 'retry';
    const record = { losses: info.losses, mustBeAlone: info.mustBeAlone };
    const verdict = judge(record, death, { isOverdue: overranMs !== undefined, onLost });
    if (record.losses > info.losses) {
      this.#table.noteLoss(task);
      publish('millrace:task:lost', () => ({ ...this.#subject(task), losses: record.losses }));
    }
    if (record.mustBeAlone && !info.mustBeAlone) this.#table.isolate(task);
    switch (verdict) {
      case 'again':
        return this.runAgain(task);
      case 'blame':
        // Killed in the middle, which for a task that may run once is as good as a run.
        return this.#timeOut(task, overranMs ?? 0, { mayRunAgain: onLost === 'retry' });
      case 'lost': {
        const { id } = this.#factsOf(task);
        const error = lostError(id, { count: record.losses, max: LOSSES_MAX }, cause);
        const bytes = Buffer.from(JSON.stringify(toWire(error)));
        return this.#fail(task, bytes, bytes);
      }
    }
  }

  /** Pending again, at once, the attempt given back; unless somebody has asked it to end. */
  runAgain(task: TaskHandle): void {
    this.#runAgain(task, 0, { spent: false });
  }

  /** @param given - the reason that came with it; one that somebody asked with goes before */
  cancel(task: TaskHandle, given?: string): void {
    const reason = this.cancelReasons.get(task) ?? given;
    this.#end(task, TaskState.CANCELLED, cancelledBytes(this.#factsOf(task).id, reason));
  }

  /** Forgets those whose task has ended: it may complete although it was asked to end. */
  forgetReasons(): void {
    for (const task of this.cancelReasons.keys()) {
      if (this.#table.inspect(task)?.state !== TaskState.RUNNING) this.cancelReasons.delete(task);
    }
  }

  #timeOut(
    task: TaskHandle,
    limitMs: number,
    { mayRunAgain }: { readonly mayRunAgain: boolean },
  ): void {
    if (this.cancelReasons.has(task)) return this.cancel(task);
    publish('millrace:task:timeout', () => ({
      ...this.#subject(task),
      attempt: this.#factsOf(task).attempt,
      limitMs,
    }));
    const bytes = timedOutBytes(this.#factsOf(task), limitMs);
    if (mayRunAgain) this.#retryOrFail(task, bytes, bytes);
    else this.#fail(task, bytes, bytes);
  }

  /** @param endJson - what it ends with when no attempt is left; else the usual error, caused by this one */
  #retryOrFail(task: TaskHandle, errorJson: Uint8Array, endJson?: Uint8Array): void {
    const { attempt } = this.#factsOf(task);
    const spec = this.#types.specOf(this.#table.inspect(task)!.type);
    const delayMs = spec && retryDelayMs(spec.retry, attempt, this.#random);
    if (delayMs === undefined) return this.#fail(task, errorJson, endJson);
    publish('millrace:task:retry', () => ({
      ...this.#subject(task),
      attempt,
      delayMs,
      error: JSON.parse(utf8(errorJson)),
    }));
    this.#runAgain(task, delayMs, { spent: true });
  }

  #fail(task: TaskHandle, errorJson: Uint8Array, endJson?: Uint8Array): void {
    const facts = this.#factsOf(task);
    publish('millrace:task:failed', () => ({
      ...this.#subject(task),
      attempt: facts.attempt,
      error: JSON.parse(utf8(errorJson)),
    }));
    this.#end(task, TaskState.FAILED, endJson ?? failedBytes(facts, errorJson));
  }

  #end(task: TaskHandle, state: TaskState, bytes: Uint8Array): void {
    this.cancelReasons.delete(task);
    this.#table.end(task, state, bytes, instantOf(this.#clock));
  }

  #runAgain(task: TaskHandle, delayMs: number, options: { readonly spent: boolean }): void {
    if (this.cancelReasons.has(task)) return this.cancel(task);
    const now = instantOf(this.#clock);
    const due = {
      // Rounded up: what is stored must not be early either.
      wallMs: now.wallMs + Math.ceil(delayMs),
      monoMs: now.monoMs + delayMs,
      spent: options.spent,
    };
    this.#table.retry(task, due, now);
  }

  /** Whom an event is about. */
  #subject(task: TaskHandle) {
    const { id, type } = this.#factsOf(task);
    const queue = this.#types.specOf(this.#table.inspect(task)!.type)?.queue ?? '';
    return { incarnation: this.#incarnation, taskId: id, type, queue };
  }

  #factsOf(task: TaskHandle): TaskFacts {
    const { segment, index, type, attempt } = this.#table.inspect(task)!;
    return {
      id: taskId(this.#table.segmentRef(segment) as SegmentRef, index),
      type: this.#table.typeName(type) ?? '',
      attempt,
    };
  }
}

/** The reason in a report of a task that gave up; undefined when it gave none. */
function reasonOf(bytes: Uint8Array): string | undefined {
  if (bytes.length === 0) return undefined;
  const given: unknown = JSON.parse(utf8(bytes));
  return typeof given === 'string' ? given : undefined;
}
