/** Adaptive concurrency on a real thread and the real clock. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createRuntime, memoryStore } from '../../../src/index.js';
import { crowded } from '../../fixtures/workers/crowded.js';

const WITHIN_MS = 30_000;

test('a service that sends away what is too much gets about as many calls at once as it takes', async (t) => {
  const runtime = await createRuntime({
    tasks: new URL('../../fixtures/workers/crowded.js', import.meta.url),
    store: memoryStore(),
    threads: { max: 1 },
    healing: false,
    shutdown: { soft: 0, hard: 0 },
  });
  t.after(() => runtime.close());
  await runtime.submitMany(
    crowded,
    Array.from({ length: 20_000 }, () => null),
  );
  const limits: number[] = [];
  const fellAfterRise = (): boolean => {
    const highest = Math.max(...limits);
    return highest > 5 && limits.at(-1)! < highest;
  };
  // It looks once a second, so there is no event to wait for.
  for (let ms = 0; ms < WITHIN_MS && !(limits.length > 0 && fellAfterRise()); ms += 100) {
    limits.push(runtime.stats().concurrency[0]!.limit);
    await delay(100);
  }
  assert.ok(fellAfterRise(), limits.join(' '));
  assert.ok(Math.max(...limits) <= 12, limits.join(' '));
});
