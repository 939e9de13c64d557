/**
 * The calendar against a search minute by minute over Intl.DateTimeFormat, which knows the zones but nothing of cron.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { Schedule } from '../../../src/engine/cron/schedule.js';
import { type LocalFields, localClock } from '../../support/local-time.js';

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** Fires in (fromMs, toMs] of an entry at one local time of the day, by the words of the guide. */
function dailyFires(
  timeZone: string,
  { hour, minute }: { hour: number; minute: number },
  fromMs: number,
  toMs: number,
): number[] {
  const clock = localClock(timeZone);
  const fires: number[] = [];
  let firedOn = '';
  for (let atMs = fromMs + MINUTE_MS; atMs <= toMs; atMs += MINUTE_MS) {
    const now = clock(atMs);
    const before = clock(atMs - MINUTE_MS);
    const ofDay = now.hour * 60 + now.minute;
    const minutesBefore = before.hour * 60 + before.minute;
    const ofDayBefore = before.day === now.day ? minutesBefore : minutesBefore - 24 * 60;
    const wanted = hour * 60 + minute;
    // Put forward over it: as soon as that has happened.
    const isInGap = wanted > ofDayBefore && wanted < ofDay;
    if (!isInGap && ofDay !== wanted) continue;
    const date = `${now.month}/${now.day}`;
    // Put back: the first time only.
    if (date === firedOn) continue;
    firedOn = date;
    fires.push(atMs);
  }
  return fires;
}

const fireList = (schedule: Schedule, fromMs: number, toMs: number): number[] => {
  const fires: number[] = [];
  for (let at = schedule.next(fromMs); at <= toMs; at = schedule.next(at)) fires.push(at);
  return fires;
};
const shown = (times: readonly number[]): string[] => times.map((at) => new Date(at).toISOString());

/** Both changes of 2026, two days around each. */
const CHANGES: readonly (readonly [zone: string, day: string])[] = [
  ['Europe/Berlin', '2026-03-29'],
  ['Europe/Berlin', '2026-10-25'],
  ['America/New_York', '2026-03-08'],
  ['America/New_York', '2026-11-01'],
  ['Australia/Lord_Howe', '2026-10-04'],
  ['Australia/Lord_Howe', '2026-04-05'],
  ['America/Santiago', '2026-09-06'],
  ['America/Santiago', '2026-04-05'],
];

