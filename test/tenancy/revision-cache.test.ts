/**
 * The cache against a map of what it was told: under updates, evictions and moves of records it never answers with
 * anything but the newest it was told of an entry, and never holds more than it may.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { seededRandom } from '../../src/core/random.js';
import type { Entry, LeaseId, Revision } from '../../src/core/store.js';
import { CacheCursor } from '../../src/tenancy/cache-cursor.js';
import { counterKey, counterKeyOf, entryKey } from '../../src/tenancy/keys.js';
import { Flag } from '../../src/tenancy/record-slab.js';
import { NOT_KNOWN, RevisionCache } from '../../src/tenancy/revision-cache.js';

const KIB = 1024;

function entryOf(key: string, modRevision: number, value: Uint8Array): Entry {
  const revision = modRevision as Revision;
  const base = { key, value, version: 1, createRevision: revision, modRevision: revision };
  return { ...base, leaseId: undefined };
}

/** Puts an entry as a read that missed does. */
function fill(cache: RevisionCache, key: string, revision: number, value: Uint8Array): void {
  if (!cache.begin(key, counterKeyOf(key))) return;
  cache.apply(entryOf(key, revision, value));
  cache.end(key);
}

/** What the cache says of an entry: its revision and value; undefined: nothing. */
function look(cache: RevisionCache, key: string): [number, string | 'absent'] | undefined {
  const address = cache.findKey(key);
  if (address === 0 || (cache.flags(address) & Flag.UNKNOWN) !== 0) return undefined;
  const revision = cache.revision(address);
  if ((cache.flags(address) & Flag.ABSENT) !== 0) return [revision, 'absent'];
  const at = cache.valueAt(address);
  const value = cache.memory(address).subarray(at, at + cache.valueBytes(address));
  return [revision, Buffer.from(value).toString('hex')];
}

test('an entry is found by its names, also those that are encoded in keys', () => {
  const cache = new RevisionCache(seededRandom(1), 256 * KIB);
  for (const [tenant, type, id] of [
    ['acme', 'user', '1'],
    ['a:b', 'ü', '%'],
    ['acme', 'user:1', 'x'],
  ] as const) {
    const key = entryKey(tenant, type, id);
    fill(cache, key, 7, Buffer.from('x'));
    assert.notEqual(cache.find(tenant, type, id), 0);
    assert.equal(cache.find(tenant, type, id), cache.findKey(key));
    assert.equal(cache.keyOf(cache.findKey(key)), key);
    assert.equal(cache.find(tenant, type, `${id}2`), 0);
  }
  assert.equal(cache.find('\ud800', 'user', '1'), 0);
  // A counter is not to be had under an entry's names.
  assert.equal(cache.find('acme', 'revision', ''), 0);
});

test('names find their own entry and no other, also those that look like the key of another', () => {
  // Encoded, cut off at 8 bits, or with the colon elsewhere, each of them is what another one is.
  const name = fc.constantFrom('a b', 'a%20b', 'a%2520b', 'A', '\u0141', '\u0241', 'a:A', 'a', '%');
  const names = fc.record({ tenant: name, type: name, id: name });
  fc.assert(
    fc.property(fc.array(names), fc.array(names), fc.nat({ max: 20 }), (there, asked, bytes) => {
      const cache = new RevisionCache(seededRandom(1), 256 * KIB);
      for (const { tenant, type, id } of there) {
        const key = entryKey(tenant, type, id);
        fill(cache, key, 7, Buffer.from('x'));
        // Another length: the record is replaced by another one.
        cache.apply(entryOf(key, 8, new Uint8Array(bytes)));
      }
      for (const { tenant, type, id } of [...there, ...asked]) {
        assert.equal(cache.find(tenant, type, id), cache.findKey(entryKey(tenant, type, id)));
      }
    }),
    { numRuns: 500 },
  );
});

