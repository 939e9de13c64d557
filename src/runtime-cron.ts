/**
 * Cron of a runtime: what `runtime.cron()` takes, checked, and what it gives.
 */
import type { Clock } from './core/clock.js';
import { encodePayload, type PayloadLimits } from './core/codec.js';
import { type Duration, durationMs } from './core/durations.js';
import { invalidOption, knownOptions, oneOf, shortText, wholeNumber } from './core/options.js';
import type { TaskSpec } from './core/task.js';
import type { Cron } from './engine/cron/cron.js';
import {
  CATCH_UPS,
  type CatchUp,
  type CronDefinition,
  OVERLAPS,
  type Overlap,
} from './engine/cron/entry.js';
import { Schedule } from './engine/cron/schedule.js';

export interface CronOptions {
  /** Time zone of the expression, a name of the IANA database. @defaultValue 'UTC' */
  readonly tz?: string;
  /** Each fire's task is due up to this much later, so that a fleet's entries do not all start in one second. @defaultValue 0 */
  readonly jitter?: Duration;
  /**
   * A fire while the task of the one before has not ended: `skip` leaves it out, `queue` fires when that one has ended, each
   * in its turn, `replace` cancels that one.
   * @defaultValue 'skip'
   */
  readonly overlap?: Overlap;
  /**
   * Fires that nobody could do in time, because all nodes were down: `none` leaves out what is more than a minute late, `one`
   * makes up for the latest, `all` for each, one after another.
   * @defaultValue 'one'
   */
  readonly catchUp?: CatchUp;
  /** Of each fire's task. */
  readonly tenant?: string;
  /** Of each fire's task. @defaultValue 0 */
  readonly priority?: number;
  /** Of each fire's task, from when it is due. @defaultValue the task's own */
  readonly ttl?: Duration;
}

const CRON_OPTIONS: Readonly<Record<keyof CronOptions, true>> = {
  tz: true,
  jitter: true,
  overlap: true,
  catchUp: true,
  tenant: true,
  priority: true,
  ttl: true,
};
const NAME_CHARS_MAX = 200;
const FIRES_MAX = 1_000;
/** Longer than a year, a fire's task would come after the next ones. */
const JITTER_MS_MAX = 366 * 86_400_000;

/** A cron entry. It stays until it is removed, whoever defined it. */
export interface CronHandle {
  readonly name: string;
  /** Its next fires, at most 1000; fewer when there are no more. @defaultValue 1 */
  next(count?: number): Date[];
  /** @returns whether it was there. What it has fired stays. */
  remove(): Promise<boolean>;
}

/** A cron entry as `runtime.crons()` shows it. */
export interface CronInfo extends Omit<CronDefinition, 'payload'>, CronHandle {
  /** Fires that wait for the task before them to end. */
  readonly queued: readonly Date[];
  /** The task of the last fire, and the moment that the expression named. */
  readonly last: { readonly taskId: string; readonly at: Date } | undefined;
}

export class RuntimeCron {
  readonly #cron: Cron;
  readonly #clock: Clock;
  readonly #limits: PayloadLimits;

  constructor(ports: {
    readonly cron: Cron;
    readonly clock: Clock;
    readonly limits: PayloadLimits;
  }) {
    this.#cron = ports.cron;
    this.#clock = ports.clock;
    this.#limits = ports.limits;
  }

  /** @param input - satisfies the task's schema */
  async define(
    name: string,
    expression: string,
    { spec, input }: { readonly spec: TaskSpec; readonly input: unknown },
    options: CronOptions,
  ): Promise<CronHandle> {
    shortText(name, 'name', NAME_CHARS_MAX);
    knownOptions(options, '', CRON_OPTIONS);
    if (spec.durability === 'volatile') {
      throw invalidOption(
        'task',
        spec.name,
        'a stored task: what is volatile ends with the process',
      );
    }
    const { tz = 'UTC', tenant = '', overlap = 'skip', catchUp = 'one' } = options;
    if (tenant !== '') shortText(tenant, 'tenant', NAME_CHARS_MAX);
    const schedule = new Schedule(expression, tz);
    const ttlMs = options.ttl === undefined ? spec.ttlMs : durationMs(options.ttl, 'ttl');
    const jitterMs = durationMs(options.jitter ?? 0, 'jitter');
    if (jitterMs > JITTER_MS_MAX) throw invalidOption('jitter', options.jitter, 'at most 366d');
    const nowMs = this.#clock.wallMs();
    if (schedule.next(nowMs) === Number.POSITIVE_INFINITY) {
      throw invalidOption('expression', expression, 'one that will ever be due');
    }
    await this.#cron.define({
      name,
      expression,
      timeZone: tz,
      jitterMs,
      overlap: oneOf(overlap, 'overlap', OVERLAPS),
      catchUp: oneOf(catchUp, 'catchUp', CATCH_UPS),
      type: spec.name,
      queue: spec.queue,
      tenant,
      priority: wholeNumber(options.priority ?? 0, 'priority', -32_768, 32_767),
      ttlMs: Number.isFinite(ttlMs) ? ttlMs : 0,
      payload: encodePayload(input, `input of cron entry '${name}'`, this.#limits).text,
    });
    return {
      name,
      next: (count) => this.#next(schedule, count),
      remove: () => this.#cron.remove({ name, queue: spec.queue }),
    };
  }

  async list(): Promise<CronInfo[]> {
    const entries = await this.#cron.list();
    return entries.map(({ definition: { payload: _, ...definition }, schedule, queued, last }) => ({
      ...definition,
      next: (count) => this.#next(schedule, count),
      remove: () => this.#cron.remove(definition),
      queued: queued.map((atMs) => new Date(atMs)),
      last: last && { taskId: last.task, at: new Date(last.atMs) },
    }));
  }

  #next(schedule: Schedule, count = 1): Date[] {
    wholeNumber(count, 'count', 1, FIRES_MAX);
    return schedule.nextOnes(count, this.#clock.wallMs()).map((atMs) => new Date(atMs));
  }
}
