/**
 * What npm runs after `npm ci` in a checkout, and before it packs a git dependency: builds everything.
 *
 * It never runs where millrace is installed from a tarball or a registry: those carry the results, and the
 * package has no install scripts. It makes the prebuilt binary rather than build/Release, since a git
 * dependency is packed right after this, and only `prebuilds` goes into the package.
 */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { at, fail, run } from './lib/project.mjs';

const NODE_MIN = [20, 19];

const missing = [];
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < NODE_MIN[0] || (major === NODE_MIN[0] && minor < NODE_MIN[1])) {
  missing.push(`Node >= ${NODE_MIN.join('.')} (this is ${process.versions.node})`);
}
if (process.platform !== 'win32') {
  if (!answers(process.env.CXX ?? 'g++')) missing.push('a C++ compiler');
  if (!answers('make')) missing.push('make');
  if (!answers(process.env.PYTHON ?? 'python3')) missing.push('python3');
}
if (missing.length > 0) {
  fail(`millrace cannot be built: missing ${missing.join(', ')}; ${howToInstall()}`);
}
if (!existsSync(at('node_modules/typescript'))) {
  fail('millrace cannot be built without its development dependencies; run: npm ci --include=dev');
}

for (const step of [['build-native.mjs', '--prebuild', '--if-needed'], ['build-ts.mjs']]) {
  const [script, ...args] = step;
  if (!run(process.execPath, [at('scripts', script), ...args])) process.exit(1);
}

/** Whether a program starts at all. CXX may hold options as well ("ccache g++"). */
function answers(command) {
  const [program, ...args] = command.split(' ');
  const { error, status } = spawnSync(program, [...args, '--version'], { stdio: 'ignore' });
  return error === undefined && status === 0;
}

function howToInstall() {
  const node = missing[0].startsWith('Node') ? 'install a newer Node from https://nodejs.org' : '';
  if (missing.length === 1 && node !== '') return node;
  const tools =
    process.platform === 'darwin'
      ? 'run: xcode-select --install'
      : 'run: apt-get install g++ make python3';
  return [node, tools].filter(Boolean).join('; ');
}
