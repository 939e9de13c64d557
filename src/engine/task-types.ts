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
  readonly #types: (TaskType | undefined)[] = [];

  constructor(table: TaskTable, specs: Iterable<TaskSpec>, now: Instant) {
    for (const spec of specs) {
      const { name, concurrency } = spec;
      const place = placeOf(spec);
      // A claim that never ran would count as the one run of a task that has only one.
      const isJustInTime = spec.onLost === 'fail';
      const type = table.defineType({ name, place, concurrency, isJustInTime }, now);
      this.#types[type] = { spec, times: new TypeTimes(spec) };
    }
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
