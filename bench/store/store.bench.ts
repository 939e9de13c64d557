/**
 * What a store costs its user: transactions, reads, locks, renewals and watches through one client.
 *
 * Contenders with a server each start an etcd of their own in every round (one node, loopback, fsync as etcd does it),
 * so no one pays for the history another wrote. Server and client share the machine: what a client spends per call is
 * missing on the server's side, as on a small node. Values are 256 bytes; packed values hold 64 tasks of that size.
 */
import { EtcdCluster, etcdBinaries, type KeyAlgorithm } from '../../test/support/etcd/index.js';
import { defineBench, type MetricSpec, type RunContext, type Sample } from '../lib/bench.js';
import { millraceVersion, syncedDurability } from '../lib/places.js';
import type { ClientOptions, ManyClients, StoreClient } from './client.js';
import { ETCD3 } from './clients/etcd3.js';
import { goClientVersion } from './go-client.js';
import type { WorkSettings } from './work.js';

interface Settings extends WorkSettings, Readonly<Record<string, number>> {
  readonly scale: number;
  readonly reconnects: number;
}

/** How a contender connects. */
interface Connector {
  open(options: ClientOptions): Promise<StoreClient>;
  /** For a client per operation. */
  openMany(options: ClientOptions): Promise<ManyClients>;
}

const rate = (unit: string, about: string): MetricSpec => ({ unit, better: 'higher', about });
const time = (about: string): MetricSpec => ({ unit: 'ms', better: 'lower', about });

const EVERYWHERE = [
  'packedTasksPerSecond',
  'txn64KeysPerSecond',
  'putsPerSecond@100',
  'writeMeanMs@mixed100',
  'readMeanMs@mixed100',
  'locksPerSecond@1',
  'locksPerSecond@50on1',
  'locksPerSecond@50on64',
  'lockP99Ms@50on1',
];

export default defineBench<Settings>({
  name: 'store',
  question: 'what does a store do in a second, and what does its client cost?',
  metrics: {
    packedTasksPerSecond: rate('tasks/s', '64 tasks per value, compare-and-set, 16 in flight'),
    txn64KeysPerSecond: rate('keys/s', '64 keys per transaction, compare-and-set, 16 in flight'),
    'putsPerSecond@100': rate('puts/s', 'single puts, 100 in flight'),
    'putsPerSecond@clientPerOp': rate('puts/s', 'a new client for each put, 16 in flight'),
    'writeMeanMs@mixed100': time('100 concurrent, each writes and reads in turn: writes'),
    'readMeanMs@mixed100': time('the same: linearizable reads'),
    'locksPerSecond@1': rate('locks/s', 'lock and unlock, nobody else wants it'),
    'locksPerSecond@50on1': rate('locks/s', '50 contenders for one lock'),
    'locksPerSecond@50on64': rate('locks/s', '50 contenders, 64 locks'),
    'lockP99Ms@50on1': time('50 contenders for one lock: from asking to done, 99th percentile'),
    'keepalivesPerSecond@100': rate('renewals/s', '100 leases, each renewed again and again'),
    'tlsReconnectMs@ecdsa': time('from a cut connection to the next answer, ECDSA P-256'),
    'tlsReconnectMs@rsa': time('the same, RSA 2048'),
    watchReplayPerSecond: rate('events/s', 'a watch from the past, 100 events per revision'),
  },
  ours: ['millrace-etcd', 'millrace-embedded'],
  contenders: [
    {
      name: 'millrace-etcd',
      version: millraceVersion(),
      durability: syncedDurability(),
      settings: { store: 'etcdStore', lock: 'withLock, one session' },
      async run(settings, context) {
        const { openMillrace } = await import('./clients/millrace.js');
        const { etcdStore } = await import('../../src/store/etcd/index.js');
        const factory = ({ endpoint: endpoints, tls }: ClientOptions) =>
          etcdStore({ endpoints, namespace: 'bench', ...(tls && { tls }) });
        return onEtcd(
          {
            open: (options) => openMillrace(factory(options)),
            // Stores of a process share their connections, so this is one store with that switched off.
            async openMany(options) {
              const client = await openMillrace(factory(options), 'client');
              return { open: async () => client, closeOne: async () => {}, closeAll: client.close };
            },
          },
          settings,
          context,
        );
      },
    },
    {
      name: 'etcd3',
      version: ETCD3.version,
      durability: syncedDurability(),
      settings: { retries: 'its own', lock: 'try-lock, tried again after 0 to 10 ms' },
      peers: [ETCD3],
      async run(settings, context) {
        const { openEtcd3 } = await import('./clients/etcd3.js');
        return onEtcd(
          {
            open: openEtcd3,
            async openMany(options) {
              return {
                open: () => openEtcd3(options),
                closeOne: (client) => client.close(),
                closeAll: async () => {},
              };
            },
          },
          settings,
          context,
        );
      },
    },
    {
      name: 'go-client',
      version: goClientVersion(),
      durability: syncedDurability(),
      settings: { lock: 'concurrency.Mutex, a session for each contender' },
      metrics: [...EVERYWHERE, 'keepalivesPerSecond@100', 'watchReplayPerSecond'],
      async run(settings) {
        const { buildGoClient, runGoClient } = await import('./go-client.js');
        const program = await buildGoClient();
        const etcd = await EtcdCluster.start();
        const metrics = await runGoClient(program, etcd.node.endpoint, settings);
        await etcd.close();
        return { metrics, notes: { etcd: etcd.version } };
      },
    },
    {
      name: 'millrace-embedded',
      version: millraceVersion(),
      durability: syncedDurability(),
      settings: { store: 'fileStore, in build/bench' },
      metrics: EVERYWHERE,
      async run(settings, context) {
        const { openMillrace } = await import('./clients/millrace.js');
        const { fileStore } = await import('../../src/store/index.js');
        const client = await openMillrace(fileStore(context.directory()));
        const metrics = await common(client, settings, context);
        await client.close();
        return { metrics };
      },
    },
  ],
  runs: ({ isQuick }) => (isQuick ? 1 : 5),
  settings: ({ isQuick }) => ({
    scale: isQuick ? 0.1 : 1,
    measureMs: isQuick ? 400 : 4_000,
    valueBytes: 256,
    tasksPerValue: 64,
    keysPerTxn: 64,
    mixedOperations: isQuick ? 20 : 500,
    replayEvents: isQuick ? 5_000 : 50_000,
    leases: 100,
    reconnects: isQuick ? 10 : 50,
  }),
  // Eight figures are rates; the others take about as long as five of them.
  seconds: ({ measureMs }) => 4 + (measureMs * 1.25 * 13) / 1000,
});

