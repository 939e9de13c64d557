/** How many at once a type may run, against services in numbers, on virtual time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../src/core/random.js';
import { AdaptiveLimit } from '../../src/engine/adaptive-limit.js';
import { Load, logNormal } from '../support/downstream.js';

const MINUTE_MS = 60_000;
const RANGE = { min: 1, max: 200 };

function between(value: number, low: number, high: number, what: string): void {
  assert.ok(value >= low && value <= high, `${what} is ${value}, not within ${low} and ${high}`);
}

for (const knee of [5, 20, 80]) {
  test(`settles near a knee of ${knee}: all of its throughput, and answers nearly as quick as unhurried`, () => {
    const load = new Load(new AdaptiveLimit(RANGE, 0));
    const service = { knee, usualMs: 400 };
    load.run(3 * MINUTE_MS, service);
    const seen = load.run(5 * MINUTE_MS, service);
    between(seen.limitMean, knee, 2 * knee + 2, 'the mean limit');
    between(seen.perSecond / (knee / 0.4), 0.97, 1.01, 'of the possible throughput');
    between(seen.runMsMean, 400, 900, 'the mean time of a call');
  });
}

test('comes down when the service bears less, and back when it bears as much as before', () => {
  const load = new Load(new AdaptiveLimit(RANGE, 0));
  const well = { knee: 60, usualMs: 400 };
  const ill = { knee: 6, usualMs: 400 };
  load.run(3 * MINUTE_MS, well);
  const before = load.run(2 * MINUTE_MS, well);
  load.run(MINUTE_MS, ill);
  const meanwhile = load.run(2 * MINUTE_MS, ill);
  load.run(MINUTE_MS, well);
  const after = load.run(2 * MINUTE_MS, well);
  between(before.limitMean, 60, 122, 'the limit before');
  between(meanwhile.limitMean, 6, 14, 'the limit meanwhile');
  between(after.limitMean, 60, 122, 'the limit after');
  between(after.perSecond / before.perSecond, 0.97, 1.03, 'the throughput after, to before');
});

test('a service that answers late for good, whatever the load, is not taken for one that is overloaded', () => {
  const load = new Load(new AdaptiveLimit(RANGE, 0));
  load.run(3 * MINUTE_MS, { knee: 1_000, usualMs: 300 });
  const slow = { knee: 1_000, usualMs: 2_000 };
  load.run(6 * MINUTE_MS, slow);
  between(load.run(MINUTE_MS, slow).limitMean, 150, 200, 'the limit');
});

test('learns of a queue that was there from the beginning', () => {
  const limit = new AdaptiveLimit({ min: 1, max: 200 }, 0);
  const load = new Load(limit);
  const service = { knee: 2, usualMs: 400 };
  load.run(8 * MINUTE_MS, service);
  between(load.run(3 * MINUTE_MS, service).limitMean, 2, 7, 'the limit');
});

for (const [what, noise] of [
  ['times that vary by a factor of three', logNormal(seededRandom(1), 1)],
  ['one call in fifty that takes fifty times as long', oneIn(50, 50)],
  ['half of the calls answered out of a cache', oneIn(2, 0.02)],
] as const) {
  test(`does not collapse under noise: ${what}`, () => {
    const load = new Load(new AdaptiveLimit(RANGE, 0));
    const service = { knee: 1_000, usualMs: 1_000, noise };
    load.run(5 * MINUTE_MS, service);
    const seen = load.run(5 * MINUTE_MS, service);
    between(seen.limitMean, 150, 200, 'the mean limit');
  });
}

test('noise does not hide the knee either', () => {
  const load = new Load(new AdaptiveLimit(RANGE, 0));
  const service = { knee: 20, usualMs: 400, noise: logNormal(seededRandom(3), 0.7) };
  load.run(5 * MINUTE_MS, service);
  between(load.run(10 * MINUTE_MS, service).limitMean, 18, 50, 'the mean limit');
});

test('calls so slow that a window has few of them: up by one, down by a tenth', () => {
  const limit = new AdaptiveLimit(RANGE, 0);
  const load = new Load(limit);
  // At five at once a window of ten seconds sees fewer than three.
  const fine = load.run(MINUTE_MS, { knee: 1_000, usualMs: 20_000 });
  between(fine.limitMax, 7, 12, 'the limit after a minute');
  const before = limit.limit;
  load.run(5 * MINUTE_MS, { knee: 1_000, usualMs: 20_000, fails: () => true });
  between(limit.limit, 1, before * 0.5, 'the limit of a service that is away');
});

test('failures of a service that is full hold the limit where it is not', () => {
  const load = new Load(new AdaptiveLimit(RANGE, 0));
  const service = { knee: 1_000, usualMs: 400, fails: (inFlight: number) => inFlight > 30 };
  load.run(3 * MINUTE_MS, service);
  between(load.run(3 * MINUTE_MS, service).limitMean, 20, 40, 'the mean limit');
});

test('one failure in a hundred is life, and lowers nothing', () => {
  const random = seededRandom(5);
  const load = new Load(new AdaptiveLimit(RANGE, 0));
  const service = { knee: 1_000, usualMs: 1_000, fails: () => random.float() < 0.01 };
  load.run(5 * MINUTE_MS, service);
  between(load.run(MINUTE_MS, service).limitMean, 150, 200, 'the mean limit');
});

test('does not grow while less than half of it is in use', () => {
  const limit = new AdaptiveLimit(RANGE, 0);
  const load = new Load(limit, 4);
  load.run(10 * MINUTE_MS, { knee: 1_000, usualMs: 400 });
  between(limit.limit, 4, 10, 'the limit');
});

test('whatever happens, it is a whole number within its bounds', () => {
  for (const [min, max] of [
    [1, 1],
    [3, 3],
    [2, 7],
    [50, 80],
  ] as const) {
    for (const knee of [1, 5, 1_000]) {
      const limit = new AdaptiveLimit({ min, max }, 0);
      const load = new Load(limit);
      const noise = logNormal(seededRandom(knee), 1.5);
      for (let minute = 0; minute < 5; minute++) {
        const fails = () => minute === 3;
        const { limitMin, limitMax } = load.run(MINUTE_MS, { knee, usualMs: 400, noise, fails });
        assert.ok(limitMin >= min && limitMax <= max, `${limitMin} to ${limitMax}`);
        assert.ok(Number.isInteger(limit.limit));
      }
    }
  }
});

test('other bounds hold at once, and it goes on from where it was', () => {
  const limit = new AdaptiveLimit(RANGE, 0);
  const load = new Load(limit);
  load.run(3 * MINUTE_MS, { knee: 1_000, usualMs: 400 });
  const before = limit.limit;
  assert.ok(before > 100);
  limit.tune({ min: 1, max: 40 }, load.nowMs);
  assert.equal(limit.limit, 40);
  limit.tune({ min: 1, max: 100 }, load.nowMs);
  assert.equal(limit.limit, 40);
  limit.tune({ min: 60, max: 100 }, load.nowMs);
  assert.equal(limit.limit, 60);
  assert.deepEqual(limit.range, { min: 60, max: 100 });
});

/** Usually 1; one draw in so many is `factor`. */
function oneIn(count: number, factor: number): () => number {
  const random = seededRandom(2);
  return () => (random.float() * count < 1 ? factor : 1);
}
