/**
 * Runs a bench: `npm run bench -- <name> [options]`; without a name it lists them and the options.
 *
 * Compiles first, so that what is measured is what the sources say. `--no-build` takes dist as it is.
 */

import { existsSync } from 'node:fs';
import { at, fail, run } from './lib/project.mjs';

const args = process.argv.slice(2).filter((arg) => arg !== '--no-build');

if (args.length === process.argv.length - 2) {
  for (const [script, ...flags] of [['build-native.mjs', '--if-needed'], ['build-ts.mjs']]) {
    if (!run(process.execPath, [at('scripts', script), ...flags])) {
      fail('the bench was not started, since the project does not build');
    }
  }
}
const command = at('dist/bench/lib/command.js');
if (!existsSync(command)) fail('the benches are not compiled; run: npm run build');
const { benchCommand } = await import(command);
process.exitCode = await benchCommand(args);
