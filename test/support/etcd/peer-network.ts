/**
 * The network between the nodes of a cluster, which can be cut in parts.
 *
 * Every node is reached by its peers through a proxy in front of its peer port. One etcd node talks to another over
 * connections of both: to part two nodes, some connections of either proxy must stop and others must go on. A proxy
 * sees only the port a client speaks from, so whose it is comes from /proc: which process has the socket with that
 * port. This works on Linux only.
 *
 * Parted connections are held, not cut: like packets that do not arrive. On heal() they go on.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { type ProxiedConnection, TcpProxy } from '../tcp-proxy.js';

export class PeerNetwork {
  readonly #proxies: readonly TcpProxy[];
  /** Who speaks at the other end: the index of the node. */
  readonly #speakers = new WeakMap<ProxiedConnection, number>();
  readonly #pidOf: (index: number) => number | undefined;
  /** Which part a node is in; nodes of different parts do not reach one another. */
  #parts: readonly number[];

  private constructor(proxies: readonly TcpProxy[], pidOf: (index: number) => number | undefined) {
    this.#proxies = proxies;
    this.#pidOf = pidOf;
    this.#parts = proxies.map(() => 0);
    for (const [listener, proxy] of proxies.entries()) {
      proxy.on('connection', (connection) => {
        const speaker = this.#speakerOf(connection);
        if (speaker !== undefined) this.#speakers.set(connection, speaker);
        if (this.#isParted(connection, listener)) connection.hold();
      });
    }
  }

  /** @param pidOf - the process of a node now, by index */
  static async create(
    peerPorts: readonly number[],
    pidOf: (index: number) => number | undefined,
  ): Promise<PeerNetwork> {
    const proxies = await Promise.all(peerPorts.map((port) => TcpProxy.listen({ port })));
    return new PeerNetwork(proxies, pidOf);
  }

  /** Where peers reach each node. */
  get ports(): readonly number[] {
    return this.#proxies.map(({ port }) => port);
  }

  /** Parts these nodes from all others; they still reach one another. Clients reach everybody. */
  part(indexes: readonly number[]): void {
    this.#parts = this.#proxies.map((_, index) => (indexes.includes(index) ? 1 : 0));
    this.#apply();
  }

  /** Everybody reaches everybody again. */
  heal(): void {
    this.#parts = this.#proxies.map(() => 0);
    this.#apply();
  }

  async close(): Promise<void> {
    await Promise.all(this.#proxies.map((proxy) => proxy.close()));
  }

  #apply(): void {
    for (const [listener, proxy] of this.#proxies.entries()) {
      for (const connection of proxy.connections) {
        if (this.#isParted(connection, listener)) connection.hold();
        else connection.release();
      }
    }
  }

  #isParted(connection: ProxiedConnection, listener: number): boolean {
    const speaker = this.#speakers.get(connection);
    return speaker !== undefined && this.#parts[speaker] !== this.#parts[listener];
  }

  #speakerOf({ clientPort }: ProxiedConnection): number | undefined {
    const inode = clientPort === undefined ? undefined : inodeOfLocalPort(clientPort);
    if (inode === undefined) return undefined;
    const index = this.#proxies.findIndex((_, candidate) => {
      const pid = this.#pidOf(candidate);
      return pid !== undefined && hasSocket(pid, inode);
    });
    return index < 0 ? undefined : index;
  }
}

/** The socket that is bound to a port of 127.0.0.1 and connected. */
function inodeOfLocalPort(port: number): string | undefined {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  // Columns: slot, local address, remote address, state, queues, timer, retransmits, user, timeout, inode.
  return readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .find((columns) => columns[1] === local && columns[3] === '01')?.[9];
}

function hasSocket(pid: number, inode: string): boolean {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).some((descriptor) => {
    try {
      return readlinkSync(`${folder}/${descriptor}`) === `socket:[${inode}]`;
    } catch {
      // Closed between the two calls.
      return false;
    }
  });
}
