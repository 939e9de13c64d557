/**
 * One transport per process for everybody who talks to the same etcd as the same user: a second store on the same
 * endpoints shares the connections of the first, and the last one to close closes them.
 *
 * A socket per store would halve the throughput of a hundred of them and cost etcd memory for nothing. Who is
 * somebody else (another user, other certificates) never shares.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../../core/clock.js';
import { type Endpoint, parseEndpoint } from './endpoint.js';
import { Http2Transport } from './http2-transport.js';
import { TlsIdentity, type TlsOptions } from './tls-identity.js';
import type { AuthOptions } from './tokens.js';

export interface ConnectOptions {
  readonly endpoints: readonly string[];
  readonly tls: TlsOptions | undefined;
  readonly auth: AuthOptions | undefined;
  readonly followMembers: boolean;
  /** False: a connection per call. */
  readonly sharesConnections: boolean;
  /** False: every handshake from the start, with a context of its own. */
  readonly keepsTlsSessions: boolean;
}

interface Shared {
  readonly transport: Http2Transport;
  users: number;
}

/** By clock, since what waits on one cannot wait on another; then by everything that makes a connection. */
const transports = new WeakMap<Clock, Map<string, Shared>>();

/**
 * @returns the transport, and how to let go of it
 * @throws ERR_MILLRACE_INVALID_OPTION for endpoints or certificates that cannot be used
 */
export function shareTransport(
  clock: Clock,
  options: ConnectOptions,
): { readonly transport: Http2Transport; readonly release: () => Promise<void> } {
  let ofClock = transports.get(clock);
  if (ofClock === undefined) {
    ofClock = new Map();
    transports.set(clock, ofClock);
  }
  const endpoints = options.endpoints.map((text) => parseEndpoint(text, options.tls !== undefined));
  const identity = identityOf(endpoints, options);
  let shared = ofClock.get(identity);
  if (shared === undefined) {
    const { auth, followMembers, sharesConnections } = options;
    const tls = endpoints.some(({ isTls }) => isTls)
      ? new TlsIdentity(options.tls ?? {}, options.keepsTlsSessions)
      : undefined;
    const transport = new Http2Transport({
      clock,
      endpoints,
      tls,
      auth,
      followMembers,
      sharesConnections,
    });
    shared = { transport, users: 0 };
    ofClock.set(identity, shared);
  }
  const { transport } = shared;
  shared.users++;
  const mine = shared;
  return {
    transport,
    release: async () => {
      mine.users--;
      if (mine.users > 0) return;
      ofClock.delete(identity);
      await transport.close();
    },
  };
}

/** A digest, so that no password stays around as the key of a map. */
function identityOf(endpoints: readonly Endpoint[], options: ConnectOptions): string {
  const hash = createHash('sha256');
  const add = (part: string | Uint8Array | boolean | undefined): void => {
    const bytes = part instanceof Uint8Array ? part : Buffer.from(String(part));
    hash.update(`${typeof part} ${bytes.length} `).update(bytes);
  };
  for (const { authority, isTls } of endpoints) add(`${authority} ${isTls}`);
  const { tls, auth } = options;
  for (const part of [tls?.ca, tls?.cert, tls?.key, tls?.serverName]) add(part);
  for (const part of [auth?.user, auth?.password]) add(part);
  add(options.followMembers);
  add(options.sharesConnections);
  add(options.keepsTlsSessions);
  return hash.digest('hex');
}
