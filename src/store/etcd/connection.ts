/**
 * One HTTP/2 connection to one etcd member, and gRPC's calls and streams on it.
 *
 *   dial() -> ready -> leaving (GOAWAY, drain: what is open goes on, nothing new) -> closed
 *
 * A failed call never closes the connection: only the peer does, or silence. While something is open, a connection
 * that was silent for 10 s, or owes an answer since 1 s, is pinged; without an answer it is dead. etcd allows a ping
 * every 5 s and none on an idle connection, else it says GOAWAY "too_many_pings".
 *
 *   silence | ping sent | given up after
 *   idle streams, 10 s | at most every 5.5 s | 3 s
 *   a call waits, 1 s | at most every 5.5 s | 1 s      -> a dead member is left within about 2 s
 *
 * A member that lives may still be of no use: cut off from the others, it answers pings and refuses, or keeps for
 * seconds, what it is asked. So the first refusal for want of a leader ends the connection, too. What waits there then
 * fails with UNAVAILABLE, its outcome unknown, instead of waiting for the server's own 7 s.
 *
 * A timer may fire before bytes that have already arrived were read (a long pause of this process). So whoever
 * wants to give up looks once more after the next turn of I/O.
 */
import * as http2 from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Clock, WakeUp } from '../../core/clock.js';
import {
  failureOfClose,
  failureOfResponse,
  failureOfTrailers,
  isLeaderless,
} from './grpc-status.js';
import { FramingError, MessageSplitter } from './message-splitter.js';
import type { Message } from './protobuf.js';
import {
  CallFailure,
  type CallOptions,
  type DuplexStream,
  GrpcStatus,
  type StreamOptions,
} from './transport.js';

/** What may be on its way to us, per stream and in all, before the sender waits for us to read. */
const STREAM_WINDOW_BYTES = 4 * 1_024 * 1_024;
const SESSION_WINDOW_BYTES = 16 * 1_024 * 1_024;
/** nghttp2 refuses new streams above it (in MB; Node's default is 10): the callers bound what is in flight. */
const SESSION_MEMORY_MB = 1_024;

const PING_AFTER_SILENCE_MS = 10_000;
const PING_AFTER_WAITING_MS = 1_000;
/** A little more than the 5 s that etcd asks for: on the way two pings may come closer together. */
const PING_GAP_MIN_MS = 5_500;
const PONG_IDLE_MS = 3_000;
const PONG_WAITING_MS = 1_000;
const LOOK_MS = 500;

/** Metadata that every request carries. */
export type Metadata = Readonly<Record<string, string>>;

export interface ConnectionOptions {
  readonly clock: Clock;
  /** Host and port, as the `:authority` of each request. */
  readonly authority: string;
  readonly isTls: boolean;
  /** Called once, when nothing new may be opened here any more. */
  readonly onLeaving: () => void;
}

export class Connection {
  readonly #session: http2.ClientHttp2Session;
  readonly #clock: Clock;
  readonly #headers: Readonly<Record<string, string>>;
  /** The headers of each method, for the metadata that was used with it last. */
  readonly #prepared = new Map<
    string,
    { readonly metadata: Metadata; readonly headers: Metadata }
  >();
  readonly #onLeaving: () => void;
  readonly #streams = new Set<OpenStream>();
  #waiting = 0;
  #hasAnswered = false;
  #isLeaving = false;
  #heardAtMs: number;
  #pingedAtMs = Number.NEGATIVE_INFINITY;
  #isPinging = false;
  #look: WakeUp | undefined;
  /** Why the connection died, for the streams that die with it. */
  #cause: Error | undefined;

