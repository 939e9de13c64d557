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

export class Schedule {
  readonly #cron: Cron;

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
  }

  /** The first fire after a moment; Infinity when there is none. Epoch ms. */
  next(afterMs: number): number {
    // biome-ignore lint/style/noRestrictedGlobals: a Date as a moment, which reads no clock.
    const after = new Date(afterMs);
    return this.#cron.nextRun(after)?.getTime() ?? Number.POSITIVE_INFINITY;
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
  try {
    return typeof name === 'string' && Boolean(new Intl.DateTimeFormat('en', { timeZone: name }));
  } catch {
    return false;
  }
}
