/** The runtime of the bench, observed by everything and by nothing. */
import { subscribe } from 'node:diagnostics_channel';
import { type Context, context, ROOT_CONTEXT, trace } from '@opentelemetry/api';
import {
  BatchSpanProcessor,
  InMemorySpanExporter,
  NodeTracerProvider,
  ParentBasedSampler,
  RandomIdGenerator,
} from '@opentelemetry/sdk-trace-node';
import { pino } from 'pino';
import { createRuntime, memoryStore, type RuntimeOptions } from '../../src/index.js';
import type { Payload, Target } from '../engine/load.js';
import { noop } from '../engine/tasks.js';

/** One request in so many is sampled. */
const SAMPLED_EVERY = 100;
const ids = new RandomIdGenerator();
let requests = 0;

export interface ObservedTarget extends Target {
  /** Batches launched so far; 0 where nobody counts. */
  batches(): number;
}

/** An SDK as services have it; what it exports is thrown away. */
export function setUpSdk(): void {
  const exporter = new InMemorySpanExporter();
  const discard = setInterval(() => exporter.reset(), 100);
  discard.unref();
  new NodeTracerProvider({
    sampler: new ParentBasedSampler({
      root: {
        // The batch spans of sampled tasks.
        shouldSample: () => ({ decision: 2 }),
        toString: () => 'all',
      },
    }),
    spanProcessors: [new BatchSpanProcessor(exporter)],
  }).register();
}

export async function observed(threads: number): Promise<ObservedTarget> {
  let batches = 0;
  subscribe('millrace:batch:launched', () => batches++);
  const target = await open({
    threads: { max: threads },
    logger: pino({ level: 'debug' }, pino.destination({ dest: '/dev/null', sync: false })),
    metrics: true,
    tracing: true,
    admin: { listen: 0 },
  });
  return { ...target, batches: () => batches };
}

export async function unobserved(threads: number): Promise<ObservedTarget> {
  const target = await open({ threads: { max: threads }, metrics: false, healing: false });
  return { ...target, batches: () => 0 };
}

async function open(options: Partial<RuntimeOptions>): Promise<Target> {
  const runtime = await createRuntime({
    tasks: new URL('../engine/tasks.js', import.meta.url),
    store: memoryStore(),
    ...options,
  });
  return {
    async run(payload: Payload) {
      const handle = await context.with(newRequest(), () => runtime.submit(noop, payload as never));
      return handle.result();
    },
    close: () => runtime.close(),
  };
}

/** The context of a request, as the host's SDK makes one for each: a span of its own, recorded or not. */
function newRequest(): Context {
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId: ids.generateTraceId(),
    spanId: ids.generateSpanId(),
    traceFlags: requests++ % SAMPLED_EVERY === 0 ? 1 : 0,
  });
}
