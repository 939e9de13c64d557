import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../src/core/random.js';
import { defineTask, type RetryOptions } from '../../src/core/task.js';
import { retryDelayMs } from '../../src/engine/retry-policy.js';

const delays = (retry: RetryOptions): (number | undefined)[] => {
  const policy = defineTask({ name: 'x', retry }).spec.retry;
  return [1, 2, 3, 4, 5].map((attempt) => retryDelayMs(policy, attempt, seededRandom(1)));
};

test('grows as the policy says, up to its bound, until no attempt is left', () => {
  const common = { attempts: 5, min: 100, max: 350, jitter: 'none' } as const;
  assert.deepEqual(delays({ ...common, backoff: 'exponential' }), [100, 200, 350, 350, undefined]);
  assert.deepEqual(delays({ ...common, backoff: 'linear' }), [100, 200, 300, 350, undefined]);
  assert.deepEqual(delays({ ...common, backoff: 'fixed' }), [100, 100, 100, 100, undefined]);
  assert.deepEqual(delays({ ...common, attempts: 1 })[0], undefined);
});

test('stays finite after very many attempts', () => {
  const policy = defineTask({ name: 'x', retry: { attempts: 65_535, jitter: 'none' } }).spec.retry;
  assert.equal(retryDelayMs(policy, 65_000, seededRandom(1)), 300_000);
});

test('full jitter draws anywhere between nothing and the bound', () => {
  const policy = defineTask({ name: 'x', retry: { attempts: 9, min: 1_000, max: 1_000 } }).spec
    .retry;
  const random = seededRandom(3);
  const drawn = Array.from({ length: 2_000 }, () => retryDelayMs(policy, 1, random)!);
  assert.ok(Math.min(...drawn) >= 0 && Math.max(...drawn) < 1_000);
  assert.ok(Math.min(...drawn) < 50 && Math.max(...drawn) > 950);
  const mean = drawn.reduce((sum, delay) => sum + delay) / drawn.length;
  assert.ok(Math.abs(mean - 500) < 30, `mean ${mean}`);
});
