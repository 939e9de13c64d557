/**
 * Everything about the sources that can be checked without running them: format and lint (Biome), import
 * rules (dependency-cruiser), unused code and dependencies (knip). Types are checked by the build.
 *
 * All of them run, also when the first one fails: one run tells everything.
 *
 * knip.json lists the tools that scripts and tests start as programs: knip sees imports only.
 */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { at, ROOT, run, runBin } from './lib/project.mjs';

const CHECKS = {
  'format and lint': () =>
    run(at('node_modules/.bin/biome'), [
      'check',
      '--error-on-warnings',
      '--no-errors-on-unmatched',
    ]),
  // src/tsconfig.json is stricter than the build: what is published states its types.
  'published types': () => runBin('typescript/bin/tsc', ['-p', 'src']),
  'import rules': importRules,
  'unused code': () => run(at('node_modules/.bin/knip'), ['--no-progress']),
};

let passed = true;
for (const [name, check] of Object.entries(CHECKS)) {
  const startedAt = Date.now();
  const ok = check();
  passed &&= ok;
  console.log(
    `${ok ? 'ok  ' : 'FAIL'} ${name} (${((Date.now() - startedAt) / 1000).toFixed(1)} s)`,
  );
}
process.exitCode = passed ? 0 : 1;

/**
 * Cruises src and bench. The summary is read from JSON rather than trusting the exit code: a cruise that finds
 * no modules (a moved folder, a parser that is not installed) breaks no rule and would look like success.
 */
function importRules() {
  const folders = ['src', 'bench'].filter((folder) => existsSync(at(folder)));
  const result = spawnSync(
    at('node_modules/.bin/depcruise'),
    [...folders, '--config', '.dependency-cruiser.cjs', '--output-type', 'json'],
    { cwd: ROOT, encoding: 'utf8', maxBuffer: 256 << 20 },
  );
  if (!result.stdout?.startsWith('{')) {
    console.error(`dependency-cruiser did not run: ${result.error?.message ?? result.stderr}`);
    return false;
  }
  const { modules, summary } = JSON.parse(result.stdout);
  const cruised = modules.filter(({ source }) => source.startsWith('src/')).length;
  if (cruised === 0) {
    console.error('dependency-cruiser saw no module of src: the import rules were not checked');
    return false;
  }
  const reasons = new Map(summary.ruleSetUsed.forbidden.map((rule) => [rule.name, rule.comment]));
  for (const { from, to, rule, via, cycle } of summary.violations) {
    const path = (cycle ?? via ?? []).map((step) => step.name ?? step).join(' -> ');
    console.error(`${from} -> ${to}${path && ` (${path})`}`);
    console.error(`    ${rule.name}: ${reasons.get(rule.name)}`);
  }
  console.log(`${cruised} modules of src cruised`);
  return summary.violations.length === 0;
}
