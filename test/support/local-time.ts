/** What clock and calendar of a time zone show, by Intl: the zones' rules without anything of cron. */

export interface LocalFields {
  readonly minute: number;
  readonly hour: number;
  readonly day: number;
  readonly month: number;
  /** From 0, Sunday. */
  readonly weekday: number;
}

const WEEKDAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

/** @returns what is shown at a moment, epoch ms */
export function localClock(timeZone: string): (atMs: number) => LocalFields {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    minute: 'numeric',
    hour: 'numeric',
    day: 'numeric',
    month: 'numeric',
    weekday: 'short',
  });
  return (atMs) => {
    const parts = new Map(format.formatToParts(atMs).map(({ type, value }) => [type, value]));
    return {
      minute: Number(parts.get('minute')),
      hour: Number(parts.get('hour')),
      day: Number(parts.get('day')),
      month: Number(parts.get('month')),
      weekday: WEEKDAYS.indexOf(parts.get('weekday')!),
    };
  };
}