  /** @param socket - connected, and through its TLS handshake; it belongs to the connection from here on */
  constructor(socket: Duplex, options: ConnectionOptions) {
    this.#clock = options.clock;
    this.#onLeaving = options.onLeaving;
    this.#heardAtMs = options.clock.monoMs();
    const scheme = options.isTls ? 'https' : 'http';
    this.#headers = {
      ':method': 'POST',
      ':scheme': scheme,
      ':authority': options.authority,
      'content-type': 'application/grpc',
      te: 'trailers',
      'user-agent': 'millrace',
    };
    this.#session = http2.connect(`${scheme}://${options.authority}`, {
      createConnection: () => socket,
      maxSessionMemory: SESSION_MEMORY_MB,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
    });
    this.#session.on('error', (error) => {
      this.#cause ??= error;
    });
    this.#session.once('remoteSettings', () => {
      this.#session.setLocalWindowSize(SESSION_WINDOW_BYTES);
    });
    // NOTE: a TLS alert after the handshake, which is how TLS 1.3 refuses a client's certificate, is an error of the
    // socket and neither closes it nor reaches the session (Node 20.20).
    socket.on('error', (error) => this.destroy(error));
    socket.once('close', () => this.destroy(new Error('the connection closed')));
    if (socket.destroyed) this.destroy(socket.errored ?? new Error('the connection closed'));
    this.#session.on('goaway', (code) => {
      if (code !== 0) this.#cause ??= new Error(`the server said GOAWAY with code ${code}`);
      this.#leave();
    });
    this.#session.on('close', () => {
      this.#look?.cancel();
      this.#leave();
    });
  }

  /** Whether calls may be made here. */
  get isUsable(): boolean {
    return !this.#isLeaving;
  }

  /** Whether any request had an answer here. */
  get hasAnswered(): boolean {
    return this.#hasAnswered;
  }

  /** Resolves when the peer has shown that it speaks HTTP/2. @throws Error when it does not, or closes */
  async ready(): Promise<void> {
    if (this.#session.destroyed) throw this.#cause ?? new Error('the connection closed');
    await new Promise<void>((resolve, reject) => {
      this.#session.once('remoteSettings', () => resolve());
      this.#session.once('close', () =>
        reject(this.#cause ?? new Error('the server closed the connection: is it etcd?')),
      );
    });
  }

  /** As `Transport.call`, on this connection. @throws CallFailure */
  call(
    method: string,
    metadata: Metadata,
    request: Message,
    options: CallOptions,
  ): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const { signal } = options;
      let answer: Uint8Array | undefined;
      let deadline: WakeUp | undefined;
      const onAbort = (): void => {
        stream?.abandon(new CallFailure(GrpcStatus.CANCELLED, 'given up', { wasSent: true }));
      };
      const onMessage = (body: Uint8Array): void => {
        if (answer === undefined) answer = body;
        else stream?.abandon(internal('two messages where one is due'));
      };
      const onEnd = (failure: CallFailure | undefined): void => {
        deadline?.cancel();
        signal?.removeEventListener('abort', onAbort);
        this.#waiting--;
        if (failure !== undefined) reject(failure);
        else if (answer === undefined) reject(internal('an end without a message'));
        else resolve(answer);
      };
      this.#waiting++;
      const stream = this.#open(method, metadata, { role: options.role, onMessage, onEnd });
      if (stream === undefined) return;
      stream.end(request);
      const { deadlineMs } = options;
      deadline = this.#clock.wakeIn(deadlineMs, () => {
        this.#clock.wakeSoon(() => stream.abandon(late(method, deadlineMs)));
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** As `Transport.open`, on this connection. */
  open(method: string, metadata: Metadata, options: StreamOptions): DuplexStream {
    const stream = this.#open(method, metadata, options);
    return {
      send: (message) => stream?.send(message),
      close: () => stream?.abandon(undefined),
    };
  }

  /**
   * Lets calls finish and opens nothing new; streams, which have no end of their own, end with UNAVAILABLE, so that
   * their owner opens them again elsewhere.
   */
  drain(reason: string): void {
    this.#leave();
    for (const stream of this.#streams) {
      if (stream.isEndless) {
        stream.abandon(new CallFailure(GrpcStatus.UNAVAILABLE, reason, { wasSent: true }));
      }
    }
    if (!this.#session.destroyed) this.#session.close();
  }

  /** Ends everything at once; what is open fails with UNAVAILABLE. */
  destroy(cause: Error): void {
    this.#cause ??= cause;
    this.#leave();
    this.#look?.cancel();
    if (!this.#session.destroyed) this.#session.destroy();
  }

  #open(method: string, metadata: Metadata, options: StreamOptions): OpenStream | undefined {
    const { session, refusal } = this.#usableSession();
    let raw: http2.ClientHttp2Stream | undefined;
    let cause: unknown = refusal;
    try {
      raw = session?.request(this.#headersOf(method, metadata));
    } catch (thrown) {
      // Between the GOAWAY and its event, for instance.
      cause = thrown;
    }
    if (raw === undefined) {
      options.onEnd(
        new CallFailure(GrpcStatus.UNAVAILABLE, messageOf(cause), { wasSent: false, cause }),
      );
      return undefined;
    }
    const stream = new OpenStream(raw, {
      onHeard: () => {
        this.#hasAnswered = true;
        this.#heardAtMs = this.#clock.monoMs();
      },
      causeOfCut: () => this.#cause,
      onMessage: options.onMessage,
      onEnd: (failure) => {
        this.#streams.delete(stream);
        const isOfNoUse = failure !== undefined && isLeaderless(failure);
        // First of all, so that whoever hears of the failure and tries again comes to another member.
        if (isOfNoUse) this.destroy(new Error('the member knows no leader'));
        options.onEnd(failure);
      },
    });
    this.#streams.add(stream);
    if (this.#look === undefined) this.#lookIn(LOOK_MS);
    return stream;
  }

  #headersOf(method: string, metadata: Metadata): Metadata {
    let prepared = this.#prepared.get(method);
    if (prepared?.metadata !== metadata) {
      prepared = { metadata, headers: { ...this.#headers, ':path': method, ...metadata } };
      this.#prepared.set(method, prepared);
    }
    return prepared.headers;
  }

  #usableSession(): { session?: http2.ClientHttp2Session; refusal?: Error } {
    if (this.#isLeaving) return { refusal: this.#cause ?? new Error('the connection is closing') };
    return { session: this.#session };
  }

  #leave(): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    this.#onLeaving();
  }

  #lookIn(delayMs: number): void {
    this.#look = this.#clock.wakeIn(delayMs, () => {
      this.#look = undefined;
      if (this.#streams.size === 0 || this.#session.destroyed) return;
      this.#pingIfSilent();
      this.#lookIn(LOOK_MS);
    });
  }

  #pingIfSilent(): void {
    const nowMs = this.#clock.monoMs();
    const silentMs = nowMs - this.#heardAtMs;
    const isWaiting = this.#waiting > 0;
    if (this.#isPinging || nowMs - this.#pingedAtMs < PING_GAP_MIN_MS) return;
    if (silentMs < (isWaiting ? PING_AFTER_WAITING_MS : PING_AFTER_SILENCE_MS)) return;
    this.#pingedAtMs = nowMs;
    this.#isPinging = true;
    const pongMs = isWaiting ? PONG_WAITING_MS : PONG_IDLE_MS;
    const patience = this.#clock.wakeIn(pongMs, () => {
      this.#clock.wakeSoon(() => {
        if (this.#isPinging) this.destroy(new Error(`no answer to a ping for ${pongMs} ms`));
      });
    });
    this.#session.ping((error) => {
      patience.cancel();
      this.#isPinging = false;
      if (!error) this.#heardAtMs = this.#clock.monoMs();
    });
  }
}

