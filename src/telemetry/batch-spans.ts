/**
 * The spans of one batch, from its launch to its end. Times are those of the main thread: a span begins when the batch is
 * handed over, and ends when the task has reported; `millrace.run_ms` is how long the handler itself took.
 */
import { fromWire } from '../core/error-wire.js';
import type { MillraceError } from '../core/errors.js';
import { FrameKind, type FrameReader, openFrame, utf8 } from '../core/frame.js';
import { type SegmentRef, segmentDueAtMs, taskId } from '../core/ids.js';
import {
  type BatchRecord,
  batchMetadataBytes,
  batchMetadataPlace,
  readBatchEntry,
  readResult,
  slotAt,
} from '../core/records.js';
import { Outcome } from '../core/states.js';
import {
  hasTrace,
  isSampled,
  readTrace,
  replaceTraceparent,
  type TraceCarrier,
  traceparentOf,
} from '../core/task-metadata.js';
import {
  CONSUMER,
  ERROR,
  type OpenTelemetry,
  type OtelSpan,
  type OtelSpanContext,
  type OtelTracer,
} from './open-telemetry.js';
import { spanContextOf } from './trace-context.js';
import type { TraceRelation } from './tracing-options.js';

/** A task that waited longer is no part of what its submitter did. */
const PART_WAIT_MS_MAX = 60_000;
const MESSAGE_CHARS_MAX = 1_000;

/** How outcomes are called in metrics. */
const OUTCOMES: Readonly<Record<Outcome, string>> = {
  [Outcome.COMPLETED]: 'ok',
  [Outcome.FAILED]: 'failed',
  [Outcome.FAILED_FOR_GOOD]: 'failed',
  [Outcome.SNOOZED]: 'snoozed',
  [Outcome.CANCELLED]: 'cancelled',
  [Outcome.NOT_STARTED]: 'cancelled',
};

interface SpanRules {
  readonly relation: TraceRelation;
  /** Epoch milliseconds. */
  readonly nowMs: () => number;
}

interface SampledTask {
  /** Of its metadata, in the frame. */
  readonly place: number;
  readonly entry: BatchRecord;
  readonly trace: TraceCarrier;
  /** Of its submitter. */
  readonly origin: OtelSpanContext;
}

export class BatchSpans {
  readonly #batch: OtelSpan;
  /** By slot. */
  readonly #tasks: Map<number, OtelSpan>;

  private constructor(batch: OtelSpan, tasks: Map<number, OtelSpan>) {
    this.#batch = batch;
    this.#tasks = tasks;
  }

  /**
   * Opens the spans, and writes them into the batch: from here on each sampled task carries the context of its own span.
   *
   * @returns undefined when no task of the batch is sampled; the batch is not changed
   */
  static open(
    api: OpenTelemetry,
    tracer: OtelTracer,
    batch: Uint8Array,
    rules: SpanRules,
  ): BatchSpans | undefined {
    const reader = openFrame(batch, FrameKind.BATCH);
    const sampled = sampledTasks(api, reader);
    if (sampled.length === 0) return undefined;
    const attributes = {
      'messaging.system': 'millrace',
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
    };
    const whole = tracer.startSpan(
      'process batch',
      {
        kind: CONSUMER,
        root: true,
        attributes: { ...attributes, 'messaging.batch.message_count': reader.count },
        links: sampled.map(({ origin }) => ({ context: origin })),
      },
      api.ROOT_CONTEXT,
    );
    const toBatch = { context: whole.spanContext() };
    const spans = new Map<number, OtelSpan>();
    for (const { place, entry, trace, origin } of sampled) {
      const isPart = isPartOf(rules, entry, trace);
      const span = tracer.startSpan(
        `process ${entry.type}`,
        {
          kind: CONSUMER,
          root: !isPart,
          attributes: {
            ...attributes,
            'messaging.destination.name': entry.type,
            'messaging.message.id': taskId(entry.segment as SegmentRef, entry.index),
            'millrace.attempt': entry.attempt,
          },
          links: isPart ? [toBatch] : [{ context: origin }, toBatch],
        },
        isPart ? api.trace.setSpanContext(api.ROOT_CONTEXT, origin) : api.ROOT_CONTEXT,
      );
      spans.set(entry.slot, span);
      const own = traceparentOf(span.spanContext());
      replaceTraceparent(batch, place, { before: trace.traceparent, after: own });
    }
    return new BatchSpans(whole, spans);
  }

  /** Tasks of the batch have ended: a frame of results, which is not kept. */
  onResults(results: Uint8Array): void {
    const reader = openFrame(results, FrameKind.RESULTS);
    for (let index = 0; index < reader.count; index++) {
      const slot = slotAt(reader, index);
      const span = this.#tasks.get(slot);
      if (span === undefined) continue;
      this.#tasks.delete(slot);
      const { outcome, runMs, bytes } = readResult(reader, index);
      span.setAttribute('millrace.outcome', OUTCOMES[outcome]);
      span.setAttribute('millrace.run_ms', runMs);
      if (outcome === Outcome.FAILED || outcome === Outcome.FAILED_FOR_GOOD) {
        fail(span, errorIn(bytes));
      }
      span.end();
    }
  }

  /** The batch is over; what has not reported is lost. */
  end(loss: MillraceError | undefined): void {
    for (const span of this.#tasks.values()) {
      span.setAttribute('millrace.outcome', 'lost');
      if (loss !== undefined) fail(span, loss);
      span.end();
    }
    this.#tasks.clear();
    if (loss !== undefined) fail(this.#batch, loss);
    this.#batch.end();
  }
}

/** Mostly there are none: then a look at every record is all that this costs. */
function sampledTasks(api: OpenTelemetry, reader: FrameReader): SampledTask[] {
  const sampled: SampledTask[] = [];
  for (let index = 0; index < reader.count; index++) {
    const bytes = batchMetadataBytes(reader, index);
    if (bytes === 0) continue;
    const place = batchMetadataPlace(reader, index);
    if (!hasTrace(reader.frame, place, bytes) || !isSampled(reader.frame, place)) continue;
    const entry = readBatchEntry(reader, index);
    const trace = readTrace(entry.metadata);
    if (trace === undefined) continue;
    const origin = spanContextOf(api, trace);
    if ((origin.traceFlags & 1) === 1) sampled.push({ place, entry, trace, origin });
  }
  return sampled;
}

function isPartOf(
  { relation, nowMs }: SpanRules,
  entry: BatchRecord,
  trace: TraceCarrier,
): boolean {
  if (relation !== 'auto') return relation === 'parent';
  if (trace.isLoose === true || entry.attempt > 1 || entry.version > 0) return false;
  // The first due time of its segment is that of the task, or somewhat earlier.
  return nowMs() - segmentDueAtMs(entry.segment as SegmentRef) < PART_WAIT_MS_MAX;
}

function fail(span: OtelSpan, error: unknown): void {
  const { code, name, message } = error as { code?: unknown; name?: unknown; message?: unknown };
  span.setAttribute('error.type', String(code ?? name ?? 'Error'));
  span.setStatus({ code: ERROR, message: String(message).slice(0, MESSAGE_CHARS_MAX) });
}

/** The error in a result; one that does not decode is the engine's to deal with. */
function errorIn(bytes: Uint8Array): unknown {
  try {
    return fromWire(JSON.parse(utf8(bytes)));
  } catch {
    return new Error('the error does not decode');
  }
}
