import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { durationMs, formatMs } from '../../src/core/durations.js';
import { hasCode } from '../../src/core/errors.js';
import { DUE_AT_MS_MAX } from '../../src/core/ids.js';

const YEAR_MS = 365 * 86_400_000;

test('a number is milliseconds, a string has its unit', () => {
  const spellings: readonly [unknown, number][] = [
    [0, 0],
    [250, 250],
    [0.5, 0.5],
    ['0ms', 0],
    ['250ms', 250],
    ['5s', 5_000],
    ['2m', 120_000],
    ['1h', 3_600_000],
    ['7d', 604_800_000],
    ['1.5s', 1_500],
    ['0.25ms', 0.25],
    [' 5s ', 5_000],
  ];
  for (const [spelling, ms] of spellings) assert.equal(durationMs(spelling, 'delay'), ms);
});

test('anything else is refused, with the name of the option and what was given', () => {
  const junk = [
    ...['', '5', 's', '5 s', '-5s', '+5s', '5S', '5sec', '1h30m', '5,5s', '1e3ms', 'Infinityms'],
    ...['0x10ms', '1.s', '.5s', '5s5', '\u0665s'],
    ...[-1, Number.NaN, Infinity, -Infinity, 5n, true, null, undefined, [], {}, Symbol('x')],
    Object.create(null),
  ];
  for (const value of junk) {
    assert.throws(
      () => durationMs(value, 'retry.min'),
      (error) =>
        hasCode(error, 'ERR_MILLRACE_INVALID_DURATION') &&
        error.message.startsWith('retry.min is ') &&
        error.details.name === 'retry.min',
    );
  }
});

test('a junk string of any length makes a short message', () => {
  assert.throws(
    () => durationMs('9'.repeat(100_000), 'ttl'),
    (error) =>
      hasCode(error, 'ERR_MILLRACE_INVALID_DURATION') &&
      error.message.length < 250 &&
      JSON.stringify(error.details).length < 250,
  );
});

test('no duration is longer than 1000 years, so that sums of them still can be stored', () => {
  const longest = 1_000 * YEAR_MS;
  assert.equal(durationMs('365000d', 'ttl'), longest);
  assert.equal(durationMs(longest, 'ttl'), longest);
  for (const tooLong of [longest + 1, 1e300, Number.MAX_VALUE, '365001d', '999999999999999d']) {
    assert.throws(
      () => durationMs(tooLong, 'ttl'),
      (error) => hasCode(error, 'ERR_MILLRACE_INVALID_DURATION') && /365000d/.test(error.message),
    );
  }
  // The latest due time with the longest ttl is within what a frame's times can be.
  assert.ok(DUE_AT_MS_MAX + longest < Number.MAX_SAFE_INTEGER);
});

test('the shortest exact spelling of a span', () => {
  const spellings: readonly [number, string][] = [
    [0, '0ms'],
    [250, '250ms'],
    [1_000, '1s'],
    [1_500, '1500ms'],
    [90_000, '90s'],
    [120_000, '2m'],
    [5_400_000, '90m'],
    [86_400_000, '1d'],
    [0.12345, '0.123ms'],
  ];
  for (const [ms, spelling] of spellings) assert.equal(formatMs(ms), spelling);
});

test('a whole span that is formatted reads as itself', () => {
  fc.assert(
    fc.property(fc.nat(2 ** 31 - 1), (ms) => {
      assert.equal(durationMs(formatMs(ms), 'x'), ms);
    }),
  );
});
