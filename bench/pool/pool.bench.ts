/**
 * What a pool costs per task: eight other ways to run tasks on worker threads, under the same loads.
 *
 * | load | a task |
 * |---|---|
 * | `noop` | 100 bytes of input, gives back its number |
 * | `cpu50us`, `cpu1ms` | the same, after so much CPU in WebAssembly |
 * | `buffer4k` | a Uint8Array of 4 KiB, gives back a number from it |
 * | `half` | 1 ms of CPU, arriving one by one at half of what the threads can do |
 *
 * Figures without a suffix are with one thread and 1 024 tasks in flight (`--threads`, `--in-flight`); `@noop2x64`
 * is two threads and 64 in flight. Tasks one by one, arrays of 64 made by hand, and an iterable that gives an
 * iterable are different things to use: `settings.results` of each contender says which it is. Each result is checked.
 *
 * `millrace` and `millrace-run` give every task its own deadline (30 s), error and abort; no peer here does.
 */
import {
  type Contender,
  defineBench,
  type MetricSpec,
  type Part,
  type Peer,
  type RunContext,
  type Sample,
} from '../lib/bench.js';
import { millraceVersion, packageVersion } from '../lib/places.js';
import { POOLIFIER, TINYPOOL, WORKERPOOL } from './peers.js';

interface Settings extends Readonly<Record<string, number>> {
  readonly scale: number;
  readonly threads: number;
  readonly inFlight: number;
  readonly payloadBytes: number;
  readonly bufferBytes: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
  readonly latencyMs: number;
  readonly blameTimeoutMs: number;
  readonly blameGraceMs: number;
  /** 0: not measured. */
  readonly overloadMs: number;
}

/** Further settings that no-op tasks are measured with: threads, tasks in flight. */
const FURTHER: readonly (readonly [number, number])[] = [
  [1, 64],
  [2, 1_024],
  [2, 64],
];
const furtherName = (threads: number, inFlight: number): string =>
  `tasksPerSecond@noop${threads}x${inFlight}`;

const rate = (about: string): MetricSpec => ({ unit: 'tasks/s', better: 'higher', about });

const SHARED: Readonly<Record<string, MetricSpec>> = {
  'tasksPerSecond@noop': rate('no-op tasks with 100 bytes'),
  'tasksPerSecond@cpu50us': rate('50 us of CPU each'),
  'tasksPerSecond@cpu1ms': rate('1 ms of CPU each'),
  'tasksPerSecond@buffer4k': rate('a buffer of 4 KiB each'),
  'tasksPerCpuSecond@cpu50us': rate('per second of CPU time of the worker threads'),
  'latencyP99Ms@half': { unit: 'ms', better: 'lower', about: '1 ms tasks at half load' },
  mainAllocBytesPerTask: { unit: 'bytes', better: 'lower', about: 'on the main thread, no-op' },
  youngGcsPerMillion: { unit: 'collections', better: 'lower', about: 'main thread, no-op' },
  ...Object.fromEntries(
    FURTHER.map(([threads, inFlight]) => [
      furtherName(threads, inFlight),
      rate(`no-op, ${threads} ${threads === 1 ? 'thread' : 'threads'}, ${inFlight} in flight`),
    ]),
  ),
};
const OWN: Readonly<Record<string, MetricSpec>> = {
  blameDelayMs: { unit: 'ms', better: 'lower', about: 'an endless loop delays its batch-mates' },
  'rssSlopeMiBPerMin@overload': {
    unit: 'MiB/min',
    better: 'lower',
    about: 'growth under a producer ten times too fast',
  },
};

const NOOP: Part = { name: 'noop' };
const CPU: Part = { name: 'cpu' };
const BUFFER: Part = { name: 'buffer' };
const HALF: Part = { name: 'half' };
const BLAME: Part = { name: 'blame' };
const MEMORY: Part = { name: 'overload' };
const PARTS: readonly Part[] = [NOOP, CPU, BUFFER, HALF];

const PROMISES = 'a promise per task';
const ARRAYS = 'a promise per array of 64, made by hand';
const START_SECONDS = 0.5;

