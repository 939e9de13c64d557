/**
 * What a task costs from being handed in to being done, against the queues that Node services use today: no-op
 * handlers, 200-byte payloads, everything on one machine.
 *
 * The producer has a process of its own, but for latency, where the worker submits, and on millrace's embedded store,
 * which one process uses at a time. Every contender starts its server for each round, on the same
 * disk; each looks whether every task ran exactly once. What millrace keeps and peers do not: the results, for an hour.
 */
import { defineBench, type MetricSpec, type RunContext, type Sample } from '../lib/bench.js';
import { millraceVersion, syncedDurability } from '../lib/places.js';
import { BULLMQ, GRAPHILE, PG_BOSS } from './peers.js';
import type { Contestant } from './queue.js';
import type { WorkSettings } from './work.js';

interface Settings extends WorkSettings {
  readonly scale: number;
  /** In each round. */
  readonly kills: number;
}

const rate = (about: string): MetricSpec => ({ unit: 'tasks/s', better: 'higher', about });
const time = (about: string): MetricSpec => ({ unit: 'ms', better: 'lower', about });
const memory = (about: string): MetricSpec => ({ unit: 'MiB', better: 'lower', about });

const PEER_METRICS = [
  'endToEndPerSecond',
  'processPerSecond',
  'submitPerSecond',
  'endToEndPerSecond@20k',
  'processPerSecond@20k',
  'submitPerSecond@20k',
  'submitSinglePerSecond@100',
  'submitSinglePerSecond@1',
  'delayedLatenessP99Ms',
  'latencyP50Ms@500',
  'latencyP99Ms@500',
  'commitRttP50Ms',
  'youngGcsPerMillion',
  'rssMB',
];
/** Of a fleet only. */
const TAKEOVER = ['takeoverP50Ms', 'takeoverMaxMs'];
const WORK = 'work';
const PENDING = 'pending';
const TAKEN_OVER = 'takeover';
const PARTS = [{ name: WORK }, { name: PENDING, nodeFlags: ['--expose-gc'] }, { name: TAKEN_OVER }];
const PENDING_RSS = 'rssMB@1Mpending';
/** A node is killed, noticed after its session's 5 s, and started again. */
const KILL_SECONDS = 8;
const START_SECONDS = 6;

export default defineBench<Settings>({
  name: 'queue',
  question: 'how fast does a queue take tasks in, run them, and start them?',
  metrics: {
    endToEndPerSecond: rate('first submit to last end stored, submitting and running at once'),
    processPerSecond: rate('the queue loaded beforehand'),
    submitPerSecond: rate('acknowledged bulk submits'),
    'endToEndPerSecond@20k': rate('20 000 tasks, in the same process after all other loads'),
    'processPerSecond@20k': rate('the same'),
    'submitPerSecond@20k': rate('the same'),
    'submitSinglePerSecond@100': rate('100 callers of the call for one task'),
    'submitSinglePerSecond@1': rate('one caller'),
    delayedLatenessP99Ms: time('many due at the same instant: from then to the handler, 99th'),
    'latencyP50Ms@500': time('500 tasks/s, intended send to handler, median'),
    'latencyP99Ms@500': time('the same, 99th percentile'),
    commitRttP50Ms: time('one bare write of 200 bytes to the store, median'),
    youngGcsPerMillion: {
      unit: 'collections',
      better: 'lower',
      about: "the worker's main thread, the queue loaded beforehand",
    },
    rssMB: memory("the worker's process after the load"),
    [PENDING_RSS]: memory('the same with 1 M tasks that wait for a time'),
    takeoverP50Ms: time('from kill -9 of a node to its tasks running elsewhere, median'),
    takeoverMaxMs: time('the same, longest'),
  },
  options: { tasks: 'tasks of the bulk loads (default 200000, --quick 20000)' },
  ours: [
    'millrace-etcd',
    'millrace-etcd-features',
    'millrace-etcd-thread',
    'millrace-etcd-3node',
    'millrace-embedded',
  ],
  contenders: [
    onEtcd('millrace-etcd', 'inline', 1),
    onEtcd('millrace-etcd-features', 'featured', 1),
    onEtcd('millrace-etcd-thread', 'thread', 1),
    onEtcd('millrace-etcd-3node', 'inline', 3),
    {
      name: 'millrace-embedded',
      version: millraceVersion(),
      durability: syncedDurability(),
      settings: { exec: 'inline', store: 'fileStore', producer: "the worker's process" },
      metrics: [...PEER_METRICS, PENDING_RSS],
      parts: PARTS.filter(({ name }) => name !== TAKEN_OVER),
      async run(settings, context) {
        const { embedded } = await import('./clients/millrace.js');
        return partOf('millrace-embedded', settings, context, async () =>
          embedded(context.directory()),
        );
      },
    },
    onRedis('bullmq-everysec', 'everysec', false),
    onRedis('bullmq-always', 'always', false),
    onRedis('bullmq-sandbox', 'everysec', true),
    {
      name: 'pg-boss',
      version: PG_BOSS.version,
      durability: `${syncedDurability()}; synchronous_commit on`,
      settings: { worker: '2 loops of fetch and complete, 1000 jobs each, 5 ms apart when idle' },
      metrics: PEER_METRICS,
      peers: [PG_BOSS],
      async run(settings, context) {
        const { pgBoss } = await import('./clients/pg-boss.js');
        return partOf('pg-boss', settings, context, () => pgBoss(context.directory()));
      },
    },
    {
      name: 'graphile-worker',
      version: GRAPHILE.version,
      durability: `${syncedDurability()}; synchronous_commit on`,
      settings: {
        worker: '100 jobs at once, localQueue of 1000, completeJobBatchDelay 0, pollInterval 100',
      },
      metrics: PEER_METRICS,
      peers: [GRAPHILE],
      async run(settings, context) {
        const { graphile } = await import('./clients/graphile.js');
        return partOf('graphile-worker', settings, context, () => graphile(context.directory()));
      },
    },
  ],
  runs: ({ isQuick }) => (isQuick ? 1 : 5),
  settings: ({ isQuick, options }) => ({
    scale: isQuick ? 0.1 : 1,
    tasks: options.tasks ?? (isQuick ? 20_000 : 200_000),
    fewTasks: isQuick ? 0 : 20_000,
    warmUpTasks: isQuick ? 3_000 : 20_000,
    singleMs: isQuick ? 600 : 4_000,
    delayedTasks: isQuick ? 10_000 : 20_000,
    latencyPerSecond: 500,
    latencyMs: isQuick ? 1_200 : 10_000,
    commits: isQuick ? 100 : 500,
    pendingTasks: isQuick ? 0 : 1_000_000,
    kills: isQuick ? 2 : 10,
  }),
  seconds({ tasks, fewTasks, singleMs, latencyMs, pendingTasks, kills }, contender, part) {
    if (part === TAKEN_OVER) return START_SECONDS + kills * KILL_SECONDS;
    if (part === PENDING) return 0.5 + pendingTasks / 50_000;
    const perSecond = contender.startsWith('millrace') ? 30_000 : 8_000;
    return (
      START_SECONDS +
      (2.5 * singleMs + 1.25 * latencyMs) / 1000 +
      (3 * (tasks + fewTasks)) / perSecond
    );
  },
});

