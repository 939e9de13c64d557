/** Every minute of a span as a time zone's clock shows it, from Intl: what the fires of cron entries are compared with. */
import { localClock } from './local-time.js';

const MINUTE_MS = 60_000;
const DAY_MINUTES = 1_440;

export class LocalMinutes {
  readonly #startMs: number;
  readonly #count: number;
  /** minute, hour, day, month, weekday of each. */
  readonly #fields: Int16Array;
  /**
   * By the minute of the day: the minutes of the span in which an entry for it is due. That is when the clock shows it, or
   * has just jumped over it.
   */
  readonly #dueAt: readonly number[][] = Array.from({ length: DAY_MINUTES }, () => []);

  constructor(timeZone: string, startMs: number, endMs: number) {
    const clock = localClock(timeZone);
    this.#startMs = startMs;
    this.#count = Math.floor((endMs - startMs) / MINUTE_MS) + 1;
    this.#fields = new Int16Array(this.#count * 5);
    for (let i = 0; i < this.#count; i++) {
      const { minute, hour, day, month, weekday } = clock(startMs + i * MINUTE_MS);
      this.#fields.set([minute, hour, day, month, weekday], i * 5);
      if (i === 0) continue;
      const shown = hour * 60 + minute;
      const isNewDay = this.#field(i - 1, 2) !== day;
      const before = this.#field(i - 1, 1) * 60 + this.#field(i - 1, 0);
      const last = before - (isNewDay ? DAY_MINUTES : 0);
      for (let passed = last + 1; passed < shown; passed++) this.#dueAt[passed]!.push(i);
      this.#dueAt[shown]!.push(i);
    }
  }

  /** Fires after the start, up to the end, of plain fields (numbers and `*`): each local time once a day. */
  fires(expression: string): number[] {
    const [minute, hour, day, month, weekday] = expression.split(' ') as [
      string,
      string,
      string,
      string,
      string,
    ];
    const isDay = (i: number): boolean =>
      (day === '*' || Number(day) === this.#field(i, 2)) &&
      (month === '*' || Number(month) === this.#field(i, 3)) &&
      (weekday === '*' || Number(weekday) === this.#field(i, 4));
    const momentOf = (i: number): number => this.#startMs + i * MINUTE_MS;
    const fires: number[] = [];
    if (hour === '*') {
      for (let i = 1; i < this.#count; i++) {
        if (Number(minute) === this.#field(i, 0) && isDay(i)) fires.push(momentOf(i));
      }
      return fires;
    }
    let done = '';
    for (const i of this.#dueAt[Number(hour) * 60 + Number(minute)]!) {
      const date = `${this.#field(i, 3)}/${this.#field(i, 2)}`;
      // The second time that a clock which was put back shows it.
      if (date === done || !isDay(i)) continue;
      done = date;
      fires.push(momentOf(i));
    }
    return fires;
  }

  #field(i: number, k: number): number {
    return this.#fields[i * 5 + k]!;
  }
}
