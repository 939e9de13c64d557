/**
 * The Transport over HTTP/2: one channel per role, one token, one set of certificates, one list of members.
 *
 *   call -> token (when there is a user) -> the role's connection -> answer
 *             ^--- stale: fetched anew and the call made again, once: the server checks tokens before it does anything
 *                             ^--- left before the request was on its way: the request goes to the next connection
 *
 * A connection may stop taking calls (new certificates, the server's GOAWAY) while a request still waits to be written;
 * HTTP/2 then says for certain that nobody has looked at it. Such a request is placed again while its deadline lasts,
 * also one that writes: it is the first time that the server sees it. So is one that a member without a leader has
 * refused: that member is left, and the next one asked. A request that may have been applied never is.
 *
 * The member list is read every minute and a second after a connection was made anew, so that a cluster may move under
 * a client that runs for months. Behind a load balancer the members' own addresses may be out of reach; they are only ever tried
 * after what the user named, and `followMembers: false` leaves them alone.
 */
import { publish } from '../../core/channels.js';
import { type Clock, sleep, type WakeUp } from '../../core/clock.js';
import { Channel, closedFailure } from './channel.js';
import type { Metadata } from './connection.js';
import { type Endpoint, parseEndpoint } from './endpoint.js';
import { Endpoints } from './endpoints.js';
import { isStaleToken } from './failures.js';
import { isLeaderless } from './grpc-status.js';
import { type Message, ProtobufError } from './protobuf.js';
import {
  bugsOfVersion,
  decodeMemberUrls,
  decodeStatus,
  emptyRequest,
  MEMBER_LIST_METHOD,
  STATUS_METHOD,
} from './server-facts.js';
import type { TlsIdentity } from './tls-identity.js';
import { type AuthOptions, Tokens } from './tokens.js';
import {
  CallFailure,
  type CallOptions,
  type DuplexStream,
  GrpcStatus,
  type Role,
  type StreamOptions,
  type Transport,
} from './transport.js';

const MEMBERS_MS = 60_000;
const MEMBERS_AFTER_MS = 1_000;
const HOLD_MS = 2 ** 30;
const ASIDE_DEADLINE_MS = 5_000;
/** How often a request that was never sent is given to a connection; the caller hears of it after that. */
const PLACEMENTS_MAX = 5;
/** After the second placement; the next pauses grow with it. */
const PLACEMENT_PAUSE_MS = 50;
/** Longest pause between placements of a request that members without a leader refuse: an election takes 1 to 2 s. */
const LEADERLESS_PAUSE_MAX_MS = 250;
/** A member without a leader says so, instead of keeping a call for 7 s or a stream for ever. */
const METADATA: Metadata = { hasleader: 'true' };

export interface Http2TransportOptions {
  readonly clock: Clock;
  readonly endpoints: readonly Endpoint[];
  readonly tls: TlsIdentity | undefined;
  readonly auth: AuthOptions | undefined;
  readonly followMembers: boolean;
  /** False: each call has a connection of its own, to show what that costs. */
  readonly sharesConnections: boolean;
}

export class Http2Transport implements Transport {
  readonly #options: Http2TransportOptions;
  readonly #endpoints: Endpoints;
  readonly #channels: Readonly<Record<Role, Channel>>;
  readonly #tokens: Tokens | undefined;
  /** The metadata of requests with the token that is current. */
  #withToken: { readonly token: string; readonly metadata: Metadata } | undefined;
  readonly #toldAbout = new Set<string>();
  #nextMembers: WakeUp | undefined;
  #hasMembers = false;
  /** An open store keeps the process alive: by its sockets, and by this while it has none. */
  readonly #hold = setInterval(() => {}, HOLD_MS);
  #isClosed = false;

