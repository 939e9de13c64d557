/**
 * Fuzzes the native core: `npm run fuzz -- [--minutes N] [target]...`
 *
 * Builds every native/test/fuzz_<target>.cc with libFuzzer, AddressSanitizer, UBSan and the invariant checkers, and
 * runs them one after another; the time, 10 minutes unless told otherwise, is shared among them. Exits with 1 when
 * one has found something.
 *
 * What was learnt stays in node_modules/.cache/millrace/fuzz/<target>/corpus, so that a later run goes on from
 * there. An input that fails is kept next to it in crashes/, and the command that plays it again is printed.
 *
 * Needs clang++ with libFuzzer; as root on Debian and the like it is installed when missing.
 */

import { mkdirSync } from 'node:fs';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { clang, coreSources, testSources } from './lib/native-tests.mjs';
import { at, exclusively, fail, filesBelow, run } from './lib/project.mjs';

const MINUTES = 10;
const INPUT_BYTES_MAX = 4096;
/** An input that takes longer counts as a failure. */
const INPUT_SECONDS_MAX = 20;

const FLAGS = ['-std=c++17', '-g', '-O1', '-DMILLRACE_CHECK=1', '-fno-sanitize-recover=all'];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string', default: `${MINUTES}` } },
});
const minutes = Number(values.minutes);
if (!(minutes > 0 && minutes <= 7 * 24 * 60)) {
  fail(`--minutes is ${values.minutes}; give a number above 0, at most a week`);
}

const all = testSources(/^fuzz_.*\.cc$/).map((file) => /fuzz_(.*)\.cc$/.exec(file)[1]);
const unknown = positionals.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  fail(`no target is called ${unknown.join(', ')}; there are ${all.join(', ')}`);
}
const targets = positionals.length > 0 ? positionals : all;
const seconds = Math.max(1, Math.round((minutes * 60) / targets.length));

const programs = exclusively('fuzz', build);
let passed = true;
for (const [target, program] of programs) passed = fuzz(target, program) && passed;
process.exitCode = passed ? 0 : 1;

/** Compiles the core once, then each target with it. */
function build() {
  const compiler = clang();
  const folder = at('build/fuzz');
  mkdirSync(folder, { recursive: true });
  const core = coreSources();
  console.log(`building ${targets.join(', ')} with ${compiler}`);
  const compiled = run(
    compiler,
    [
      '-c',
      ...FLAGS,
      '-fsanitize=fuzzer-no-link,address,undefined',
      ...core.map((file) => at(file)),
    ],
    { cwd: folder },
  );
  const objects = core.map((file) => `${folder}/${basename(file, '.cc')}.o`);
  const link = (target) => {
    const program = `${folder}/fuzz_${target}`;
    const source = at(`native/test/fuzz_${target}.cc`);
    const sanitize = '-fsanitize=fuzzer,address,undefined';
    const linked = run(compiler, [...FLAGS, sanitize, '-o', program, source, ...objects]);
    return linked ? program : fail(`${target} did not build; see above`);
  };
  if (!compiled) fail('the core did not build; see above');
  return new Map(targets.map((target) => [target, link(target)]));
}

function fuzz(target, program) {
  const folder = at('node_modules/.cache/millrace/fuzz', target);
  const corpus = `${folder}/corpus`;
  const crashes = `${folder}/crashes`;
  for (const name of [corpus, crashes]) mkdirSync(name, { recursive: true });
  const before = filesBelow(crashes);
  console.log(`\n=== ${target}, ${seconds} s`);
  const passed = run(program, [
    `-max_total_time=${seconds}`,
    `-max_len=${INPUT_BYTES_MAX}`,
    `-timeout=${INPUT_SECONDS_MAX}`,
    `-artifact_prefix=${crashes}/`,
    '-print_final_stats=1',
    '-verbosity=0',
    corpus,
  ]);
  for (const file of filesBelow(crashes).filter((name) => !before.includes(name))) {
    console.error(`\n${target} fails; play it again with:\n  ${program} ${crashes}/${file}`);
  }
  return passed;
}
