/**
 * PostgreSQL for tests and benches: from where Debian installs it, else out of its package, with data of its own.
 */
import { execFile } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { freePorts } from './ports.js';
import { findPostgres } from './postgres-programs.js';
import { type Identity, startServer } from './server.js';

const run = promisify(execFile);

export interface PostgresServer {
  /** `postgres://...`, as its superuser. */
  readonly url: string;
  readonly version: string;
  close(): Promise<void>;
}

/**
 * With its defaults, where every commit is synced, and memory as its documentation recommends.
 *
 * @param folder - an empty one on a real disk, for its data
 * @throws NotToBeHad
 */
export async function startPostgres(folder: string): Promise<PostgresServer> {
  const programs = await findPostgres();
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
  const server = startServer(
    program,
    [...args, ...settings.flatMap((setting) => ['-c', setting])],
    { identity },
  );
  // It listens before, and turns away whoever comes.
  await server.says('ready to accept connections');
  const { stdout } = await run(program, ['--version']);
  return {
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    version: /[\d.]+/.exec(stdout)?.[0] ?? 'unknown',
    close: server.close,
  };
}

async function someUser(): Promise<Identity> {
  const id = async (flag: string): Promise<number> =>
    Number((await run('id', [flag, 'nobody'])).stdout);
  return { uid: await id('-u'), gid: await id('-g') };
}
