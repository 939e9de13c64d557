import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Timeline } from '../../../src/cli/loadtest/timeline.js';

test('each second has what arrived and ended in it, and seconds without anything are there too', () => {
  const timeline = new Timeline(1_000);
  for (const atMs of [1_000, 1_500, 1_999, 2_000]) timeline.noteArrival(atMs);
  timeline.noteEnd(1_600, 10);
  timeline.noteEnd(1_700, 30);
  timeline.noteEnd(4_100, 2_000);
  const seconds = timeline.seconds();
  assert.deepEqual(
    seconds.map(({ second, arrived, ended }) => [second, arrived, ended]),
    [
      [0, 3, 2],
      [1, 1, 0],
      [2, 0, 0],
      [3, 0, 1],
    ],
  );
  assert.equal(Math.round(seconds[0]!.latencyMs.max), 30);
  // Three digits count.
  assert.ok(Math.abs(seconds[3]!.latencyMs.p50 - 2_000) <= 2);
});
