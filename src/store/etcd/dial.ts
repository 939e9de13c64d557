/**
 * From an endpoint to a connection that has shown to speak HTTP/2: TCP in at most 5 s, all of it in at most 10 s.
 * What is wrong with a certificate is said in words, since the codes of OpenSSL say it to few.
 */
import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { Clock } from '../../core/clock.js';
import { Connection } from './connection.js';
import type { Endpoint } from './endpoint.js';
import type { TlsIdentity } from './tls-identity.js';

const TCP_MS = 5_000;
const DIAL_MS = 10_000;

/** What is wrong with a certificate, by the code that Node gives. */
const REASONS: Readonly<Record<string, readonly [reason: string, text: string]>> = {
  CERT_HAS_EXPIRED: ['expired', "the server's certificate has expired; renew it"],
  CERT_NOT_YET_VALID: [
    'not-yet-valid',
    "the server's certificate is not valid yet; check both clocks",
  ],
  ERR_TLS_CERT_ALTNAME_INVALID: [
    'wrong-name',
    "the server's certificate is for another name; connect by that name, or give tls.serverName",
  ],
  DEPTH_ZERO_SELF_SIGNED_CERT: [
    'unknown-ca',
    'the server signed its certificate itself; give it as tls.ca',
  ],
  SELF_SIGNED_CERT_IN_CHAIN: [
    'unknown-ca',
    "tls.ca does not hold the authority of the server's certificate",
  ],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: [
    'unknown-ca',
    "tls.ca does not hold the authority of the server's certificate",
  ],
  UNABLE_TO_GET_ISSUER_CERT: [
    'unknown-ca',
    "tls.ca does not hold the authority of the server's certificate",
  ],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: [
    'unknown-ca',
    "tls.ca does not hold the authority of the server's certificate",
  ],
  CERT_SIGNATURE_FAILURE: [
    'unknown-ca',
    "tls.ca has another key than the authority of the server's certificate",
  ],
  ALERT_CERTIFICATE_REQUIRED: [
    'client-certificate',
    'the server wants a client certificate; give tls.cert and tls.key',
  ],
  ALERT_UNKNOWN_CA: ['client-certificate', 'the server does not know the authority of tls.cert'],
  ALERT_BAD_CERTIFICATE: [
    'client-certificate',
    'the server wants a client certificate that it accepts; check tls.cert and tls.key',
  ],
  ALERT_CERTIFICATE_EXPIRED: ['client-certificate', 'tls.cert has expired; renew it'],
  ERR_SSL_WRONG_VERSION_NUMBER: ['no-tls', 'the server speaks no TLS there; use http://'],
};

/** The same alert is `SSLV3_ALERT_...` to one OpenSSL and `SSL/TLS_ALERT_...` to the next (Node 20, Node 26). */
const ALERT = /^ERR_SSL_.*(ALERT_.*)$/;

const REFUSALS: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOTFOUND']);

/** Why an endpoint could not be reached. Internal. */
export class DialError extends Error {
  override readonly name = 'DialError';
  /** Set when trying again cannot help: certificates have to change first. */
  readonly reason: string | undefined;
  /** Whether nobody is there: the port is closed, or the name does not exist. */
  readonly isRefusal: boolean;

  private constructor(message: string, parts: Pick<DialError, 'reason' | 'isRefusal' | 'cause'>) {
    super(message, { cause: parts.cause });
    this.reason = parts.reason;
    this.isRefusal = parts.isRefusal;
  }

  /** Of one endpoint. */
  static of({ authority }: Endpoint, cause: unknown): DialError {
    const code = String((cause as { code?: unknown } | undefined)?.code).replace(ALERT, '$1');
    const [reason, text = textOf(cause)] = REASONS[code] ?? [];
    return new DialError(`${authority}: ${text}`, { reason, isRefusal: REFUSALS.has(code), cause });
  }

  /** Of all endpoints, none of which could be reached: what is true of it is true of each. */
  static ofAll(failures: readonly DialError[]): DialError {
    const [first] = failures;
    if (first !== undefined && failures.length === 1) return first;
    return new DialError(failures.map(({ message }) => message).join('; '), {
      reason: failures.every(({ reason }) => reason !== undefined) ? first?.reason : undefined,
      isRefusal: failures.every(({ isRefusal }) => isRefusal),
      cause: first,
    });
  }
}

