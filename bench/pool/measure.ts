/** The parts of the bench: each is one process of a contender's round, and gives its figures. */

import { openLoop } from '../engine/load.js';
import { CollectorWatch } from '../gc/watch.js';
import type { RunContext, Sample } from '../lib/bench.js';
import { underLoad, type Window } from './load.js';
import type { Open } from './targets.js';
import { calibrate, type Input, makeBuffers, makeJobs } from './tasks.js';

interface Sizes {
  readonly threads: number;
  readonly inFlight: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
}

const perSecond = ({ tasks, elapsedMs }: Window): number => (tasks / elapsedMs) * 1_000;

/** Throughput, then garbage in a window of its own, then throughput with other settings. */
export async function noop(
  open: Open,
  sizes: Sizes,
  { section }: RunContext,
  further: readonly (readonly [number, number])[],
  nameOf: (threads: number, inFlight: number) => string,
): Promise<Sample> {
  const inputs = makeJobs(0);
  const { window, garbage, collections } = await underLoad(
    open,
    { ...sizes, inputs },
    async (measured) => {
      const window = await section('noop', measured, ({ tasks }) => tasks);
      const watch = new CollectorWatch();
      watch.start();
      const watched = await measured();
      const { allocatedBytes, youngGcs } = await watch.stop();
      return {
        window,
        garbage: allocatedBytes / watched.tasks,
        collections: (youngGcs / watched.tasks) * 1e6,
      };
    },
  );
  const metrics: Record<string, number> = {
    'tasksPerSecond@noop': perSecond(window),
    mainAllocBytesPerTask: garbage,
    youngGcsPerMillion: collections,
  };
  for (const [threads, inFlight] of further) {
    const shorter = { warmUpMs: sizes.warmUpMs / 2, measureMs: sizes.measureMs / 2 };
    metrics[nameOf(threads, inFlight)] = await underLoad(
      open,
      { threads, inFlight, inputs, ...shorter },
      async (measured) => perSecond(await measured()),
    );
  }
  return { metrics, notes: { threadsCpuUsPerTask: window.threadsCpuUs / window.tasks } };
}

export async function cpu(open: Open, sizes: Sizes, { section }: RunContext): Promise<Sample> {
  const turnsPerUs = calibrate();
  const take = (us: number): Promise<Window> =>
    underLoad(open, { ...sizes, inputs: makeJobs(Math.round(turnsPerUs * us)) }, (measured) =>
      section(`cpu ${us} us`, measured, ({ tasks }) => tasks),
    );
  const short = await take(50);
  const long = await take(1_000);
  return {
    metrics: {
      'tasksPerSecond@cpu50us': perSecond(short),
      'tasksPerCpuSecond@cpu50us': (short.tasks / short.threadsCpuUs) * 1e6,
      'tasksPerSecond@cpu1ms': perSecond(long),
    },
    notes: { turnsPerUs },
  };
}

export async function buffer(open: Open, sizes: Sizes, { section }: RunContext): Promise<Sample> {
  const window = await underLoad(open, { ...sizes, inputs: makeBuffers() }, (measured) =>
    section('buffer', measured, ({ tasks }) => tasks),
  );
  return { metrics: { 'tasksPerSecond@buffer4k': perSecond(window) } };
}

/** One task per millisecond makes code hot slowly: it takes so many times the warm-up of the closed loads. */
const HALF_WARM_UPS = 8;

/** Tasks come one by one, whatever the contender: by its function for one task. */
export async function half(
  open: Open,
  { threads, inFlight, warmUpMs, latencyMs }: Sizes & { readonly latencyMs: number },
): Promise<Sample> {
  const target = await open(threads, inFlight);
  if (target.kind === 'batched') {
    await target.close();
    return {
      metrics: { 'latencyP99Ms@half': null },
      reasons: {
        'latencyP99Ms@half': 'arrays made by hand would wait for company or be tasks one by one',
      },
    };
  }
  const inputs: readonly Input[] = makeJobs(Math.round(calibrate() * 1_000));
  const checked = {
    async run(input: Input): Promise<void> {
      const result = await target.run(input);
      if (inputs[result] !== input) throw new Error(`a task gave ${result}`);
    },
  };
  // Threads that a contender starts once it has work, and code that is not compiled yet, are not its latency. V8 compiles on
  // threads of its own for seconds, and where those need the CPUs of the others, p99 is theirs.
  const warmAtMs = performance.now() + warmUpMs * HALF_WARM_UPS;
  while (performance.now() < warmAtMs) {
    await Promise.all(inputs.slice(0, 8).map((input) => checked.run(input)));
  }
  const { p50Ms, p99Ms, samples } = await openLoop(checked, inputs, {
    perSecond: 500 * threads,
    warmUpMs: latencyMs / 5,
    measureMs: latencyMs,
  });
  await target.close();
  return {
    metrics: { 'latencyP99Ms@half': p99Ms },
    notes: { 'latencyP50Ms@half': p50Ms, 'samples@half': samples },
  };
}

export async function blame(settings: {
  readonly threads: number;
  readonly blameTimeoutMs: number;
  readonly blameGraceMs: number;
}): Promise<Sample> {
  const { blameDelayMs } = await import('./bad-tasks.js');
  const delayMs = await blameDelayMs(settings.threads, {
    timeoutMs: settings.blameTimeoutMs,
    graceMs: settings.blameGraceMs,
  });
  return { metrics: { blameDelayMs: delayMs } };
}

export async function overload(settings: {
  readonly threads: number;
  readonly overloadMs: number;
}): Promise<Sample> {
  const { overloadSlope } = await import('./bad-tasks.js');
  const { slopeMiBPerMin, tasks, rssMiB } = await overloadSlope(settings.threads, {
    turns: Math.round(calibrate() * 100),
    taskMs: 0.1,
    ms: settings.overloadMs,
  });
  return {
    metrics: { 'rssSlopeMiBPerMin@overload': slopeMiBPerMin },
    notes: { 'tasks@overload': tasks, 'rssMiB@overload': rssMiB },
  };
}
