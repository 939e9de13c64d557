/** Where things are, and what they are: the project, versions, the machine, the disk. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, statfsSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { JsonObject } from './bench.js';

/** The package's directory; this file runs as <out>/bench/lib/places.js. */
export const ROOT: string = fileURLToPath(new URL('../../..', import.meta.url));
/** The folder of compiled benches. */
export const BENCHES: string = fileURLToPath(new URL('..', import.meta.url));

/** Data goes below the project, since the directory for temporary files is often in memory. */
const SCRATCH = join(ROOT, 'build/bench');

/** A new directory, for the caller to remove. */
export function scratchDirectory(): string {
  mkdirSync(SCRATCH, { recursive: true });
  return mkdtempSync(join(SCRATCH, 'run-'));
}

const FILE_SYSTEMS: Readonly<Record<number, string>> = {
  61267: 'ext4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  801189825: 'zfs',
  2035054128: 'overlayfs',
  26985: 'nfs',
  16914836: 'tmpfs',
  2240043254: 'ramfs',
};

interface Disk {
  readonly fileSystem: string;
  /** Memory that looks like a disk: a sync there keeps nothing. */
  readonly isMemory: boolean;
}

/** What the data of the benches lies on. */
function disk(): Disk {
  mkdirSync(SCRATCH, { recursive: true });
  const { type: magic } = statfsSync(SCRATCH);
  const fileSystem = FILE_SYSTEMS[magic] ?? `file system 0x${magic.toString(16)}`;
  return { fileSystem, isMemory: fileSystem === 'tmpfs' || fileSystem === 'ramfs' };
}

/** Says what an fsync is worth here. */
export function syncedDurability(): string {
  const { fileSystem, isMemory } = disk();
  return isMemory
    ? `fsync before the acknowledgement, but on ${fileSystem}, which is memory: NOT durable`
    : `fsync before the acknowledgement (${fileSystem})`;
}

export function machine(): JsonObject {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: `${type()} ${release()}`,
    disk: disk().fileSystem,
    /** What else ran when the bench began: figures of a busy machine are worth less. */
    loadAverage: Math.round((loadavg()[0] ?? 0) * 100) / 100,
  };
}

/** The commit that is checked out, with `+changes` if what is measured was edited since; null outside a repository. */
export function commit(): string | null {
  try {
    const head = git('rev-parse', 'HEAD').trim();
    const isChanged = git('status', '--porcelain', '--', 'src', 'native', 'bench').length > 0;
    return isChanged ? `${head}+changes` : head;
  } catch {
    return null;
  }
}

function git(...args: string[]): string {
  return execFileSync('git', args, {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
}

export function millraceVersion(): string {
  return versionIn(join(ROOT, 'package.json'));
}

/** The version of a package the project depends on. */
export function packageVersion(name: string): string {
  return versionIn(join(ROOT, 'node_modules', name, 'package.json'));
}

function versionIn(file: string): string {
  try {
    return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
  } catch {
    return 'not installed';
  }
}