test('an entry with a name that is encoded stays its own when its value is replaced by one as long, or by none', () => {
  const cache = new RevisionCache(seededRandom(1), 256 * KIB);
  const key = entryKey('acme', 'user', 'a b');
  const isOnlyItself = (): void => {
    assert.notEqual(cache.find('acme', 'user', 'a b'), 0);
    // What its key says, taken for a name, is the name of another entry.
    assert.equal(cache.find('acme', 'user', 'a%20b'), 0);
  };
  fill(cache, key, 7, Buffer.from('x'));
  isOnlyItself();
  cache.apply(entryOf(key, 8, Buffer.from('y')));
  isOnlyItself();
  cache.applyAbsence(key, 9 as Revision);
  isOnlyItself();
  cache.applyAbsence(key, 10 as Revision);
  isOnlyItself();
});

test('a name or a key that is too long for any entry is not there', () => {
  const cache = new RevisionCache(seededRandom(1), 256 * KIB);
  fill(cache, entryKey('acme', 'user', 'x'.repeat(700)), 7, Buffer.from('x'));
  assert.notEqual(cache.find('acme', 'user', 'x'.repeat(700)), 0);
  assert.equal(cache.find('acme', 'user', 'x'.repeat(2_000)), 0);
  assert.equal(cache.findKey(`ns:acme:user:${'x'.repeat(2_000)}`), 0);
  assert.equal(cache.findKey('ns:acme:user:\u0178'), 0);
});

test('many that are looked up together are each what they are by themselves', () => {
  const cache = new RevisionCache(seededRandom(1), 256 * KIB);
  const names = Array.from({ length: 150 }, (_, i) => ({
    tenant: i % 7 === 0 ? 'a:b' : 'acme',
    type: 'user',
    id: i % 5 === 0 ? `${i}`.repeat(600) : `${i}`,
  }));
  for (const [i, { tenant, type, id }] of names.entries()) {
    if (i % 3 === 0 || i % 5 === 0) continue;
    fill(cache, entryKey(tenant, type, id), i + 1, Buffer.from([0, i]));
  }
  const cursor = new CacheCursor(cache);
  const seen: unknown[] = [];
  cursor.findMany(names, (index, found) => {
    seen.push([index, found, found === 'found' ? cursor.buffer[cursor.offset] : cursor.length]);
  });
  const other = new CacheCursor(cache);
  assert.deepEqual(
    seen,
    names.map(({ tenant, type, id }, index) => {
      const found = other.find(tenant, type, id);
      return [index, found, found === 'found' ? index : 0];
    }),
  );
  assert.equal(seen.filter((each) => (each as unknown[])[1] === 'found').length, 80);
});

test('only what is newer is applied: late, double and reordered news change nothing', () => {
  const cache = new RevisionCache(seededRandom(1), 256 * KIB);
  const key = entryKey('acme', 'user', '1');
  fill(cache, key, 10, Buffer.from('0a', 'hex'));
  assert.equal(cache.apply(entryOf(key, 9, Buffer.from('09', 'hex'))), false);
  assert.equal(cache.apply(entryOf(key, 10, Buffer.from('ff', 'hex'))), false);
  assert.equal(cache.applyAbsence(key, 8 as Revision), false);
  assert.deepEqual(look(cache, key), [10, '0a']);
  assert.equal(cache.applyAbsence(key, 12 as Revision), true);
  assert.equal(cache.apply(entryOf(key, 11, Buffer.from('0b', 'hex'))), false);
  assert.deepEqual(look(cache, key), [12, 'absent']);
  assert.equal(cache.apply(entryOf(key, 13, Buffer.from('0d0d', 'hex'))), true);
  assert.deepEqual(look(cache, key), [13, '0d0d']);
});

