/**
 * The two loads of the bench. Both treat a contender as a function that runs one task and resolves with its result.
 *
 * - Closed: so many submitters, each awaiting its result before the next task. Counts what ends within a fixed time
 *   while all of them are busy; start and end of the load are not part of it.
 * - Open: a task every so many milliseconds, whether or not earlier ones are done. Latency counts from the moment a
 *   task was meant to arrive, so a contender that stalls cannot hide it by making the load wait.
 */
import { Arrivals, sharedNowMs } from '../../src/cli/loadtest/arrivals.js';
import { ClosedLoop } from '../../src/cli/loadtest/closed-loop.js';
import { cpuTime } from '../lib/cpu.js';
import { percentile } from '../lib/stats.js';

/** What a contender is to the loads. */
export interface Target {
  /** Submits a task and resolves with its result. */
  run(payload: Payload): Promise<unknown>;
  close(): Promise<void>;
}

/** 200 bytes as JSON. */
export interface Payload {
  readonly id: number;
  readonly text: string;
}

export const PAYLOAD_BYTES = 200;
const PAYLOADS = 1_000;

/** Different ones, so that nobody can tell they are the same. */
export function makePayloads(): readonly Payload[] {
  const bare = JSON.stringify({ id: PAYLOADS, text: '' }).length;
  return Array.from({ length: PAYLOADS }, (_, index) => {
    const id = PAYLOADS + index;
    return { id, text: `${id}-`.repeat(PAYLOAD_BYTES).slice(0, PAYLOAD_BYTES - bare) };
  });
}

export interface ClosedLoad {
  readonly inFlight: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
}

export interface ClosedResult {
  readonly tasks: number;
  readonly elapsedMs: number;
  /** CPU time of all threads. */
  readonly cpuUs: number;
  readonly mainThreadCpuUs: number;
}

/**
 * Keeps `inFlight` tasks going.
 *
 * @param measure - does the measuring part of it; so that it can be profiled by itself
 */
export async function closedLoop(
  target: Target,
  payloads: readonly Payload[],
  { inFlight, warmUpMs, measureMs }: ClosedLoad,
  measure: (work: () => Promise<ClosedResult>) => Promise<ClosedResult>,
): Promise<ClosedResult> {
  const loop = new ClosedLoop(inFlight, (n, submitter) =>
    target.run(payloads[(submitter + n * inFlight) % payloads.length]!),
  );
  await loop.goOn(warmUpMs);
  const result = await measure(async () => {
    const before = loop.ended;
    const cpuBefore = cpuTime();
    const startedAtMs = performance.now();
    await loop.goOn(measureMs);
    const elapsedMs = performance.now() - startedAtMs;
    const cpu = cpuTime();
    return {
      tasks: loop.ended - before,
      elapsedMs,
      cpuUs: cpu.processUs - cpuBefore.processUs,
      mainThreadCpuUs: cpu.mainThreadUs - cpuBefore.mainThreadUs,
    };
  });
  await loop.stop();
  return result;
}

export interface OpenLoad {
  readonly perSecond: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
}

export interface OpenResult {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly samples: number;
}

/** Starts tasks at a fixed rate. */
export async function openLoop<Item>(
  target: { run(item: Item): Promise<unknown> },
  payloads: readonly Item[],
  { perSecond, warmUpMs, measureMs }: OpenLoad,
): Promise<OpenResult> {
  const arrivals = await Arrivals.start({
    rate: perSecond,
    seconds: (warmUpMs + measureMs) / 1_000,
  });
  const skipped = Math.ceil((warmUpMs / 1_000) * perSecond);
  const latenciesMs = new Float64Array(arrivals.total);
  const running: Promise<void>[] = [];
  const runOne = async (n: number, intendedMs: number): Promise<void> => {
    await target.run(payloads[n % payloads.length]!);
    latenciesMs[n] = sharedNowMs() - intendedMs;
  };
  await arrivals.run((n, intendedMs) => {
    running.push(runOne(n, intendedMs));
  });
  await Promise.all(running);
  const sorted = latenciesMs.slice(skipped).sort();
  return {
    p50Ms: percentile(sorted, 0.5),
    p99Ms: percentile(sorted, 0.99),
    samples: sorted.length,
  };
}
