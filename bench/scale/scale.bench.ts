/**
 * What a task costs, by how many wait beside it and by how many nodes share the work. docs/scaling.md has the model that these
 * figures feed.
 *
 *   pending   so many tasks that are due in ten minutes, and meanwhile no-op tasks in a closed loop: does a task cost more because
 *             others wait?
 *   nodes     one etcd, so many processes of one thread that run tasks, a client that submits them: CPU time of each kind of process
 *             per task, which holds also where nodes have machines of their own; throughput is that of this one machine
 */
import { defineBench, type MetricSpec, type Part, type Sample } from '../lib/bench.js';
import { millraceVersion, syncedDurability } from '../lib/places.js';
import type { ScaleSettings } from './settings.js';

/** As figures are named: 10k, 100k, 1M, 5M. */
const PENDING = { '10k': 10_000, '100k': 100_000, '1M': 1_000_000, '5M': 5_000_000 } as const;
const NODES = [1, 2, 4, 8];
const QUICK_PENDING_MAX = 100_000;
const QUICK_NODES_MAX = 2;

const PENDING_FIGURES: Readonly<Record<string, MetricSpec>> = {
  submitCpuUs: { unit: 'us', better: 'lower', about: 'CPU time to accept one that waits, in bulk' },
  rssBytes: { unit: 'bytes', better: 'lower', about: 'memory of the process for one that waits' },
  heapBytes: { unit: 'bytes', better: 'lower', about: 'JavaScript heap for one that waits' },
  runCpuUs: {
    unit: 'us',
    better: 'lower',
    about: 'CPU time of a no-op task, submit to result, with so many waiting beside it',
  },
  gcMsPerSecond: { unit: 'ms/s', better: 'lower', about: 'garbage collection meanwhile' },
};
const NODE_FIGURES: Readonly<Record<string, MetricSpec>> = {
  tasksPerSecond: { unit: 'tasks/s', better: 'higher', about: 'all on one machine' },
  nodeCpuUs: { unit: 'us', better: 'lower', about: 'CPU time of all nodes for one task' },
  clientCpuUs: { unit: 'us', better: 'lower', about: 'of the client that submits and waits' },
  etcdCpuUs: { unit: 'us', better: 'lower', about: 'of the etcd server' },
  tasksPerRevision: { unit: 'tasks', better: 'higher', about: 'tasks for one transaction of etcd' },
};

const sizes = Object.keys(PENDING);
const at = (
  figures: Readonly<Record<string, MetricSpec>>,
  places: readonly string[],
): Readonly<Record<string, MetricSpec>> =>
  Object.fromEntries(
    places.flatMap((place) =>
      Object.entries(figures).map(([name, spec]) => [`${name}@${place}`, spec]),
    ),
  );
const nodePlaces = NODES.map((count) => `${count}nodes`);
const pendingMetrics = at(PENDING_FIGURES, sizes);
const nodeMetrics = at(NODE_FIGURES, nodePlaces);
const parts = (names: readonly string[]): readonly Part[] =>
  names.map((name) => ({ name, nodeFlags: ['--expose-gc'] }));

export default defineBench<ScaleSettings>({
  name: 'scale',
  question: 'what does a task cost among many, and on many nodes?',
  metrics: { ...pendingMetrics, ...nodeMetrics },
  options: {
    'pending-max': 'the largest number of waiting tasks (default 5000000)',
    'nodes-max': 'the largest number of nodes (default 8)',
  },
  ours: ['millrace-memory', 'millrace-embedded', 'millrace-etcd'],
  contenders: [
    {
      name: 'millrace-memory',
      version: millraceVersion(),
      durability: 'none: lost with the process',
      metrics: Object.keys(pendingMetrics),
      parts: parts(sizes),
      async run(settings, { part }) {
        if (!settings.pending.includes(sizeOf(part))) return leftOut(PENDING_FIGURES, part);
        const { amongPending } = await import('./pending.js');
        return amongPending(undefined, sizeOf(part), part, settings);
      },
    },
    {
      name: 'millrace-embedded',
      version: millraceVersion(),
      durability: syncedDurability(),
      metrics: Object.keys(pendingMetrics),
      parts: parts(sizes),
      async run(settings, context) {
        const { part } = context;
        if (!settings.pending.includes(sizeOf(part))) return leftOut(PENDING_FIGURES, part);
        const { amongPending } = await import('./pending.js');
        return amongPending(context.directory(), sizeOf(part), part, settings);
      },
    },
    {
      name: 'millrace-etcd',
      version: millraceVersion(),
      durability: 'one etcd on loopback, fsync before the acknowledgement',
      metrics: Object.keys(nodeMetrics),
      parts: parts(nodePlaces),
      async run(settings, { part }) {
        const count = Number.parseInt(part, 10);
        if (!settings.nodes.includes(count)) return leftOut(NODE_FIGURES, part);
        const { onNodes } = await import('./nodes.js');
        return onNodes(count, part, settings);
      },
    },
  ],
  runs: ({ isQuick }) => (isQuick ? 1 : 5),
  settings: ({ isQuick, options }) => ({
    scale: isQuick ? 0.1 : 1,
    pending: Object.values(PENDING).filter(
      (count) => count <= (options['pending-max'] ?? (isQuick ? QUICK_PENDING_MAX : count)),
    ),
    nodes: NODES.filter(
      (count) => count <= (options['nodes-max'] ?? (isQuick ? QUICK_NODES_MAX : count)),
    ),
    payloadBytes: 200,
    inFlight: 1_000,
    warmUpMs: isQuick ? 500 : 2_000,
    measureMs: isQuick ? 3_000 : 8_000,
  }),
  seconds: ({ pending, nodes, warmUpMs, measureMs }, contender, part) => {
    const loop = 1 + (warmUpMs + measureMs) / 1_000;
    if (contender === 'millrace-etcd') {
      return nodes.includes(Number.parseInt(part, 10)) ? loop + 4 : 0.3;
    }
    return pending.includes(sizeOf(part)) ? loop + sizeOf(part) / 50_000 : 0.3;
  },
});

/** The answer of a part that these settings leave out. */
function leftOut(figures: Readonly<Record<string, MetricSpec>>, place: string): Sample {
  const names = Object.keys(figures).map((name) => `${name}@${place}`);
  const reason = 'left out of this run (--quick, --pending-max, --nodes-max)';
  return {
    metrics: Object.fromEntries(names.map((name) => [name, null])),
    reasons: Object.fromEntries(names.map((name) => [name, reason])),
  };
}

function sizeOf(part: string): number {
  return PENDING[part as keyof typeof PENDING];
}
