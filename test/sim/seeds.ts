/**
 * Many seeds of one world, in a test: none violates anything, and together they reach what they are for.
 */
import assert from 'node:assert/strict';
import { inThread } from '../support/in-thread.js';
import type { WorldName } from './run.js';
import { simulateAll } from './simulation.js';

const SIMULATION = new URL('./simulation.js', import.meta.url).href;

/** So many of them must have had work and faults: of lone ones 165 of 200 do, of clusters 94 of 100. */
const COUNTED_SHARE: Readonly<Record<WorldName, number>> = { lone: 0.75, cluster: 0.85 };

/** What must have happened in some seed of either world, or the simulation has lost its teeth. */
const REACHED_IN_BOTH = [
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
  ...['outage', 'partition', 'kill', 'pause', 'wallJump', 'rest'].map((act) => `nemesis ${act}`),
  ...['some rest', 'rests', 'goes on', 'nothing rests'],
  ...['recovered a segment', 'run again', 'deduplicated'],
  ...['redriven', 'segment put anew', 'told as redriven', 'cron fire'],
  ...['thread died under a task', 'dead letter', 'millrace:task:retry'],
  ...[
    'millrace:commit:unknown',
    'millrace:commit:failed',
    'cancel: cancelled',
    'cancel: signalled',
  ],
  // Completed, failed, cancelled, expired.
  ...[2, 3, 4, 5].map((state) => `ended ${state}`),
];

/**
 * Runs seeds of a world.
 *
 * @param seeds - whichever
 * @param reached - what must have happened in some of them, beside what both worlds reach
 */
export async function expectNoViolation(
  world: WorldName,
  seeds: readonly number[],
  reached: readonly string[],
): Promise<void> {
  const results = await inThread(SIMULATION, simulateAll, world, seeds);
  const violations = results.flatMap(({ seed, violations }) =>
    violations.map(
      (violation) => `npm run sim -- --world ${world} --seed ${seed} --trace: ${violation}`,
    ),
  );
  assert.deepEqual(violations, []);
  const counted = results.filter(({ counts }) => counts).length;
  assert.ok(counted >= COUNTED_SHARE[world] * seeds.length, `${counted} seeds had work and faults`);
  const seen = new Set(results.flatMap((result) => [...result.seen.keys()]));
  assert.deepEqual(
    [...REACHED_IN_BOTH, ...reached].filter((what) => !seen.has(what)),
    [],
  );
}

/** Of 1 to `last`, those of a world: every third is a cluster. */
export function seedsOf(world: WorldName, last: number): number[] {
  return Array.from({ length: last }, (_, i) => i + 1).filter(
    (seed) => (seed % 3 === 0) === (world === 'cluster'),
  );
}
