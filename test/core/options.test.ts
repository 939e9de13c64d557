import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  invalidOption,
  knownOptions,
  oneOf,
  showValue,
  wholeNumber,
} from '../../src/core/options.js';

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

test('known options pass, and none at all', () => {
  const known = { max: true, linger: true } as const;
  const options: { max?: number; linger?: number } = { max: 1 };
  assert.equal(knownOptions(options, 'batch.', known), options);
  assert.deepEqual(knownOptions(undefined, 'batch.', known), {});
});

test('an unknown option is refused with the one that was probably meant', () => {
  const known = { maxTasks: true, maxBytes: true, onFull: true } as const;
  const refuse = (options: object | undefined): void => {
    knownOptions(options as { maxTasks?: 1; maxBytes?: 1; onFull?: 1 }, 'queue.', known);
  };
  assert.throws(() => refuse({ maxTask: 5 }), {
    ...refused,
    message:
      'there is no option queue.maxTask; did you mean queue.maxTasks? known are maxTasks, maxBytes, onFull',
    details: { option: 'queue.maxTask', known: ['maxTasks', 'maxBytes', 'onFull'] },
  });
  // Also when it has no value, and when its name is one that every object has.
  assert.throws(
    () => refuse({ onFull: 1, colour: undefined }),
    /there is no option queue.colour; known are/,
  );
  assert.throws(() => refuse({ toString: 1 }), /there is no option queue.toString/);
  for (const junk of [null, 5, 'reject', [], () => {}]) {
    assert.throws(() => refuse(junk as object), refused);
  }
});
