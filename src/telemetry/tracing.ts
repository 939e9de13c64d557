/**
 * Traces: what a submitted task carries of its submitter's context, and the spans of what runs.
 *
 *   submit()            a batch is launched                        the handler, in its thread
 *   active span ------> task's metadata ---> span of the task ---> its context is the active one
 *                       (store, nodes)       span of the batch     (handler-tracing.ts)
 *
 * A task's span is related to its submitter as the options say. A batch with a sampled task has a span too, a trace of its
 * own that links to the submitters of all its sampled tasks; each task's span links to it. What is not sampled has no span:
 * its context is only handed on, so that what its handler does is not sampled either.
 *
 * While the runtime is degraded nothing of this happens.
 */
import { BaseService } from '../core/service.js';
import { Subscriptions } from '../core/subscriptions.js';
import type { SpanIds, TraceCarrier } from '../core/task-metadata.js';
import { BatchSpans } from './batch-spans.js';
import type { OpenTelemetry, OtelTracer } from './open-telemetry.js';
import { carrierOf } from './trace-context.js';
import type { ResolvedTracing } from './tracing-options.js';

export interface TracingParts {
  readonly incarnation: string;
  readonly version: string;
  /** Epoch milliseconds. */
  readonly wallMs: () => number;
}

export class Tracing extends BaseService {
  readonly #api: OpenTelemetry;
  readonly #options: ResolvedTracing;
  readonly #wallMs: () => number;
  readonly #tracer: OtelTracer;
  readonly #events: Subscriptions;
  #isPaused = false;

  constructor(api: OpenTelemetry, options: ResolvedTracing, parts: TracingParts) {
    super();
    this.#api = api;
    this.#options = options;
    this.#wallMs = parts.wallMs;
    // Asks for the SDK's tracer when it makes its first span: the SDK may be registered later than this.
    this.#tracer = api.trace.getTracer('millrace', parts.version);
    this.#events = new Subscriptions(parts.incarnation);
  }

  /** What a task carries that is submitted now; undefined outside of any span. */
  capture(): TraceCarrier | SpanIds | undefined {
    if (this.#isPaused) return undefined;
    return carrierOf(this.#api, this.#api.context.active(), this.#options.baggage);
  }

  /**
   * The spans of a batch that is about to run, written into it; undefined when none of its tasks is sampled.
   *
   * @param batch - a frame that nobody else reads
   */
  open(batch: Uint8Array): BatchSpans | undefined {
    if (this.#isPaused) return undefined;
    const { relation } = this.#options;
    return BatchSpans.open(this.#api, this.#tracer, batch, { relation, nowMs: this.#wallMs });
  }

  protected async onStart(): Promise<void> {
    this.#events.on('millrace:runtime:degraded', ({ isDegraded }) => {
      this.#isPaused = isDegraded;
    });
  }

  protected async onStop(): Promise<void> {
    this.#events.close();
  }
}
