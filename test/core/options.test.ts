import assert from 'node:assert/strict';
import { test } from 'node:test';
import { invalidOption, oneOf, showValue, wholeNumber } from '../../src/core/options.js';

const refused = { code: 'ERR_MILLRACE_INVALID_OPTION' };

test('whole numbers within the bounds pass, both bounds included', () => {
  for (const value of [1, 2, 10]) assert.equal(wholeNumber(value, 'n', 1, 10), value);
  const junk = [
    0,
    11,
    1.5,
    Number.NaN,
    Infinity,
    '5',
    5n,
    null,
    undefined,
    [5],
    Object.create(null),
  ];
  for (const value of junk) assert.throws(() => wholeNumber(value, 'n', 1, 10), refused);
});

test('one of the words passes, and the refusal names them all', () => {
  assert.equal(oneOf('wait', 'onFull', ['wait', 'reject']), 'wait');
  assert.throws(() => oneOf('Wait', 'onFull', ['wait', 'reject']), {
    ...refused,
    message: "onFull is 'Wait'; give 'wait' or 'reject'",
    details: { option: 'onFull', value: "'Wait'" },
  });
  for (const value of [undefined, null, 0, ['wait'], Object.create(null)]) {
    assert.throws(() => oneOf(value, 'onFull', ['wait', 'reject']), refused);
  }
});

test('any value can be shown, briefly', () => {
  const hostile = new Proxy(
    {},
    {
      get() {
        throw new Error('hands off');
      },
    },
  );
  assert.equal(showValue('x'.repeat(500)).length, 82);
  assert.equal(showValue(12), '12');
  assert.equal(showValue(undefined), 'undefined');
  assert.equal(showValue(Symbol('s')), 'Symbol(s)');
  for (const value of [hostile, Object.create(null), { toString: null, valueOf: null }]) {
    assert.equal(showValue(value), 'an object that cannot be shown');
    assert.match(invalidOption('x', value, 'y').message, /^x is an object that cannot be shown/);
  }
});
