/**
 * What every script needs: where the project is, how to run a tool, how to take turns.
 *
 * The scripts use nothing outside Node itself, so that they work before anything is installed or built.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Absolute path of the project, without a slash at its end. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** Absolute path of a file named relative to the project. */
export function at(...parts) {
  return join(ROOT, ...parts);
}

/** Ends the script with a message instead of a stack: for conditions the reader can mend. */
export function fail(message) {
  console.error(message);
  process.exit(1);
}

/**
 * Runs a program in the project and waits for it.
 *
 * @param options.quiet - keep the output back, and print it only when the program fails
 * @returns whether it ended with 0
 */
export function run(command, args, { cwd = ROOT, env = process.env, quiet = false } = {}) {
  const result = spawnSync(command, args, {
    cwd,
    env,
    stdio: ['ignore', quiet ? 'pipe' : 'inherit', quiet ? 'pipe' : 'inherit'],
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  if (result.error !== undefined) console.error(`${command}: ${result.error.message}`);
  const passed = result.error === undefined && result.status === 0;
  if (quiet && !passed) process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}`);
  return passed;
}

/** Runs a script of an installed package with this very Node, whatever PATH says. */
export function runBin(script, args, options) {
  return run(process.execPath, [at('node_modules', script), ...args], options);
}

/** Every file below a folder, as sorted paths relative to it; none when the folder is missing. */
export function filesBelow(folder) {
  try {
    return readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1))
      .sort();
  } catch (error) {
    if (error.code === 'ENOENT') return [];
    throw error;
  }
}

/** The text of a file, or undefined when it does not exist. */
export function readText(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Does a piece of work while no other process does the same: two builds into one folder spoil each other.
 * The lock is a file holding the owner's pid; one whose owner is gone is taken over.
 */
export function exclusively(name, work) {
  const lock = at('build', `${name}.lock`);
  mkdirSync(dirname(lock), { recursive: true });
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  for (let waited = 0; !tryLock(lock); waited += 100) {
    if (waited >= 300_000) {
      fail(`another ${name} build is running for 5 minutes; if it is not, delete ${lock}`);
    }
    Atomics.wait(sleep, 0, 0, 100);
  }
  const release = () => rmSync(lock, { force: true });
  // fail() and process.exit() inside the work must not leave the lock behind.
  process.once('exit', release);
  try {
    return work();
  } finally {
    process.off('exit', release);
    release();
  }
}

function tryLock(lock) {
  try {
    writeFileSync(lock, `${process.pid}`, { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
  }
  const owner = Number(readText(lock));
  // 0: the owner has created the file and not yet written to it, or has just released it.
  if (owner > 0 && !isAlive(owner)) rmSync(lock, { force: true });
  return false;
}

/** Whether there is a process with this id. */
export function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
