/**
 * When a cron expression is due: the calendar part, by croner (docs/decisions/0014-croner-for-the-calendar.md).
 *
 * Pure: a moment goes in, the next one comes out. Five fields (minute hour day month weekday), or six with seconds in
 * front; names, ranges, steps, `L`, `#` and `@daily` and its like. Day and weekday that are both given both count, as in
 * every cron since Vixie: either will do. A fire in local time that does not exist (a clock that is put forward) comes as
 * soon as the clock has been moved; local time that comes twice fires the first time only.
 */
import { Cron } from 'croner';
import { invalidOption } from '../../core/options.js';

/** All sixty minutes and seconds by their numbers, and everything else as long, fit into it. */
const EXPRESSION_CHARS_MAX = 1_000;
/**
 * Zones that are known to exist. To ask for one costs 50 us and tens of KiB outside the heap, which the collector does not
 * see: ten thousand entries came to gigabytes.
 */
const KNOWN_ZONES = new Set<string>();
/** More than there are; but the same one has many spellings in capitals and small letters. */
const KNOWN_ZONES_MAX = 1_000;

/** Where croner keeps what an expression says. */
interface CronInside {
  readonly _states?: { readonly pattern?: { readonly starYear?: boolean; year?: unknown } };
}

/**
 * croner 11.0.1 gives each calendar an array of ten thousand years, 80 KiB, which it does not read where every year is meant;
 * so ten thousand entries took 800 MB in every process. To be dropped when it has none any more.
 */
const EVERY_YEAR: readonly number[] = [];

export class Schedule {
  readonly #cron: Cron;
  /** The question asked last, and its answer: a fire is asked for when it is planned, when it is due and when it is over. */
  #askedMs = Number.NaN;
  #answerMs = Number.NaN;

  /**
   * @param expression - five or six fields, at most 1000 characters
   * @param timeZone - a name of the IANA database, e.g. `Europe/Berlin`
   * @throws ERR_MILLRACE_INVALID_OPTION that names the expression or the zone
   */
  constructor(expression: string, timeZone: string) {
    if (!isTimeZone(timeZone)) {
      throw invalidOption(
        'tz',
        timeZone,
        "a time zone of the IANA database, e.g. 'Europe/Berlin' or 'UTC'",
      );
    }
    if (typeof expression !== 'string' || expression.length > EXPRESSION_CHARS_MAX) {
      throw badExpression(expression);
    }
    const fields = expression.trim().split(/\s+/).length;
    const isNickname = expression.trim().startsWith('@');
    if (fields !== 5 && fields !== 6 && !isNickname) throw badExpression(expression);
    try {
      this.#cron = new Cron(expression, { timezone: timeZone, paused: true });
    } catch (cause) {
      throw badExpression(expression, (cause as Error).message);
    }
    const pattern = (this.#cron as unknown as CronInside)._states?.pattern;
    if (pattern?.starYear) pattern.year = EVERY_YEAR;
  }

  /** The first fire after a moment; Infinity when there is none. Epoch ms. */
  next(afterMs: number): number {
    if (afterMs === this.#askedMs) return this.#answerMs;
    // biome-ignore lint/style/noRestrictedGlobals: a Date as a moment, which reads no clock.
    const after = new Date(afterMs);
    const answerMs = this.#cron.nextRun(after)?.getTime() ?? Number.POSITIVE_INFINITY;
    this.#askedMs = afterMs;
    this.#answerMs = answerMs;
    return answerMs;
  }

  /** The first `count` fires after a moment. */
  nextOnes(count: number, afterMs: number): number[] {
    const times: number[] = [];
    for (let at = this.next(afterMs); times.length < count && at !== Number.POSITIVE_INFINITY; ) {
      times.push(at);
      at = this.next(at);
    }
    return times;
  }
}

function badExpression(expression: unknown, why?: string): Error {
  const wanted = "a cron expression of five fields, e.g. '0 3 * * *', or six with seconds first";
  return invalidOption('expression', expression, why === undefined ? wanted : `${wanted} (${why})`);
}

function isTimeZone(name: unknown): boolean {
  if (typeof name !== 'string') return false;
  if (KNOWN_ZONES.has(name)) return true;
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
  } catch {
    return false;
  }
  if (KNOWN_ZONES.size < KNOWN_ZONES_MAX) KNOWN_ZONES.add(name);
  return true;
}
