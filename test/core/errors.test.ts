import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ERRORS,
  type ErrorCode,
  hasCode,
  invariant,
  isMillraceError,
  MillraceError,
  NonRetryableError,
} from '../../src/core/errors.js';

/** Values that answer every question with an exception, or with a lie. */
const HOSTILE: readonly unknown[] = [
  new Proxy(
    {},
    {
      get: () => assert.fail(),
      has: () => assert.fail(),
      getPrototypeOf: () => assert.fail(),
    },
  ),
  new Proxy({}, { get: () => assert.fail(), has: () => true }),
  new Proxy({}, { get: () => Symbol.for('millrace.error') }),
  Object.create(null),
  null,
  undefined,
  0,
  '',
  Symbol('s'),
  () => {},
];

test('an error carries its code, its kind, its details and its cause', () => {
  const cause = new Error('underneath');
  const error = new MillraceError('ERR_MILLRACE_STORE_FULL', 'no space', {
    details: { bytes: 5 },
    cause,
  });
  assert.ok(error instanceof Error);
  assert.equal(error.name, 'MillraceError');
  assert.equal(error.message, 'no space');
  assert.equal(error.code, 'ERR_MILLRACE_STORE_FULL');
  assert.equal(error.kind, 'capacity');
  assert.deepEqual(error.details, { bytes: 5 });
  assert.equal(error.cause, cause);
  assert.match(error.stack ?? '', /errors\.test/);
});

test('details are there when none were given; a cause is not', () => {
  const error = new MillraceError('ERR_MILLRACE_CLOSED', 'closed');
  assert.deepEqual(error.details, {});
  assert.ok(!('cause' in error));
});

test('every code has a kind and a meaning', () => {
  for (const [code, fact] of Object.entries(ERRORS)) {
    assert.match(code, /^ERR_MILLRACE_[A-Z]+(_[A-Z]+)*$/);
    assert.match(fact.doc, /^[A-Z`].*\.$/);
    assert.equal(new MillraceError(code as ErrorCode, 'x').kind, fact.kind);
  }
});

test('errors of another installed copy are recognised, look-alikes are not', () => {
  const foreign = Object.assign(new Error('theirs'), {
    code: 'ERR_MILLRACE_CLOSED',
    [Symbol.for('millrace.error')]: true,
  });
  assert.ok(isMillraceError(foreign));
  assert.ok(hasCode(foreign, 'ERR_MILLRACE_CLOSED'));
  assert.ok(!hasCode(foreign, 'ERR_MILLRACE_INTERNAL'));
  assert.ok(!isMillraceError(Object.assign(new Error('x'), { code: 'ERR_MILLRACE_CLOSED' })));
});

test('asking whether something is such an error never throws', () => {
  for (const value of HOSTILE) {
    assert.equal(typeof isMillraceError(value), 'boolean');
    assert.equal(hasCode(value, 'ERR_MILLRACE_CLOSED'), false);
  }
});

test('the brand does not show when an error is printed or spread', () => {
  const error = new MillraceError('ERR_MILLRACE_CLOSED', 'closed');
  assert.deepEqual(Object.keys(error).sort(), ['code', 'details', 'kind', 'name']);
  assert.deepEqual(Object.getOwnPropertySymbols({ ...error }), []);
});

test('an invariant that does not hold says which', () => {
  invariant(true, 'fine');
  assert.throws(() => invariant(0, 'here', { count: 3 }), {
    code: 'ERR_MILLRACE_INTERNAL',
    kind: 'internal',
    message: 'invariant here does not hold',
    details: { tag: 'here', count: 3 },
  });
});

test('NonRetryableError is known by its name', () => {
  const cause = new Error('why');
  const error = new NonRetryableError('never', { cause });
  assert.ok(error instanceof Error);
  assert.equal(error.name, 'NonRetryableError');
  assert.equal(error.cause, cause);
});
