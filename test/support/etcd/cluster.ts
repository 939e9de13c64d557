/**
 * Real etcd servers for a test: one node or several on loopback, on free ports, with data of their own.
 *
 * ```ts
 * const etcd = await EtcdCluster.start({ nodes: 3 });
 * after(() => etcd.close());
 * ```
 *
 * Data lies below the project and is synced for real, since a directory for temporary files is often in memory.
 * Whatever becomes of the test's process, its servers end and their data goes (see guardian.ts). A start takes about
 * a second, so a file of tests shares one cluster and gives each test a namespace.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type CallOff, removeAtEnd } from '../guardian.js';
import { freePorts } from '../ports.js';
import { TcpProxy } from '../tcp-proxy.js';
import { type EtcdBinaries, etcdBinaries } from './binaries.js';
import { CertificateAuthority, type KeyAlgorithm, type KeyPair } from './certificates.js';
import { EtcdDidNotStart, EtcdNode } from './node.js';
import { PeerNetwork } from './peer-network.js';

const run = promisify(execFile);

/** Absolute path of the project: four levels above dist/test/support/etcd. */
const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));
const DATA = path.join(ROOT, 'build/etcd');
const START_ATTEMPTS = 3;

export interface EtcdClusterOptions {
  /** @defaultValue 1 */
  readonly nodes?: number;
  /** Size of the database at which writes are refused. @defaultValue etcd's, 2 GiB */
  readonly quotaBytes?: number;
  /** Smaller than etcd's 1000 ms lets short leases be granted: the shortest is 1.5 times this, in whole seconds. */
  readonly electionMs?: number;
  /** Clients speak TLS. The nodes have a certificate of `cluster.authority`. */
  readonly tls?: EtcdTlsOptions;
  /** Peers reach one another through proxies, so that `part()` and `heal()` work. Linux only. @defaultValue false */
  readonly canPart?: boolean;
  /** The nodes tell clients to come through `cluster.proxies`. @defaultValue false */
  readonly hasProxies?: boolean;
  /** More flags of etcd, such as `--max-request-bytes=10485760`. */
  readonly flags?: readonly string[];
  /** Servers outlive this process and log to files; whoever starts them ends them. @defaultValue false */
  readonly isDetached?: boolean;
  /** Where data and logs are, to be removed by close(). @defaultValue a new folder */
  readonly folder?: string;
}

export interface EtcdTlsOptions {
  readonly algorithm?: KeyAlgorithm;
  /** Refuse clients without a certificate of the authority; its common name is their user. @defaultValue false */
  readonly requiresClient?: boolean;
  /** What the nodes show, when not a good certificate for 127.0.0.1 and localhost. */
  readonly server?: (authority: CertificateAuthority) => Promise<KeyPair>;
}

/** What a cluster with TLS was given. etcd reads its certificate anew for each handshake: overwriting it rotates. */
export interface EtcdTls {
  readonly authority: CertificateAuthority;
  readonly server: KeyPair;
  /** A good client. */
  readonly client: KeyPair;
  /** Whether clients without a certificate are refused. */
  readonly requiresClient: boolean;
}

/** A user who may read and write the keys of a prefix only. */
export interface LimitedUser {
  readonly name: string;
  readonly password: string;
  readonly prefix: string;
}

export class EtcdCluster {
  readonly nodes: readonly EtcdNode[];
  /** Of the server, as in `3.4.23`. */
  readonly version: string;
  /** Where data, logs and certificates are. */
  readonly folder: string;
  readonly tls: EtcdTls | undefined;
  /** In front of the client port of each node; see `hasProxies`. */
  readonly proxies: readonly TcpProxy[];
  readonly #etcdctl: string;
  readonly #network: PeerNetwork | undefined;
  readonly #callOff: CallOff | undefined;
  /** How etcdctl() logs in. */
  #user: string | undefined;

  private constructor(
    parts: Pick<EtcdCluster, 'nodes' | 'folder' | 'tls' | 'proxies'>,
    binaries: EtcdBinaries,
    network: PeerNetwork | undefined,
    callOff: CallOff | undefined,
  ) {
    this.nodes = parts.nodes;
    this.folder = parts.folder;
    this.tls = parts.tls;
    this.proxies = parts.proxies;
    this.version = binaries.version;
    this.#etcdctl = binaries.etcdctl;
    this.#network = network;
    this.#callOff = callOff;
  }

