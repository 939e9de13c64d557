import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  counterKey,
  counterKeyOf,
  entryKey,
  isEntryKey,
  METADATA_RANGE,
  parseKey,
  typeRange,
} from '../../src/tenancy/keys.js';

/** Names that meet whatever a careless encoding would get wrong. */
const name = fc.oneof(
  fc.constantFrom(
    'a',
    'ab',
    'a:',
    ':',
    'a:b',
    '%',
    '%3A',
    'a%3Ab',
    'revision',
    'ns',
    '~',
    'ß',
    '𝄞',
  ),
  fc.string({ minLength: 1, maxLength: 8, unit: 'grapheme' }),
);
const names = fc.record({ tenant: name, type: name, id: name });

test('a key tells its names again, so that no two entries share one', () => {
  fc.assert(
    fc.property(names, ({ tenant, type, id }) => {
      const key = entryKey(tenant, type, id);
      assert.deepEqual(parseKey(key), { tenant, type, id });
      assert.match(key, /^[!-~]+$/);
      assert.ok(isEntryKey(key));
      assert.equal(counterKeyOf(key), counterKey(tenant));
    }),
    { numRuns: 1_000 },
  );
});

test('a counter is no entry, and its key names the tenant', () => {
  fc.assert(
    fc.property(name, (tenant) => {
      assert.deepEqual(parseKey(counterKey(tenant)), { tenant });
      assert.equal(isEntryKey(counterKey(tenant)), false);
    }),
  );
});

test("a type's range has its entries, and nobody else's: 'a' never matches 'ab'", () => {
  fc.assert(
    fc.property(names, names, (one, other) => {
      const { from, to } = typeRange(one.tenant, one.type);
      const isIn = (key: string): boolean => key >= from && key < to;
      const isSame = one.tenant === other.tenant && one.type === other.type;
      assert.ok(isIn(entryKey(one.tenant, one.type, one.id)));
      assert.equal(isIn(entryKey(other.tenant, other.type, other.id)), isSame);
      assert.equal(isIn(counterKey(other.tenant)), false);
    }),
    { numRuns: 2_000 },
  );
});

test('every key is in the one range that is watched', () => {
  fc.assert(
    fc.property(names, ({ tenant, type, id }) => {
      for (const key of [entryKey(tenant, type, id), counterKey(tenant)]) {
        assert.ok(key >= METADATA_RANGE.from && key < METADATA_RANGE.to);
      }
    }),
  );
});

test('names that are empty, no text, not well-formed or too long are refused', () => {
  for (const bad of ['', undefined, 7, '\ud800', 'x'.repeat(900), 'ß'.repeat(200)]) {
    const code = { code: 'ERR_MILLRACE_INVALID_OPTION' };
    assert.throws(() => entryKey('t', 'type', bad as string), code);
    assert.throws(() => entryKey('t', bad as string, 'id'), code);
    if (bad !== '') assert.throws(() => entryKey(bad as string, 'type', 'id'), code);
  }
});

test("other programs' keys name nothing", () => {
  for (const key of ['n/node', 'ns:', 'ns:a', 'ns:a:b', 'ns:a:b:c:d', 'ns:%zz:b:c']) {
    assert.equal(parseKey(key), undefined, key);
  }
});
