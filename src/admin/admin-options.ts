/**
 * Where the HTTP server of a runtime listens, and who may ask it, as users say it and checked.
 *
 * It is off unless asked for, and stays on this machine unless told otherwise: an address that others can reach needs a
 * token or client certificates, or the runtime does not start.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { invalidOption, knownOptions } from '../core/options.js';
import { checkToken } from '../core/tokens.js';

export interface AdminOptions {
  /** `host:port`, or a port of 127.0.0.1; port 0 takes a free one. @defaultValue '127.0.0.1:9464' */
  readonly listen?: string | number;
  /**
   * What requests must carry as `Authorization: Bearer <token>`, at least 32 characters; `/healthz` and `/readyz` need
   * none. Obligatory where `listen` is not an address of this machine, unless `tls.ca` asks for client certificates.
   */
  readonly token?: string;
  /** HTTPS. With `ca`, clients must have a certificate of it, and that stands for the token. PEM. */
  readonly tls?: {
    readonly cert: string | Buffer;
    readonly key: string | Buffer;
    readonly ca?: string | Buffer;
  };
}

export interface ResolvedAdmin {
  readonly host: string;
  readonly port: number;
  readonly token: string | undefined;
  readonly tls: AdminOptions['tls'];
}

const DEFAULT_LISTEN = '127.0.0.1:9464';

const ADMIN_OPTIONS: Readonly<Record<keyof AdminOptions, true>> = {
  listen: true,
  token: true,
  tls: true,
};

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function resolveAdmin(
  options: AdminOptions | boolean | undefined,
): ResolvedAdmin | undefined {
  if (options === undefined || options === false) return undefined;
  const { listen, token, tls } =
    options === true ? {} : knownOptions(options, 'admin.', ADMIN_OPTIONS);
  const { host, port } = parseListen(listen ?? DEFAULT_LISTEN);
  if (token !== undefined) checkToken(token, 'admin.token');
  checkTls(tls);
  if (!isLoopback(host) && token === undefined && tls?.ca === undefined) {
    throw invalidOption(
      'admin.listen',
      listen,
      `an address of this machine (${DEFAULT_LISTEN}), or an admin.token as well: others can reach this one`,
    );
  }
  return { host, port, token, tls };
}

/** Whether an address can only be reached from this machine. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

function parseListen(listen: string | number): { readonly host: string; readonly port: number } {
  if (typeof listen === 'number') return { host: '127.0.0.1', port: portOf(listen, listen) };
  const parts =
    typeof listen === 'string' ? /^(\[[^\]]+\]|[^:[\]]+):(\d{1,5})$/.exec(listen) : null;
  const host = parts?.[1]?.replace(/^\[|\]$/g, '') ?? '';
  const isHost = isIPv6(host) || isIPv4(host) || /^[a-z0-9]([a-z0-9.-]{0,252})$/i.test(host);
  if (parts === null || !isHost) {
    throw invalidOption('admin.listen', listen, `host:port, such as '${DEFAULT_LISTEN}'`);
  }
  return { host, port: portOf(Number(parts[2]), listen) };
}

function portOf(port: number, listen: unknown): number {
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw invalidOption('admin.listen', listen, 'a port from 0 to 65535');
}

function checkTls(tls: AdminOptions['tls']): void {
  if (tls === undefined) return;
  const { cert, key } = knownOptions(tls, 'admin.tls.', { cert: true, key: true, ca: true });
  if (cert === undefined || key === undefined) {
    throw invalidOption('admin.tls', Object.keys(tls).join(', '), 'both `cert` and `key`');
  }
}
