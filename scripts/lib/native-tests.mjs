/**
 * What the tests of native/ are made of: their sources, and the tools they need.
 *
 * Everything in native/ but the `*binding.cc` is plain C++ without Node, and so is all of native/test.
 */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { at, fail, filesBelow, run } from './project.mjs';

/** The sources of the core that know no Node. */
export function coreSources() {
  return sources().filter((file) => !isBinding(file));
}

/** The sources that turn calls from JavaScript into calls on the core. */
export function bindingSources() {
  return sources().filter(isBinding);
}

/** Sources in native/test whose names have this form, as paths relative to the project. */
export function testSources(form) {
  return filesBelow(at('native/test'))
    .filter((file) => form.test(file))
    .map((file) => `native/test/${file}`);
}

function sources() {
  return filesBelow(at('native'))
    .filter((file) => /^[^/]+\.cc$/.test(file))
    .map((file) => `native/${file}`);
}

function isBinding(file) {
  return file.endsWith('binding.cc');
}

/** The first of these programs that starts, or undefined. */
export function firstThatStarts(programs) {
  return programs.find((program) => {
    const { error, status } = spawnSync(program, ['--version'], { stdio: 'ignore' });
    return error === undefined && status === 0;
  });
}

/** A clang++ that has libFuzzer, installed if need be. */
export function clang() {
  const find = () =>
    firstThatStarts([process.env.CLANGXX, 'clang++', 'clang++-19'].filter(Boolean));
  return find() ?? provide(find, 'clang++ with libFuzzer', ['clang', 'libclang-rt-dev']);
}

/** Makes sure that there is doctest.h, installed if need be. */
export function needDoctest() {
  const find = () =>
    ['/usr/include', '/usr/local/include', '/opt/homebrew/include'].find((folder) =>
      existsSync(`${folder}/doctest/doctest.h`),
    );
  return find() ?? provide(find, 'doctest, the C++ test framework', ['doctest-dev']);
}

/** Installs Debian packages, as root, or ends with the words of how to. */
function provide(find, what, packages) {
  const command = ['apt-get', 'install', '--yes', '--no-install-recommends', ...packages];
  const isRoot = process.getuid?.() === 0;
  if (isRoot && firstThatStarts(['apt-get']) !== undefined) {
    console.log(`missing: ${what}; ${command.join(' ')}`);
    const [program, ...args] = command;
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const installed =
      run(program, args, { quiet: true, env }) ||
      (run(program, ['update'], { quiet: true, env }) && run(program, args, { quiet: true, env }));
    const found = installed ? find() : undefined;
    if (found !== undefined) return found;
  }
  return fail(`missing: ${what}; on Debian or Ubuntu: sudo ${command.join(' ')}`);
}
