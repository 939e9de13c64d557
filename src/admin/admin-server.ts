/**
 * The only HTTP server of millrace: a handful of routes that others mount, and nothing else.
 *
 *   request --> route? --> who asks? (gatekeeper) --> body, if the route takes one (bounded) --> handler
 *
 * Deny by default: a path that nobody mounted is answered like one that the asker may not see. Health is public and
 * says nothing but yes or no. Answers are text or JSON, never HTML. A handler that throws is answered with 500 and no
 * detail. Everything is bounded: headers 16 KiB, bodies as the route says, 10 s per request, 256 connections.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { MillraceError } from '../core/errors.js';
import { BaseService } from '../core/service.js';
import type { AdminOptions, ResolvedAdmin } from './admin-options.js';
import { Gatekeeper, type Verdict } from './gatekeeper.js';

export interface AdminRequest {
  /** Empty unless the route takes a body. */
  readonly body: Buffer;
  /** Who asks, for the audit. */
  readonly address: string;
}

export interface AdminResponse {
  readonly status: number;
  /** @defaultValue text/plain */
  readonly type?: string;
  readonly body?: string;
}

/** What is served at one path. */
export interface Route {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** `everybody`, those with the server's token, or those with a token of the route's own. @defaultValue 'token' */
  readonly access?: 'everybody' | 'token' | { readonly token: string };
  /** Longer bodies are refused with 413. @defaultValue 0 */
  readonly bodyBytesMax?: number;
  handle(request: AdminRequest): AdminResponse | Promise<AdminResponse>;
}

const HEADER_BYTES_MAX = 16_384;
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
const CONNECTIONS_MAX = 256;
const REFUSALS: Readonly<Record<Exclude<Verdict, 'welcome'>, AdminResponse>> = {
  unknown: { status: 401, body: 'unauthorized\n' },
  tired: { status: 429, body: 'too many wrong tokens\n' },
  misdirected: { status: 421, body: 'this host is not served here\n' },
};

interface Mounted {
  readonly route: Route;
  /** Undefined: open to everybody. */
  readonly gatekeeper: Gatekeeper | undefined;
}

/** Where a server listens: at an address, or on a socket of the file system, whose mode says who may ask. */
export type Listening = ResolvedAdmin | { readonly path: string };

export class AdminServer extends BaseService {
  readonly #listening: Listening;
  readonly #tls: AdminOptions['tls'];
  readonly #server: Server;
  /** For paths that nobody mounted. */
  readonly #gatekeeper: Gatekeeper;
  readonly #mounted = new Map<string, Mounted>();

  /** @param nowMs - monotonic */
  constructor(listening: Listening, routes: readonly Route[], nowMs: () => number) {
    super();
    this.#listening = listening;
    this.#tls = 'path' in listening ? undefined : listening.tls;
    this.#gatekeeper = new Gatekeeper('path' in listening ? undefined : listening.token, nowMs);
    for (const route of routes) {
      const { access = 'token' } = route;
      const gatekeeper =
        access === 'everybody'
          ? undefined
          : access === 'token'
            ? this.#gatekeeper
            : new Gatekeeper(access.token, nowMs);
      this.#mounted.set(route.path, { route, gatekeeper });
    }
    this.#server = this.#createServer();
  }

  /** Where it listens. REQUIRES: started, at an address. */
  get address(): { readonly host: string; readonly port: number } {
    const { address, port } = this.#server.address() as AddressInfo;
    return { host: address, port };
  }

  /** @throws ERR_MILLRACE_INVALID_OPTION when nobody can listen there */
  protected async onStart(): Promise<void> {
    const listening = this.#listening;
    await new Promise<void>((resolve, reject) => {
      if ('path' in listening) {
        this.#server.once('error', reject);
        // exclusive: in a cluster's worker the primary process would listen, and outlive us.
        this.#server.listen({ path: listening.path, exclusive: true }, resolve);
      } else {
        const { host, port } = listening;
        this.#server.once('error', (cause) => reject(cannotListen(host, port, cause)));
        this.#server.listen(port, host, resolve);
      }
    });
    // It serves a runtime; it is not what keeps the process alive.
    this.#server.unref();
  }

  protected async onStop(): Promise<void> {
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  #createServer(): Server {
    const tls = this.#tls;
    const limits = {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
    };
    const serve = (request: IncomingMessage, response: ServerResponse): void => {
      void this.#serve(request, response);
    };
    const server =
      tls === undefined
        ? createServer(limits, serve)
        : createTlsServer(
            {
              ...limits,
              cert: tls.cert,
              key: tls.key,
              ...(tls.ca !== undefined && { ca: tls.ca, requestCert: true }),
            },
            serve,
          );
    server.maxConnections = CONNECTIONS_MAX;
    return server;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let answer: AdminResponse;
    try {
      answer = await this.#answer(request);
    } catch {
      answer = { status: 500, body: 'failed\n' };
    }
    const { status, type = 'text/plain; charset=utf-8', body = '' } = answer;
    response.writeHead(status, {
      'content-type': type,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...(status === 401 && { 'www-authenticate': 'Bearer' }),
      // What is left of a refused body is not read.
      ...(!request.complete && { connection: 'close' }),
    });
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  async #answer(request: IncomingMessage): Promise<AdminResponse> {
    const path = (request.url ?? '').split('?', 1)[0]!;
    const mounted = this.#mounted.get(path);
    const address = request.socket.remoteAddress ?? '';
    const gatekeeper = mounted === undefined ? this.#gatekeeper : mounted.gatekeeper;
    if (gatekeeper !== undefined && !hasCertificate(request, this.#tls)) {
      const verdict = gatekeeper.judge(request.headers, address);
      if (verdict !== 'welcome') return REFUSALS[verdict];
    }
    if (mounted === undefined) return { status: 404, body: 'not found\n' };
    const { route } = mounted;
    const method = request.method === 'HEAD' ? 'GET' : request.method;
    if (method !== route.method) return { status: 405, body: 'method not allowed\n' };
    const body = await bodyOf(request, route.bodyBytesMax ?? 0);
    if (body === undefined) return { status: 413, body: 'too large\n' };
    return await route.handle({ body, address });
  }
}

/** A client certificate that the options ask for, and that was verified. */
function hasCertificate(request: IncomingMessage, tls: AdminOptions['tls']): boolean {
  return tls?.ca !== undefined && (request.socket as TLSSocket).authorized === true;
}

/** The body, or undefined when it is longer than allowed. */
async function bodyOf(request: IncomingMessage, bytesMax: number): Promise<Buffer | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) return undefined;
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > bytesMax) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function cannotListen(host: string, port: number, cause: Error): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_INVALID_OPTION',
    `admin.listen is ${host}:${port}, where nobody can listen: ${cause.message}; give another address, or port 0 for a free one`,
    { details: { option: 'admin.listen', host, port }, cause },
  );
}
