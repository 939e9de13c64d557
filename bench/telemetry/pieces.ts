/** The price of each piece by itself, in a loop. */
import { availableParallelism } from 'node:os';
import { context, trace } from '@opentelemetry/api';
import { publish } from '../../src/core/channels.js';
import { FrameKind, FrameWriter } from '../../src/core/frame.js';
import { writeBatchEntry, writeResult } from '../../src/core/records.js';
import { Outcome } from '../../src/core/states.js';
import {
  addMetadata,
  encodeMetadata,
  type MetadataToWrite,
  metadataToWrite,
} from '../../src/core/task-metadata.js';
import { Growth } from '../../src/healing/growth.js';
import { createHooks } from '../../src/healing/handler-handles.js';
import { processCounts } from '../../src/healing/process-counts.js';
import { EventLog } from '../../src/telemetry/event-log.js';
import { resolveLogs } from '../../src/telemetry/log-options.js';
import { MetricRegistry } from '../../src/telemetry/metric-registry.js';
import { loadOpenTelemetry } from '../../src/telemetry/open-telemetry.js';
import { Tracing } from '../../src/telemetry/tracing.js';
import { systemClock } from '../../src/timing/system-clock.js';

const BATCH = 64;
const SAMPLE_MS = 5_000;
const TELL_MS = 1_000;
/** Counts that a runtime has, about. */
const KINDS = 12;

/** Nanoseconds of one call. */
function nsOf(rounds: number, work: (i: number) => void): number {
  for (let i = 0; i < rounds / 10; i++) work(i);
  const startedAtMs = performance.now();
  for (let i = 0; i < rounds; i++) work(i);
  return ((performance.now() - startedAtMs) * 1e6) / rounds;
}

export async function prices(rounds: number): Promise<Readonly<Record<string, number>>> {
  const registry = new MetricRegistry();
  const counter = registry.cell('tasksRetried', 'default', 'failed');
  const histogram = registry.cell('execution', 'default');
  return {
    counterNs: nsOf(rounds * 10, () => counter.add()),
    histogramNs: nsOf(rounds * 10, (i) => histogram.observe((i & 1_023) / 1_000)),
    droppedLogNs: await droppedLogNs(rounds),
    unsampledSpanNs: await spanNs(rounds, 0),
    sampledSpanNs: await spanNs(rounds / 10, 1),
  };
}

async function droppedLogNs(rounds: number): Promise<number> {
  const nothing = (): void => {};
  const logger = { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing };
  const logs = resolveLogs({ sample: { heartbeats: 0 } });
  const log = new EventLog(systemClock, { logger, flush: nothing }, { ...logs, incarnation: '' });
  await log.start();
  const ns = nsOf(rounds, (i) =>
    publish('millrace:commit:done', () => ({ operations: 1, bytes: i, elapsedMs: 1 })),
  );
  await log.stop();
  return ns;
}

/** What a task costs on the main thread: the context it carries, and its share of a batch that is launched and reported. */
async function spanNs(rounds: number, traceFlags: 0 | 1): Promise<number> {
  const api = await loadOpenTelemetry();
  const parts = { incarnation: '', version: '0', wallMs: () => Date.now() };
  const tracing = new Tracing(api, { relation: 'auto', baggage: [] }, parts);
  const request = trace.setSpanContext(context.active(), {
    traceId: '0af7651916cd43dd8448eb211c80319c',
    spanId: 'b7ad6b7169203331',
    traceFlags,
  });
  const tasks = new FrameWriter(FrameKind.TASKS);
  const carried = (): MetadataToWrite =>
    metadataToWrite({ key: undefined, trace: tracing.capture(), parent: undefined })!;
  const submitNs = context.with(request, () =>
    nsOf(rounds, (i) => {
      if (i % BATCH === 0) tasks.reset();
      addMetadata(tasks, carried());
    }),
  );
  const { traceId, spanId } = trace.getSpanContext(request)!;
  const metadata = encodeMetadata({
    trace: { traceparent: `00-${traceId}-${spanId}-0${traceFlags}` },
  })!;
  const batch = new FrameWriter(FrameKind.BATCH);
  const results = new FrameWriter(FrameKind.RESULTS);
  for (let slot = 0; slot < BATCH; slot++) {
    writeBatchEntry(batch, {
      ...{ slot, type: 'bench', tenant: '', token: 1, attempt: 1, index: slot, version: 0 },
      ...{ segment: 'default.00.0mjuohs00.0123abcd00000001' },
      ...{ payload: Buffer.from('{}'), metadata },
    });
    writeResult(results, { slot, outcome: Outcome.COMPLETED, attempt: 1, runMs: 1, json: '1' });
  }
  const frame = batch.finish();
  const answer = results.finish();
  const batchNs = nsOf(Math.ceil(rounds / BATCH), () => {
    // Written into, as one that nobody else reads.
    const spans = tracing.open(frame.slice());
    spans?.onResults(answer);
    spans?.end(undefined);
  });
  return submitNs + batchNs / BATCH;
}

/** The time that the watchdog takes of that of the cores. */
export async function watchdogShare(
  { threads }: { readonly threads: number },
  batchesPerSecond: number,
): Promise<{ readonly share: number; readonly notes: Readonly<Record<string, number>> }> {
  const growths = Array.from({ length: KINDS }, () => new Growth());
  const sampleNs = nsOf(2_000, (i) => {
    const counts = processCounts();
    for (const growth of growths) growth.add(counts.size, i & 7);
  });
  const hooks = await createHooks({ tell: () => {} });
  const hookNs = nsOf(1_000_000, () => {
    hooks.onBatch?.(['bench']);
    hooks.onQuiet?.();
  });
  const tellNs = nsOf(10_000, () => hooks.inspect?.(0));
  const busyNsPerSecond =
    (sampleNs * 1_000) / SAMPLE_MS +
    (threads * tellNs * 1_000) / TELL_MS +
    hookNs * batchesPerSecond;
  const share = busyNsPerSecond / 1e9 / availableParallelism();
  return { share, notes: { sampleNs, tellNs, hookNs } };
}