test('what is told while an entry is read is not lost on the answer, and a failed read leaves nothing', () => {
  const cache = new RevisionCache(seededRandom(1), 256 * KIB);
  const key = entryKey('acme', 'user', '1');
  cache.begin(key, counterKeyOf(key));
  assert.equal(look(cache, key), undefined);
  cache.apply(entryOf(key, 20, Buffer.from('20', 'hex')));
  cache.evict(counterKey('acme'));
  cache.apply(entryOf(key, 19, Buffer.from('19', 'hex')));
  cache.end(key);
  assert.deepEqual(look(cache, key), [20, '20']);

  const other = entryKey('acme', 'user', '2');
  cache.begin(other, counterKeyOf(other));
  cache.end(other);
  assert.equal(cache.findKey(other), 0);
});

test('an entry that changed to something unknown is only answered again by what is that new', () => {
  const cache = new RevisionCache(seededRandom(1), 256 * KIB);
  const key = entryKey('acme', 'user', '1');
  fill(cache, key, 10, Buffer.from('0a', 'hex'));
  cache.invalidate(key, 10 as Revision);
  assert.deepEqual(look(cache, key), [10, '0a']);
  cache.begin(key, counterKeyOf(key));
  cache.invalidate(key, 15 as Revision);
  assert.equal(look(cache, key), undefined);
  assert.equal(cache.apply(entryOf(key, 14, Buffer.from('0e', 'hex'))), false);
  assert.equal(cache.apply(entryOf(key, 15, Buffer.from('0f', 'hex'))), true);
  cache.end(key);
  assert.deepEqual(look(cache, key), [15, '0f']);
  cache.invalidate(key, 16 as Revision);
  assert.equal(cache.findKey(key), 0);
});

test('eviction goes tenant by tenant, and spares what was read lately, is being read or is watched', () => {
  const cache = new RevisionCache(seededRandom(1), 64 * KIB);
  const value = new Uint8Array(1_000);
  const key = (tenant: number, id: number): string => entryKey(`t${tenant}`, 'x', `${id}`);
  fill(cache, key(0, 0), 1, value);
  cache.begin(key(1, 0), counterKey('t1'));
  cache.pin(key(2, 0), counterKey('t2'));
  cache.apply(entryOf(key(2, 0), 1, value));
  for (let i = 0; i < 400; i++) {
    fill(cache, key(3 + (i % 20), i), 1, value);
    cache.touch(cache.findKey(key(0, 0)));
  }
  assert.deepEqual(look(cache, key(0, 0))?.[0], 1);
  assert.notEqual(cache.findKey(key(1, 0)), 0);
  assert.deepEqual(look(cache, key(2, 0))?.[0], 1);
  const { evicted, entries, tenants, bytes } = cache.counts;
  assert.ok(evicted > 300 && entries + evicted >= 400, `${evicted} evicted, ${entries} there`);
  assert.equal(cache.counters().length, tenants);
  assert.ok(bytes <= 64 * KIB + 16 * KIB, `${bytes} bytes`);
});

test('a tenant that is evicted is gone as a whole, and comes back without its past', () => {
  const cache = new RevisionCache(seededRandom(1), 256 * KIB);
  const key = entryKey('acme', 'user', '1');
  fill(cache, key, 10, new Uint8Array(3));
  cache.advance(counterKey('acme'), { revision: 10 as Revision, writer: 1 });
  cache.evict(counterKey('acme'));
  assert.equal(cache.tenant(counterKey('acme')), undefined);
  assert.equal(cache.apply(entryOf(key, 11, new Uint8Array(3))), false);
  assert.deepEqual(cache.counts, { ...cache.counts, entries: 0, tenants: 0 });
  fill(cache, key, 12, new Uint8Array(3));
  assert.equal(cache.tenantRevision(counterKey('acme')), NOT_KNOWN);
});

