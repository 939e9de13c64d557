import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Arrivals, sharedNowMs } from '../../../src/cli/loadtest/arrivals.js';

test('arrivals after a stall count from their own moments', async () => {
  const arrivals = await Arrivals.start({ rate: 200, seconds: 1 });
  const latenessMs: number[] = [];
  await arrivals.run((n, intendedMs) => {
    latenessMs.push(sharedNowMs() - intendedMs);
    // A stall of the load itself: what should have come meanwhile is late by it.
    if (n === 50) for (const untilMs = sharedNowMs() + 100; sharedNowMs() < untilMs; );
  });
  assert.equal(latenessMs.length, 200);
  assert.ok(latenessMs[51]! > 90, `${latenessMs[51]} ms after the stall`);
  assert.ok(
    latenessMs.every((ms) => ms >= 0),
    'none comes early',
  );
});

test('arrivals end when they are told to', async () => {
  const stop = new AbortController();
  const arrivals = await Arrivals.start({ rate: 100, seconds: 60 });
  await arrivals.run((n) => {
    if (n === 3) stop.abort();
  }, stop.signal);
  assert.ok(arrivals.arrived >= 4 && arrivals.arrived < 100, `${arrivals.arrived}`);
});
