/** What the tidy and package tests share: where the project is, its files, and how to run a program. */
import { type SpawnSyncOptions, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

/** Absolute path of the project: three levels above dist/test/tidy. */
export const ROOT: string = fileURLToPath(new URL('../../..', import.meta.url));

/**
 * The files below a folder of the project, as sorted paths relative to the project; none if it is missing. What the benches
 * install (bench/.peers) is not the project's.
 */
export function projectFiles(folder: string): string[] {
  try {
    return readdirSync(join(ROOT, folder), { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length))
      .filter((file) => !file.startsWith('bench/.peers/'))
      .sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** An empty directory that is removed after the test. */
export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes files below a folder, with the folders they need. */
export function writeFiles(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), text);
  }
}

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Both streams, for messages. */
  readonly output: string;
}

/** Runs a program to its end, or throws when it cannot be started. */
export function execute(
  command: string,
  args: readonly string[],
  options: SpawnSyncOptions & { readonly input?: string } = {},
): Ended {
  const { error, status, stdout, stderr } = spawnSync(command, args, {
    cwd: ROOT,
    maxBuffer: 64 << 20,
    ...options,
    encoding: 'utf8',
  });
  if (error !== undefined) throw error;
  return { status, stdout, stderr, output: `${stdout}${stderr}` };
}

/** The path of a program that npm installed for the project. */
export function bin(name: string): string {
  return join(ROOT, 'node_modules/.bin', name);
}