test('a value that is too large for the cache is not kept, nor is what it replaces', () => {
  const cache = new RevisionCache(seededRandom(1), 64 * KIB);
  const key = entryKey('acme', 'user', '1');
  fill(cache, key, 1, new Uint8Array(10));
  cache.apply(entryOf(key, 2, new Uint8Array(20 * KIB)));
  assert.equal(cache.findKey(key), 0);
  fill(cache, key, 3, new Uint8Array(20 * KIB));
  assert.equal(cache.findKey(key), 0);
});

type Step =
  | { readonly do: 'put'; readonly tenant: number; readonly id: number; readonly bytes: number }
  | { readonly do: 'delete' | 'read' | 'touch'; readonly tenant: number; readonly id: number }
  | { readonly do: 'lease'; readonly tenant: number; readonly id: number }
  | { readonly do: 'evict'; readonly tenant: number };

const tenant = fc.nat({ max: 4 });
const id = fc.nat({ max: 60 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.record({
      do: fc.constant('put' as const),
      tenant,
      id,
      bytes: fc.constantFrom(0, 1, 1_000, 1_300, 1_600, 1_900),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('delete' as const, 'read' as const, 'touch' as const, 'lease' as const),
      tenant,
      id,
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('evict' as const), tenant }) },
);

test('whatever happens to it, the cache knows the newest of an entry or nothing', () => {
  let evicted = 0;
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 300, maxLength: 600, size: 'max' }),
      fc.nat(),
      (steps, seed) => {
        const cache = new RevisionCache(seededRandom(seed), 64 * KIB);
        const truth = new Map<string, [number, string]>();
        let revision = 0;
        for (const each of steps) {
          if (each.do === 'evict') {
            cache.evict(counterKey(`t${each.tenant}`));
            continue;
          }
          const key = entryKey(`t${each.tenant}`, 'x', `${each.id}`);
          const told = truth.get(key) ?? [0, 'absent'];
          if (each.do === 'put') {
            const value = new Uint8Array(each.bytes).fill(++revision);
            truth.set(key, [revision, Buffer.from(value).toString('hex')]);
            if (each.bytes % 3 === 0) cache.apply(entryOf(key, revision, value));
            else fill(cache, key, revision, value);
          } else if (each.do === 'delete') {
            truth.set(key, [++revision, 'absent']);
            cache.applyAbsence(key, revision as Revision);
          } else if (each.do === 'read' && cache.begin(key, counterKeyOf(key))) {
            if (told[1] === 'absent') cache.applyAbsence(key, Math.max(1, told[0]) as Revision);
            else cache.apply(entryOf(key, told[0], Buffer.from(told[1], 'hex')));
            cache.end(key);
          } else if (each.do === 'lease') {
            const value = new Uint8Array(8).fill(++revision);
            truth.set(key, [revision, Buffer.from(value).toString('hex')]);
            cache.apply({ ...entryOf(key, revision, value), leaseId: '1' as LeaseId });
          } else if (each.do === 'touch' && cache.findKey(key) !== 0) {
            cache.touch(cache.findKey(key));
          }
        }
        for (let t = 0; t <= 4; t++) {
          for (const address of cache.entriesOf(counterKey(`t${t}`))) {
            assert.equal(cache.findKey(cache.keyOf(address)), address);
          }
        }
        let known = 0;
        for (let t = 0; t <= 4; t++) {
          for (let i = 0; i <= 60; i++) {
            const key = entryKey(`t${t}`, 'x', `${i}`);
            const found = look(cache, key);
            if (found === undefined) continue;
            known++;
            const [at, value] = truth.get(key) ?? [1, 'absent'];
            assert.equal(found[1], value, key);
            assert.equal(found[0], Math.max(1, at), key);
          }
        }
        const { counts } = cache;
        assert.equal(counts.entries, known);
        assert.ok(counts.bytes <= 80 * KIB, `${counts.bytes}`);
        evicted += counts.evicted;
      },
    ),
    { numRuns: 100 },
  );
  // A run in which nothing had to go proves little.
  assert.ok(evicted > 500, `${evicted} evicted`);
});
