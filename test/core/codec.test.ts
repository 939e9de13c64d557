import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  DEFAULT_PAYLOAD_LIMITS,
  decodePayload,
  encodePayload,
  type PayloadLimits,
} from '../../src/core/codec.js';
import { hasCode } from '../../src/core/errors.js';

const limits = DEFAULT_PAYLOAD_LIMITS;

function encode(value: unknown, of: PayloadLimits = limits) {
  return encodePayload(value, "input of task 'x'", of);
}

function decode(value: unknown): unknown {
  return decodePayload(Buffer.from(encode(value).text));
}

/** Arrays around arrays, `depth` of them. */
function nested(depth: number): unknown {
  let value: unknown = [];
  for (let i = 1; i < depth; i++) value = [value];
  return value;
}

const tooDeep = { code: 'ERR_MILLRACE_PAYLOAD_TOO_DEEP' };
const tooLarge = { code: 'ERR_MILLRACE_PAYLOAD_TOO_LARGE' };
const notSerializable = { code: 'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE' };

test('a JSON value comes back as it went in', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 20 }), (value) => {
      assert.deepEqual(decode(value), JSON.parse(JSON.stringify(value)));
    }),
  );
});

test('byteLength is the length in UTF-8', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (value) => {
      const { text, byteLength } = encode(value);
      assert.equal(byteLength, Buffer.from(text).length);
    }),
  );
});

test('undefined is no bytes, and comes back as undefined; null is a value', () => {
  assert.deepEqual(encode(undefined), { text: '', byteLength: 0 });
  assert.equal(decode(undefined), undefined);
  assert.equal(decode(null), null);
});

test('what JSON leaves out or changes is left out or changed', () => {
  assert.deepEqual(decode({ a: undefined, f() {} }), {});
  assert.deepEqual(decode([undefined, Number.NaN, () => {}]), [null, null, null]);
  assert.equal(decode(new Date(0)), '1970-01-01T00:00:00.000Z');
});

test('a payload may be as large as the limit in bytes, and no larger', () => {
  const of = { ...limits, bytesMax: 10 };
  assert.equal(encode('12345678', of).byteLength, 10);
  assert.throws(() => encode('123456789', of), tooLarge);
  // Characters are not bytes.
  assert.equal(encode('éééé', of).byteLength, 10);
  assert.throws(() => encode('ééééé', of), tooLarge);
});

test('an error about a payload names it, its size and the limit', () => {
  assert.throws(
    () => encode('x'.repeat(limits.bytesMax)),
    (error) =>
      hasCode(error, 'ERR_MILLRACE_PAYLOAD_TOO_LARGE') &&
      error.message.startsWith("input of task 'x' is 262146 bytes") &&
      error.details.bytes === 262_146 &&
      error.details.bytesMax === 262_144,
  );
});

test('64 levels are fine, 65 are too deep', () => {
  assert.deepEqual(decode(nested(64)), nested(64));
  assert.throws(() => encode(nested(65)), tooDeep);
  const objects = (depth: number): unknown =>
    depth === 0 ? 'leaf' : { in: objects(depth - 1), beside: [[]] };
  encode(objects(62));
  // Two brackets more than the path of the leaf.
  assert.throws(() => encode(objects(63)), tooDeep);
});

test('depth beyond what postMessage, or the stack, can take is too deep as well', () => {
  for (const depth of [5_000, 200_000]) {
    assert.throws(() => encode(nested(depth), { ...limits, bytesMax: 1_000_000 }), tooDeep);
  }
});

test('many brackets side by side are not deep', () => {
  encode(Array.from({ length: 1_000 }, () => [[{}]]));
});

test('brackets, quotes and backslashes inside strings are not nesting', () => {
  const strings = [
    '['.repeat(500),
    '{"'.repeat(500),
    `"${'['.repeat(500)}`,
    `\\"${'['.repeat(500)}`,
    `${'\\'.repeat(501)}"${'['.repeat(500)}`,
    `${'\\'.repeat(502)}"${'['.repeat(500)}`,
  ];
  for (const text of strings) {
    assert.equal(decode(text), text);
    assert.deepEqual(decode({ [text]: [text] }), { [text]: [text] });
    // And nesting beside them is still seen.
    assert.throws(() => encode([text, nested(64)]), tooDeep);
  }
});

test('the measure of depth agrees with a recursive one', () => {
  const depthOf = (value: unknown): number =>
    typeof value === 'object' && value !== null
      ? 1 + Math.max(0, ...Object.values(value).map(depthOf))
      : 0;
  const tricky = fc.string({ unit: fc.constantFrom('"', '\\', '[', ']', '{', '}', 'a') });
  const { value } = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'medium' },
      tricky,
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(tricky, tie('value'), { maxKeys: 3 }),
    ),
  }));
  fc.assert(
    fc.property(value, fc.integer({ min: 1, max: 8 }), (input, depthMax) => {
      const of = { ...limits, depthMax };
      if (depthOf(input) > depthMax) assert.throws(() => encode(input, of), tooDeep);
      else assert.equal(encode(input, of).text, JSON.stringify(input));
    }),
    { numRuns: 500 },
  );
});

test('what has no JSON form is refused with the reason', () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  const throwing = (thrown: unknown) => ({
    toJSON() {
      throw thrown;
    },
  });
  const cases: readonly [unknown, RegExp][] = [
    [cycle, /circular/i],
    [{ n: 5n }, /BigInt/],
    [() => {}, /a function has no JSON form/],
    [Symbol('s'), /a symbol has no JSON form/],
    [{ toJSON: () => undefined }, /an? object has no JSON form/],
    [throwing(new Error('not today')), /not today/],
    // Not every RangeError is about the stack.
    [throwing(new RangeError('out of range')), /out of range/],
    [throwing(null), /null/],
    [throwing('text'), /text/],
    [throwing(Object.create(null)), /cannot be described/],
  ];
  for (const [value, reason] of cases) {
    assert.throws(() => encode(value), { ...notSerializable, message: reason });
  }
});

test('what a toJSON threw is kept as the cause', () => {
  const thrown = new Error('not today');
  const value = {
    toJSON() {
      throw thrown;
    },
  };
  assert.throws(() => encode(value), { ...notSerializable, cause: thrown });
});

test('bytes that are not JSON are a SyntaxError', () => {
  for (const text of ['{', 'nope', '"', '1 2']) {
    assert.throws(() => decodePayload(Buffer.from(text)), SyntaxError);
  }
});

test('a payload is decoded out of the middle of a larger buffer', () => {
  const memory = Buffer.from('xx{"a":"é"}yy');
  assert.deepEqual(decodePayload(memory.subarray(2, memory.length - 2)), { a: 'é' });
});
