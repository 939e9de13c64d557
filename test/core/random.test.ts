import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Random, seededRandom } from '../../src/core/random.js';

function draws(random: Random, count: number): number[] {
  return Array.from({ length: count }, () => random.u32());
}

test('the generator is xoshiro128**: the outputs of the reference for the state 1, 2, 3, 4', () => {
  // From Blackman and Vigna's xoshiro128starstar.c, version 1.1.
  assert.deepEqual(draws(seededRandom(Uint32Array.of(1, 2, 3, 4)), 10), [
    ...[11_520, 0, 5_927_040, 70_819_200, 2_031_721_883, 1_637_235_492],
    ...[1_287_239_034, 3_734_860_849, 3_729_100_597, 4_258_142_804],
  ]);
});

test('the same seed gives the same draws, another seed others', () => {
  assert.deepEqual(draws(seededRandom(42), 100), draws(seededRandom(42), 100));
  assert.notDeepEqual(draws(seededRandom(42), 4), draws(seededRandom(43), 4));
});

test('draws of a seed stay the same over versions, so that a seed in a report can be replayed', () => {
  assert.deepEqual(draws(seededRandom(0), 3), [1_789_933_344, 44_971_166, 2_521_387_044]);
  assert.deepEqual(
    draws(seededRandom(0).fork('engine'), 3),
    [2_322_841_197, 2_054_501_227, 3_431_210_826],
  );
});

test('a seed of zeros is not the fixed point of the generator', () => {
  const drawn = draws(seededRandom(new Uint32Array(4)), 8);
  assert.ok(new Set(drawn).size > 1);
});

test('forks of one generator differ by label, and by the moment of the fork', () => {
  const [a, b] = [seededRandom(7), seededRandom(7)];
  assert.deepEqual(draws(a.fork('x'), 4), draws(b.fork('x'), 4));
  const other = [seededRandom(7).fork('x'), seededRandom(7).fork('y')] as const;
  assert.notDeepEqual(draws(other[0], 4), draws(other[1], 4));
  assert.notDeepEqual(draws(a.fork('x'), 4), draws(seededRandom(7).fork('x'), 4));
});

test('draws from a fork do not move the generator it came from', () => {
  const [a, b] = [seededRandom(7), seededRandom(7)];
  draws(a.fork('x'), 1_000);
  b.fork('x');
  assert.deepEqual(draws(a, 4), draws(b, 4));
});

test('integers fill 32 bits and fractions [0, 1), evenly', () => {
  const random = seededRandom(1);
  const buckets = new Array<number>(16).fill(0);
  const bits = new Array<number>(32).fill(0);
  const count = 100_000;
  for (let i = 0; i < count; i++) {
    const word = random.u32();
    assert.ok(Number.isInteger(word) && word >= 0 && word <= 0xffff_ffff);
    for (let bit = 0; bit < 32; bit++) bits[bit]! += (word >>> bit) & 1;
    const fraction = random.float();
    assert.ok(fraction >= 0 && fraction < 1);
    buckets[Math.floor(fraction * 16)]!++;
  }
  // Six standard deviations: a fixed seed cannot fail by chance, a bias of 2% does.
  const spread = 6 * Math.sqrt(count / 4);
  for (const ones of bits) assert.ok(Math.abs(ones - count / 2) < spread, `${ones}`);
  for (const inBucket of buckets) {
    const expected = count / 16;
    assert.ok(Math.abs(inBucket - expected) < 6 * Math.sqrt(expected), `${inBucket}`);
  }
});
