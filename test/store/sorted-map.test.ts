import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SortedMap } from '../../src/store/machine/sorted-map.js';

const name = (index: number): string => `k${String(index).padStart(6, '0')}`;

test('a sorted map is a map, and its ranges are in order both ways', () => {
  const action = fc.record({
    // Runs of neighbours fill and split chunks; deleting them joins chunks again.
    start: fc.nat(4_000),
    count: fc.integer({ min: 1, max: 700 }),
    stride: fc.constantFrom(1, 3, 4_001),
    isDelete: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.array(action, { maxLength: 12 }),
      fc.nat(5_000),
      fc.nat(5_000),
      (actions, a, b) => {
        const map = new SortedMap<number>();
        const model = new Map<string, number>();
        for (const { start, count, stride, isDelete } of actions) {
          for (let index = 0; index < count; index++) {
            const key = name((start + index * stride) % 5_000);
            if (isDelete) assert.equal(map.delete(key), model.delete(key));
            else {
              map.set(key, start);
              model.set(key, start);
            }
          }
        }
        assert.equal(map.size, model.size);
        for (const [from, to] of [
          ['', '\x7f'],
          [name(a), name(b)],
        ] as const) {
          const expected = [...model].filter(([key]) => from <= key && key < to).sort();
          assert.deepEqual([...map.range(from, to)], expected);
          assert.deepEqual([...map.range(from, to, true)], expected.reverse());
        }
        for (const [key, value] of model) assert.equal(map.get(key), value);
        assert.equal(map.get('absent'), undefined);
      },
    ),
    { numRuns: 60 },
  );
});

test('an empty map has no ranges, and deleting everything gives one', () => {
  const map = new SortedMap<number>();
  assert.deepEqual([...map.range('', '\x7f', true)], []);
  for (let index = 0; index < 2_000; index++) map.set(name(index), index);
  for (let index = 0; index < 2_000; index++) assert.ok(map.delete(name(index)));
  assert.equal(map.size, 0);
  assert.deepEqual([...map.range('', '\x7f')], []);
  map.set('again', 1);
  assert.equal(map.get('again'), 1);
});
