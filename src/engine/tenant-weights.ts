/**
 * TenantWeights: how tenants share what runs here; the ready queues of the table go by it.
 */
import type { TaskTable } from '../timing/task-table.js';

export class TenantWeights {
  readonly #table: TaskTable;
  /** Of tenants that do not have the weight 1. */
  #weights: ReadonlyMap<string, number> = new Map();

  constructor(table: TaskTable, weights: ReadonlyMap<string, number> = new Map()) {
    this.#table = table;
    this.set(weights);
  }

  /** From now on, also for what is ready already. Who is not named has the weight 1. REQUIRES: the table is open. */
  set(weights: ReadonlyMap<string, number>): void {
    for (const tenant of this.#weights.keys()) {
      if (!weights.has(tenant)) this.#table.setWeight(tenant, 1);
    }
    for (const [tenant, weight] of weights) this.#table.setWeight(tenant, weight);
    this.#weights = weights;
  }
}
