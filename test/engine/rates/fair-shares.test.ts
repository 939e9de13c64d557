import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fairShares } from '../../../src/engine/rates/fair-shares.js';

const rounded = (wants: readonly number[]) =>
  fairShares(wants).map((share) => Math.round(share * 1_000) / 1_000);

test('who wants more than the others have left gets the same as everybody who does', () => {
  assert.deepEqual(rounded([1, 1, 1, 1]), [0.25, 0.25, 0.25, 0.25]);
  assert.deepEqual(rounded([1, 0.2, 1]), [0.4, 0.2, 0.4]);
  assert.deepEqual(rounded([1, 0, 0]), [1, 0, 0]);
});

test('what nobody wants is split evenly', () => {
  assert.deepEqual(rounded([0, 0]), [0.5, 0.5]);
  assert.deepEqual(rounded([0.3, 0.1, 0]), [0.5, 0.3, 0.2]);
  assert.deepEqual(fairShares([]), []);
});

test('all of it is given out, and nobody is short while another has more than it', () => {
  const wants = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), {
    minLength: 1,
    maxLength: 9,
  });
  fc.assert(
    fc.property(wants, (given) => {
      const shares = fairShares(given);
      const sum = shares.reduce((a, b) => a + b, 0);
      assert.ok(Math.abs(sum - 1) < 1e-9);
      const short = shares.filter((share, i) => share < given[i]! - 1e-9);
      for (const share of short) assert.ok(share >= Math.max(...shares) - 1e-9);
    }),
  );
});