export default defineBench<Settings>({
  name: 'pool',
  question: 'how many small tasks do worker threads run, and at what cost?',
  metrics: { ...SHARED, ...OWN },
  options: {
    threads: 'worker threads (default 1)',
    'in-flight': 'tasks in flight, a multiple of 64 (default 1024)',
    'overload-seconds': 'how long a producer is too fast (default 20, quick 5)',
  },
  ours: ['millrace', 'millrace-run'],
  contenders: [
    contender('millrace', millraceVersion(), 'an async iterator, in order', {
      parts: [...PARTS, BLAME, MEMORY],
    }),
    contender('millrace-run', millraceVersion(), PROMISES),
    contender('piscina', packageVersion('piscina'), PROMISES),
    contender('piscina-tuned', packageVersion('piscina'), PROMISES, {
      options: 'concurrentTasksPerWorker: 16',
    }),
    contender('piscina-batched', packageVersion('piscina'), ARRAYS),
    contender('tinypool', TINYPOOL.version, PROMISES, { peers: [TINYPOOL] }),
    contender('poolifier', POOLIFIER.version, PROMISES, { peers: [POOLIFIER] }),
    contender('workerpool', WORKERPOOL.version, PROMISES, { peers: [WORKERPOOL] }),
    contender('worker_threads', process.version, PROMISES),
    contender('worker_threads-batched', process.version, ARRAYS),
  ],
  runs: ({ isQuick }) => (isQuick ? 1 : 5),
  settings: ({ isQuick, options }) => ({
    scale: isQuick ? 0.25 : 1,
    threads: options.threads ?? 1,
    inFlight: options['in-flight'] ?? 1_024,
    payloadBytes: 100,
    bufferBytes: 4_096,
    warmUpMs: isQuick ? 400 : 700,
    measureMs: isQuick ? 500 : 1_200,
    latencyMs: isQuick ? 1_000 : 2_500,
    blameTimeoutMs: 500,
    blameGraceMs: 100,
    overloadMs: (options['overload-seconds'] ?? (isQuick ? 5 : 20)) * 1_000,
  }),
  seconds(settings, _contender, part) {
    const { warmUpMs, measureMs, latencyMs, overloadMs } = settings;
    const windowMs = warmUpMs + measureMs;
    const ms: Readonly<Record<string, number>> = {
      [NOOP.name]: windowMs + measureMs + FURTHER.length * (windowMs / 2 + 200),
      [CPU.name]: windowMs * 2,
      [BUFFER.name]: windowMs,
      [HALF.name]: warmUpMs * 8 + latencyMs * 1.2,
      [BLAME.name]: 1_000,
      [MEMORY.name]: overloadMs,
    };
    return START_SECONDS + (ms[part] ?? 0) / 1_000;
  },
});

function contender(
  name: string,
  version: string,
  results: string,
  more: {
    readonly options?: string;
    readonly peers?: readonly Peer[];
    readonly parts?: readonly Part[];
  } = {},
): Contender<Settings> {
  const { options = 'defaults', peers = [], parts = PARTS } = more;
  return {
    name,
    version,
    durability: 'none: lost with the process or the thread',
    settings: { results, options },
    metrics: Object.keys(parts === PARTS ? SHARED : { ...SHARED, ...OWN }),
    parts,
    peers,
    run: (settings, context) => measure(name, settings, context),
  };
}

async function measure(name: string, settings: Settings, context: RunContext): Promise<Sample> {
  const { TARGETS } = await import('./targets.js');
  const loads = await import('./measure.js');
  const open = TARGETS[name]!;
  switch (context.part) {
    case CPU.name:
      return loads.cpu(open, settings, context);
    case BUFFER.name:
      return loads.buffer(open, settings, context);
    case HALF.name:
      return loads.half(open, settings);
    case BLAME.name:
      return loads.blame(settings);
    case MEMORY.name:
      return loads.overload(settings);
    default:
      return loads.noop(open, settings, context, FURTHER, furtherName);
  }
}
