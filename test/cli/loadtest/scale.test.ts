import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  linearScale,
  logScale,
  percentileScale,
  short,
} from '../../../src/cli/loadtest/page/scale.js';

test('a linear axis ends at a round number that nothing is above', () => {
  const scale = linearScale(37);
  assert.deepEqual(
    scale.ticks.map(({ label }) => label),
    ['0', '10', '20', '30', '40'],
  );
  assert.equal(scale.place(20), 0.5);
  assert.equal(scale.place(90), 1);
});

test('a logarithmic axis has whole powers of ten, and room for what is 0', () => {
  const scale = logScale(0.3, 45);
  assert.deepEqual(
    scale.ticks.map(({ label }) => label),
    ['0.1', '1', '10', '100'],
  );
  assert.equal(scale.place(0), 0);
  assert.ok(Math.abs(scale.place(1) - 1 / 3) < 1e-9);
});

test('percentiles are placed by their nines, and 100 at the end', () => {
  const scale = percentileScale(99.9);
  const [p0, p90, p99] = [0, 90, 99].map((value) => scale.place(value));
  assert.equal(p0, 0);
  assert.ok(Math.abs(p99! - 2 * p90!) < 1e-9);
  assert.equal(scale.place(100), 1);
});

test('numbers on an axis are short', () => {
  assert.deepEqual([0.25, 4, 1_200, 3_400_000].map(short), ['0.25', '4', '1.2k', '3.4M']);
});
