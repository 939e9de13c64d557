/**
 * The workloads. Each has a space of its own, ends when every end is stored, and looks whether every task has run
 * exactly once: a figure of a queue that lost or doubled something would be worth nothing.
 */
import { Arrivals } from '../../src/cli/loadtest/arrivals.js';
import { CollectorWatch } from '../gc/watch.js';
import type { RunContext, Sample } from '../lib/bench.js';
import { percentile } from '../lib/stats.js';
import { Ledger } from './ledger.js';
import { type Loader, loaderOf, startProducer } from './producer-process.js';
import { type Contestant, itemOf, sharedNowMs, type Worker } from './queue.js';

export interface WorkSettings extends Readonly<Record<string, number>> {
  readonly tasks: number;
  /** Of the bulk loads that come last. 0: not measured. */
  readonly fewTasks: number;
  readonly warmUpTasks: number;
  readonly singleMs: number;
  readonly delayedTasks: number;
  readonly latencyPerSecond: number;
  readonly latencyMs: number;
  readonly commits: number;
  /** 0: not measured. */
  readonly pendingTasks: number;
}

/** Of the bulk loads with few tasks, in the order in which they are measured. */
const FEW_METRICS = [
  'endToEndPerSecond@20k',
  'submitPerSecond@20k',
  'processPerSecond@20k',
] as const;
const ONLY_IN_FULL = 'measured in full runs only';
const CALLERS = 100;
/** Single submits are counted by time, so there may be many. */
const LEDGER_TASKS_MIN = 600_000;
const LEAD_MS = 300;
const HOUR_MS = 3_600_000;
const MIB = 2 ** 20;

interface Bed {
  readonly contestant: Contestant;
  readonly ledger: Ledger;
  readonly settings: WorkSettings;
  readonly context: RunContext;
}

/** A worker with an open space and whoever hands in there. */
interface Open {
  readonly worker: Worker;
  readonly loader: Loader;
  readonly space: string;
}

/** Runs all workloads. @param address - for the producer's process: the contender's name and its server's URL */
export async function measure(
  contestant: Contestant & { readonly url?: string },
  contender: string,
  settings: WorkSettings,
  context: RunContext,
  ledger: Ledger,
): Promise<Sample> {
  const bed: Bed = { contestant, ledger, settings, context };
  const metrics: Record<string, number | null> = {};
  const reasons: Record<string, string> = {};
  const remote =
    contestant.producer === 'process'
      ? startProducer({ contender, url: contestant.url ?? '' })
      : undefined;
  const phase = async (
    space: string,
    names: readonly string[],
    work: (open: Open) => Promise<readonly number[]>,
  ): Promise<void> => {
    let worker: Worker | undefined;
    try {
      const opened = await contestant.openWorker(space);
      worker = opened;
      const loader = remote ?? loaderOf(async () => opened);
      const values = await work({ worker, loader, space });
      for (const [index, name] of names.entries()) metrics[name] = values[index] ?? null;
    } catch (error) {
      // A contender that cannot do one thing still shows what it does of the others.
      for (const name of names) {
        metrics[name] = null;
        reasons[name] = (error as Error).message;
      }
    }
    await worker?.close();
    ledger.clear();
  };
  ledger.openGate();
  await phase('warm', [], (open) => endToEnd(bed, open, settings.warmUpTasks));
  await phase('through', ['endToEndPerSecond', 'rssMB'], async (open) => [
    ...(await endToEnd(bed, open, settings.tasks)),
    process.memoryUsage().rss / MIB,
  ]);
  await phase('loaded', ['submitPerSecond', 'processPerSecond', 'youngGcsPerMillion'], (open) =>
    loaded(bed, open, settings.tasks),
  );
  await phase('singles', ['submitSinglePerSecond@100', 'submitSinglePerSecond@1'], (open) =>
    singles(bed, open),
  );
  await phase('delayed', ['delayedLatenessP99Ms'], (open) =>
    delayed(bed, open, metrics.submitPerSecond ?? 1_000),
  );
  await phase('latency', ['latencyP50Ms@500', 'latencyP99Ms@500'], (open) => latency(bed, open));
  const few = settings.fewTasks;
  if (few === 0) {
    for (const name of FEW_METRICS) {
      metrics[name] = null;
      reasons[name] = ONLY_IN_FULL;
    }
  } else {
    const [throughName, ...loadedNames] = FEW_METRICS;
    await phase('few_through', [throughName], (open) => endToEnd(bed, open, few));
    await phase('few_loaded', loadedNames, (open) => loaded(bed, open, few));
  }
  await remote?.close();
  const commits = (await contestant.commitTimesMs(settings.commits)).sort();
  metrics.commitRttP50Ms = percentile(commits, 0.5);
  const notes = await contestant.notes();
  await contestant.close();
  return { metrics, reasons, notes };
}

/** The ledger of a measuring process. Threads that start later inherit it. */
export function createLedger({ tasks, delayedTasks }: WorkSettings): Ledger {
  return Ledger.create(Math.max(LEDGER_TASKS_MIN, tasks, delayedTasks));
}

/** Submitting and processing at once. */
async function endToEnd(bed: Bed, open: Open, tasks: number): Promise<[number]> {
  const perSecond = await bed.context.section(
    'endToEnd',
    async () => {
      const [{ firstAtMs }] = await Promise.all([
        open.loader.inBulk(open.space, tasks),
        bed.ledger.untilRun(tasks),
      ]);
      await open.worker.settled();
      return (tasks / (sharedNowMs() - firstAtMs)) * 1000;
    },
    () => tasks,
  );
  bed.ledger.check(tasks);
  return [perSecond];
}

