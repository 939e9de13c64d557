/** The adaptive limit under any history: whatever is noted and in whatever order, it stays a limit. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AdaptiveLimit } from '../../src/engine/adaptive-limit.js';

const range = fc
  .tuple(fc.integer({ min: 1, max: 1_000 }), fc.integer({ min: 0, max: 1_000 }))
  .map(([min, more]) => ({ min, max: min + more }));

/** Run times, also those that clocks make up: zero, below it, huge. */
const runMs = fc.oneof(fc.double({ min: 0, max: 1e5, noNaN: true }), fc.constantFrom(-5, 1e300));
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('completed' as const),
      runMs,
      count: fc.integer({ min: 1, max: 40 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom('ended' as const, 'overloaded' as const),
      count: fc.integer({ min: 1, max: 20 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('look' as const),
      afterMs: fc.integer({ min: 0, max: 20_000 }),
      inUse: fc.integer({ min: 0, max: 3_000 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('tune' as const), range }) },
);

test('it is a whole number within its bounds, and changes only where that is told', () => {
  fc.assert(
    fc.property(range, fc.array(step, { maxLength: 300 }), (first, steps) => {
      let nowMs = 0;
      let bounds = first;
      const limit = new AdaptiveLimit(bounds, nowMs);
      for (const one of steps) {
        const before = limit.limit;
        let mayChange = false;
        switch (one.kind) {
          case 'completed':
            for (let i = 0; i < one.count; i++) limit.noteCompleted(one.runMs);
            break;
          case 'ended':
            for (let i = 0; i < one.count; i++) limit.noteEnded();
            break;
          case 'overloaded':
            for (let i = 0; i < one.count; i++) limit.noteOverloaded();
            break;
          case 'look':
            nowMs += one.afterMs;
            mayChange = limit.look(nowMs, one.inUse);
            break;
          case 'tune':
            bounds = one.range;
            limit.tune(bounds, nowMs);
            mayChange = true;
        }
        assert.ok(Number.isInteger(limit.limit), `${limit.limit}`);
        assert.ok(limit.limit >= bounds.min && limit.limit <= bounds.max, `${limit.limit}`);
        if (!mayChange) assert.equal(limit.limit, before);
      }
    }),
  );
});

test('after whatever history, half an hour of a service that bears everything leads up again', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const bounds = { min: 1, max: 50 };
      const limit = new AdaptiveLimit(bounds, 0);
      let nowMs = 0;
      for (const one of steps) {
        if (one.kind === 'completed') limit.noteCompleted(one.runMs);
        else if (one.kind === 'overloaded') limit.noteOverloaded();
        else if (one.kind === 'look') {
          nowMs += one.afterMs;
          limit.look(nowMs, one.inUse);
        }
      }
      for (let second = 0; second < 1_800; second++) {
        nowMs += 1_000;
        for (let i = 0; i < Math.max(10, limit.limit); i++) limit.noteCompleted(100);
        limit.look(nowMs, limit.limit);
      }
      assert.ok(limit.limit >= 25, `${limit.limit}`);
    }),
    { numRuns: 30 },
  );
});
