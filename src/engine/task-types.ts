/**
 * The task types of this node: the table knows them by number, policies by their specs.
 */
import type { Instant } from '../core/clock.js';
import type { TaskSpec } from '../core/task.js';
import { Place, type TaskTable, type TypeId } from '../timing/task-table.js';
import { TypeTimes } from './deadlines.js';

/** Why nothing of a type begins: somebody paused it, or this node has no share of its rate. */
export type Rest = 'paused' | 'unshared';

type IsResting = (spec: TaskSpec, type: TypeId) => boolean;

interface TaskType {
  readonly spec: TaskSpec;
  readonly times: TypeTimes;
}

export class TaskTypes {
  readonly #table: TaskTable;
  readonly #types: (TaskType | undefined)[] = [];
  /** How many of a type may run at once, whatever its contract says above that; by name. */
  readonly #caps = new Map<string, number>();
  /** What rests, by why. */
  readonly #resting = new Map<Rest, IsResting>();

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
    const type = this.#types.findIndex((known) => known?.spec.name === name) as TypeId;
    const spec = this.specOf(type);
    if (spec !== undefined) this.#define(spec, now, type);
  }

  /** None of these begins from now on, for this reason, and all others may for it. */
  rest(why: Rest, isResting: IsResting, now: Instant): void {
    const before = this.#resting.get(why) ?? (() => false);
    this.#resting.set(why, isResting);
    for (const [type, spec] of this.all()) {
      if (isResting(spec, type) !== before(spec, type)) this.#define(spec, now, type);
    }
  }

  /** Those that this node has handlers of. */
  *all(): Generator<readonly [TypeId, TaskSpec]> {
    for (const [type, known] of this.#types.entries()) {
      if (known !== undefined) yield [type as TypeId, known.spec];
    }
  }

  #define(spec: TaskSpec, now: Instant, type?: TypeId): TypeId {
    const rests = type !== undefined && this.#rests(spec, type);
    const concurrency = rests ? 0 : this.#limitOf(spec);
    // A claim that never ran would count as the one run of a task that has only one.
    const isJustInTime = spec.onLost === 'fail';
    const perKey = spec.concurrencyPerKey;
    return this.#table.defineType(
      { name: spec.name, place: placeOf(spec), concurrency, isJustInTime, perKey },
      now,
    );
  }

  #rests(spec: TaskSpec, type: TypeId): boolean {
    for (const isResting of this.#resting.values()) if (isResting(spec, type)) return true;
    return false;
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

  /** Whether the handlers of this place, some or all of them, take several tasks in one call. */
  isBatched(place: Place, which: 'some' | 'every'): boolean {
    const there = this.#types.filter((type) => type !== undefined && placeOf(type.spec) === place);
    return there.length > 0 && there[which]((type) => type!.spec.isBatched);
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
