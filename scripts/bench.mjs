/**
 * Runs benches.
 *
 *   npm run bench -- <name> [options]    one of them
 *   npm run bench                        every one in full, for hours; writes bench/results and docs/benchmarks.md anew
 *   npm run bench -- --quick             every one quickly; writes build/bench/quick
 *   npm run bench -- --help              lists them, with their contenders and options
 *
 * Compiles first, so that what is measured is what the sources say. `--no-build` takes dist as it is.
 */

import { existsSync } from 'node:fs';
import { at, fail, run } from './lib/project.mjs';

const given = process.argv.slice(2);
const args = given.filter((arg) => arg !== '--no-build');

if (args.length === given.length) {
  for (const [script, ...flags] of [['build-native.mjs', '--if-needed'], ['build-ts.mjs']]) {
    if (!run(process.execPath, [at('scripts', script), ...flags])) {
      fail('the bench was not started, since the project does not build');
    }
  }
}
const command = at('dist/bench/lib/command.js');
if (!existsSync(command)) fail('the benches are not compiled; run: npm run build');
const { benchCommand, benchNames } = await import(command);

const isQuick = args.includes('--quick');
const isAll = args.length === 0 || (isQuick && args.length === 1);
process.exitCode = isAll ? await runAll() : await benchCommand(args);

/** @returns the highest exit code */
async function runAll() {
  const folder = at(isQuick ? 'build/bench/quick' : 'bench/results');
  let code = 0;
  for (const name of benchNames()) {
    const words = [name, ...args, '--json', `${folder}/${name}.json`];
    code = Math.max(code, await benchCommand(words));
  }
  if (!isQuick) run(process.execPath, [at('scripts/docs-benchmarks.mjs')]);
  return code;
}
