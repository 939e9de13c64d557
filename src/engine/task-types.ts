/**
 * The task types of this node: the table knows them by number, policies by their specs.
 */
import type { TaskSpec } from '../core/task.js';
import { type Instant, Place, type TaskTable, type TypeId } from '../timing/task-table.js';
import { TypeTimes } from './deadlines.js';

interface TaskType {
  readonly spec: TaskSpec;
  readonly times: TypeTimes;
}

export class TaskTypes {
  readonly #table: TaskTable;
  readonly #types: (TaskType | undefined)[] = [];

  constructor(table: TaskTable, specs: Iterable<TaskSpec>, now: Instant) {
    this.#table = table;
    for (const spec of specs) {
      const type = this.#define(spec, spec.concurrency, now);
      this.#types[type] = { spec, times: new TypeTimes(spec) };
    }
  }

  /**
   * At most so many of a type at once from now on, and never more than its contract says; 0: none begins. Does nothing for
   * a type that this node does not run.
   */
  limit(name: string, atMost: number, now: Instant): void {
    const spec = this.#types.find((type) => type?.spec.name === name)?.spec;
    if (spec !== undefined) this.#define(spec, Math.min(atMost, spec.concurrency), now);
  }

  #define(spec: TaskSpec, concurrency: number, now: Instant): TypeId {
    // A claim that never ran would count as the one run of a task that has only one.
    const isJustInTime = spec.onLost === 'fail';
    return this.#table.defineType(
      { name: spec.name, place: placeOf(spec), concurrency, isJustInTime },
      now,
    );
  }

  /** Undefined for a type that this node has no handler of. */
  specOf(type: TypeId): TaskSpec | undefined {
    return this.#types[type]?.spec;
  }

  /** REQUIRES: this node has a handler of the type. */
  timesOf(type: TypeId): TypeTimes {
    return this.#types[type]!.times;
  }

  /** Whether some type of this place has been given a `timeout`. */
  isLimited(place: Place): boolean {
    return this.#types.some(
      (type) => type?.spec.timeout !== undefined && placeOf(type.spec) === place,
    );
  }
}

function placeOf(spec: TaskSpec): Place {
  return spec.exec === 'inline' ? Place.INLINE : Place.THREAD;
}
