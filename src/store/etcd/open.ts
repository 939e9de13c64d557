/** Opens an etcd store: connects, and learns whom it has to do with. */
import { getRandomValues } from 'node:crypto';
import { seededRandom } from '../../core/random.js';
import { prefixRange, type Store } from '../../core/store.js';
import type { StoreContext } from '../factory.js';
import { EtcdStore } from './etcd-store.js';
import { errorOf } from './failures.js';
import { callRepeating } from './repeat.js';
import type { SentinelConnection } from './sentinel-protocol.js';
import { decodeStatus, emptyRequest, STATUS_METHOD } from './server-facts.js';
import { shareTransport } from './shared-transport.js';
import type { TlsOptions } from './tls-identity.js';
import type { AuthOptions } from './tokens.js';
import { CallFailure } from './transport.js';

/** Enough for a TLS handshake with a slow server and a try of each member. */
const OPEN_MS = 10_000;
/** Enough for a server that is just being started; who waits longer for one does so in a loop of its own. */
const REFUSED_MS = 2_000;

export interface EtcdSettings {
  readonly endpoints: readonly string[];
  readonly tls: TlsOptions | undefined;
  readonly auth: AuthOptions | undefined;
  readonly namespace: string;
  readonly lockPrefix: string;
  readonly followMembers: boolean;
  readonly quotaBytes: number;
}

/** @throws ERR_MILLRACE_STORE_UNAVAILABLE, ERR_MILLRACE_INVALID_OPTION */
export async function openEtcd(context: StoreContext, settings: EtcdSettings): Promise<Store> {
  const { clock, off } = context;
  const { endpoints, tls, auth, followMembers } = settings;
  const { transport, release } = shareTransport(clock, {
    endpoints,
    tls,
    auth,
    followMembers,
    sharesConnections: off?.has('client') !== true,
    keepsTlsSessions: off?.has('tls') !== true,
  });
  try {
    const beganAtMs = clock.monoMs();
    await transport.reach(OPEN_MS, REFUSED_MS);
    const deadlineMs = Math.max(1, beganAtMs + OPEN_MS - clock.monoMs());
    const options = { role: 'kv', deadlineMs } as const;
    const body = await callRepeating(transport, clock, STATUS_METHOD, emptyRequest(), options);
    const sentinel: SentinelConnection = { endpoints, ...(tls && { tls }), ...(auth && { auth }) };
    const store = new EtcdStore({
      transport,
      clock,
      random: seededRandom(getRandomValues(new Uint32Array(4))),
      prefix: `/${settings.namespace}/`,
      lockPrefix: settings.lockPrefix,
      quotaBytes: settings.quotaBytes,
      serverVersion: decodeStatus(body).version,
      sentinel,
      release,
    });
    // A watch "from now on" begins after the newest revision that is known here: so one must be.
    await store.range(prefixRange(''), { limit: 1, keysOnly: true });
    return store;
  } catch (thrown) {
    await release();
    throw thrown instanceof CallFailure ? errorOf(thrown, 'connect') : thrown;
  }
}
