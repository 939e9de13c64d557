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
  /** How many of a type may run at once, whatever its contract says above that; by name. */
  readonly #caps = new Map<string, number>();
  #isResting: (spec: TaskSpec) => boolean = () => false;

  constructor(table: TaskTable, specs: Iterable<TaskSpec>, now: Instant) {
    this.#table = table;
    for (const spec of specs) {
      const type = this.#define(spec, now);
      this.#types[type] = { spec, times: new TypeTimes(spec) };
    }
  }

  /**
   * At most so many of a type at once from now on, and never more than its contract says; 0: none begins. Does nothing for
   * a type that this node does not run.
   */
  limit(name: string, atMost: number, now: Instant): void {
    this.#caps.set(name, atMost);
    const spec = this.#types.find((type) => type?.spec.name === name)?.spec;
    if (spec !== undefined) this.#define(spec, now);
  }

  /** None of these begins from now on, and all others may. */
  rest(isResting: (spec: TaskSpec) => boolean, now: Instant): void {
    const before = this.#isResting;
    this.#isResting = isResting;
    for (const type of this.#types) {
      if (type && isResting(type.spec) !== before(type.spec)) this.#define(type.spec, now);
    }
  }

  #define(spec: TaskSpec, now: Instant): TypeId {
    const concurrency = this.#isResting(spec) ? 0 : this.#limitOf(spec);
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

  /** Names that the table has met, and that do not run here. */
  get foreign(): string[] {
    const names: string[] = [];
    for (let type = 0; ; type++) {
      const name = this.#table.typeName(type as TypeId);
      if (name === undefined) return names;
      if (this.#types[type] === undefined) names.push(name);
    }
  }

  /** How many of a type may run at once here, as of now, unless it rests; 0: none begins. */
  limitOf(type: TypeId): number {
    const spec = this.specOf(type);
    return spec === undefined ? 0 : this.#limitOf(spec);
  }

  #limitOf({ name, concurrency }: TaskSpec): number {
    return Math.min(this.#caps.get(name) ?? Number.POSITIVE_INFINITY, concurrency);
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
