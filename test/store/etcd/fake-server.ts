/**
 * A gRPC server that misbehaves on command: what each method does with a request is the test's to say.
 */
import * as http2 from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { type Endpoint, parseEndpoint } from '../../../src/store/etcd/endpoint.js';
import {
  Http2Transport,
  type Http2TransportOptions,
} from '../../../src/store/etcd/http2-transport.js';
import { type Message, Writer } from '../../../src/store/etcd/protobuf.js';
import { systemClock } from '../../../src/timing/system-clock.js';

export type Handler = (
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
) => void | Promise<void>;

export interface FakeServer {
  readonly endpoint: Endpoint;
  /** Connections that were made, those that have gone too. */
  readonly sockets: readonly Socket[];
  readonly sessions: readonly http2.ServerHttp2Session[];
  /** Paths of the requests that came, in order. */
  readonly requests: readonly string[];
  stop(): void;
}

/** Listens on a free port until the test's end. Methods that are not named answer an empty message. */
export async function fakeServer(
  t: TestContext,
  handlers: Readonly<Record<string, Handler>> = {},
): Promise<FakeServer> {
  const server = http2.createServer({ settings: { initialWindowSize: 1 << 20 } });
  const sockets: Socket[] = [];
  const sessions: http2.ServerHttp2Session[] = [];
  const requests: string[] = [];
  server.on('connection', (socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
  });
  server.on('session', (session) => {
    sessions.push(session);
    session.on('error', () => {});
  });
  server.on('stream', (stream, headers) => {
    const path = String(headers[':path']);
    requests.push(path);
    stream.on('error', () => {});
    void (handlers[path] ?? answer(new Writer(8).finish()))(stream, headers);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const stop = (): void => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  t.after(stop);
  return { endpoint: parseEndpoint(`127.0.0.1:${port}`, false), sockets, sessions, requests, stop };
}

/** Answers with bytes as they are, then with a status. */
export function answer(bytes: Uint8Array, status = 0, message = ''): Handler {
  return (stream) => {
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc' },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () =>
      stream.sendTrailers({ 'grpc-status': String(status), 'grpc-message': message }),
    );
    stream.end(bytes);
  };
}

/** Answers with a status and no message at all, in headers only. */
export function refuse(status: number, message: string): Handler {
  return (stream) => {
    stream.respond(
      {
        ':status': 200,
        'content-type': 'application/grpc',
        'grpc-status': String(status),
        'grpc-message': message,
      },
      { endStream: true },
    );
  };
}

/** A message with one field of so many bytes. */
export function messageOf(bytes: number): Message {
  const writer = new Writer(bytes + 64);
  writer.bytes(1, new Uint8Array(bytes).fill(1));
  return writer.finish();
}

export function transportTo(
  t: TestContext,
  endpoints: readonly Endpoint[],
  options: Partial<Http2TransportOptions> = {},
): Http2Transport {
  const transport = new Http2Transport({
    clock: systemClock,
    endpoints,
    tls: undefined,
    auth: undefined,
    followMembers: false,
    sharesConnections: true,
    ...options,
  });
  t.after(() => transport.close());
  return transport;
}
