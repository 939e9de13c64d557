import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeValue, encodeValue, VALUE_LIMITS } from '../../src/tenancy/values.js';

const there = (value: unknown): unknown => {
  const stored = encodeValue(value, 'value');
  return decodeValue(stored, 0, stored.length, 'ns:t:x:1');
};

test('JSON comes back as it was put, and is stored as its text', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
      const text = JSON.stringify(value);
      assert.deepEqual(there(value), JSON.parse(text));
      assert.equal(Buffer.from(encodeValue(value, 'value')).toString(), text);
    }),
  );
});

test('bytes come back as bytes, whatever they begin with, and as a copy', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const back = there(bytes) as Uint8Array;
      assert.deepEqual(back, bytes);
      assert.ok(back.byteOffset === 0 && back.buffer.byteLength === bytes.length);
    }),
  );
});

test('what has no JSON form, and what is too large, is refused', () => {
  const refused = (value: unknown, code: string): void => {
    assert.throws(() => encodeValue(value, 'value'), { code });
  };
  refused(undefined, 'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE');
  refused(1n, 'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE');
  refused(new Uint8Array(VALUE_LIMITS.bytesMax + 1), 'ERR_MILLRACE_PAYLOAD_TOO_LARGE');
  refused('x'.repeat(VALUE_LIMITS.bytesMax), 'ERR_MILLRACE_PAYLOAD_TOO_LARGE');
  assert.equal(encodeValue(new Uint8Array(VALUE_LIMITS.bytesMax), 'value').length, 262_145);
});

test('a value that another program wrote and is no JSON is told with its key', () => {
  assert.throws(() => decodeValue(Buffer.from('{oops'), 0, 5, 'ns:t:x:1'), {
    code: 'ERR_MILLRACE_STORE_CORRUPT',
    message: /ns:t:x:1/,
  });
});
