/**
 * Servers of the peers, each started by the process that measures it: on free ports, with data of their own below the
 * project, ended and removed with that process whatever becomes of it.
 *
 * Redis comes from PATH or out of Debian's package; PostgreSQL from where Debian installs it, else out of its package.
 */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { debianPackages, NotToBeHad, onPath } from '../../test/support/debian.js';
import { freePorts } from '../../test/support/ports.js';
import * as postgres from '../../test/support/postgres.js';
import { startServer } from '../../test/support/server.js';
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
    const program = onPath('redis-server') ?? (await debianRedis());
    const [port = 0] = await freePorts(1);
    const flags = ['--appendonly', 'yes', '--appendfsync', fsync, '--save', '', '--dir', folder];
    const server = startServer(
      program,
      ['--port', `${port}`, '--bind', '127.0.0.1', ...flags],
      undefined,
    );
    await server.answers(port);
    const { stdout } = await run(program, ['--version']);
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

async function debianRedis(): Promise<string> {
  const folder = await debianPackages('redis', ['redis-server', 'redis-tools']);
  return path.join(folder, 'usr/bin/redis-server');
}

async function orUnavailable<T>(start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    if (error instanceof NotToBeHad) throw new Unavailable(error.message);
    throw error;
  }
}
