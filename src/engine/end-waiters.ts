/**
 * Who waits for tasks of this node to end. The table watches just those: for everybody else's tasks no JavaScript
 * object exists.
 */
import type { MillraceError } from '../core/errors.js';
import type { TaskHandle, WatchedEnd } from '../timing/task-table.js';
import type { TaskEnd } from './ends.js';

export interface Waiter {
  readonly resolve: (end: TaskEnd) => void;
  readonly reject: (cause: MillraceError) => void;
  /** The task is another node's by now, and nobody waits here any more. Absent: its end is waited for there. */
  readonly onMoved?: () => void;
}

interface Linked extends Waiter {
  /** Waits for the same task. */
  readonly next: Linked | undefined;
}

export class EndWaiters {
  readonly #waiters = new Map<TaskHandle, Linked>();
  #refusal: MillraceError | undefined;

  /** Why nobody will learn of an end here any more. */
  get refusal(): MillraceError | undefined {
    return this.#refusal;
  }

  /** Resolves when the end of a watched task is durable. */
  wait(task: TaskHandle): Promise<TaskEnd> {
    return new Promise((resolve, reject) => this.add(task, { resolve, reject }));
  }

  /** The same with callbacks: one of them is called, once. */
  add(task: TaskHandle, waiter: Waiter): void {
    this.#waiters.set(task, { ...waiter, next: this.#waiters.get(task) });
  }

  settle(ends: readonly WatchedEnd[]): void {
    for (const end of ends) {
      let waiter = this.#waiters.get(end.task);
      this.#waiters.delete(end.task);
      for (; waiter !== undefined; waiter = waiter.next) waiter.resolve(end);
    }
  }

  /** Who waits for a task; they wait here no more. */
  take(task: TaskHandle): Waiter[] {
    const taken: Waiter[] = [];
    for (let waiter = this.#waiters.get(task); waiter !== undefined; waiter = waiter.next) {
      taken.push(waiter);
    }
    this.#waiters.delete(task);
    return taken;
  }

  /** Nobody will learn of an end here any more. */
  close(cause: MillraceError): void {
    this.#refusal ??= cause;
    for (const first of this.#waiters.values()) {
      for (let waiter: Linked | undefined = first; waiter; waiter = waiter.next) {
        waiter.reject(cause);
      }
    }
    this.#waiters.clear();
  }
}
