import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reportOfLives } from '../../../src/cli/loadtest/process-report.js';
import type { VitalFacts } from '../../../src/cli/loadtest/process-vitals.js';
import { isFlat } from '../../../src/cli/loadtest/soak.js';

const MIB = 1_048_576;
const NONE = { count: 0, p50: 0, p95: 0, p99: 0, max: 0 };

/** What a process says whose memory is `mib(second)` and that holds so many handles. */
function life(seconds: number, mib: (second: number) => number, handles = 10): VitalFacts {
  return {
    seconds: Array.from({ length: seconds }, (_, second) => ({
      ...{ second, gcCount: 1, gcMs: 2, gcMaxMs: 2, loopDelayP99Ms: 1, loopDelayMaxMs: 3 },
      ...{ rssBytes: mib(second) * MIB, heapBytes: 0, handles, cpuShare: 0.5 },
    })),
    gc: { count: seconds, totalMs: 2 * seconds, maxMs: 2 },
    ...{ loopDelayP99Ms: 1, loopDelayMaxMs: 3, cpuMs: 500, executions: 7 },
    ...{ commitMs: NONE, watchMs: NONE },
  };
}

test('a process that grew while it warmed up, and then no more, is flat', () => {
  const report = reportOfLives('it', [[life(90, (second) => 100 + Math.min(second, 25) * 4)]]);
  assert.equal(report.rssSlopeMiBPerMin, 0);
  assert.ok(isFlat(report));
});

test('a process that grows on is not', () => {
  const report = reportOfLives('it', [[life(90, (second) => 100 + second / 30)]]);
  assert.ok(Math.abs(report.rssSlopeMiBPerMin - 2) < 1e-6);
  assert.ok(!isFlat(report));
  assert.ok(!isFlat({ rssSlopeMiBPerMin: 0, handlesPerMin: 2 }));
});

test('what all lives did counts; how steady it is, the last one says', () => {
  const first = life(10, (second) => second * 100);
  const report = reportOfLives('it', [
    [first],
    [life(30, () => 50), { ...life(0, () => 0), executions: 9 }],
  ]);
  assert.equal(report.lives, 2);
  assert.equal(report.executions, 16);
  assert.equal(report.seconds.length, 40);
  assert.equal(report.rssSlopeMiBPerMin, 0);
});
