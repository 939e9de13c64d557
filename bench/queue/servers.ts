/**
 * Servers of the peers, each started by the process that measures it: on free ports, with data of their own below the
 * project, ended and removed with that process whatever becomes of it.
 *
 * Redis comes from PATH or out of Debian's package; PostgreSQL from where Debian installs it, else out of its package.
 */
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { debianPackages, NotToBeHad, onPath } from '../../test/support/debian.js';
import { freePorts } from '../../test/support/ports.js';
import * as postgres from '../../test/support/postgres.js';
import { startServer, withLibraries } from '../../test/support/server.js';
import { Unavailable } from '../lib/bench.js';

const run = promisify(execFile);

export interface Server {
  readonly url: string;
  readonly version: string;
  close(): Promise<void>;
}

/** @param fsync - when its log is synced: `'everysec'` may lose a second of what was acknowledged */
export function startRedis(folder: string, fsync: 'everysec' | 'always'): Promise<Server> {
  return orUnavailable(async () => {
    const { program, libraries } = await redisProgram();
    const [port = 0] = await freePorts(1);
    const flags = ['--appendonly', 'yes', '--appendfsync', fsync, '--save', '', '--dir', folder];
    const server = startServer(program, ['--port', `${port}`, '--bind', '127.0.0.1', ...flags], {
      libraries,
    });
    await server.answers(port);
    const { stdout } = await run(program, ['--version'], { env: withLibraries(libraries) });
    return {
      url: `redis://127.0.0.1:${port}`,
      version: /v=(\S+)/.exec(stdout)?.[1] ?? 'unknown',
      close: server.close,
    };
  });
}

export function startPostgres(folder: string): Promise<Server> {
  return orUnavailable(() => postgres.startPostgres(folder));
}

async function redisProgram(): Promise<{
  readonly program: string;
  readonly libraries: readonly string[];
}> {
  const installed = onPath('redis-server');
  if (installed !== undefined) return { program: installed, libraries: [] };
  const packages = ['redis-server', 'redis-tools', 'liblzf1', 'libjemalloc2'];
  const folder = await debianPackages('redis', packages);
  const lib = path.join(folder, 'usr/lib');
  return {
    program: path.join(folder, 'usr/bin/redis-server'),
    libraries: readdirSync(lib).map((name) => path.join(lib, name)),
  };
}

async function orUnavailable<T>(start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    if (error instanceof NotToBeHad) throw new Unavailable(error.message);
    throw error;
  }
}
