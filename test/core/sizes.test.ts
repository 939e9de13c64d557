import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../src/core/errors.js';
import { sizeBytes } from '../../src/core/sizes.js';

test('a number is bytes, a string has its unit, in powers of 1024', () => {
  const spellings: readonly [unknown, number][] = [
    [0, 0],
    [1_048_576, 1_048_576],
    [10.9, 10],
    ['0B', 0],
    ['12B', 12],
    ['256KB', 262_144],
    ['64MB', 67_108_864],
    ['1GB', 1_073_741_824],
    ['1.5KB', 1_536],
    ['0.0001KB', 0],
    [' 1MB ', 1_048_576],
  ];
  for (const [spelling, bytes] of spellings) assert.equal(sizeBytes(spelling, 'size'), bytes);
});

test('anything else is refused, with the name of the option', () => {
  const junk = [
    ...['', '5', 'MB', '5 MB', '-5MB', '5mb', '5MiB', '1e3B', '5MBB'],
    ...[-1, Number.NaN, Infinity, 5n, true, null, undefined, {}, Symbol('x')],
    Object.create(null),
  ];
  for (const value of junk) {
    assert.throws(
      () => sizeBytes(value, 'queue.maxBytes'),
      (error) =>
        hasCode(error, 'ERR_MILLRACE_INVALID_OPTION') && error.details.option === 'queue.maxBytes',
    );
  }
});
