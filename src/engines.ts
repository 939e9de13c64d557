/**
 * The engines of a runtime: one on its store, and one for volatile tasks on a store in memory, if there are any.
 *
 * A volatile task goes the same way as every other: it is delayed, retried, limited, cancelled and waited for alike. Only
 * its store is memory of this process, so that it costs no write and no disk, and ends with the process. Both engines
 * share the threads.
 */

import type { ConcurrencySpec } from './core/concurrency.js';
import type { TaskId } from './core/ids.js';
import type { TaskSpec } from './core/task.js';
import { goneError } from './engine/ends.js';
import type { Engine } from './engine/engine.js';
import type { EngineStats } from './engine/engine-options.js';
import type { TaskInspection } from './engine/inspection.js';
import type { ShutdownBudget } from './engine/shutdown.js';
import type { ConcurrencyInfo } from './engine/task-types.js';

export class Engines {
  /** On the runtime's store. */
  readonly stored: Engine;
  readonly #volatile: Engine | undefined;
  readonly #all: readonly Engine[];

  constructor(stored: Engine, volatile?: Engine) {
    this.stored = stored;
    this.#volatile = volatile;
    this.#all = volatile === undefined ? [stored] : [stored, volatile];
    // Volatile tasks rest with the others: their own store is nobody else's.
    if (volatile === undefined) return;
    volatile.pauses.adopt([]);
    stored.pauses.onApplied = (pauses) => volatile.pauses.adopt(pauses);
  }

  /** Where the tasks of a type live. */
  of({ durability }: Pick<TaskSpec, 'durability'>): Engine {
    return durability === 'volatile' ? (this.#volatile ?? this.stored) : this.stored;
  }

  /** Who has a task, whatever its type, and what is stored of it. @throws ERR_MILLRACE_TASK_GONE */
  async find(id: TaskId): Promise<{ readonly engine: Engine; readonly task: TaskInspection }> {
    for (const engine of this.#all) {
      const task = await engine.inspect(id);
      if (task !== undefined) return { engine, task };
    }
    throw goneError(id);
  }

  /** The longest of the engines' stalls; see `Engine.stalledMs`. */
  get stalledMs(): number {
    return Math.max(...this.#all.map(({ stalledMs }) => stalledMs));
  }

  get stats(): EngineStats {
    const sum = { open: 0, delayed: 0, ready: 0, running: 0, ended: 0 };
    for (const { stats } of this.#all) {
      sum.open += stats.open;
      sum.delayed += stats.delayed;
      sum.ready += stats.ready;
      sum.running += stats.running;
      sum.ended += stats.ended;
    }
    return sum;
  }

  /** Types whose executions at once are limited, and how many they are. */
  get concurrency(): ConcurrencyInfo[] {
    return this.#all.flatMap(({ concurrency }) => concurrency);
  }

  /** Called when ends are durable and their room in the queue is free. */
  onReleased(release: (bytes: number, tasks: number) => void): void {
    for (const engine of this.#all) engine.room.onReleased = release;
  }

  /** Called with what is open in the store. */
  onRecovered(occupy: (bytes: number, tasks: number) => void): void {
    for (const engine of this.#all) engine.room.onRecovered = occupy;
  }

  /** Whether there are handlers of a type here. */
  runsType(type: string): boolean {
    return this.#all.some((engine) => engine.runsType(type));
  }

  /** How many tasks of a type may run at once here, whatever its `concurrency` says above that. */
  limitType(type: string, atMost: number): void {
    for (const engine of this.#all) engine.limitType(type, atMost);
  }

  /** Other limits of how many of a type run at once here. */
  setConcurrency(type: string, concurrency: ConcurrencySpec): void {
    for (const engine of this.#all) engine.setConcurrency(type, concurrency);
  }

  /** How tenants share what runs here, from now on. */
  setWeights(weights: ReadonlyMap<string, number>): void {
    for (const engine of this.#all) engine.setWeights(weights);
  }

  /** Whether batches may be claimed before there is a place for them. */
  allowClaimsAhead(isAllowed: boolean): void {
    for (const engine of this.#all) engine.allowClaimsAhead(isAllowed);
  }

  /** How long each commit of stored tasks waits for more to share it. What is volatile writes nothing. */
  lingerCommits(lingerMs: number): void {
    this.stored.lingerCommits(lingerMs);
  }

  /** Whether nothing new begins. */
  holdStarts(isHeld: boolean): void {
    for (const engine of this.#all) engine.holdStarts(isHeld);
  }

  async start(): Promise<void> {
    for (const engine of this.#all) await engine.start();
  }

  async drain(): Promise<void> {
    await Promise.all(this.#all.map((engine) => engine.drain()));
  }

  async shutdown(budget: ShutdownBudget): Promise<void> {
    await Promise.all(this.#all.map((engine) => engine.shutdown(budget)));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#all.map((engine) => engine.stop()));
  }
}
