/**
 * Puts back what npm leaves out of package-lock.json: `node scripts/complete-lockfile.mjs [--check]`.
 *
 * Tools with native parts (Biome, swc, oxc) name one optional package per platform. When npm writes the lockfile
 * against a registry mirror that does not carry the packages of other platforms, it drops them silently, and
 * `npm ci` then refuses the lockfile everywhere ("Missing: ... from lock file", seen with npm 11.19). Run this
 * after every `npm install` that changed the lockfile; a test notices when it was forgotten.
 *
 * An entry made here says version, platform and that it is optional, copied from its sibling for this platform.
 * It has no integrity hash, since the package could not be fetched to compute one; npm adds it on a machine of
 * that platform.
 */

import { writeFileSync } from 'node:fs';
import { at, fail, readText } from './lib/project.mjs';

const PLATFORM =
  /\b(android|darwin|freebsd|linux|openharmony|win32)-(arm64|arm|ia32|ppc64|riscv64|s390x|x64)/;

const lockfile = at('package-lock.json');
const lock = JSON.parse(readText(lockfile));
const missing = Object.values(lock.packages).flatMap(missingOptionals);

if (missing.length > 0 && process.argv.includes('--check')) {
  const names = missing.map(({ name }) => name).join(', ');
  fail(`package-lock.json lacks ${names}; run: node scripts/complete-lockfile.mjs`);
}
if (missing.length > 0) {
  for (const { name, version, sibling } of missing) {
    lock.packages[`node_modules/${name}`] = entryOf(name, version, sibling);
  }
  const sorted = Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, 'en'));
  writeFileSync(
    lockfile,
    `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, null, 2)}\n`,
  );
  console.log(`${missing.length} optional packages put back into package-lock.json`);
}

/** The optional dependencies of a package that the lockfile does not hold, each with one that it does hold. */
function missingOptionals({ optionalDependencies = {} }) {
  const entries = Object.entries(optionalDependencies);
  const held = entries.map(([name]) => lock.packages[`node_modules/${name}`]);
  const sibling = held.find((entry) => entry?.cpu !== undefined);
  return entries.flatMap(([name, version], index) =>
    held[index] === undefined && sibling !== undefined ? [{ name, version, sibling }] : [],
  );
}

function entryOf(name, version, sibling) {
  const [, os, cpu] = PLATFORM.exec(name) ?? fail(`the platform of ${name} is not in its name`);
  const libc =
    os !== 'linux' ? [] : /musl/.test(name) ? ['musl'] : /gnu/.test(name) ? ['glibc'] : [];
  const { dev, engines, license, peer } = sibling;
  return {
    version: version.replace(/^[\^~]/, ''),
    cpu: [cpu],
    ...(dev && { dev }),
    ...(engines && { engines }),
    ...(libc.length > 0 && { libc }),
    ...(license && { license }),
    optional: true,
    os: [os],
    ...(peer && { peer }),
  };
}
