import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { RunTimes } from '../../src/pool/run-times.js';

describe('RunTimes', () => {
  it('knows nothing at first, and then the one time it has seen', () => {
    const times = new RunTimes();
    assert.deepEqual([times.seen, times.meanMs, times.quantileMs(0.999)], [0, 0, 0]);
    times.add(8);
    assert.equal(times.meanMs, 8);
    assert.ok(times.quantileMs(0.999) >= 8 && times.quantileMs(0.999) <= 9);
  });

  it('gives a quantile that is not below the true one, and at most an eighth above', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.002, max: 1e6, noNaN: true }), {
          minLength: 1,
          maxLength: 300,
        }),
        fc.constantFrom(0.5, 0.9, 0.999),
        (values, share) => {
          const times = new RunTimes();
          for (const value of values) times.add(value);
          const sorted = [...values].sort((a, b) => b - a);
          const truth = sorted[Math.floor(values.length * (1 - share))]!;
          const found = times.quantileMs(share);
          assert.ok(found >= truth && found <= truth * 1.1251, `${found} for ${truth}`);
        },
      ),
    );
  });

  it('takes any time, from none to years', () => {
    const times = new RunTimes();
    for (const ms of [0, Number.MIN_VALUE, 1e-9, 1e12, Number.MAX_VALUE]) times.add(ms);
    assert.ok(times.quantileMs(0.999) > 1e9);
  });

  it('lets the past fade', () => {
    const times = new RunTimes();
    for (let i = 0; i < 1_000; i++) times.add(1_000);
    for (let i = 0; i < 2_000_000; i++) times.add(1);
    assert.ok(times.quantileMs(0.999) < 1.3, `${times.quantileMs(0.999)}`);
    assert.ok(times.meanMs < 1.001);
  });
});
