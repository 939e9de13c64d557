/**
 * Seeds of the simulation in every test run; `npm run sim` runs more, test/long puts bugs in and sees them found.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SimResult } from './run.js';
import { simulate } from './simulation.js';

const SEEDS = 300;
/** So many of them must have had work and faults. */
const COUNTED_MIN = 200;

test(`${SEEDS} seeds violate nothing, and reach what they are for`, async () => {
  const results: SimResult[] = [];
  for (let seed = 1; seed <= SEEDS; seed++) results.push(await simulate(seed));
  const violations = results.flatMap(({ seed, violations }) =>
    violations.map((violation) => `npm run sim -- --seed ${seed} --trace: ${violation}`),
  );
  assert.deepEqual(violations, []);
  const counted = results.filter(({ counts }) => counts).length;
  assert.ok(counted >= COUNTED_MIN, `${counted} seeds had work and faults`);
  const seen = new Set(results.flatMap((result) => [...result.seen.keys()]));
  assert.deepEqual(
    REACHED.filter((what) => !seen.has(what)),
    [],
  );
});

test('a seed is a run: twice the same trace', async () => {
  for (const seed of [3, 20, 77]) {
    const [first, second] = [await simulate(seed), await simulate(seed)];
    assert.equal(second.hash, first.hash, `seed ${seed}`);
  }
});

test('another seed is another run', async () => {
  assert.notEqual((await simulate(1)).hash, (await simulate(2)).hash);
});

/** What must have happened in some seed, or the simulation has lost its teeth. */
const REACHED = [
  ...[
    'requestLost',
    'answerLost',
    'late',
    'refused',
    'full',
    'hang',
    'readFailed',
    'partition',
  ].map((fault) => `fault ${fault}`),
  ...[
    ...['outage', 'partition', 'kill', 'pause', 'usurp', 'restart', 'wallJump'],
    ...['join', 'leave', 'leaseLost', 'compaction', 'rest'],
  ].map((act) => `nemesis ${act}`),
  ...[
    'some rest',
    'rests',
    'goes on',
    'nothing rests',
    'lane taken over',
    'fenced',
    'recovered a segment',
    'run again',
    'deduplicated',
  ],
  ...['shard claimed', 'heard that a task is gone', 'fault watchCut'],
  ...['session:fenced', 'session:lifted', 'session:lost', 'shard:released', 'shard:lost'].map(
    (what) => `millrace:${what}`,
  ),
  ...['millrace:commit:broken', 'millrace:watch:relisted'],
  ...['thread died under a task', 'dead letter', 'millrace:result:stale', 'millrace:task:retry'],
  ...[
    'millrace:commit:unknown',
    'millrace:commit:failed',
    'cancel: cancelled',
    'cancel: signalled',
  ],
  // Completed, failed, cancelled, expired.
  ...[2, 3, 4, 5].map((state) => `ended ${state}`),
];