describe('a schedule', () => {
  for (const [zone, day] of CHANGES) {
    test(`fires once a day through the change of the clock in ${zone} on ${day}`, () => {
      const fromMs = Date.parse(`${day}T00:00:00Z`) - 2 * DAY_MS;
      const toMs = fromMs + 4 * DAY_MS;
      for (const { hour, minute } of [
        { hour: 0, minute: 30 },
        { hour: 1, minute: 30 },
        { hour: 1, minute: 59 },
        { hour: 2, minute: 0 },
        { hour: 2, minute: 30 },
        { hour: 3, minute: 0 },
        { hour: 12, minute: 0 },
      ]) {
        const schedule = new Schedule(`${minute} ${hour} * * *`, zone);
        const wanted = dailyFires(zone, { hour, minute }, fromMs, toMs);
        assert.deepEqual(
          shown(fireList(schedule, fromMs, toMs)),
          shown(wanted),
          `${hour}:${minute}`,
        );
      }
    });
  }

  test('that is due every quarter of an hour goes on evenly through both changes', () => {
    for (const day of ['2026-03-29', '2026-10-25']) {
      const fromMs = Date.parse(`${day}T00:00:00Z`) - DAY_MS;
      const fires = fireList(
        new Schedule('*/15 * * * *', 'Europe/Berlin'),
        fromMs,
        fromMs + 2 * DAY_MS,
      );
      assert.equal(fires.length, 2 * 24 * 4);
      for (let i = 1; i < fires.length; i++)
        assert.equal(fires[i]! - fires[i - 1]!, 15 * MINUTE_MS);
    }
  });

  test('knows leap days', () => {
    const fires = new Schedule('0 0 29 2 *', 'UTC').nextOnes(3, Date.parse('2026-01-01T00:00:00Z'));
    assert.deepEqual(shown(fires), [
      '2028-02-29T00:00:00.000Z',
      '2032-02-29T00:00:00.000Z',
      '2036-02-29T00:00:00.000Z',
    ]);
    const lasts = new Schedule('0 12 L * *', 'UTC').nextOnes(3, Date.parse('2028-01-01T00:00:00Z'));
    assert.deepEqual(
      lasts.map((at) => new Date(at).getUTCDate()),
      [31, 29, 31],
    );
  });

  test('of any fields matches a search minute by minute', () => {
    const field = (min: number, max: number) =>
      fc.oneof(
        { weight: 3, arbitrary: fc.constant('*') },
        { weight: 2, arbitrary: fc.integer({ min, max }).map(String) },
        {
          weight: 1,
          arbitrary: fc.integer({ min: 2, max: Math.min(9, max - min) }).map((step) => `*/${step}`),
        },
      );
    const zones = ['UTC', 'Asia/Kolkata', 'Pacific/Auckland'];
    const fields = fc.tuple(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6));
    const start = fc.integer({ min: Date.parse('2026-05-01'), max: Date.parse('2026-08-01') });
    fc.assert(
      fc.property(fields, fc.constantFrom(...zones), start, (parts, zone, startMs) => {
        const fromMs = Math.floor(startMs / MINUTE_MS) * MINUTE_MS;
        const toMs = fromMs + DAY_MS;
        const clock = localClock(zone);
        const wanted: number[] = [];
        for (let atMs = fromMs + MINUTE_MS; atMs <= toMs; atMs += MINUTE_MS) {
          if (matches(parts, clock(atMs))) wanted.push(atMs);
        }
        const schedule = new Schedule(parts.join(' '), zone);
        assert.deepEqual(shown(fireList(schedule, fromMs, toMs)), shown(wanted));
      }),
      { numRuns: 60 },
    );
  });

  test('that will never be due again has no next fire', () => {
    assert.equal(new Schedule('0 0 30 2 *', 'UTC').next(0), Number.POSITIVE_INFINITY);
  });

  test('is refused with the expression or the zone that is wrong', () => {
    const cases: readonly (readonly [string, string, RegExp])[] = [
      ['', 'UTC', /expression is ''/],
      ['* * *', 'UTC', /expression is '\* \* \*'; give a cron expression of five fields/],
      ['61 * * * *', 'UTC', /expression is '61 \* \* \* \*'/],
      ['0 0 * * *', 'Mars/Olympus', /tz is 'Mars\/Olympus'; give a time zone/],
      [7 as unknown as string, 'UTC', /expression is 7/],
      ['2026-01-01T00:00:00Z', 'UTC', /expression is/],
    ];
    for (const [expression, zone, message] of cases) {
      assert.throws(() => new Schedule(expression, zone), {
        code: 'ERR_MILLRACE_INVALID_OPTION',
        message,
      });
    }
  });

  test('takes a few KiB: a process knows every entry of the cluster', () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const inUse = (): number => {
      collect();
      return process.memoryUsage().heapUsed;
    };
    const before = inUse();
    const schedules = Array.from({ length: 1_000 }, (_, i) => {
      const schedule = new Schedule(`${i % 60} ${i % 24} * * ${i % 7}`, 'Europe/Berlin');
      schedule.next(0);
      return schedule;
    });
    const bytesEach = (inUse() - before) / schedules.length;
    assert.ok(bytesEach < 8_192, `${bytesEach} bytes`);
  });
});

function matches(
  [minute, hour, day, month, weekday]: readonly string[],
  now: LocalFields,
): boolean {
  const isAnyDay = day === '*' || weekday === '*';
  const isDay = one(day!, now.day, 1);
  const isWeekday = one(weekday!, now.weekday, 0);
  return (
    one(minute!, now.minute, 0) &&
    one(hour!, now.hour, 0) &&
    one(month!, now.month, 1) &&
    (isAnyDay ? isDay && isWeekday : isDay || isWeekday)
  );
}

function one(field: string, value: number, first: number): boolean {
  if (field === '*') return true;
  if (field.startsWith('*/')) return (value - first) % Number(field.slice(2)) === 0;
  return Number(field) === value;
}
