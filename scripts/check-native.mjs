/**
 * Checks the native core: `npm run check:native [-- --lines]`
 *
 * Compiles native/ once, instrumented with AddressSanitizer, UBSan, the invariant checkers and coverage counters, and
 * uses it twice: in the C++ tests (native/test, doctest), and as the addon under which the Node tests of the timing
 * folder and the model tests run. Then it prints how much of each file was executed by either, and fails below
 * 95 % of all lines. With `--lines` it names the lines that were not.
 *
 * Needs g++ with gcov, and doctest.h; as root on Debian and the like the latter is installed when missing. Leaks are
 * looked for in the C++ tests only: V8 itself ends with memory in use.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { headersDirectory } from './lib/native.mjs';
import {
  bindingSources,
  coreSources,
  firstThatStarts,
  needDoctest,
  testSources,
} from './lib/native-tests.mjs';
import { at, exclusively, fail, filesBelow, ROOT, run } from './lib/project.mjs';

const LINES_MIN_PERCENT = 95;
/** The Node tests that use the native core and nothing else of the project to speak of. */
const NODE_TESTS = ['test/timing/', 'test/model/'];

const SANITIZE = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
// The counters are not atomic, which would be twenty times slower: what threads lose to one another is no whole line.
const FLAGS = [
  ...['-std=c++17', '-g', '-O1', '-fPIC', '-fno-exceptions', '-fno-rtti'],
  ...['-DMILLRACE_CHECK=1', '-DNAPI_VERSION=8', '-DNODE_GYP_MODULE_NAME=millrace'],
  ...['--coverage', ...SANITIZE],
];

const { values } = parseArgs({ options: { lines: { type: 'boolean' } } });
const compiler = firstThatStarts([process.env.CXX, 'g++'].filter(Boolean));
if (compiler === undefined) fail('missing: g++; on Debian or Ubuntu: sudo apt-get install g++');
needDoctest();
if (filesBelow(at('dist/test/timing')).length === 0) fail('no compiled tests; run: npm run build');

const passed = exclusively('check-native', check);
process.exitCode = passed ? 0 : 1;

function check() {
  const folder = at('build/check-native');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, 'build/Release'), { recursive: true });
  const core = coreSources();
  const bindings = bindingSources();
  console.log(`compiling ${core.length + bindings.length} files`);
  const objects = (files) => files.map((file) => join(folder, `${basename(file, '.cc')}.o`));
  const include = `-I${headersDirectory()}/include/node`;
  const files = [...core, ...bindings].map((file) => at(file));
  if (!run(compiler, ['-c', ...FLAGS, include, ...files], { cwd: folder })) return false;
  const addon = join(folder, 'build/Release/millrace.node');
  const linked = [...objects(core), ...objects(bindings)];
  if (!run(compiler, ['-shared', ...FLAGS, '-o', addon, ...linked])) return false;

  const results = testSources(/_test\.cc$/).map((test) => {
    console.log(`\n=== ${test}`);
    const program = join(folder, basename(test, '.cc'));
    // Without exceptions, doctest cannot go on after a REQUIRE that fails: tests are compiled with them.
    const flags = [...FLAGS, '-fexceptions', '-o', program];
    return (
      run(compiler, [...flags, at(test), ...objects(core)], { cwd: folder }) && run(program, [])
    );
  });
  console.log(`\n=== ${NODE_TESTS.join(' ')}`);
  results.push(nodeTests(folder));
  return results.every(Boolean) && coverage(folder);
}

/** Runs Node tests with the instrumented addon; its sanitizers have to be there before anything else. */
function nodeTests(folder) {
  const runtimes = ['libasan.so', 'libubsan.so'].map((name) =>
    execFileSync(compiler, [`-print-file-name=${name}`], { encoding: 'utf8' }).trim(),
  );
  const env = {
    ...process.env,
    // The folder in which node-gyp-build finds build/Release/millrace.node.
    MILLRACE_PREBUILD: folder,
    LD_PRELOAD: runtimes.join(':'),
    ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  };
  return run(process.execPath, [at('scripts/test.mjs'), ...NODE_TESTS], { env });
}

/** Prints the share of executed lines, per file and of all. Whether it is enough. */
function coverage(folder) {
  const files = executedLines(folder);
  let lines = 0;
  let executed = 0;
  console.log('\nlines executed:');
  for (const [file, counts] of [...files].sort()) {
    const missed = [...counts].filter(([, count]) => count === 0).map(([line]) => line);
    lines += counts.size;
    executed += counts.size - missed.length;
    const percent = percentOf(counts.size - missed.length, counts.size);
    const missedText = values.lines && missed.length > 0 ? `  not: ${ranges(missed)}` : '';
    console.log(`${percent.padStart(7)} %  ${file}${missedText}`);
  }
  console.log(`${percentOf(executed, lines).padStart(7)} %  of ${lines} lines in native/`);
  if (lines === 0) fail('gcov reported no line of native/');
  if ((executed / lines) * 100 >= LINES_MIN_PERCENT) return true;
  console.error(`fewer than ${LINES_MIN_PERCENT} % of the lines of native/ were executed`);
  return false;
}

/** How often each line of native/ was executed, by file; sums over all programs and all objects with the file. */
function executedLines(folder) {
  const files = new Map();
  const data = filesBelow(folder).filter((name) => name.endsWith('.gcda'));
  // gcov leaves files where it runs, also when asked for none.
  const scratch = mkdtempSync(join(tmpdir(), 'millrace-gcov-'));
  const gcov = spawnSync(
    process.env.GCOV ?? 'gcov',
    ['--json-format', '--stdout', ...data.map((name) => join(folder, name))],
    { cwd: scratch, encoding: 'utf8', maxBuffer: 256 << 20 },
  );
  rmSync(scratch, { recursive: true, force: true });
  if (gcov.status !== 0) fail(`gcov failed: ${gcov.error?.message ?? gcov.stderr}`);
  for (const report of gcov.stdout.split('\n').filter((line) => line.startsWith('{'))) {
    for (const { file, lines } of JSON.parse(report).files) {
      const name = relative(ROOT, file);
      if (!/^native\/[^/]+$/.test(name)) continue;
      const counts = files.get(name) ?? new Map();
      files.set(name, counts);
      for (const { line_number: line, count } of lines) {
        counts.set(line, (counts.get(line) ?? 0) + count);
      }
    }
  }
  return files;
}

function percentOf(part, whole) {
  return (whole === 0 ? 100 : (part / whole) * 100).toFixed(1);
}

/** Line numbers as text: 3, 7-9. */
function ranges(lines) {
  const found = [];
  for (const line of lines.sort((a, b) => a - b)) {
    const last = found.at(-1);
    if (last !== undefined && line === last.end + 1) last.end = line;
    else found.push({ start: line, end: line });
  }
  return found.map(({ start, end }) => (start === end ? `${start}` : `${start}-${end}`)).join(', ');
}