/** A name with several addresses fails with an error of each, and no words of its own. */
function textOf(cause: unknown): string {
  if (cause instanceof AggregateError) return cause.errors.map(textOf).join(', ');
  return cause instanceof Error ? cause.message : String(cause);
}

export interface Dialled {
  readonly connection: Connection;
  /** Whether TLS went on from a kept session. */
  readonly isResumed: boolean;
}

export interface DialOptions {
  readonly clock: Clock;
  readonly tls: TlsIdentity | undefined;
  /** Ends the attempt. */
  readonly signal: AbortSignal;
  /** Called once, when nothing new may be opened on the connection any more. */
  readonly onLeaving: () => void;
}

/** @throws DialError */
export async function dial(endpoint: Endpoint, options: DialOptions): Promise<Dialled> {
  const { clock, tls, signal, onLeaving } = options;
  const socket = connect({ host: endpoint.host, port: endpoint.port, noDelay: true });
  const giveUp = (why: string) => () => socket.destroy(new Error(why));
  const onAbort = giveUp('given up');
  const slowTcp = clock.wakeIn(TCP_MS, giveUp(`no connection after ${TCP_MS} ms`));
  const slowDial = clock.wakeIn(DIAL_MS, giveUp(`no TLS or HTTP/2 after ${DIAL_MS} ms`));
  signal.addEventListener('abort', onAbort, { once: true });
  // Whatever goes wrong is told by the promises below; an error without a listener would end the process.
  let lost: Error | undefined;
  socket.on('error', (error) => {
    lost ??= error;
  });
  try {
    await once(socket, 'connect');
    slowTcp.cancel();
    const secured =
      endpoint.isTls && tls !== undefined ? await secure(socket, endpoint, tls) : undefined;
    const connection = new Connection(secured ?? socket, {
      clock,
      authority: endpoint.authority,
      isTls: endpoint.isTls,
      onLeaving,
    });
    const isResumed = secured?.isSessionReused() ?? false;
    // Who knows our session has spoken HTTP/2 with us before and knows our certificate, so that the first calls need
    // not wait for its settings: a trip less on every reconnect.
    if (isResumed) return { connection, isResumed };
    try {
      await Promise.race([connection.ready(), ...(secured ? [refused(secured)] : [])]);
    } catch (cause) {
      connection.destroy(cause as Error);
      throw cause;
    }
    return { connection, isResumed };
  } catch (cause) {
    socket.destroy();
    throw DialError.of(endpoint, lost ?? cause);
  } finally {
    slowTcp.cancel();
    slowDial.cancel();
    signal.removeEventListener('abort', onAbort);
  }
}

async function secure(socket: Socket, endpoint: Endpoint, tls: TlsIdentity): Promise<TLSSocket> {
  const material = tls.material();
  const session = tls.ticket(endpoint.authority);
  const name = tls.serverName ?? endpoint.host;
  const secured = connectTls({
    socket,
    secureContext: material.context,
    ALPNProtocols: ['h2'],
    // What the certificate is checked against; an address is no server name in a hello.
    host: name,
    ...(isIP(name) === 0 && { servername: name }),
    ...(session && { session }),
  });
  // TLS 1.3 hands its tickets over after the handshake, one by one.
  secured.on('session', (ticket) => tls.keepTicket(endpoint.authority, material, ticket));
  secured.once('error', () => tls.dropTicket(endpoint.authority));
  // What comes after the handshake is told by the HTTP/2 session.
  secured.on('error', () => {});
  await once(secured, 'secureConnect');
  return secured;
}

/** The event, or the error that comes instead. */
function once(socket: Socket, event: 'connect' | 'secureConnect'): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once(event, () => resolve());
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the connection closed')));
  });
}

/** A refusal that comes after the handshake, as TLS 1.3 has it for client certificates: the socket only says so. */
function refused(secured: TLSSocket): Promise<never> {
  return new Promise((_, reject) => {
    secured.once('error', reject);
    if (secured.errored) reject(secured.errored);
  });
}