/** Measures what the part is for. @param open - starts the contender, with its server */
async function partOf(
  name: string,
  settings: Settings,
  context: RunContext,
  open: () => Promise<Contestant & { readonly url?: string }>,
): Promise<Sample> {
  const { createLedger, measure, pending } = await import('./work.js');
  const ledger = createLedger(settings);
  if (context.part === PENDING) return pending(await open(), settings);
  return measure(await open(), name, settings, context, ledger);
}

type BenchContender = Parameters<typeof defineBench<Settings>>[0]['contenders'][number];

function onEtcd(
  name: string,
  kind: 'inline' | 'thread' | 'featured',
  nodes: number,
): BenchContender {
  const isPlain = kind !== 'featured';
  const isFleet = kind === 'inline' && nodes === 1;
  const exec = kind === 'thread' ? 'thread' : 'inline';
  const features =
    kind === 'featured'
      ? { features: '16 tenants, 4 priorities, a rate, a concurrency limit' }
      : {};
  return {
    name,
    version: millraceVersion(),
    durability: `${syncedDurability()}, on ${nodes === 1 ? 'one etcd' : 'two of three etcds'}`,
    settings: { exec, nodes, producer: 'a client', ...features },
    metrics: [...PEER_METRICS, ...(isPlain ? [PENDING_RSS] : []), ...(isFleet ? TAKEOVER : [])],
    parts: PARTS.filter(({ name }) => (name === TAKEN_OVER ? isFleet : isPlain || name === WORK)),
    async run(settings, context) {
      if (context.part === TAKEN_OVER) {
        const { takeover } = await import('./takeover.js');
        return takeover(settings.kills);
      }
      const millrace = await import('./clients/millrace.js');
      return partOf(name, settings, context, () => millrace.onEtcd(kind, nodes));
    },
  };
}

function onRedis(name: string, fsync: 'everysec' | 'always', isSandboxed: boolean): BenchContender {
  return {
    name,
    version: BULLMQ.version,
    durability:
      fsync === 'always'
        ? `${syncedDurability()}; appendfsync always`
        : 'appendfsync everysec: a second of what was acknowledged may be lost with the machine',
    settings: {
      worker: isSandboxed ? 'useWorkerThreads, one job per thread' : 'concurrency 200',
      jobs: 'removeOnComplete',
    },
    metrics: PEER_METRICS,
    peers: [BULLMQ],
    async run(settings, context) {
      const { bullmq } = await import('./clients/bullmq.js');
      return partOf(name, settings, context, () => bullmq(context.directory(), fsync, isSandboxed));
    },
  };
}
