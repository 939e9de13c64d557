/**
 * Where headers, sources and binaries of the native core are, and whether a binary still fits the sources.
 *
 * node-gyp-build loads the first of these that exists, so the first that exists is the one to keep fresh:
 *
 *   build/Release/millrace.node              made by `build-native.mjs`, for work on the native code
 *   build/Debug/millrace.node                made by `build-native.mjs --debug`
 *   prebuilds/<platform>-<arch>/millrace.*   made by `build-native.mjs --prebuild`; the one that is published
 *
 * Freshness is a stamp: a hash over everything that goes into the binary, kept in build/ next to it. Hashes
 * rather than times, because git checkouts and copies do not keep times.
 */

import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { at, filesBelow, readText } from './project.mjs';

/** The binary of a kind of build: 'Release', 'Debug', 'Asan' or 'prebuild'. */
export function binaryOf(kind) {
  if (kind === 'Asan') return at('build/asan/build/Release/millrace.node');
  if (kind !== 'prebuild') return at('build', kind, 'millrace.node');
  const folder = `prebuilds/${process.platform}-${process.arch}`;
  const file = filesBelow(at(folder)).find((name) => name.endsWith('.node'));
  return at(folder, file ?? 'millrace.node');
}

/** The kind of the binary that node-gyp-build would load now, or undefined when there is none. */
export function loadedKind() {
  return ['Release', 'Debug', 'prebuild'].find((kind) => existsSync(binaryOf(kind)));
}

/** Whether the binary of this kind exists and was made from the present sources. */
export function isFresh(kind) {
  return existsSync(binaryOf(kind)) && readText(stampOf(kind)) === fingerprint();
}

/** Remembers that the binary of this kind was made from sources with this fingerprint. */
export function stamp(kind, sources) {
  mkdirSync(at('build'), { recursive: true });
  writeFileSync(stampOf(kind), sources);
}

function stampOf(kind) {
  return at('build', `${kind}.stamp`);
}

/** A hash over the sources, the build recipe and the platform. The native tests are no part of the binary. */
export function fingerprint() {
  const hash = createHash('sha256').update(`${process.platform}-${process.arch}\n`);
  for (const file of inputs()) {
    hash.update(`${file}\n`).update(readFileSync(at(file)));
  }
  return hash.digest('hex');
}

function inputs() {
  const sources = filesBelow(at('native'))
    .filter((file) => !file.startsWith('test/') && !file.endsWith('.md'))
    .map((file) => join('native', file));
  return ['binding.gyp', 'scripts/build-native.mjs', 'scripts/lib/native.mjs', ...sources].filter(
    (file) => existsSync(at(file)),
  );
}

/** A copy of what node-gyp needs, for builds that must not touch build/Release. Object files in it are kept. */
export function stageSources(folder) {
  rmSync(join(folder, 'native'), { recursive: true, force: true });
  cpSync(at('native'), join(folder, 'native'), { recursive: true, preserveTimestamps: true });
  for (const file of ['binding.gyp', 'package.json']) cpSync(at(file), join(folder, file));
}

/**
 * A directory for node-gyp's `--nodedir`. node-gyp on its own downloads headers from nodejs.org, which a
 * build behind a firewall cannot reach. The running Node's own prefix has them in most installations; the
 * Node-API part is all that millrace includes, and npm's `node-api-headers` carries exactly that.
 */
export function headersDirectory() {
  const prefix = dirname(dirname(process.execPath));
  if (existsSync(join(prefix, 'include/node/node_api.h'))) return prefix;
  const folder = at('build/headers');
  const include = join(folder, 'include/node');
  cpSync(at('node_modules/node-api-headers/include'), include, { recursive: true });
  // node-gyp reads both files of a header directory: what Node was built with, and the compiler's settings.
  writeFileSync(join(include, 'config.gypi'), JSON.stringify(process.config));
  writeFileSync(join(include, 'common.gypi'), COMMON_GYPI);
  return folder;
}

/** The part of Node's common.gypi that an addon relies on: two configurations, and the target's basics. */
const COMMON_GYPI = `{
  'variables': { 'visibility%': 'hidden' },
  'target_defaults': {
    'default_configuration': 'Release',
    'configurations': {
      'Debug': { 'defines': ['DEBUG', '_DEBUG'], 'cflags': ['-g', '-O0'] },
      'Release': { 'cflags': ['-O3', '-fno-omit-frame-pointer'] },
    },
    'conditions': [
      ['OS!="win"', {
        'cflags': ['-Wall', '-Wextra', '-Wno-unused-parameter', '-pthread'],
        'cflags_cc': ['-fno-rtti', '-fno-exceptions', '-fno-strict-aliasing', '-std=gnu++17'],
        'ldflags': ['-pthread'],
      }],
      ['OS=="mac"', {
        'xcode_settings': {
          'CLANG_CXX_LANGUAGE_STANDARD': 'gnu++17',
          'CLANG_CXX_LIBRARY': 'libc++',
          'GCC_ENABLE_CPP_EXCEPTIONS': 'NO',
          'GCC_ENABLE_CPP_RTTI': 'NO',
          'GCC_OPTIMIZATION_LEVEL': '3',
          'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
          'MACOSX_DEPLOYMENT_TARGET': '11.0',
        },
      }],
    ],
  },
}
`;