interface StreamEvents {
  readonly onHeard: () => void;
  readonly causeOfCut: () => Error | undefined;
  readonly onMessage: (body: Uint8Array) => void;
  readonly onEnd: (failure: CallFailure | undefined) => void;
}

/** One exchange: the messages out, the messages in, and exactly one end. */
class OpenStream {
  /** Whether only its owner ends it: a stream, not a call. */
  isEndless = true;
  readonly #raw: http2.ClientHttp2Stream;
  readonly #events: StreamEvents;
  readonly #splitter: MessageSplitter;
  #isOver = false;
  #error: unknown;
  /** What was sent in this turn: it goes out as one write. */
  #outgoing: Message[] = [];

  constructor(raw: http2.ClientHttp2Stream, events: StreamEvents) {
    this.#raw = raw;
    this.#events = events;
    this.#splitter = new MessageSplitter((body) => {
      if (!this.#isOver) events.onMessage(body);
    });
    raw.on('response', (headers, flags) => this.#onResponse(headers, flags));
    raw.on('data', (chunk: Buffer) => this.#onData(chunk));
    raw.on('trailers', (trailers) => this.#onTrailers(trailers));
    raw.on('error', (error) => {
      this.#error = error;
    });
    raw.on('close', () => {
      if (!this.#isOver)
        this.#finish(failureOfClose(raw.rstCode, events.causeOfCut() ?? this.#error));
    });
  }

  send(message: Message): void {
    if (this.#isOver) return;
    // NOTE: a write for each message costs as much as all the rest of a renewal.
    if (this.#outgoing.push(message) === 1) process.nextTick(() => this.#flush());
  }

  /** The one message of a call. */
  end(message: Message): void {
    this.isEndless = false;
    if (!this.#isOver) this.#raw.end(message);
  }

  /** Ends it from this side. No effect when it is over. */
  abandon(failure: CallFailure | undefined): void {
    if (this.#isOver) return;
    this.#finish(failure);
    this.#raw.close(http2.constants.NGHTTP2_CANCEL);
  }

  #flush(): void {
    const messages = this.#outgoing;
    this.#outgoing = [];
    if (this.#isOver) return;
    this.#raw.write(messages.length === 1 ? messages[0] : Buffer.concat(messages));
  }

  #onResponse(headers: http2.IncomingHttpHeaders, flags: number): void {
    this.#events.onHeard();
    if (this.#isOver) return;
    const failure = failureOfResponse(headers);
    if (failure !== undefined) this.abandon(failure);
    // An answer of headers only: they are the trailers.
    else if (flags & http2.constants.NGHTTP2_FLAG_END_STREAM) this.#onTrailers(headers);
  }

  #onData(chunk: Buffer): void {
    this.#events.onHeard();
    if (this.#isOver) return;
    try {
      this.#splitter.push(chunk);
    } catch (thrown) {
      if (!(thrown instanceof FramingError)) throw thrown;
      const status = thrown.isTooLarge ? GrpcStatus.RESOURCE_EXHAUSTED : GrpcStatus.INTERNAL;
      this.abandon(new CallFailure(status, thrown.message, { wasSent: true }));
    }
  }

  #onTrailers(trailers: http2.IncomingHttpHeaders): void {
    if (this.#isOver) return;
    const failure = failureOfTrailers(trailers);
    if (failure === undefined && this.#splitter.isInside) {
      this.#finish(internal('the answer ended inside a message'));
    } else {
      this.#finish(failure);
    }
    if (this.isEndless) this.#raw.end();
  }

  #finish(failure: CallFailure | undefined): void {
    this.#isOver = true;
    this.#events.onEnd(failure);
  }
}

function late(method: string, deadlineMs: number): CallFailure {
  return new CallFailure(
    GrpcStatus.DEADLINE_EXCEEDED,
    `${method} had no answer after ${deadlineMs} ms`,
    { wasSent: true },
  );
}

function internal(message: string): CallFailure {
  return new CallFailure(GrpcStatus.INTERNAL, message, { wasSent: true });
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
