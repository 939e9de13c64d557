/**
 * Programs out of Debian's packages, without installing anything: for servers that tests need.
 *
 * A package is downloaded with `apt-get download` and unpacked into the project's cache; nothing outside the project
 * changes, no service is started, nobody has to be root. Where apt's package lists are empty, as in fresh containers,
 * they are fetched into the cache as well, with apt's directories turned there.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Absolute path of the project: three levels above dist/test/support. */
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const CACHE = path.join(ROOT, '.cache/debian');
/** Downloads are megabytes; a mirror that does not answer must not hold up the tests for ever. */
const DOWNLOAD_TIMEOUT_MS = 120_000;

/** A program or package cannot be had on this machine; the message says why. */
export class NotToBeHad extends Error {
  override readonly name = 'NotToBeHad';
}

/** Where a program is that PATH finds, or undefined. */
export function onPath(program: string): string | undefined {
  return (process.env.PATH ?? '')
    .split(path.delimiter)
    .map((folder) => path.join(folder, program))
    .find((file) => existsSync(file));
}

/**
 * A folder with the packages' files as they would lie below `/`; downloaded when it is not there yet.
 *
 * @param name - the folder's name in the cache
 * @throws NotToBeHad without apt, without the network, or when the packages do not exist
 */
export async function debianPackages(name: string, packages: readonly string[]): Promise<string> {
  const folder = path.join(CACHE, name);
  if (existsSync(folder)) return folder;
  if (onPath('apt-get') === undefined || onPath('dpkg-deb') === undefined) {
    throw new NotToBeHad(`${packages.join(', ')}: no apt-get or dpkg-deb here`);
  }
  await mkdir(CACHE, { recursive: true });
  const fresh = await mkdtemp(path.join(CACHE, 'fresh-'));
  try {
    await download(packages, fresh);
    const unpacked = path.join(fresh, 'unpacked');
    for (const file of await readdir(fresh)) {
      if (file.endsWith('.deb')) await run('dpkg-deb', ['-x', path.join(fresh, file), unpacked]);
    }
    // Whole or not at all, and whoever comes second keeps what the first one put there.
    await rename(unpacked, folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } catch (error) {
    throw new NotToBeHad(`${packages.join(', ')}: ${(error as Error).message.trim()}`);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  return folder;
}

async function download(packages: readonly string[], folder: string): Promise<void> {
  const apt = (...args: string[]) =>
    run('apt-get', args, { cwd: folder, timeout: DOWNLOAD_TIMEOUT_MS });
  try {
    await apt('download', ...packages);
  } catch {
    const own = [
      `-oDir::State::lists=${path.join(folder, 'lists')}`,
      `-oDir::Cache=${path.join(folder, 'cache')}`,
      '-oDebug::NoLocking=1',
    ];
    await mkdir(path.join(folder, 'lists/partial'), { recursive: true });
    await mkdir(path.join(folder, 'cache/archives/partial'), { recursive: true });
    await apt(...own, 'update');
    await apt(...own, 'download', ...packages);
  }
}
