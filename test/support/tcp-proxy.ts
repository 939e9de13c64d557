/**
 * A TCP proxy that breaks connections in the ways networks do, at the moment a test says.
 *
 * ```
 *   client ---- bytes up ---->  TcpProxy  ---- bytes up ---->  server
 *          <--- bytes down ---            <--- bytes down ---
 *
 *   cut()               both sides get a reset, now
 *   cutAfterDown(n)     the same, once so many more bytes have come down
 *   dropDown()          bytes down are swallowed: the server has answered, the client does not know
 *   hold() / release()  a black hole, both ways: bytes wait, as they do in a network that is gone for a while
 *   delayMs = n         every chunk, both ways, later by n
 *   refuse() / accept() new connections get a reset; or are served again
 * ```
 *
 * A held connection is not read from, so the sender's bytes pile up in the kernel and arrive, complete and in order,
 * after release(): what TCP does when a cable is plugged in again. Swallowed bytes are gone, so a connection with
 * dropped bytes can only be cut.
 *
 * What happens is told by events, so that tests never wait for time to pass.
 */
import { EventEmitter, once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export interface TcpTarget {
  readonly host?: string;
  readonly port: number;
}

interface TcpProxyEvents {
  /** A client is connected, and so are we to the server. */
  connection: [connection: ProxiedConnection];
  /** A connection was turned away by refuse(). */
  refused: [];
  /** So many bytes went up, and were passed on. */
  up: [connection: ProxiedConnection, bytes: number];
  /** So many bytes came down, and were passed on. */
  down: [connection: ProxiedConnection, bytes: number];
  /** So many bytes came down, and were swallowed. */
  swallowed: [connection: ProxiedConnection, bytes: number];
  /** A connection is over, whoever ended it. */
  closed: [connection: ProxiedConnection];
}

export class TcpProxy extends EventEmitter<TcpProxyEvents> {
  /** By how much every chunk is late, both ways. */
  delayMs = 0;
  readonly #target: TcpTarget;
  readonly #server: Server;
  readonly #open = new Set<ProxiedConnection>();
  /** Also those that wait for the server to accept. */
  readonly #clients = new Set<Socket>();
  #accepted = 0;
  #refused = 0;
  #isRefusing = false;
  #isDroppingDown = false;
  #isHolding = false;
  #downBytesLeft = Number.POSITIVE_INFINITY;

  private constructor(target: TcpTarget, server: Server) {
    super();
    this.#target = target;
    this.#server = server;
    server.on('connection', (client) => this.#serve(client));
  }

  /** Starts to listen on 127.0.0.1. @param port - a free one when absent */
  static async listen(target: TcpTarget, port = 0): Promise<TcpProxy> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return new TcpProxy(target, server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** What is connected now. */
  get connections(): ReadonlySet<ProxiedConnection> {
    return this.#open;
  }

  /** How many connections were served since the beginning. */
  get acceptedCount(): number {
    return this.#accepted;
  }

  /** How many connections were turned away since the beginning. */
  get refusedCount(): number {
    return this.#refused;
  }

  /** Resets every connection there is. New ones are served. */
  cut(): void {
    for (const connection of [...this.#open]) connection.cut();
    for (const client of this.#clients) reset(client);
  }

  /** Resets every connection once so many more bytes came down in all; the last of them are passed on. */
  cutAfterDown(bytes: number): void {
    this.#downBytesLeft = bytes;
  }

  /** From now on answers are swallowed, on every connection; see the `swallowed` event. */
  dropDown(): void {
    this.#isDroppingDown = true;
  }

  /** Cuts what has lost bytes, and passes answers on again. */
  stopDropping(): void {
    this.#isDroppingDown = false;
    for (const connection of [...this.#open]) if (connection.swallowedBytes > 0) connection.cut();
  }

  /** Nothing moves any more, either way; new connections are accepted and hang. */
  hold(): void {
    this.#isHolding = true;
    for (const connection of this.#open) connection.hold();
  }

  /** Lets everything that waits go on. */
  release(): void {
    this.#isHolding = false;
    for (const connection of this.#open) connection.release();
  }

  /** Turns new connections away with a reset. What is connected stays. */
  refuse(): void {
    this.#isRefusing = true;
  }

  /** Serves new connections again. */
  accept(): void {
    this.#isRefusing = false;
  }

  /** Cuts everything and stops listening. */
  async close(): Promise<void> {
    this.refuse();
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.cut();
    await closed;
  }

  #serve(client: Socket): void {
    client.on('error', () => {});
    if (this.#isRefusing) {
      this.#refused++;
      reset(client);
      this.emit('refused');
      return;
    }
    this.#accepted++;
    this.#clients.add(client);
    client.pause();
    const server = connect({
      host: '127.0.0.1',
      allowHalfOpen: true,
      noDelay: true,
      ...this.#target,
    });
    server.on('error', () => reset(client));
    client.once('close', () => {
      this.#clients.delete(client);
      server.destroy();
    });
    server.once('connect', () => {
      if (client.destroyed) return;
      const connection = new ProxiedConnection(client, server, {
        delayMs: () => this.delayMs,
        onUp: (bytes) => this.emit('up', connection, bytes),
        mayPassDown: (bytes) => this.#mayPassDown(connection, bytes),
        onDown: (bytes) => this.#wentDown(connection, bytes),
      });
      this.#open.add(connection);
      client.once('close', () => {
        this.#open.delete(connection);
        this.emit('closed', connection);
      });
      if (this.#isHolding) connection.hold();
      this.emit('connection', connection);
      connection.start();
    });
  }

  #mayPassDown(connection: ProxiedConnection, bytes: number): boolean {
    if (!this.#isDroppingDown) return true;
    this.emit('swallowed', connection, bytes);
    return false;
  }

  #wentDown(connection: ProxiedConnection, bytes: number): void {
    this.emit('down', connection, bytes);
    this.#downBytesLeft -= bytes;
    if (this.#downBytesLeft > 0) return;
    this.#downBytesLeft = Number.POSITIVE_INFINITY;
    this.cut();
  }
}

interface Rules {
  delayMs(): number;
  onUp(bytes: number): void;
  mayPassDown(bytes: number): boolean;
  onDown(bytes: number): void;
}

/** One client's connection through the proxy. */
export class ProxiedConnection {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #rules: Rules;
  #isHeld = false;
  #hasStarted = false;
  #swallowed = 0;

  constructor(client: Socket, server: Socket, rules: Rules) {
    this.#client = client;
    this.#server = server;
    this.#rules = rules;
  }

  /** The port the client speaks from: tells clients of one proxy apart. */
  get clientPort(): number | undefined {
    return this.#client.remotePort;
  }

  /** Bytes down that the client never got. */
  get swallowedBytes(): number {
    return this.#swallowed;
  }

  /** Called by the proxy, once everybody who listens for connections has seen this one. */
  start(): void {
    const { onUp, mayPassDown, onDown } = this.#rules;
    this.#hasStarted = true;
    this.#pipe(this.#client, this.#server, (chunk) => {
      this.#server.write(chunk);
      onUp(chunk.length);
    });
    this.#pipe(this.#server, this.#client, (chunk) => {
      if (mayPassDown(chunk.length)) {
        // A cut discards what the socket has not handed to the system yet, so it is told after that.
        this.#client.write(chunk, (error) => {
          if (!error) onDown(chunk.length);
        });
      } else {
        this.#swallowed += chunk.length;
      }
    });
    if (this.#isHeld) this.hold();
    else this.release();
  }

  /** Resets both sides. */
  cut(): void {
    reset(this.#client);
    reset(this.#server);
  }

  hold(): void {
    this.#isHeld = true;
    this.#client.pause();
    this.#server.pause();
  }

  release(): void {
    this.#isHeld = false;
    if (!this.#hasStarted) return;
    this.#client.resume();
    this.#server.resume();
  }

  #pipe(from: Socket, to: Socket, pass: (chunk: Buffer) => void): void {
    const later = (work: () => void): void => {
      const ms = this.#rules.delayMs();
      if (ms > 0) setTimeout(work, ms);
      else work();
    };
    from.on('data', (chunk) => {
      later(() => {
        if (!to.destroyed) pass(chunk);
      });
    });
    from.on('end', () => later(() => to.end()));
    from.on('close', () => later(() => to.destroy()));
  }
}

/** Ends a connection with a reset, unless its end is already on the way. */
function reset(socket: Socket): void {
  // NOTE: a reset while a shutdown is under way fails inside libuv, and Node 20.20 then waits for the handle for ever
  // when the process ends.
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
