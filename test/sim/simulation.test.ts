/**
 * What makes a seed worth its name.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { simulate } from './simulation.js';

test('a seed is a run: twice the same trace', async () => {
  for (const seed of [3, 20, 77]) {
    const [first, second] = [await simulate(seed), await simulate(seed)];
    assert.equal(second.hash, first.hash, `seed ${seed}`);
  }
});

test('another seed is another run', async () => {
  assert.notEqual((await simulate(1)).hash, (await simulate(2)).hash);
});