/** Every figure that needs no server. */
async function common(
  client: StoreClient,
  settings: Settings,
  context: RunContext,
): Promise<Record<string, number | null>> {
  const work = await import('./work.js');
  const packedTasksPerSecond = await context.section(
    'packedTasksPerSecond',
    () => work.packed(client, settings),
    (perSecond) => (perSecond * settings.measureMs) / 1000 / settings.tasksPerValue,
  );
  const txn64KeysPerSecond = await work.txns(client, settings);
  const putsPerSecond = await work.puts(client, settings);
  const { writeMs, readMs } = await work.mixed(client, settings);
  const alone = await work.locks(client, 'alone', settings);
  const one = await work.locks(client, 'one', settings);
  const many = await work.locks(client, 'many', settings);
  return {
    packedTasksPerSecond,
    txn64KeysPerSecond,
    'putsPerSecond@100': putsPerSecond,
    'writeMeanMs@mixed100': writeMs,
    'readMeanMs@mixed100': readMs,
    'locksPerSecond@1': alone.perSecond,
    'locksPerSecond@50on1': one.perSecond,
    'locksPerSecond@50on64': many.perSecond,
    'lockP99Ms@50on1': one.p99Ms,
  };
}

async function onEtcd(
  { open, openMany }: Connector,
  settings: Settings,
  context: RunContext,
): Promise<Sample> {
  const work = await import('./work.js');
  const { version } = await etcdBinaries();
  const etcd = await EtcdCluster.start();
  const { endpoint } = etcd.node;
  const client = await open({ endpoint });
  const metrics = await common(client, settings, context);
  const reasons: Record<string, string> = {};
  const measured = async (name: string, figure: () => Promise<number>): Promise<void> => {
    try {
      metrics[name] = await figure();
    } catch (error) {
      // A client that cannot do one thing still shows what it does of the others.
      metrics[name] = null;
      reasons[name] = (error as Error).message;
    }
  };
  await measured('keepalivesPerSecond@100', () => work.keepalives(client, settings));
  await measured('watchReplayPerSecond', () => work.replay(client, settings));
  await client.close();
  await measured('putsPerSecond@clientPerOp', async () => {
    const many = await openMany({ endpoint });
    const perSecond = await work.putsWithClientEach(many, settings);
    await many.closeAll();
    return perSecond;
  });
  await etcd.close();
  for (const algorithm of ['ecdsa', 'rsa'] as const) {
    await measured(`tlsReconnectMs@${algorithm}`, () => reconnect(open, algorithm, settings));
  }
  return { metrics, reasons, notes: { etcd: version } };
}

/** The median time from a cut to the next answer. */
async function reconnect(
  open: Connector['open'],
  algorithm: KeyAlgorithm,
  { reconnects }: Settings,
): Promise<number> {
  const etcd = await EtcdCluster.start({
    tls: { algorithm, requiresClient: true },
    hasProxies: true,
  });
  const { tls, proxies, proxiedEndpoints } = etcd;
  if (tls === undefined) throw new Error('a server with TLS has certificates');
  const client = await open({
    endpoint: proxiedEndpoints[0] as string,
    tls: { ca: tls.authority.ca, ...tls.client },
  });
  await client.put('reconnect', new Uint8Array(1));
  const times: number[] = [];
  for (let index = 0; index < reconnects; index++) {
    for (const proxy of proxies) proxy.cut();
    const startAt = performance.now();
    if ((await client.version('reconnect')) !== 1) throw new Error('the server forgot a key');
    times.push(performance.now() - startAt);
  }
  await client.close();
  await etcd.close();
  return times.sort((a, b) => a - b)[times.length >> 1] as number;
}
