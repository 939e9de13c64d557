/**
 * Compiles src, test, bench and examples into dist, incrementally.
 *
 * tsc never deletes: the output of a removed source would stay, and a removed test would go on running. And
 * its incremental record trusts that earlier outputs are still there. Both are put right before tsc starts.
 */

import { chmodSync, existsSync, rmSync } from 'node:fs';
import { at, exclusively, filesBelow, runBin } from './lib/project.mjs';

const FOLDERS = ['src', 'test', 'bench', 'examples'];

const passed = exclusively('ts', () => {
  for (const folder of FOLDERS) {
    const sources = new Set(
      filesBelow(at(folder))
        .filter((file) => /\.[mc]?ts$/.test(file) && !/\.d\.[mc]?ts$/.test(file))
        .map((file) => file.replace(/\.([mc]?)ts$/, '.$1js')),
    );
    const outputs = filesBelow(at('dist', folder));
    for (const output of outputs) {
      const script = output.replace(/\.map$/, '').replace(/\.d\.([mc]?)ts$/, '.$1js');
      if (!sources.has(script)) rmSync(at('dist', folder, output));
    }
    const present = new Set(outputs);
    if ([...sources].some((script) => !present.has(script))) {
      rmSync(at('dist/.tsbuildinfo'), { force: true });
    }
  }
  const compiled = runBin('typescript/bin/tsc', ['-p', 'tsconfig.json']);
  const command = at('dist/src/cli/main.js');
  if (existsSync(command)) chmodSync(command, 0o755);
  return compiled;
});
process.exitCode = passed ? 0 : 1;
