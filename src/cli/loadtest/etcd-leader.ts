/**
 * The etcd server that leads, killed and started again: for clusters whose servers run on this machine, as those of
 * `npm run etcd:up -- --nodes 3` do.
 *
 * Who leads, the servers say over etcd's JSON gateway. Which process that is, Linux says: the one that has the socket that
 * listens on the port. It is started again with its own arguments, in its own folder, unless somebody else has done so.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { MillraceError } from '../../core/errors.js';
import type { Arguments } from '../command.js';

/** What its followers have to notice that it is gone, and to elect another. */
const AWAY_MS = 5_000;
const ANSWER_MS_MAX = 3_000;
/** In /proc/net/tcp: a socket that listens. */
const LISTENING = '0A';

interface Status {
  readonly header?: { readonly member_id?: string };
  readonly leader?: string;
}

export class EtcdLeader {
  readonly #endpoints: readonly URL[];
  readonly #tls: Readonly<Record<string, Buffer>>;

  /** @param store - as in `--store`; the options have its certificates */
  constructor(store: string, options: Arguments['options']) {
    const hosts = /^etcd:\/\/([^/]*)/i.exec(store)?.[1] ?? '';
    const isTls = options.has('etcd-ca') || options.has('etcd-cert');
    this.#endpoints = hosts.split(',').map((host) => {
      const bare = host.replace(/^https?:\/\//, '');
      return new URL(`${isTls ? 'https' : 'http'}://${bare}`);
    });
    this.#tls = Object.fromEntries(
      ['ca', 'cert', 'key'].flatMap((name) => {
        const file = options.get(`etcd-${name}`);
        return file === undefined ? [] : [[name, readFileSync(file)]];
      }),
    );
  }

  /** @returns what was done @throws ERR_MILLRACE_INVALID_OPTION when the leader is no process of this machine */
  async kill(): Promise<string> {
    const leader = await this.#find();
    const pid = leader && listenerOn(Number(leader.port));
    if (pid === undefined) {
      throw new MillraceError(
        'ERR_MILLRACE_INVALID_OPTION',
        `leader-kill ends a process of this machine, and no etcd that leads is one; leave it out of --faults`,
        { details: { option: 'faults', leader: leader?.host } },
      );
    }
    const start = startOf(pid);
    process.kill(pid, 'SIGKILL');
    await sleep(AWAY_MS);
    if (listenerOn(Number(leader!.port)) === undefined) start();
    return `killed the leading etcd (${leader!.host}, pid ${pid}), and started it again`;
  }

  async #find(): Promise<URL | undefined> {
    for (const endpoint of this.#endpoints) {
      const status = await this.#statusOf(endpoint).catch(() => undefined);
      if (status?.leader !== undefined && status.leader === status.header?.member_id) {
        return endpoint;
      }
    }
    return undefined;
  }

  #statusOf(endpoint: URL): Promise<Status> {
    const request = endpoint.protocol === 'https:' ? requestHttps : requestHttp;
    return new Promise((resolve, reject) => {
      const call = request(
        new URL('/v3/maintenance/status', endpoint),
        { method: 'POST', timeout: ANSWER_MS_MAX, ...this.#tls },
        (answer) => {
          const parts: Buffer[] = [];
          answer.on('data', (part: Buffer) => parts.push(part));
          answer.on('error', reject);
          answer.on('end', () => {
            try {
              resolve(JSON.parse(Buffer.concat(parts).toString()) as Status);
            } catch (error) {
              reject(error);
            }
          });
        },
      );
      call.on('timeout', () => call.destroy(new Error('no answer')));
      call.on('error', reject);
      call.end('{}');
    });
  }
}

/** The process that listens on a port of this machine; undefined when none does, or it is not ours to see. */
function listenerOn(port: number): number | undefined {
  const inodes = new Set(
    ['/proc/net/tcp', '/proc/net/tcp6'].flatMap((file) => inodesOf(file, port)),
  );
  if (inodes.size === 0) return undefined;
  for (const name of readdirSync('/proc')) {
    if (/^\d+$/.test(name) && holds(`/proc/${name}/fd`, inodes)) return Number(name);
  }
  return undefined;
}

/** Columns of the table: 1 the local address with the port in hex, 3 the state, 9 the inode. */
function inodesOf(file: string, port: number): string[] {
  if (!existsSync(file)) return [];
  const end = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return readFileSync(file, 'latin1')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((columns) => columns[1]?.endsWith(end) && columns[3] === LISTENING)
    .map((columns) => columns[9]!);
}

function holds(folder: string, inodes: ReadonlySet<string>): boolean {
  try {
    return readdirSync(folder).some((name) => {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`${folder}/${name}`))?.[1];
      return inode !== undefined && inodes.has(inode);
    });
  } catch {
    // Somebody else's process, or one that has just ended.
    return false;
  }
}

/** Starts a process once more, as it was started. Asked while it still runs. */
function startOf(pid: number): () => void {
  const split = (file: string): string[] =>
    readFileSync(`/proc/${pid}/${file}`, 'utf8').split('\0').slice(0, -1);
  const [, ...args] = split('cmdline');
  const program = readlinkSync(`/proc/${pid}/exe`);
  const cwd = readlinkSync(`/proc/${pid}/cwd`);
  const env = Object.fromEntries(
    split('environ').map((line) => {
      const at = line.indexOf('=');
      return [line.slice(0, at), line.slice(at + 1)];
    }),
  );
  return () => {
    spawn(program, args, { cwd, env, detached: true, stdio: 'ignore' }).unref();
  };
}
