/**
 * The part of the oracle that knows reports: commands that say what executions came to whose shard has moved. Rule S1: one is
 * deleted when what it says is stored, else nobody would have it after a crash.
 */
import { TaskState } from '../../src/core/states.js';
import { type ExecutionRef, isSameExecution } from '../../src/engine/execution-ref.js';
import { decodeCommand } from '../../src/engine/letters.js';
import type { Evidence } from './evidence.js';
import type { SimNode } from './sim-node.js';
import { newestClaim } from './stored-tasks.js';

interface Report {
  readonly executor: string;
  readonly told: readonly {
    readonly execution: ExecutionRef;
    /** The newest claim of the task when it was put. */
    readonly at: number;
  }[];
}

export class ReportBook {
  readonly #known: Evidence;
  /** In the store, by key. */
  readonly #reports = new Map<string, Report>();

  constructor(known: Evidence) {
    this.#known = known;
  }

  /** REQUIRES: the claims of the same transaction are not noted yet, since nothing has been reported of those. */
  onCommand(key: string, value: Uint8Array): void {
    const command = decodeCommand(value);
    const results = command.kind === 'results' ? command.results : [];
    const told = results.map((result) => {
      const task = this.#known.tasks.get(result.task);
      return { execution: result, at: task === undefined ? 0 : newestClaim(task) };
    });
    this.#reports.set(key, { executor: command.from, told });
  }

  onCommandDeleted(key: string, node: SimNode): void {
    const report = this.#reports.get(key);
    this.#reports.delete(key);
    for (const { execution, at } of report?.told ?? []) {
      const id = execution.task;
      const task = this.#known.tasks.get(id);
      if (task?.state !== TaskState.RUNNING || task.end !== undefined) continue;
      const { attempt, losses, version, executor } = task;
      const stands = isSameExecution({ task: id, attempt, losses, version }, execution);
      // Claimed anew, perhaps by the same: then the report has been heard.
      if (stands && executor === report!.executor && newestClaim(task) === at) {
        const what = `${node.name} deletes ${key}, and ${id} still stands as running`;
        this.#known.violate('S1', what);
      }
    }
  }
}
