/**
 * Builds the native core. One Node-API binary serves every Node from 20 on, so this happens once.
 *
 *   node scripts/build-native.mjs               build/Release, incremental: for work on the native code
 *   node scripts/build-native.mjs --if-needed   only when the binary that would be loaded is missing or old
 *   node scripts/build-native.mjs --debug       build/Debug (and no build/Release, which would be preferred)
 *   node scripts/build-native.mjs --asan        build/asan with AddressSanitizer and UBSan; load it with
 *                                               MILLRACE_PREBUILD=$PWD/build/asan and libasan preloaded
 *   node scripts/build-native.mjs --prebuild    prebuilds/<platform>-<arch>, stripped: what is published
 *
 * `--prebuild` is what `npm ci` makes, so development and tests run the very file that is published. It goes
 * through prebuildify, which always cleans first and then moves the result away; that is why it works on a
 * copy of the sources. The name carries the C library: on a musl system the glibc binary is not found, rather
 * than found and not loadable. For another platform, run the same command there (or with PREBUILD_ARCH and a
 * cross compiler) and collect the folders of prebuilds/ in one checkout before `npm publish`.
 *
 * No headers are downloaded; see `headersDirectory`.
 */

import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { relative } from 'node:path';
import {
  binaryOf,
  fingerprint,
  headersDirectory,
  isFresh,
  loadedKind,
  stageSources,
  stamp,
} from './lib/native.mjs';
import { at, exclusively, fail, ROOT, runBin } from './lib/project.mjs';

const NODE_GYP = 'node-gyp/bin/node-gyp.js';
const SANITIZE = '-fsanitize=address,undefined -fno-sanitize-recover=undefined -g -O1';

const flags = new Set(process.argv.slice(2));
const isQuiet = !flags.has('--verbose');

if (!existsSync(at('binding.gyp'))) fail('there is no binding.gyp: nothing to build');
exclusively('native', () => {
  const ifNeeded = flags.has('--if-needed');
  const kind = wantedKind(ifNeeded);
  if (ifNeeded && isFresh(kind)) return;

  const startedAt = Date.now();
  // Taken before the build: a file changed while the compiler runs leaves the binary old, not fresh.
  const sources = fingerprint();
  const built = kind === 'prebuild' ? prebuild() : kind === 'Asan' ? asan() : compile(kind);
  if (!built || !existsSync(binaryOf(kind))) fail('the native core did not build; see above');
  stamp(kind, sources);
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  console.error(`native core: ${relative(ROOT, binaryOf(kind))} built in ${seconds} s`);
});

function wantedKind(ifNeeded) {
  if (flags.has('--prebuild')) return 'prebuild';
  if (flags.has('--asan')) return 'Asan';
  if (flags.has('--debug')) return 'Debug';
  const loaded = loadedKind();
  // An old prebuilt binary gives way to an incremental build, which is quicker and is loaded before it.
  return ifNeeded && loaded !== undefined && isFresh(loaded) ? loaded : 'Release';
}

function compile(configuration) {
  if (configuration === 'Debug') rmSync(binaryOf('Release'), { force: true });
  return nodeGyp(ROOT, configuration === 'Debug' ? ['--debug'] : [], {});
}

function asan() {
  const folder = at('build/asan');
  mkdirSync(folder, { recursive: true });
  stageSources(folder);
  return nodeGyp(folder, [], { CFLAGS: SANITIZE, CXXFLAGS: SANITIZE, LDFLAGS: SANITIZE });
}

function nodeGyp(cwd, args, env) {
  return runBin(
    NODE_GYP,
    [
      'configure',
      'build',
      ...args,
      `--nodedir=${headersDirectory()}`,
      `--jobs=${availableParallelism()}`,
    ],
    { cwd, env: { ...cleanEnvironment(), ...env }, quiet: isQuiet },
  );
}

function prebuild() {
  const folder = at('build/staging');
  mkdirSync(folder, { recursive: true });
  stageSources(folder);
  const made = runBin(
    'prebuildify/bin.js',
    [
      '--napi',
      `--target=${process.versions.node}`,
      '--strip',
      '--tag-libc',
      `--out=${ROOT}`,
      `--cache=${at('build/cache')}`,
    ],
    {
      cwd: folder,
      env: {
        ...cleanEnvironment(),
        JOBS: `${availableParallelism()}`,
        PREBUILD_NODE_GYP: at('node_modules', NODE_GYP),
        // prebuildify passes no options on to node-gyp; this is how node-gyp takes them from npm.
        npm_package_config_node_gyp_nodedir: headersDirectory(),
      },
      quiet: isQuiet,
    },
  );
  // Not before: whoever imports millrace meanwhile still finds a binary.
  if (made) for (const kind of ['Release', 'Debug']) rmSync(binaryOf(kind), { force: true });
  return made;
}

/** The environment without npm's settings, some of which node-gyp would take for its own (nodedir, arch). */
function cleanEnvironment() {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^npm_(package_)?config_/i.test(name),
  );
  return Object.fromEntries(kept);
}
