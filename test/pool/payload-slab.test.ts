import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Encoding } from '../../src/core/codec.js';
import { PayloadSlab, type SlabPlace } from '../../src/pool/payload-slab.js';

function emptyPlace(): SlabPlace {
  return { memory: undefined, offset: 0, byteLength: 0, encoding: Encoding.JSON };
}

/** What the slab wrote; undefined when it left the value to JSON.stringify. */
function written(slab: PayloadSlab, value: unknown, depthMax = 64): string | undefined {
  const place = emptyPlace();
  if (!slab.write(value, place, depthMax)) {
    assert.deepEqual(place, emptyPlace());
    return undefined;
  }
  return textAt(place);
}

function textAt({ memory, offset, byteLength }: SlabPlace): string {
  return Buffer.from(memory!).toString('latin1', offset, offset + byteLength);
}

class Point {
  readonly x = 1;
}

describe('PayloadSlab', () => {
  it('writes what JSON.stringify writes, or nothing', () => {
    const slab = new PayloadSlab();
    const value = fc.anything({
      withDate: true,
      withNullPrototype: true,
      withBigInt: true,
      withSparseArray: true,
      withTypedArray: true,
      withBoxedValues: true,
    });
    let count = 0;
    fc.assert(
      fc.property(fc.oneof(value, fc.jsonValue(), fc.integer(), fc.double()), (any) => {
        const text = written(slab, any);
        if (text === undefined) return;
        count++;
        assert.equal(text, JSON.stringify(any));
      }),
      { numRuns: 3_000 },
    );
    assert.ok(count > 1_000, `only ${count} were written`);
  });

  it('writes numbers, gaps and members without a value as JSON has them', () => {
    const slab = new PayloadSlab();
    const gap = [1, undefined, 3];
    delete gap[0];
    for (const value of [
      ...[0, -0, 7, 10, -10, 99, 100, 2 ** 31 - 1, -(2 ** 31), 2 ** 31, 1e21, 0.1, Number.NaN],
      ...[{ a: undefined, b: null }, {}, [], [[]], gap, { 2: 'b', 1: 'a' }, Object.create(null)],
    ]) {
      assert.equal(written(slab, value), JSON.stringify(value));
    }
  });

  it('finds what is not plain anywhere in a string, whatever is beside it', () => {
    const slab = new PayloadSlab();
    const codes = [...Array(0x100).keys(), 0x142, 0x2028, 0xd800, 0xffff];
    for (const length of [19, 20, 21, 22, 23, 40]) {
      for (let at = 0; at < length; at++) {
        for (const code of codes) {
          const text = `${' '.repeat(at)}${String.fromCharCode(code)}${'~'.repeat(length - at - 1)}`;
          const isPlain = code >= 0x20 && code < 0x7f && code !== 0x22 && code !== 0x5c;
          assert.equal(written(slab, text), isPlain ? JSON.stringify(text) : undefined);
        }
      }
    }
  });

  it('leaves to JSON.stringify what has a class, escapes, a toJSON, or no JSON form', () => {
    const slab = new PayloadSlab();
    for (const value of [
      ...[undefined, () => 1, Symbol('s'), 1n, new Point(), new Date(0), new Map(), Object(1)],
      ...[
        '"',
        '\\',
        '\n',
        'ü',
        '\ud800',
        { ü: 1 },
        { toJSON: () => 1 },
        { a: () => 1 },
        [Symbol('s')],
      ],
    ]) {
      assert.equal(written(slab, value), undefined);
    }
    const throwing = {
      get a(): number {
        throw new RangeError('no');
      },
    };
    assert.equal(written(slab, throwing), undefined);
  });

  it('refuses what is too deep, endless or long, and is as it was after that', () => {
    const slab = new PayloadSlab();
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    assert.equal(written(slab, cycle), undefined);
    assert.equal(written(slab, [[[]]], 2), undefined);
    assert.equal(written(slab, [[[]]], 3), '[[[]]]');
    assert.equal(written(slab, 'x'.repeat(1_022))?.length, 1_024);
    for (const value of [
      'x'.repeat(1_023),
      Array(2_000).fill(1),
      { a: 'x'.repeat(600), b: 'x'.repeat(600) },
    ]) {
      assert.equal(written(slab, value), undefined);
    }
    assert.equal(written(slab, { a: 1 }), '{"a":1}');
  });

  it('objects that all have one property more are left to JSON.stringify', (t) => {
    const slab = new PayloadSlab();
    Object.defineProperty(Object.prototype, 'extra', {
      value: 1,
      enumerable: true,
      configurable: true,
    });
    t.after(() => Reflect.deleteProperty(Object.prototype, 'extra'));
    assert.equal(written(slab, { a: 1 }), undefined);
  });

  it('never overwrites what it has written, over many pieces', () => {
    const slab = new PayloadSlab();
    const kept: { readonly place: SlabPlace; readonly text: string }[] = [];
    for (let index = 0; index < 3_000; index++) {
      const place = emptyPlace();
      if (index % 3 === 0) {
        const text = `${index},`.repeat(index % 200);
        slab.copy(Buffer.from(text), Encoding.BYTES, place);
        kept.push({ place, text });
      } else {
        const value = { index, text: 'x'.repeat(index % 1_000) };
        assert.ok(slab.write(value, place, 64));
        kept.push({ place, text: JSON.stringify(value) });
      }
    }
    for (const { place, text } of kept) assert.equal(textAt(place), text);
  });
});