/** Handing in with the gate shut, then processing with it open. */
async function loaded(
  { ledger, context }: Bed,
  { loader, worker, space }: Open,
  tasks: number,
): Promise<readonly number[]> {
  ledger.shutGate();
  try {
    const { firstAtMs, lastAtMs } = await context.section(
      'submit',
      () => loader.inBulk(space, tasks),
      () => tasks,
    );
    const watch = new CollectorWatch();
    watch.start();
    const startAtMs = sharedNowMs();
    ledger.openGate();
    await context.section(
      'process',
      async () => {
        await ledger.untilRun(tasks);
        await worker.settled();
      },
      () => tasks,
    );
    const elapsedMs = sharedNowMs() - startAtMs;
    const { youngGcs } = await watch.stop();
    ledger.check(tasks);
    return [
      (tasks / (lastAtMs - firstAtMs)) * 1000,
      (tasks / elapsedMs) * 1000,
      (youngGcs / tasks) * 1e6,
    ];
  } finally {
    ledger.openGate();
  }
}

/** Callers of the call for one task, while nothing is processed. */
async function singles(
  { ledger, settings: { singleMs } }: Bed,
  { loader, worker, space }: Open,
): Promise<readonly number[]> {
  ledger.shutGate();
  try {
    const warmUp = await loader.oneByOne(space, { callers: 1, from: 0, ms: singleMs / 4 });
    const many = await loader.oneByOne(space, {
      callers: CALLERS,
      from: warmUp.count,
      ms: singleMs,
    });
    const from = warmUp.count + many.count;
    const one = await loader.oneByOne(space, { callers: 1, from, ms: singleMs });
    ledger.openGate();
    await ledger.untilRun(from + one.count);
    await worker.settled();
    ledger.check(from + one.count);
    return [many.perSecond, one.perSecond];
  } finally {
    ledger.openGate();
  }
}

/** Many tasks due at the same instant. @param submitPerSecond - to have them all in place by then */
async function delayed(
  { ledger, settings: { delayedTasks } }: Bed,
  { loader, worker, space }: Open,
  submitPerSecond: number,
): Promise<readonly number[]> {
  const leadMs = Math.ceil((delayedTasks / submitPerSecond) * 2_000 + 2 * LEAD_MS);
  const dueAtMs = Date.now() + leadMs;
  const dueAtSharedMs = sharedNowMs() + (dueAtMs - (performance.timeOrigin + performance.now()));
  const { lastAtMs } = await loader.inBulk(space, delayedTasks, dueAtMs);
  if (lastAtMs > dueAtSharedMs) throw new Error(`loading took longer than ${leadMs} ms`);
  await ledger.untilRun(delayedTasks);
  await worker.settled();
  ledger.check(delayedTasks);
  const lateness = latenesses(ledger, delayedTasks, () => dueAtSharedMs);
  if ((lateness[0] ?? 0) < -1) throw new Error(`a task ran ${-(lateness[0] ?? 0)} ms early`);
  return [percentile(lateness, 0.99)];
}

/** A fixed rate out of the worker's own process, counted from when a task was meant to be sent. */
async function latency(
  { ledger, settings: { latencyPerSecond, latencyMs } }: Bed,
  { worker }: Open,
): Promise<readonly number[]> {
  const arrivals = await Arrivals.start({
    rate: latencyPerSecond,
    seconds: (latencyMs * 1.25) / 1_000,
  });
  const count = arrivals.total;
  const submits: Promise<void>[] = [];
  await arrivals.run((n) => {
    submits.push(worker.submit(itemOf(n)));
  });
  await Promise.all(submits);
  await ledger.untilRun(count);
  await worker.settled();
  ledger.check(count);
  // The first fifth warms up.
  const skipped = Math.floor(count / 5);
  const late = latenesses(ledger, count, (id) => arrivals.intendedMs(id), skipped);
  return [percentile(late, 0.5), percentile(late, 0.99)];
}

function latenesses(
  ledger: Ledger,
  count: number,
  dueAtMs: (id: number) => number,
  from = 0,
): Float64Array {
  const late = new Float64Array(count - from);
  for (let id = from; id < count; id++) late[id - from] = ledger.startedAtMs(id) - dueAtMs(id);
  return late.sort();
}

/** What a runtime holds of tasks that wait for a time. */
export async function pending(
  contestant: Contestant,
  { pendingTasks }: WorkSettings,
): Promise<Sample> {
  if (pendingTasks === 0) {
    return {
      metrics: { 'rssMB@1Mpending': null },
      reasons: { 'rssMB@1Mpending': ONLY_IN_FULL },
    };
  }
  const worker = await contestant.openWorker('pending');
  const before = process.memoryUsage();
  const loader = loaderOf(async () => worker);
  await loader.inBulk('pending', pendingTasks, Date.now() + HOUR_MS);
  globalThis.gc?.();
  const after = process.memoryUsage();
  await worker.close();
  await contestant.close();
  return {
    metrics: { 'rssMB@1Mpending': after.rss / MIB },
    notes: {
      pendingTasks,
      heapGrowthMiB: (after.heapUsed - before.heapUsed) / MIB,
    },
  };
}
