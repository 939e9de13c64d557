/**
 * The simulation sees: each one-line bug of test/sim/mutants.ts violates something within 200 seeds.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { HUNT_SEEDS, huntMutant } from '../sim/mutant-hunt.js';
import { MUTANTS } from '../sim/mutants.js';

const MAIN = fileURLToPath(new URL('../sim/main.js', import.meta.url));

describe('mutants', { concurrency: availableParallelism() }, () => {
  for (const mutant of MUTANTS) {
    const { name } = mutant;
    test(`an engine that ${name} is caught within ${HUNT_SEEDS} seeds`, async (t) => {
      const { seeds, text } = await huntMutant(mutant);
      assert.ok(seeds !== undefined, text);
      t.diagnostic(text);
    });
  }
});

test('a thousand more seeds violate nothing', () => {
  const args = [MAIN, '--from', '10001', '--seeds', '1000'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
});
