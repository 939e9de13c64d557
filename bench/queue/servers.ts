/**
 * Servers of the peers, each started by the process that measures it: on free ports, with data of their own below the
 * project, ended and removed with that process whatever becomes of it.
 *
 * Redis comes from PATH or out of Debian's package; PostgreSQL from where Debian installs it, else out of its package.
 */
import { execFile, spawn } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { debianPackages, NotToBeHad, onPath } from '../../test/support/debian.js';
import { killAtEnd } from '../../test/support/guardian.js';
import { freePorts } from '../../test/support/ports.js';
import { Unavailable } from '../lib/bench.js';

const run = promisify(execFile);
const START_MS_MAX = 30_000;
const LOG_CHARS_MAX = 2_000;
const POSTGRES = '/usr/lib/postgresql';

export interface Server {
  readonly url: string;
  readonly version: string;
  close(): Promise<void>;
}

/** @param fsync - when its log is synced: `'everysec'` may lose a second of what was acknowledged */
export async function startRedis(folder: string, fsync: 'everysec' | 'always'): Promise<Server> {
  const program = await found(async () => {
    const installed = onPath('redis-server');
    if (installed !== undefined) return installed;
    const folder = await debianPackages('redis', ['redis-server', 'redis-tools']);
    return path.join(folder, 'usr/bin/redis-server');
  });
  const [port = 0] = await freePorts(1);
  const flags = ['--appendonly', 'yes', '--appendfsync', fsync, '--save', '', '--dir', folder];
  const server = start(program, ['--port', `${port}`, '--bind', '127.0.0.1', ...flags], undefined);
  await server.answers(port);
  const { stdout } = await run(program, ['--version']);
  return {
    url: `redis://127.0.0.1:${port}`,
    version: /v=(\S+)/.exec(stdout)?.[1] ?? 'unknown',
    close: server.close,
  };
}

/** With its defaults, where every commit is synced, and memory as its documentation recommends. */
export async function startPostgres(folder: string): Promise<Server> {
  const programs = await found(postgresPrograms);
  // It does not run as root; anybody else will do.
  const isRoot = process.getuid?.() === 0;
  const identity = isRoot ? await someUser() : undefined;
  const data = path.join(folder, 'data');
  mkdirSync(data);
  if (identity !== undefined) {
    chownSync(data, identity.uid, identity.gid);
    // It has to get there; temporary folders are closed to others.
    for (const above of [folder, path.dirname(folder)]) chmodSync(above, 0o711);
  }
  const initdb = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '-N'];
  await run(path.join(programs, 'initdb'), initdb, { ...identity, cwd: data });
  const [port = 0] = await freePorts(1);
  const settings = ['shared_buffers=256MB', 'max_wal_size=4GB', `unix_socket_directories=${data}`];
  const args = ['-D', data, '-p', `${port}`, '-h', '127.0.0.1'];
  const program = path.join(programs, 'postgres');
  const server = start(
    program,
    [...args, ...settings.flatMap((setting) => ['-c', setting])],
    identity,
  );
  await server.answers(port);
  const { stdout } = await run(program, ['--version']);
  return {
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    version: /[\d.]+/.exec(stdout)?.[0] ?? 'unknown',
    close: server.close,
  };
}

async function postgresPrograms(): Promise<string> {
  const of = (root: string): string | undefined => {
    const versions = existsSync(root) ? readdirSync(root).map(Number) : [];
    const newest = Math.max(...versions.filter((version) => version > 0));
    return Number.isFinite(newest) ? path.join(root, `${newest}/bin`) : undefined;
  };
  const installed = of(POSTGRES);
  if (installed !== undefined) return installed;
  const folder = await debianPackages('postgresql', ['postgresql-15', 'libpq5']);
  const unpacked = of(path.join(folder, POSTGRES));
  if (unpacked === undefined) throw new Unavailable(`no PostgreSQL in ${folder}`);
  return unpacked;
}

interface Identity {
  readonly uid: number;
  readonly gid: number;
}

async function someUser(): Promise<Identity> {
  const id = async (flag: string): Promise<number> =>
    Number((await run('id', [flag, 'nobody'])).stdout);
  return { uid: await id('-u'), gid: await id('-g') };
}

interface Started extends Pick<Server, 'close'> {
  /** Resolves when it listens. */
  answers(port: number): Promise<void>;
}

function start(program: string, args: readonly string[], identity: Identity | undefined): Started {
  const child = spawn(program, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    ...identity,
    cwd: '/',
  });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-LOG_CHARS_MAX);
  });
  let hasEnded = false;
  const ended = new Promise<void>((resolve) => {
    child.once('error', (error) => {
      log += error.message;
      resolve();
    });
    child.once('exit', () => resolve());
  }).then(() => {
    hasEnded = true;
  });
  const callOff = child.pid === undefined ? undefined : killAtEnd(child.pid);
  return {
    async answers(port) {
      const lateAt = performance.now() + START_MS_MAX;
      while (!(await listens(port))) {
        if (hasEnded || performance.now() > lateAt) {
          throw new Unavailable(`${program} does not start: ${log.trim().split('\n').at(-1)}`);
        }
        await sleep(20);
      }
    },
    async close() {
      // PostgreSQL's fast shutdown; Redis takes it as its own end, too.
      child.kill('SIGINT');
      await ended;
      callOff?.();
    },
  };
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function found<T>(find: () => Promise<T>): Promise<T> {
  try {
    return await find();
  } catch (error) {
    if (error instanceof NotToBeHad) throw new Unavailable(error.message);
    throw error;
  }
}
