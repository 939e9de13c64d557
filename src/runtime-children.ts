/**
 * What handlers ask of the runtime that runs them: submit a child, hear how it ended, cancel it; and what is asked for tasks
 * that stand on others, before their handlers are called (core/children.ts).
 *
 *   a child that goes with its parent   is cancelled here when the parent that submitted it has ended without having completed;
 *                                       and wherever it is about to begin, if it has not heard of that by then
 *   a task that joins others            is held back, where it has been claimed, until all of these have ended
 *
 * A runtime that closes does not answer any more. Who asked waits until it is interrupted, as everything is that does not end in
 * time, and runs again without an attempt spent; with an error it would fail.
 *
 * Pools are built before the runtime that is behind them; it takes over here when it is there, before anything runs.
 */
import type { ChildAnswer, ChildAnswers, ChildAsk, ChildDesk, WireEnd } from './core/children.js';
import { fromWire, toWire } from './core/error-wire.js';
import { hasCode, invariant, isMillraceError, MillraceError } from './core/errors.js';
import type { Settlement, TaskStatus } from './core/states.js';
import type { TaskHandle } from './task-handle.js';

type Asked<Kind extends ChildAsk['kind']> = Extract<ChildAsk, { kind: Kind }>;

/** What is needed of a runtime. */
export interface ChildRuntime {
  submit(ask: Asked<'submit'>): Promise<TaskHandle<unknown>>;
  handle(type: string, id: string): TaskHandle<unknown>;
  /** Of a task of any type. @throws ERR_MILLRACE_TASK_GONE */
  status(id: string): Promise<TaskStatus>;
  /** Resolves when a task of any type has ended, with how. @throws ERR_MILLRACE_TASK_GONE */
  untilEnded(id: string): Promise<TaskStatus>;
}

/** Children by id, with their types. */
type Family = Map<string, string>;

export class RuntimeChildren {
  /** For the pools. */
  readonly desk: ChildDesk = (ask) =>
    this.#answer(ask).catch((cause: unknown) => {
      if (hasCode(cause, 'ERR_MILLRACE_CLOSED')) return new Promise<never>(() => {});
      throw cause;
    });
  #runtime: ChildRuntime | undefined;
  /** Children that go with their parents, of parents that ran here and have not ended; by parent. */
  readonly #families = new Map<string, Family>();

  adopt(runtime: ChildRuntime): void {
    this.#runtime = runtime;
  }

  async #answer(ask: ChildAsk): Promise<ChildAnswer> {
    const runtime = this.#runtime;
    invariant(runtime !== undefined, 'children-without-runtime');
    switch (ask.kind) {
      case 'submit':
        return this.#submit(runtime, ask);
      case 'begin':
        return this.#begin(runtime, ask);
      case 'joined':
        return Promise.all(ask.ids.map((id) => endOrGone(runtime.handle(ask.type, id))));
      case 'cancel':
        return runtime.handle(ask.type, ask.id).cancel(ask.reason);
      case 'end':
        return wireEnd(await runtime.handle(ask.type, ask.id).settled());
    }
  }

  async #submit(runtime: ChildRuntime, ask: Asked<'submit'>): Promise<ChildAnswers['submit']> {
    const { idempotencyKey, renewalsMax, type } = ask;
    let child = await runtime.submit(ask);
    // Each execution goes the same way: past those that have failed, to the last one that was submitted in their place.
    for (let n = 1; n <= renewalsMax && !child.created; n++) {
      if (!isFailure(await orUnknown(child.status()))) break;
      child = await runtime.submit({ ...ask, idempotencyKey: `${idempotencyKey}~${n}` });
    }
    const { id, created } = child;
    if (ask.conditions?.cancelsWithParent) this.#follow(runtime, ask.parent, { id, type });
    return { id, created };
  }

  async #begin(
    runtime: ChildRuntime,
    { parent, conditions }: Asked<'begin'>,
  ): Promise<ChildAnswers['begin']> {
    const { cancelsWithParent, failsWithJoined, joins } = conditions;
    await Promise.all(
      (joins?.ids ?? []).map(async (id) => {
        const end = await endOrGone(runtime.handle(joins!.type, id));
        if (failsWithJoined && isFailure(end.status)) throw joinedFailed(id, end as WireEnd);
      }),
    );
    const isOver = cancelsWithParent && isFailure(await orUnknown(runtime.status(parent)));
    return { cancel: isOver ? parentEnded(parent) : undefined };
  }

  /** Cancels a child when its parent has ended without having completed. */
  #follow(
    runtime: ChildRuntime,
    parent: string,
    child: { readonly id: string; readonly type: string },
  ): void {
    const known = this.#families.get(parent);
    if (known !== undefined) return void known.set(child.id, child.type);
    const family = new Map([[child.id, child.type]]);
    this.#families.set(parent, family);
    void this.#untilOver(runtime, parent, family);
  }

  async #untilOver(runtime: ChildRuntime, parent: string, family: Family): Promise<void> {
    try {
      const status = await runtime.untilEnded(parent);
      this.#families.delete(parent);
      if (!isFailure(status)) return;
      const cancels = [...family].map(([id, type]) =>
        runtime.handle(type, id).cancel(parentEnded(parent)),
      );
      // Those that cannot be reached hear of it before they begin.
      await Promise.allSettled(cancels);
    } catch (error) {
      this.#families.delete(parent);
      // It closes, or the store is silent: as above.
      if (!isMillraceError(error)) throw error;
    }
  }
}

async function endOrGone(task: TaskHandle<unknown>): Promise<ChildAnswers['joined'][number]> {
  try {
    return wireEnd(await task.settled());
  } catch (error) {
    if (hasCode(error, 'ERR_MILLRACE_TASK_GONE')) return { status: 'gone' };
    throw error;
  }
}

function wireEnd(end: Settlement<unknown>): WireEnd {
  return end.status === 'completed' ? end : { status: end.status, error: toWire(end.error) };
}

async function orUnknown(status: Promise<TaskStatus>): Promise<TaskStatus | undefined> {
  try {
    return await status;
  } catch (error) {
    if (hasCode(error, 'ERR_MILLRACE_TASK_GONE')) return undefined;
    throw error;
  }
}

function isFailure(status: string | undefined): boolean {
  return status === 'failed' || status === 'cancelled' || status === 'expired';
}

function parentEnded(parent: string): string {
  return `its parent ${parent} ended without having completed`;
}

function joinedFailed(id: string, end: WireEnd): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_TASK_FAILED',
    `task ${id}, which it joins, ended ${end.status}`,
    {
      details: { taskId: id, status: end.status },
      ...('error' in end && { cause: fromWire(end.error) }),
    },
  );
}
