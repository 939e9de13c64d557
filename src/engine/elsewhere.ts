/**
 * Tasks of this node's shards that run on other nodes: a shard changed hands while they ran.
 *
 * Such a task is left alone while its executor lives, which is while the executor's member record is there. It reports
 * by a command. Only the executor's death makes the task run again, as a loss.
 *
 *   noted      the executor is asked whether it really runs it (a probe): what it does not know of is lost
 *   reported   `forget`
 *   executor gone from the members, confirmed by a list: what it had reported before it went is read (`beforeDead`), and
 *              then `onDead` with the tasks that it had not
 *
 * So each of these tasks is running there, or a report is on its way, or its executor is dead. A watch of the members may
 * well be ahead of one that brings reports: so the store is asked for both, in this order.
 */

import type { Members } from '../coordination/members.js';
import { Backoff, isTransient } from '../core/backoff.js';
import type { Clock } from '../core/clock.js';
import { hasCode } from '../core/errors.js';
import type { Random } from '../core/random.js';
import type { TaskHandle } from '../timing/task-table.js';

export interface ElsewhereEvents {
  /** Their executor lives: it is to be asked whether it runs them. */
  onThere(executor: string, tasks: readonly TaskHandle[]): void;
  /** Their executor is dead: acts on whatever it had reported of them. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  beforeDead(tasks: readonly TaskHandle[]): Promise<void>;
  /** It had not reported of these. */
  onDead(tasks: readonly TaskHandle[]): void;
}

export class Elsewhere {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #members: Members;
  readonly #events: ElsewhereEvents;
  readonly #byExecutor = new Map<string, Set<TaskHandle>>();
  readonly #executorOf = new Map<TaskHandle, string>();
  /** Those of whose executor nothing is known yet. */
  readonly #fresh = new Set<TaskHandle>();
  readonly #closing = new AbortController();
  #there: ReadonlySet<string> = new Set();
  #isConfirming = false;
  #following: Promise<void> = Promise.resolve();

  constructor(
    ports: { readonly clock: Clock; readonly random: Random; readonly members: Members },
    events: ElsewhereEvents,
  ) {
    this.#clock = ports.clock;
    this.#random = ports.random;
    this.#members = ports.members;
    this.#events = events;
  }

  start(): void {
    this.#following = this.#follow();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#following;
  }

  note(task: TaskHandle, executor: string): void {
    const tasks = this.#byExecutor.get(executor) ?? new Set();
    this.#byExecutor.set(executor, tasks.add(task));
    this.#executorOf.set(task, executor);
    if (this.#isThere(executor)) return this.#events.onThere(executor, [task]);
    // The watch may have told of its end already, or nothing yet.
    this.#fresh.add(task);
    void this.#confirm();
  }

  /** It has reported, or is not ours any more. */
  forget(task: TaskHandle): void {
    const executor = this.#executorOf.get(task);
    if (executor === undefined) return;
    this.#executorOf.delete(task);
    this.#fresh.delete(task);
    const tasks = this.#byExecutor.get(executor)!;
    tasks.delete(task);
    if (tasks.size === 0) this.#byExecutor.delete(executor);
  }

  /** Who runs a task elsewhere. */
  executorOf(task: TaskHandle): string | undefined {
    return this.#executorOf.get(task);
  }

  async #follow(): Promise<void> {
    const { signal } = this.#closing;
    try {
      for await (const members of this.#members.watch({ signal })) {
        this.#there = new Set(members.map(({ node }) => node));
        if (this.#suspects().length > 0) void this.#confirm();
      }
    } catch (error) {
      if (!hasCode(error, 'ERR_MILLRACE_CLOSED')) throw error;
    }
  }

  /** This node is there for itself: what it runs goes on without a lease too. */
  #isThere(executor: string): boolean {
    return executor === this.#members.node || this.#there.has(executor);
  }

  #suspects(): string[] {
    return [...this.#byExecutor.keys()].filter((executor) => !this.#isThere(executor));
  }

  /** A watch may be behind: the list decides who is dead. */
  async #confirm(): Promise<void> {
    if (this.#isConfirming) return;
    this.#isConfirming = true;
    const { signal } = this.#closing;
    const backoff = new Backoff(this.#clock, this.#random);
    while (!signal.aborted && this.#suspects().length > 0) {
      try {
        const there = new Set((await this.#members.list()).map(({ node }) => node));
        for (const executor of this.#suspects()) {
          if (!there.has(executor)) await this.#bury(executor);
        }
        this.#tellThere(there);
        // Those that are there will be seen by the watch, which then tells of their end.
        if (this.#suspects().every((executor) => there.has(executor))) break;
      } catch (error) {
        if (hasCode(error, 'ERR_MILLRACE_CLOSED')) break;
        if (!isTransient(error)) throw error;
        await backoff.pause(signal).catch(() => {});
      }
    }
    this.#isConfirming = false;
  }

  #tellThere(there: ReadonlySet<string>): void {
    for (const executor of there) {
      const tasks = [...(this.#byExecutor.get(executor) ?? [])];
      const fresh = tasks.filter((task) => this.#fresh.delete(task));
      if (fresh.length > 0) this.#events.onThere(executor, fresh);
    }
  }

  async #bury(executor: string): Promise<void> {
    const noted = [...(this.#byExecutor.get(executor) ?? [])];
    await this.#events.beforeDead(noted);
    const tasks = noted.filter((task) => this.#executorOf.get(task) === executor);
    for (const task of tasks) this.forget(task);
    if (!this.#closing.signal.aborted) this.#events.onDead(tasks);
  }
}
