/**
 * Where tasks are kept: `--store`, else MILLRACE_STORE, else `.millrace` in the current folder.
 *
 *   memory                                nothing is kept
 *   <folder>                              an embedded store
 *   etcd://host:2379,host:2379/namespace  a cluster; TLS and user by --etcd-..., the password only by the environment,
 *                                         since arguments are seen by everybody on the machine
 */
import path from 'node:path';
import { MillraceError } from '../core/errors.js';
import { type EtcdStoreOptions, etcdStore } from '../store/etcd/index.js';
import { fileStore, memoryStore, type StoreFactory } from '../store/index.js';
import type { Arguments } from './command.js';

const DEFAULT_FOLDER = '.millrace';
const ETCD_FORM = /^etcd:\/\/([^/]*)\/?(.*)$/i;
const ETCD_OPTIONS = ['etcd-ca', 'etcd-cert', 'etcd-key', 'etcd-user'] as const;

/** @throws ERR_MILLRACE_INVALID_OPTION for a kind of store that does not exist, and for options that do not fit it */
export function storeOf(args: Arguments): StoreFactory {
  const place = args.options.get('store') ?? (process.env.MILLRACE_STORE || DEFAULT_FOLDER);
  const etcd = ETCD_FORM.exec(place);
  if (etcd !== null) return etcdStore(etcdOptions(etcd[1]!, etcd[2]!, args));
  const stray = ETCD_OPTIONS.find((name) => args.options.has(name));
  if (stray !== undefined) {
    throw invalid(`--${stray} is for etcd; give --store etcd://host:2379/<namespace> with it`);
  }
  if (place === 'memory') return memoryStore();
  // A mistyped server address must not become a folder of that name.
  const scheme = /^([a-z][a-z0-9+.-]+):\/\//i.exec(place)?.[1];
  if (scheme === undefined) return fileStore(path.resolve(place));
  throw invalid(
    `there is no '${scheme}' store; give --store memory, a folder, or etcd://host:2379/<namespace>`,
  );
}

function etcdOptions(hosts: string, namespace: string, { options }: Arguments): EtcdStoreOptions {
  // The address is shown in summaries and errors: no place for a password.
  if (hosts.includes('@')) {
    throw invalid('a store address holds no user; give --etcd-user and MILLRACE_ETCD_PASSWORD');
  }
  const [ca, cert, key, user] = ETCD_OPTIONS.map((name) => options.get(name));
  const password = process.env.MILLRACE_ETCD_PASSWORD;
  if (user !== undefined && !password) {
    throw invalid('--etcd-user needs a password; set MILLRACE_ETCD_PASSWORD');
  }
  const tls = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
  return {
    endpoints: hosts.split(','),
    ...(namespace !== '' && { namespace }),
    ...(Object.keys(tls).length > 0 && { tls }),
    ...(user && password && { auth: { user, password } }),
  };
}

function invalid(message: string): MillraceError {
  return new MillraceError('ERR_MILLRACE_INVALID_OPTION', message);
}
