/**
 * The two loads of the bench. Both treat a contender as a function that runs one task and resolves with its result.
 *
 * - Closed: so many submitters, each awaiting its result before the next task. Counts what ends within a fixed time
 *   while all of them are busy; start and end of the load are not part of it.
 * - Open: a task every so many milliseconds, whether or not earlier ones are done. Latency counts from the moment a
 *   task was meant to arrive, so a contender that stalls cannot hide it by making the load wait.
 */
import { Worker } from 'node:worker_threads';
import { ClosedLoop } from '../../src/cli/loadtest/closed-loop.js';
import { cpuTime } from '../lib/cpu.js';
import { percentile } from '../lib/stats.js';
import type { TickerData } from './ticker.js';

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
const LEAD_MS = 100;

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
  const periodMs = 1000 / perSecond;
  const skipped = Math.ceil(warmUpMs / periodMs);
  const count = skipped + Math.ceil(measureMs / periodMs);
  const startAtMs = sharedNowMs() + LEAD_MS;
  const latenciesMs = new Float64Array(count);
  const running: Promise<void>[] = [];
  const ticker = new Worker(new URL('./ticker.js', import.meta.url), {
    workerData: { startAtMs, periodMs, count } satisfies TickerData,
  });
  await new Promise<void>((resolve, reject) => {
    const runOne = async (tick: number): Promise<void> => {
      await target.run(payloads[tick % payloads.length]!);
      latenciesMs[tick] = sharedNowMs() - (startAtMs + tick * periodMs);
    };
    ticker.on('message', (tick: number) => {
      running.push(runOne(tick));
      if (tick === count - 1) resolve();
    });
    ticker.on('error', reject);
  });
  await Promise.all(running);
  const sorted = latenciesMs.slice(skipped).sort();
  return {
    p50Ms: percentile(sorted, 0.5),
    p99Ms: percentile(sorted, 0.99),
    samples: sorted.length,
  };
}

/** Milliseconds on the clock that threads share. */
function sharedNowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
