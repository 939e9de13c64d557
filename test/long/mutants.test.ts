/**
 * The simulation sees: each one-line bug of test/sim/mutants.ts violates something within 200 seeds.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { MUTANTS } from '../sim/mutants.js';

const SEEDS = 200;
const MAIN = fileURLToPath(new URL('../sim/main.js', import.meta.url));

for (const { name, world = 'lone' } of MUTANTS) {
  test(`an engine that ${name} is caught within ${SEEDS} seeds`, { timeout: 300_000 }, (t) => {
    const args = [MAIN, '--seeds', `${SEEDS}`, '--first-only', '--world', world, '--mutant', name];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    const violation = stdout.split('\n').find((line) => /^seed \d+: /.test(line));
    assert.equal(status, 1, stdout + stderr);
    assert.ok(violation, stdout + stderr);
    t.diagnostic(violation);
  });
}

test('a thousand more seeds violate nothing', { timeout: 1_200_000 }, () => {
  const args = [MAIN, '--from', '10001', '--seeds', '1000'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
});