  /** @throws NotToBeHad when there is no etcd here and none can be downloaded */
  static async start(options: EtcdClusterOptions = {}): Promise<EtcdCluster> {
    const binaries = await etcdBinaries();
    for (let attempt = 1; ; attempt++) {
      const cluster = await EtcdCluster.#create(binaries, options);
      const starts = await Promise.allSettled(cluster.nodes.map((node) => node.start()));
      const failed = starts.find((start) => start.status === 'rejected');
      if (failed === undefined) return cluster;
      await cluster.close();
      const { reason } = failed;
      const isPortTaken =
        reason instanceof EtcdDidNotStart && reason.message.includes('address already in use');
      if (!isPortTaken || attempt === START_ATTEMPTS) throw reason;
    }
  }

  static async #create(binaries: EtcdBinaries, options: EtcdClusterOptions): Promise<EtcdCluster> {
    const { nodes: count = 1, isDetached = false } = options;
    await mkdir(DATA, { recursive: true });
    const folder = options.folder ?? (await mkdtemp(path.join(DATA, 'run-')));
    await mkdir(folder, { recursive: true });
    const callOff = isDetached ? undefined : removeAtEnd(folder);
    const tls = options.tls && (await createTls(folder, options.tls));
    const ports = await freePorts(count * 3);
    const peerPorts = ports.slice(0, count);
    const nodes: EtcdNode[] = [];
    const network = options.canPart
      ? await PeerNetwork.create(peerPorts, (index) => nodes[index]?.pid)
      : undefined;
    const reachedAt = network?.ports ?? peerPorts;
    const clientPorts = ports.slice(count, 2 * count);
    const proxies = options.hasProxies
      ? await Promise.all(clientPorts.map((port) => TcpProxy.listen({ port })))
      : [];
    for (let index = 0; index < count; index++) {
      const name = `node${index}`;
      const places = {
        name,
        folder: path.join(folder, name),
        clientPort: clientPorts[index] as number,
        advertisedPort: proxies[index]?.port ?? (clientPorts[index] as number),
        metricsPort: ports[2 * count + index] as number,
        peerPort: peerPorts[index] as number,
        reachedAt,
        index,
      };
      nodes.push(
        new EtcdNode({
          program: binaries.etcd,
          ...places,
          scheme: tls ? 'https' : 'http',
          args: nodeArgs(places, options, tls),
          logFile: isDetached ? path.join(folder, `${name}.log`) : undefined,
        }),
      );
    }
    return new EtcdCluster({ nodes, folder, tls, proxies }, binaries, network, callOff);
  }

  /** What clients connect to, a URL for each node. */
  get endpoints(): readonly string[] {
    return this.nodes.map(({ endpoint }) => endpoint);
  }

  /** The same through the proxies. */
  get proxiedEndpoints(): readonly string[] {
    return this.proxies.map(({ port }) => `${this.tls ? 'https' : 'http'}://127.0.0.1:${port}`);
  }

  /** The first node, for clusters that have one. */
  get node(): EtcdNode {
    return this.nodes[0] as EtcdNode;
  }

  /**
   * The node that leads; waits for one.
   *
   * @param successorOf - not this one: it was parted or stopped, and goes on to believe that it leads for a while
   */
  async leader(successorOf?: EtcdNode): Promise<EtcdNode> {
    for (;;) {
      const running = this.nodes.filter((node) => node.isRunning && node !== successorOf);
      if (running.length === 0) throw new Error('no node is running');
      const facts = await Promise.all(
        running.map(async (node) => ({
          node,
          leads: (await node.metric('etcd_server_is_leader')) === 1,
          follows: (await node.metric('etcd_server_has_leader')) === 1,
        })),
      );
      const leaders = facts.filter(({ leads, follows }) => leads && follows);
      if (leaders.length === 1) return (leaders[0] as (typeof leaders)[0]).node;
      // The cluster has no event for it.
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** A node that does not lead. */
  async follower(): Promise<EtcdNode> {
    const leader = await this.leader();
    return this.nodes.find((node) => node !== leader && node.isRunning) as EtcdNode;
  }

  /** Parts nodes from all others, as far as peers go; see `canPart`. */
  part(...nodes: readonly EtcdNode[]): void {
    this.#needNetwork().part(nodes.map((node) => this.nodes.indexOf(node)));
  }

  heal(): void {
    this.#needNetwork().heal();
  }

  /** Runs etcdctl against all nodes. @returns what it printed */
  async etcdctl(...args: readonly string[]): Promise<string> {
    const { program, options, env } = this.etcdctlCommand();
    const { stdout } = await run(program, [...options, ...args], { env, maxBuffer: 64 << 20 });
    return stdout;
  }

  /** What to start to run etcdctl against all nodes, for commands that do not end by themselves. */
  etcdctlCommand(): { program: string; options: readonly string[]; env: NodeJS.ProcessEnv } {
    const options = [`--endpoints=${this.endpoints.join(',')}`];
    if (this.tls) {
      const { authority, client } = this.tls;
      options.push(`--cacert=${authority.ca}`, `--cert=${client.cert}`, `--key=${client.key}`);
    }
    if (this.#user !== undefined) options.push(`--user=${this.#user}`);
    return { program: this.#etcdctl, options, env: { ...process.env, ETCDCTL_API: '3' } };
  }

  /** Switches authentication on: `root` with this password, and users who may touch their prefix only. */
  async enableAuth(rootPassword: string, ...users: readonly LimitedUser[]): Promise<void> {
    await this.etcdctl('user', 'add', `root:${rootPassword}`);
    await this.etcdctl('user', 'grant-role', 'root', 'root');
    for (const { name, password, prefix } of users) {
      await this.etcdctl('user', 'add', `${name}:${password}`);
      await this.etcdctl('role', 'add', name);
      await this.etcdctl('role', 'grant-permission', '--prefix=true', name, 'readwrite', prefix);
      await this.etcdctl('user', 'grant-role', name, name);
    }
    await this.etcdctl('auth', 'enable');
    this.#user = `root:${rootPassword}`;
  }

  /** Ends all nodes and removes everything. Idempotent. */
  async close(): Promise<void> {
    // Nothing is worth finishing: a graceful end of several nodes takes seconds.
    await Promise.all(this.nodes.map((node) => node.kill()));
    await Promise.all(this.proxies.map((proxy) => proxy.close()));
    await this.#network?.close();
    await rm(this.folder, { recursive: true, force: true });
    this.#callOff?.();
  }

  #needNetwork(): PeerNetwork {
    if (this.#network === undefined) throw new Error('start the cluster with canPart');
    return this.#network;
  }
}

interface NodePlaces {
  readonly index: number;
  readonly name: string;
  readonly folder: string;
  readonly clientPort: number;
  /** Where clients are told to come. */
  readonly advertisedPort: number;
  readonly metricsPort: number;
  readonly peerPort: number;
  /** Where peers reach each node: its peer port, or the proxy in front of it. */
  readonly reachedAt: readonly number[];
}

function nodeArgs(
  places: NodePlaces,
  { quotaBytes, electionMs, flags = [] }: EtcdClusterOptions,
  tls: EtcdTls | undefined,
): string[] {
  const { index, name, folder, clientPort, advertisedPort, metricsPort, peerPort, reachedAt } =
    places;
  const client = `${tls ? 'https' : 'http'}://127.0.0.1`;
  const members = reachedAt.map((port, member) => `node${member}=http://127.0.0.1:${port}`);
  const args = [
    `--name=${name}`,
    `--data-dir=${folder}`,
    `--listen-client-urls=${client}:${clientPort}`,
    `--advertise-client-urls=${client}:${advertisedPort}`,
    `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
    `--initial-advertise-peer-urls=http://127.0.0.1:${reachedAt[index]}`,
    `--initial-cluster=${members.join(',')}`,
    '--initial-cluster-state=new',
    // Metrics are read without certificates, whatever clients need.
    `--listen-metrics-urls=http://127.0.0.1:${metricsPort}`,
    '--logger=zap',
    '--log-outputs=stderr',
  ];
  if (quotaBytes !== undefined) args.push(`--quota-backend-bytes=${quotaBytes}`);
  if (electionMs !== undefined) {
    args.push(`--election-timeout=${electionMs}`, `--heartbeat-interval=${electionMs / 10}`);
  }
  if (tls) args.push(`--cert-file=${tls.server.cert}`, `--key-file=${tls.server.key}`);
  if (tls?.requiresClient) args.push(`--trusted-ca-file=${tls.authority.ca}`, '--client-cert-auth');
  return [...args, ...flags];
}

async function createTls(
  folder: string,
  { algorithm = 'ecdsa', requiresClient = false, server }: EtcdTlsOptions,
): Promise<EtcdTls> {
  const authority = await CertificateAuthority.create(path.join(folder, 'tls'));
  return {
    authority,
    requiresClient,
    server: (await server?.(authority)) ?? (await authority.issue({ name: 'server', algorithm })),
    client: await authority.issue({ name: 'client', algorithm }),
  };
}
