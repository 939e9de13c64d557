/**
 * The task types of this node: the table knows them by number, policies by their specs.
 */
import type { Instant } from '../core/clock.js';
import type { ConcurrencyRange, ConcurrencySpec } from '../core/concurrency.js';
import type { TaskSpec } from '../core/task.js';
import { Place, type TaskTable, type TypeId } from '../timing/task-table.js';
import { AdaptiveLimit } from './adaptive-limit.js';
import { TypeTimes } from './deadlines.js';

/** Why nothing of a type begins: somebody paused it, or this node has no share of its rate. */
export type Rest = 'paused' | 'unshared';

type IsResting = (spec: TaskSpec, type: TypeId) => boolean;

interface TaskType {
  readonly spec: TaskSpec;
  readonly times: TypeTimes;
  /** The most at once, by its contract or by what somebody has said since. */
  concurrency: number;
}

/** How many executions of a type may run at once on this node, and how many do. */
export interface ConcurrencyInfo {
  /** The type's name. */
  readonly task: string;
  /** As of now; 0 while its breaker is open. */
  readonly limit: number;
  /** The bounds of an adaptive limit; both are the limit where it is fixed. */
  readonly min: number;
  readonly max: number;
  /** Running, or claimed and about to. */
  readonly running: number;
}

export class TaskTypes {
  readonly #table: TaskTable;
  readonly #types: (TaskType | undefined)[] = [];
  /** Those whose limits adapt. */
  #adaptive: readonly (readonly [TypeId, AdaptiveLimit])[] = [];
  /** How many of a type may run at once, whatever its contract says above that; by name. */
  readonly #caps = new Map<string, number>();
  /** What rests, by why. */
  readonly #resting = new Map<Rest, IsResting>();

  constructor(table: TaskTable, specs: Iterable<TaskSpec>, now: Instant) {
    this.#table = table;
    for (const spec of specs) {
      const { concurrency, adaptiveConcurrency } = spec;
      const known: TaskType = { spec, times: new TypeTimes(spec), concurrency };
      known.times.adaptive =
        adaptiveConcurrency && new AdaptiveLimit(adaptiveConcurrency, now.monoMs);
      this.#types[this.#define(known, now)] = known;
    }
    this.#listAdaptive();
  }

  /**
   * At most so many of a type at once from now on, and never more than its contract says; 0: none begins. Does nothing for
   * a type that this node does not run.
   */
  limit(name: string, atMost: number, now: Instant): void {
    this.#caps.set(name, atMost);
    this.#redefine(this.#idOf(name), now);
  }

  /**
   * Other limits of how many of a type run at once, from now on; one that is adaptive stays where it is, within them. Does nothing
   * for a type that this node does not run.
   */
  setConcurrency(name: string, { max, adaptive }: ConcurrencySpec, now: Instant): void {
    const type = this.#idOf(name);
    const known = this.#types[type];
    if (known === undefined) return;
    known.concurrency = max;
    if (adaptive === undefined) known.times.adaptive = undefined;
    else if (known.times.adaptive !== undefined) known.times.adaptive.tune(adaptive, now.monoMs);
    else known.times.adaptive = new AdaptiveLimit(adaptive, now.monoMs);
    this.#listAdaptive();
    this.#redefine(type, now);
  }

  /** Something has been claimed: of adaptive types, so many are in use. */
  noteClaims(): void {
    for (const [type, limit] of this.#adaptive) limit.noteInUse(this.#runningOf(type));
  }

  /** Something has ended: looks whether adaptive limits are to be others, and applies what they are. */
  adapt(now: Instant): void {
    for (const [type, limit] of this.#adaptive) {
      if (limit.look(now.monoMs, this.#runningOf(type))) this.#redefine(type, now);
    }
  }

  /** Of each type that has a limit, or has been given one. */
  get concurrency(): ConcurrencyInfo[] {
    const infos: ConcurrencyInfo[] = [];
    for (const [type, known] of this.#types.entries()) {
      if (known === undefined || known.concurrency === Number.POSITIVE_INFINITY) continue;
      const fixed = { min: known.concurrency, max: known.concurrency };
      const { min, max } = known.times.adaptive?.range ?? fixed;
      infos.push({
        task: known.spec.name,
        limit: this.limitOf(type as TypeId),
        min,
        max,
        running: this.#runningOf(type as TypeId),
      });
    }
    return infos;
  }

  /** The bounds that the limit of a type adapts in; undefined: it is fixed. */
  rangeOf(type: TypeId): ConcurrencyRange | undefined {
    return this.#types[type]?.times.adaptive?.range;
  }

  /** None of these begins from now on, for this reason, and all others may for it. */
  rest(why: Rest, isResting: IsResting, now: Instant): void {
    const before = this.#resting.get(why) ?? (() => false);
    this.#resting.set(why, isResting);
    for (const [type, spec] of this.all()) {
      if (isResting(spec, type) !== before(spec, type)) this.#redefine(type, now);
    }
  }

  /** Whether this node has a handler of the type. */
  has(name: string): boolean {
    return this.#idOf(name) >= 0;
  }

  /** Those that this node has handlers of. */
  *all(): Generator<readonly [TypeId, TaskSpec]> {
    for (const [type, known] of this.#types.entries()) {
      if (known !== undefined) yield [type as TypeId, known.spec];
    }
  }

  #listAdaptive(): void {
    this.#adaptive = [...this.#types.entries()].flatMap(([type, known]) => {
      const limit = known?.times.adaptive;
      return limit === undefined ? [] : [[type as TypeId, limit] as const];
    });
  }

  #runningOf(type: TypeId): number {
    return this.#table.typeState(type)?.running ?? 0;
  }

  #idOf(name: string): TypeId {
    return this.#types.findIndex((known) => known?.spec.name === name) as TypeId;
  }

  #redefine(type: TypeId, now: Instant): void {
    const known = this.#types[type];
    if (known !== undefined) this.#define(known, now, type);
  }

  #define(known: TaskType, now: Instant, type?: TypeId): TypeId {
    const { spec } = known;
    const rests = type !== undefined && this.#rests(spec, type);
    const concurrency = rests ? 0 : this.#limitOf(known);
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
    const known = this.#types[type];
    return known === undefined ? 0 : this.#limitOf(known);
  }

  #limitOf({ spec, times, concurrency }: TaskType): number {
    const cap = this.#caps.get(spec.name) ?? Number.POSITIVE_INFINITY;
    return Math.min(cap, times.adaptive?.limit ?? concurrency);
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
