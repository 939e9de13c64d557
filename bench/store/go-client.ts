/**
 * etcd's own Go client, where it can be built: with Go and Debian's golang-etcd-server-dev, which is 3.4 in GOPATH form.
 * The program is built once and kept in build/bench.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Unavailable } from '../lib/bench.js';
import { ROOT } from '../lib/places.js';
import type { WorkSettings } from './work.js';

const run = promisify(execFile);

const GOPATH = '/usr/share/gocode';
const CLIENT = join(GOPATH, 'src/go.etcd.io/etcd/clientv3');
const SOURCE = join(ROOT, 'bench/store/go/main.go');
const FOLDER = join(ROOT, 'build/bench/go');
const BUILD_MS_MAX = 300_000;
const RUN_MS_MAX = 300_000;

/** Builds the program if its source is newer. @throws Unavailable without Go or the packages */
export async function buildGoClient(): Promise<string> {
  if (!existsSync(CLIENT)) {
    throw new Unavailable(
      `${CLIENT} is missing; on Debian: apt-get install golang-etcd-server-dev`,
    );
  }
  mkdirSync(FOLDER, { recursive: true });
  const program = join(FOLDER, 'store');
  if (existsSync(program) && statSync(program).mtimeMs > statSync(SOURCE).mtimeMs) return program;
  const env = { ...process.env, GO111MODULE: 'off', GOPATH, GOCACHE: join(FOLDER, 'cache') };
  try {
    await run('go', ['build', '-o', program, SOURCE], { env, timeout: BUILD_MS_MAX });
  } catch (error) {
    throw new Unavailable(`the Go client does not build: ${(error as Error).message}`);
  }
  return program;
}

/** What is built against, as the packages say it. */
export function goClientVersion(): string {
  try {
    return readdirSync('/usr/share/doc').includes('golang-etcd-server-dev')
      ? '3.4 (Debian)'
      : '3.4';
  } catch {
    return 'not installed';
  }
}

/** Runs all workloads. @returns the figures by name */
export async function runGoClient(
  program: string,
  endpoint: string,
  settings: WorkSettings,
): Promise<Record<string, number>> {
  const { stdout } = await run(program, [endpoint, JSON.stringify(settings)], {
    timeout: RUN_MS_MAX,
  });
  return JSON.parse(stdout) as Record<string, number>;
}
