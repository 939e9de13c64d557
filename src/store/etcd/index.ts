/**
 * `millrace/etcd`: the store that a fleet shares. Nothing of it is loaded by whoever does not import it.
 */
import { invalidOption, knownOptions } from '../../core/options.js';
import { type Size, sizeBytes } from '../../core/sizes.js';
import type { Store } from '../../core/store.js';
import type { StoreContext, StoreFactory } from '../factory.js';
import { parseEndpoint } from './endpoint.js';
import type { TlsOptions } from './tls-identity.js';
import type { AuthOptions } from './tokens.js';

export type { StoreFactory } from '../factory.js';
export type { AuthOptions, TlsOptions };

export interface EtcdStoreOptions {
  /**
   * Members of the cluster: `'host:2379'`, `'http://host:2379'` or `'https://host:2379'`. One that answers is enough;
   * the others are learnt from it. They are tried in this order until one has worked.
   */
  readonly endpoints: string | readonly string[];
  /** Certificates. With it, an endpoint without a scheme is https. @defaultValue Node's authorities, for https */
  readonly tls?: TlsOptions;
  /** A user, where etcd's auth is on. A client certificate with the user's name as CN does without. */
  readonly auth?: AuthOptions;
  /** Keys are `/<namespace>/...`: printable characters, no slash at either end. @defaultValue 'millrace' */
  readonly namespace?: string;
  /** In front of the names of locks and elections, which are outside the namespace. @defaultValue '' */
  readonly lockPrefix?: string;
  /**
   * Learn members from the member list. Switch it off where their addresses mean something else to the client, as
   * behind a load balancer or a tunnel.
   * @defaultValue true
   */
  readonly followMembers?: boolean;
  /** The servers' `--quota-backend-bytes`; those from 3.6 on tell it themselves. @defaultValue '2GB' */
  readonly quota?: Size;
}

const KNOWN: Readonly<Record<keyof EtcdStoreOptions, true>> = {
  endpoints: true,
  tls: true,
  auth: true,
  namespace: true,
  lockPrefix: true,
  followMembers: true,
  quota: true,
};
const KNOWN_TLS: Readonly<Record<keyof TlsOptions, true>> = {
  ca: true,
  cert: true,
  key: true,
  serverName: true,
};
const NAMESPACE_FORM = /^[!-.0-~]([!-~]{0,198}[!-.0-~])?$/;
const LOCK_PREFIX_FORM = /^[!-~]{0,200}$/;

/**
 * Describes a store on an etcd cluster, 3.4 or newer. What it has acknowledged is on the disks of a majority.
 *
 * Stores of one process on the same endpoints, as the same user, share their connections.
 *
 * @throws ERR_MILLRACE_INVALID_OPTION, at once for what can be seen in the options, and from `open()` for
 *   certificates that cannot be used. `open()` also throws ERR_MILLRACE_STORE_UNAVAILABLE when no server answers in 10 s, in
 *   2 s when all of them refuse, and at once when none shows a certificate that will do (`details.reason`).
 */
export function etcdStore(options: EtcdStoreOptions): StoreFactory {
  const given = knownOptions(options, 'etcdStore.', KNOWN);
  const { namespace = 'millrace', lockPrefix = '', followMembers = true } = given;
  const tls = given.tls && (knownOptions(given.tls, 'tls.', KNOWN_TLS) as TlsOptions);
  const endpoints = typeof given.endpoints === 'string' ? [given.endpoints] : given.endpoints;
  if (!Array.isArray(endpoints) || endpoints.length === 0) {
    throw invalidOption('endpoints', given.endpoints, "at least one, such as ['localhost:2379']");
  }
  const parsed = endpoints.map((text: string) => parseEndpoint(text, tls !== undefined));
  if (new Set(parsed.map(({ isTls }) => isTls)).size > 1) {
    throw invalidOption('endpoints', endpoints.join(), 'http:// or https://, not both');
  }
  if (tls !== undefined && !parsed[0]!.isTls) {
    throw invalidOption('endpoints', endpoints.join(), 'https:// where tls is given');
  }
  if (typeof namespace !== 'string' || !NAMESPACE_FORM.test(namespace)) {
    throw invalidOption('namespace', namespace, "1 to 200 printable characters, like 'prod'");
  }
  if (typeof lockPrefix !== 'string' || !LOCK_PREFIX_FORM.test(lockPrefix)) {
    throw invalidOption('lockPrefix', lockPrefix, "up to 200 printable characters, like '/locks/'");
  }
  const auth = checkAuth(given.auth);
  const quotaBytes = sizeBytes(given.quota ?? '2GB', 'quota');
  const places = parsed.map(({ authority }) => authority).join();
  return {
    kind: 'etcd',
    location: `etcd://${places}/${namespace}`,
    async open(context: StoreContext): Promise<Store> {
      const { openEtcd } = await import('./open.js');
      return openEtcd(context, {
        endpoints,
        tls,
        auth,
        namespace,
        lockPrefix,
        followMembers,
        quotaBytes,
      });
    },
  };
}

function checkAuth(auth: AuthOptions | undefined): AuthOptions | undefined {
  if (auth === undefined) return undefined;
  const { user, password } = knownOptions(auth, 'auth.', { user: true, password: true });
  if (typeof user !== 'string' || user === '') throw invalidOption('auth.user', user, 'a name');
  // The value stays out of the message.
  if (typeof password !== 'string') {
    throw invalidOption('auth.password', typeof password, 'a string');
  }
  return { user, password };
}
