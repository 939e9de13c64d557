import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  KEEP_ALL,
  KeyedSampler,
  OTHER_KEYS,
  type SamplerSpec,
  samplerOf,
} from '../../src/telemetry/samplers.js';

/** Which of `count` lines pass, one each `stepMs`. */
function passed(spec: SamplerSpec, count: number, stepMs = 0): number[] {
  const sampler = samplerOf(spec);
  return Array.from({ length: count }, (_, i) => i).filter((i) => sampler.passes(i * stepMs));
}

test('one in n: the first of each n passes; all with 1, none with 0', () => {
  assert.deepEqual(passed({ first: 0, perMs: 0, every: 4 }, 10), [0, 4, 8]);
  assert.deepEqual(passed(KEEP_ALL, 3), [0, 1, 2]);
  assert.deepEqual(passed({ first: 0, perMs: 0, every: 0 }, 3), []);
});

test('a burst: the first ones of each period pass, then one in so many', () => {
  const spec = { first: 2, perMs: 100, every: 3 };
  // Beyond the burst, the first of each three passes, also across periods.
  assert.deepEqual(passed(spec, 9), [0, 1, 2, 5, 8]);
  assert.deepEqual(passed({ ...spec, every: 0 }, 30, 10), [0, 1, 10, 11, 20, 21]);
});

test('a period begins with a line, not with the clock', () => {
  const sampler = samplerOf({ first: 1, perMs: 100, every: 0 });
  const at = [0, 99, 1_000, 1_099, 1_100];
  assert.deepEqual(
    at.filter((nowMs) => sampler.passes(nowMs)),
    [0, 1_000, 1_100],
  );
});

test('a frequent key does not hide a rare one', () => {
  const sampler = new KeyedSampler({ first: 0, perMs: 0, every: 1_000 });
  for (let i = 0; i < 500; i++) sampler.take('often', 0);
  assert.equal(sampler.take('rare', 0), 1);
});

test('a line that passes stands for those held back before it; nothing is lost from the count', () => {
  const sampler = new KeyedSampler({ first: 2, perMs: 1_000, every: 10 });
  let stoodFor = 0;
  for (let i = 0; i < 1_000; i++) stoodFor += sampler.take('key', i);
  const [[key, heldBack] = ['', 0]] = [...sampler.takeSums()];
  assert.equal(key, 'key');
  assert.equal(sampler.held, heldBack);
  // What is held back at the end belongs to the next line that passes.
  assert.equal(sampler.take('key', 1e9), 1_000 - stoodFor + 1);
  assert.equal(sampler.takeSums().size, 0);
});

test('keys are bounded: what is beyond shares one sampler', () => {
  const sampler = new KeyedSampler({ first: 0, perMs: 0, every: 0 });
  for (let i = 0; i < 5_000; i++) sampler.take(`message ${i}`, 0);
  const sums = sampler.takeSums();
  assert.equal(sums.size, 1_001);
  assert.equal(sums.get(OTHER_KEYS), 4_000);
});
