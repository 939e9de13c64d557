/**
 * Deterministic simulation: `npm run sim -- --seeds 1000`, `--seed 8123 --trace`; see docs/internals/simulation.md.
 *
 * Runs what is compiled; `npm run sim` compiles first.
 */

import { existsSync } from 'node:fs';
import { at, fail, run } from './lib/project.mjs';

const main = at('dist/test/sim/main.js');
if (!existsSync(main)) fail('the simulation is not compiled; run: npm run build');
if (!run(process.execPath, [main, ...process.argv.slice(2)])) process.exitCode = 1;
