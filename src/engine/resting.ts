/**
 * Resting: makes what is paused (pauses.ts) rest in the table of this node. A type, or the types of a queue, are given no room; a
 * tenant is stopped.
 */
import { type Clock, instantOf } from '../core/clock.js';
import type { TaskSpec } from '../core/task.js';
import type { TaskTable } from '../timing/task-table.js';
import type { Pause } from './pauses.js';
import type { TaskTypes } from './task-types.js';

export class Resting {
  readonly #clock: Clock;
  readonly #table: TaskTable;
  readonly #types: TaskTypes;
  #tenants: ReadonlySet<string> = new Set();

  constructor(clock: Clock, table: TaskTable, types: TaskTypes) {
    this.#clock = clock;
    this.#table = table;
    this.#types = types;
  }

  /** These rest from now on, and nothing else. REQUIRES: the table is open. */
  apply(pauses: readonly Pause[]): void {
    const named = (kind: Pause['kind']) =>
      new Set(pauses.filter((pause) => pause.kind === kind).map(({ name }) => name));
    const [tasks, queues, tenants] = [named('task'), named('queue'), named('tenant')];
    const isPaused = ({ name, queue }: TaskSpec) => tasks.has(name) || queues.has(queue);
    this.#types.rest('paused', isPaused, instantOf(this.#clock));
    for (const tenant of this.#tenants) {
      if (!tenants.has(tenant)) this.#table.stopTenant(tenant, false);
    }
    for (const tenant of tenants) this.#table.stopTenant(tenant, true);
    this.#tenants = tenants;
  }
}