  constructor(options: Http2TransportOptions) {
    const { clock, endpoints, tls, auth } = options;
    this.#options = options;
    this.#endpoints = new Endpoints(clock, endpoints);
    const channel = (role: Role): Channel => {
      const onConnected = (endpoint: Endpoint, isResumed: boolean): void => {
        publish('millrace:store:connected', () => {
          return { endpoint: endpoint.authority, role, isResumed };
        });
        if (role === 'kv') this.#onConnected(endpoint);
      };
      return new Channel({ clock, endpoints: this.#endpoints, tls, onConnected });
    };
    this.#channels = { kv: channel('kv'), watch: channel('watch'), lease: channel('lease') };
    this.#tokens =
      auth &&
      new Tokens(auth, (method, request) =>
        this.#send(method, METADATA, request, { role: 'kv', deadlineMs: ASIDE_DEADLINE_MS }),
      );
    tls?.watchFiles(clock, () => {
      for (const role of Object.values(this.#channels)) void role.renew();
    });
  }

  /**
   * Waits until a server is there, for at most `deadlineMs`; for at most `refusedMs` when all of them refuse.
   *
   * @throws CallFailure
   */
  async reach(deadlineMs: number, refusedMs: number): Promise<void> {
    await this.#channels.kv.reached(deadlineMs, refusedMs);
  }

  call(method: string, request: Message, options: CallOptions): Promise<Uint8Array> {
    if (this.#isClosed) return Promise.reject(closedFailure());
    if (this.#tokens !== undefined) return this.#callAsUser(this.#tokens, method, request, options);
    return this.#send(method, METADATA, request, options);
  }

  open(method: string, options: StreamOptions): DuplexStream {
    const opening = new OpeningStream(options, () => this.#tokens?.handBack(this.#token()));
    void this.#openInto(opening, method, options.role);
    return opening;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#hold);
    this.#nextMembers?.cancel();
    this.#options.tls?.stopWatching();
    for (const channel of Object.values(this.#channels)) channel.close();
  }

  #token(): string {
    return this.#tokens?.current ?? '';
  }

  async #callAsUser(
    tokens: Tokens,
    method: string,
    request: Message,
    options: CallOptions,
  ): Promise<Uint8Array> {
    const { clock } = this.#options;
    const endsAtMs = clock.monoMs() + options.deadlineMs;
    const token = tokens.current ?? (await within(clock, options.deadlineMs, tokens.get()));
    try {
      const deadlineMs = Math.max(1, endsAtMs - clock.monoMs());
      const rest = { ...options, deadlineMs };
      return await this.#send(method, this.#metadata(token), request, rest);
    } catch (thrown) {
      if (!(thrown instanceof CallFailure) || !isStaleToken(thrown)) throw thrown;
      tokens.handBack(token);
      const next = await within(clock, endsAtMs - clock.monoMs(), tokens.get());
      const deadlineMs = Math.max(1, endsAtMs - clock.monoMs());
      return this.#send(method, this.#metadata(next), request, { ...options, deadlineMs });
    }
  }

  #send(
    method: string,
    metadata: Metadata,
    request: Message,
    options: CallOptions,
  ): Promise<Uint8Array> {
    if (!this.#options.sharesConnections)
      return this.#sendAlone(method, metadata, request, options);
    const { current } = this.#channels[options.role];
    const endsAtMs = this.#options.clock.monoMs() + options.deadlineMs;
    const placed =
      current === undefined
        ? this.#sendWhenConnected(method, metadata, request, options)
        : current.call(method, metadata, request, options);
    return placed.catch((failure: CallFailure) =>
      isWorthPlacing(failure)
        ? this.#placeAgain(failure, method, metadata, request, { ...options, endsAtMs })
        : Promise.reject(failure),
    );
  }

  /** For a request that nobody has done anything with. @throws CallFailure - the last one */
  async #placeAgain(
    failure: CallFailure,
    method: string,
    metadata: Metadata,
    request: Message,
    options: CallOptions & { readonly endsAtMs: number },
  ): Promise<Uint8Array> {
    const { clock } = this.#options;
    let last = failure;
    // An election ends; what else keeps a request from being sent is not helped by many tries.
    for (let placement = 2; placement <= PLACEMENTS_MAX || isLeaderless(last); placement++) {
      const pauseMs = Math.min(LEADERLESS_PAUSE_MAX_MS, PLACEMENT_PAUSE_MS * (placement - 2));
      if (pauseMs > 0) await sleep(clock, pauseMs);
      const deadlineMs = options.endsAtMs - clock.monoMs();
      if (deadlineMs <= 0 || options.signal?.aborted || this.#isClosed) break;
      try {
        return await this.#sendWhenConnected(method, metadata, request, { ...options, deadlineMs });
      } catch (thrown) {
        last = thrown as CallFailure;
        if (!isWorthPlacing(last)) break;
      }
    }
    throw last;
  }

  async #sendWhenConnected(
    method: string,
    metadata: Metadata,
    request: Message,
    options: CallOptions,
  ): Promise<Uint8Array> {
    const { clock } = this.#options;
    const endsAtMs = clock.monoMs() + options.deadlineMs;
    const connection = await this.#channels[options.role].connected(options.deadlineMs);
    if (options.signal?.aborted) {
      throw new CallFailure(GrpcStatus.CANCELLED, 'given up', { wasSent: false });
    }
    const deadlineMs = Math.max(1, endsAtMs - clock.monoMs());
    return connection.call(method, metadata, request, { ...options, deadlineMs });
  }

  async #sendAlone(
    method: string,
    metadata: Metadata,
    request: Message,
    options: CallOptions,
  ): Promise<Uint8Array> {
    const { clock } = this.#options;
    const endsAtMs = clock.monoMs() + options.deadlineMs;
    const connection = await this.#channels[options.role].extra();
    try {
      const deadlineMs = Math.max(1, endsAtMs - clock.monoMs());
      return await connection.call(method, metadata, request, { ...options, deadlineMs });
    } finally {
      connection.destroy(new Error('one call, one connection'));
    }
  }

  async #openInto(opening: OpeningStream, method: string, role: Role): Promise<void> {
    try {
      const token = await this.#tokens?.get();
      if (this.#isClosed) throw closedFailure();
      const channel = this.#channels[role];
      const connection = channel.current ?? (await channel.connected(Number.MAX_SAFE_INTEGER));
      if (opening.isOver) return;
      const metadata = token === undefined ? METADATA : this.#metadata(token);
      opening.attach((handlers) => connection.open(method, metadata, handlers));
    } catch (thrown) {
      opening.fail(thrown as CallFailure);
    }
  }

  #metadata(token: string): Metadata {
    if (this.#withToken?.token !== token) {
      // An empty token is that of a server without auth, which wants none.
      this.#withToken = { token, metadata: token === '' ? METADATA : { ...METADATA, token } };
    }
    return this.#withToken!.metadata;
  }

  #onConnected(endpoint: Endpoint): void {
    void this.#askVersion(endpoint);
    this.#nextMembers?.cancel();
    if (!this.#options.followMembers) return;
    // A new connection is there for somebody's call; the list can wait, once there is one.
    if (this.#hasMembers) this.#askMembersIn(MEMBERS_AFTER_MS);
    else void this.#askMembers();
  }

  async #askVersion(endpoint: Endpoint): Promise<void> {
    if (this.#toldAbout.has(endpoint.authority)) return;
    const body = await this.#askAside(STATUS_METHOD);
    if (body === undefined) return;
    this.#toldAbout.add(endpoint.authority);
    const { version } = decodeStatus(body);
    const bugs = bugsOfVersion(version);
    publish('millrace:store:server', () => ({ endpoint: endpoint.authority, version, bugs }));
  }

  async #askMembers(): Promise<void> {
    const body = await this.#askAside(MEMBER_LIST_METHOD);
    if (this.#isClosed) return;
    if (body !== undefined) {
      const isTls = this.#options.tls !== undefined;
      const found = decodeMemberUrls(body).flatMap((url) => reachable(url, isTls));
      if (found.length > 0) this.#endpoints.found(found);
      this.#hasMembers = true;
    }
    this.#askMembersIn(MEMBERS_MS);
  }

  #askMembersIn(delayMs: number): void {
    this.#nextMembers?.cancel();
    this.#nextMembers = this.#options.clock.wakeIn(delayMs, () => void this.#askMembers());
  }

  /** Asks what is good to know, on a connection that stands anyway; undefined when there is no answer. */
  async #askAside(method: string): Promise<Uint8Array | undefined> {
    if (this.#channels.kv.current === undefined) return undefined;
    try {
      return await this.call(method, emptyRequest(), { role: 'kv', deadlineMs: ASIDE_DEADLINE_MS });
    } catch (thrown) {
      if (thrown instanceof CallFailure || thrown instanceof ProtobufError) return undefined;
      throw thrown;
    }
  }
}

/** A stream whose connection may still be on its way: what is sent meanwhile waits. */
class OpeningStream implements DuplexStream {
  readonly #options: StreamOptions;
  readonly #onStaleToken: () => void;
  readonly #early: Message[] = [];
  #stream: DuplexStream | undefined;
  isOver = false;

  constructor(options: StreamOptions, onStaleToken: () => void) {
    this.#options = options;
    this.#onStaleToken = onStaleToken;
  }

  send(message: Message): void {
    if (this.isOver) return;
    if (this.#stream) this.#stream.send(message);
    else this.#early.push(message);
  }

  close(): void {
    if (this.isOver) return;
    if (this.#stream) this.#stream.close();
    else this.#end(undefined);
  }

  attach(open: (handlers: StreamOptions) => DuplexStream): void {
    this.#stream = open({
      role: this.#options.role,
      onMessage: (body) => this.#options.onMessage(body),
      onEnd: (failure) => this.#end(failure),
    });
    for (const message of this.#early) this.#stream.send(message);
    this.#early.length = 0;
  }

  fail(failure: CallFailure): void {
    if (!this.isOver) this.#end(failure);
  }

  #end(failure: CallFailure | undefined): void {
    this.isOver = true;
    // The next stream then starts with a token of its own.
    if (failure !== undefined && isStaleToken(failure)) this.#onStaleToken();
    this.#options.onEnd(failure);
  }
}

/** Whether nobody has done anything with the request, and another member, or a moment later the same, may. */
function isWorthPlacing(failure: CallFailure): boolean {
  if (isLeaderless(failure)) return true;
  return !failure.wasSent && failure.status === GrpcStatus.UNAVAILABLE;
}

/** A member's address, when this client can speak to it: no TLS without certificates, and none left out. */
function reachable(url: string, isTls: boolean): Endpoint[] {
  try {
    const endpoint = parseEndpoint(url, isTls);
    return endpoint.isTls === isTls ? [endpoint] : [];
  } catch {
    return [];
  }
}

/** @throws CallFailure when the time is over first */
async function within<T>(clock: Clock, deadlineMs: number, promise: Promise<T>): Promise<T> {
  let patience: WakeUp | undefined;
  const late = new Promise<never>((_, reject) => {
    patience = clock.wakeIn(deadlineMs, () =>
      reject(new CallFailure(GrpcStatus.UNAVAILABLE, 'no token in time', { wasSent: false })),
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    patience?.cancel();
  }
}
