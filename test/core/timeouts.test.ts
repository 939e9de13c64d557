import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defineTask } from '../../src/core/task.js';
import { type Timeout, timeoutSpec } from '../../src/core/timeouts.js';

test('a timeout is a duration, adaptive, or options with their defaults filled in', () => {
  const fixed = { factor: 0, minMs: 1_000, graceMs: 1_000 };
  assert.deepEqual(timeoutSpec('30s'), { ...fixed, maxMs: 30_000 });
  assert.deepEqual(timeoutSpec(5_000), { ...fixed, maxMs: 5_000 });
  const adaptive = { factor: 3, minMs: 1_000, maxMs: 300_000, graceMs: 1_000 };
  for (const timeout of ['adaptive', {}, { adaptive: true }, { adaptive: 3 }] as const) {
    assert.deepEqual(timeoutSpec(timeout), adaptive);
  }
  assert.deepEqual(timeoutSpec({ adaptive: false, max: 70, grace: '1m' }), {
    factor: 0,
    minMs: 70,
    maxMs: 70,
    graceMs: 60_000,
  });
});

test('the floor of a limit is never above its cap', () => {
  assert.equal(timeoutSpec({ min: '10m', max: '1m' }).minMs, 60_000);
});

test('a timeout that is none is refused, and named with its task', () => {
  const junk: readonly [unknown, string, string][] = [
    [0, 'INVALID_OPTION', 'timeout'],
    ['0ms', 'INVALID_OPTION', 'timeout'],
    [null, 'INVALID_OPTION', 'timeout'],
    [[], 'INVALID_OPTION', 'timeout'],
    [false, 'INVALID_DURATION', 'timeout'],
    ['never', 'INVALID_DURATION', 'timeout'],
    [Number.POSITIVE_INFINITY, 'INVALID_DURATION', 'timeout'],
    [{ max: 0 }, 'INVALID_OPTION', 'timeout.max'],
    [{ min: -1 }, 'INVALID_DURATION', 'timeout.min'],
    [{ grace: 'soon' }, 'INVALID_DURATION', 'timeout.grace'],
    [{ adaptive: 0.5 }, 'INVALID_OPTION', 'timeout.adaptive'],
    [{ adaptive: 'yes' }, 'INVALID_OPTION', 'timeout.adaptive'],
    [{ graze: '1s' }, 'INVALID_OPTION', 'timeout.graze'],
  ];
  for (const [timeout, code, option] of junk) {
    assert.throws(
      () => defineTask({ name: 'mail', timeout: timeout as Timeout, run: () => 1 }),
      (error: Error & { code?: string }) =>
        error.code === `ERR_MILLRACE_${code}` && error.message.includes(`task 'mail': ${option}`),
      `${JSON.stringify(timeout)}`,
    );
  }
});
