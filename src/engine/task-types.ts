/**
 * The task types of this node: the table knows them by number, policies by their specs.
 */
import type { TaskSpec } from '../core/task.js';
import { type Instant, Place, type TaskTable, type TypeId } from '../timing/task-table.js';

export class TaskTypes {
  readonly #specs: (TaskSpec | undefined)[] = [];
  /**
   * Whether some type may run at most once. Then nothing is claimed ahead of a free place: a claim that never ran
   * would count as the one run.
   */
  readonly hasRunOnce: boolean;

  constructor(table: TaskTable, specs: Iterable<TaskSpec>, now: Instant) {
    let hasRunOnce = false;
    for (const spec of specs) {
      const place = spec.exec === 'inline' ? Place.INLINE : Place.THREAD;
      const { name, concurrency } = spec;
      this.#specs[table.defineType({ name, place, concurrency }, now)] = spec;
      hasRunOnce ||= spec.onLost === 'fail';
    }
    this.hasRunOnce = hasRunOnce;
  }

  /** Undefined for a type that this node has no handler of. */
  specOf(type: TypeId): TaskSpec | undefined {
    return this.#specs[type];
  }
}
