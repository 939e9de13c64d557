import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../src/core/errors.js';
import { rateSpec } from '../../src/core/rate.js';

test('a rate bursts by what it allows in a second, and by 1 at least', () => {
  assert.deepEqual(rateSpec({ limit: 300, per: '1m' }, 'rate'), {
    limit: 300,
    perMs: 60_000,
    by: 'task',
    burst: 5,
  });
  assert.equal(rateSpec({ limit: 3, per: '1h' }, 'rate').burst, 1);
  assert.equal(rateSpec({ limit: 3, per: '100ms', by: 'tenant' }, 'rate').burst, 30);
  assert.equal(rateSpec({ limit: 300, per: '1m', burst: 300 }, 'rate').burst, 300);
});

test('what is no rate is refused by the name of its part', () => {
  const refused = (options: object, name: RegExp) =>
    assert.throws(
      () => rateSpec(options as never, 'rate'),
      (error: Error) =>
        (hasCode(error, 'ERR_MILLRACE_INVALID_OPTION') ||
          hasCode(error, 'ERR_MILLRACE_INVALID_DURATION')) &&
        name.test(error.message),
    );
  refused({ limit: 0, per: '1s' }, /rate\.limit is 0/);
  refused({ limit: 1.5, per: '1s' }, /rate\.limit/);
  refused({ limit: 1 }, /rate\.per/);
  refused({ limit: 1, per: 0 }, /rate\.per is 0; give at least 1ms/);
  refused({ limit: 1, per: '1s', by: 'queue' }, /rate\.by is 'queue'; give 'task' or 'tenant'/);
  refused({ limit: 1, per: '1s', burst: 0 }, /rate\.burst/);
  refused({ limit: 1, per: '1s', max: 3 }, /rate\.max/);
  refused([], /rate is/);
});
