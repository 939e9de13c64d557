/**
 * What a task costs from submit to result: no-op tasks with 200-byte payloads on as many threads as there are cores.
 *
 * `piscina` is the bare pool, one message per task, which stores nothing: a task is lost with the process. It is what
 * millrace's pool is built on, so the comparison says what batching gains and what storing costs.
 *
 * Every contender has the same number of threads and the same number of tasks in flight. That number is part of the
 * result: a store that syncs gives each task two commits to wait for, and how many tasks share a commit is bounded by
 * how many are in flight. Piscina's rate hardly depends on it. docs/internals/benchmarking.md has figures for others.
 */
import { availableParallelism } from 'node:os';
import { defineBench, type RunContext, type Sample } from '../lib/bench.js';
import { millraceVersion, packageVersion, syncedDurability } from '../lib/places.js';
import { closedLoop, makePayloads, openLoop, PAYLOAD_BYTES, type Target } from './load.js';

interface Settings extends Readonly<Record<string, number | string>> {
  readonly scale: number;
  readonly threads: number;
  readonly payloadBytes: number;
  readonly inFlight: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
  readonly latencyPerSecond: number;
  readonly latencyMs: number;
}

const START_SECONDS = 0.6;

export default defineBench<Settings>({
  name: 'engine',
  question: 'how fast does a no-op task get from submit to result?',
  metrics: {
    tasksPerSecond: {
      unit: 'tasks/s',
      better: 'higher',
      about: 'submit to result, a fixed number in flight',
    },
    latencyP50Ms: {
      unit: 'ms',
      better: 'lower',
      about: 'intended start to result at a low fixed rate, median',
    },
    latencyP99Ms: {
      unit: 'ms',
      better: 'lower',
      about: 'the same, 99th percentile',
    },
  },
  options: {
    'in-flight': 'tasks in flight (default 2000)',
    threads: 'worker threads (default: one per core)',
  },
  ours: ['millrace-embedded', 'millrace-memory'],
  contenders: [
    {
      name: 'millrace-embedded',
      version: millraceVersion(),
      durability: syncedDurability(),
      settings: { store: 'fileStore, in build/bench' },
      run: (settings, context) =>
        measure(settings, context, millraceOn(settings, context.directory())),
    },
    {
      name: 'millrace-memory',
      version: millraceVersion(),
      durability: 'none: lost with the process',
      settings: { store: 'memoryStore' },
      run: (settings, context) => measure(settings, context, millraceOn(settings, undefined)),
    },
    {
      name: 'piscina',
      version: packageVersion('piscina'),
      durability: 'none: lost with the process or the thread',
      settings: { messages: 'one per task', options: 'defaults' },
      async run(settings, context) {
        const { piscina } = await import('./targets.js');
        return measure(settings, context, piscina(settings.threads));
      },
    },
  ],
  runs: ({ isQuick }) => (isQuick ? 3 : 5),
  settings: ({ isQuick, options }) => ({
    scale: isQuick ? 0.25 : 1,
    threads: options.threads ?? availableParallelism(),
    payloadBytes: PAYLOAD_BYTES,
    inFlight: options['in-flight'] ?? 2_000,
    warmUpMs: isQuick ? 1_000 : 3_000,
    measureMs: isQuick ? 2_000 : 8_000,
    latencyPerSecond: 500,
    latencyMs: isQuick ? 1_500 : 10_000,
  }),
  seconds: ({ warmUpMs, measureMs, latencyMs }) =>
    START_SECONDS + (warmUpMs * 1.25 + measureMs + latencyMs) / 1000,
});

async function millraceOn(settings: Settings, directory: string | undefined): Promise<Target> {
  const { millrace } = await import('./targets.js');
  return millrace(settings.threads, directory);
}

async function measure(
  settings: Settings,
  context: RunContext,
  opening: Promise<Target>,
): Promise<Sample> {
  const target = await opening;
  const payloads = makePayloads();
  const closed = await closedLoop(target, payloads, settings, (work) =>
    context.section('tasksPerSecond', work, (result) => result.tasks),
  );
  const latency = await openLoop(target, payloads, {
    perSecond: settings.latencyPerSecond,
    warmUpMs: settings.warmUpMs / 4,
    measureMs: settings.latencyMs,
  });
  await target.close();
  return {
    metrics: {
      tasksPerSecond: (closed.tasks / closed.elapsedMs) * 1000,
      latencyP50Ms: latency.p50Ms,
      latencyP99Ms: latency.p99Ms,
    },
    notes: {
      tasksMeasured: closed.tasks,
      cpuUsPerTask: closed.cpuUs / closed.tasks,
      mainThreadCpuUsPerTask: closed.mainThreadCpuUs / closed.tasks,
      latencySamples: latency.samples,
    },
  };
}
