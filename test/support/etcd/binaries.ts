/** Where the programs of etcd are: on PATH, else out of Debian's packages. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { debianPackages, NotToBeHad, onPath } from '../debian.js';

export interface EtcdBinaries {
  readonly etcd: string;
  readonly etcdctl: string;
  /** As in `3.4.23`. */
  readonly version: string;
}

let found: Promise<EtcdBinaries> | undefined;

/** @throws NotToBeHad when there is no etcd on PATH and its packages cannot be downloaded */
export function etcdBinaries(): Promise<EtcdBinaries> {
  found ??= find();
  return found;
}

async function find(): Promise<EtcdBinaries> {
  let etcd = onPath('etcd');
  let etcdctl = onPath('etcdctl');
  if (etcd === undefined || etcdctl === undefined) {
    const folder = await debianPackages('etcd', ['etcd-server', 'etcd-client']);
    etcd = path.join(folder, 'usr/bin/etcd');
    etcdctl = path.join(folder, 'usr/bin/etcdctl');
  }
  try {
    const words = execFileSync(etcd, ['--version'], { encoding: 'utf8' });
    const version = /etcd Version: (\S+)/.exec(words)?.[1] ?? 'unknown';
    return { etcd, etcdctl, version };
  } catch (error) {
    throw new NotToBeHad(`${etcd} does not start: ${(error as Error).message}`);
  }
}
