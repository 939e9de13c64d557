/**
 * The spans of one batch, from its launch to its end. Times are those of the main thread: a span begins when the batch is
 * handed over, and ends when the task has reported; `millrace.run_ms` is how long the handler itself took.
 */
import { fromWire } from '../core/error-wire.js';
import type { MillraceError } from '../core/errors.js';
import { FrameKind, type FrameReader, openFrame, utf8 } from '../core/frame.js';
import { type SegmentRef, segmentDueAtMs, taskId } from '../core/ids.js';
import { type BatchRecord, readBatchEntry, readResult } from '../core/records.js';
import { Outcome } from '../core/states.js';
import {
  encodeMetadata,
  hasTrace,
  isSampled,
  readTrace,
  type TraceCarrier,
} from '../core/task-metadata.js';
import {
  CONSUMER,
  ERROR,
  type OpenTelemetry,
  type OtelSpan,
  type OtelSpanContext,
  type OtelTracer,
} from './open-telemetry.js';
import { spanContextOf, traceparentOf } from './trace-context.js';
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
  readonly index: number;
  readonly entry: BatchRecord;
  readonly trace: TraceCarrier;
  /** Of its submitter. */
  readonly origin: OtelSpanContext;
}

export class BatchSpans {
  /** The batch, in which each sampled task carries the context of its own span. */
  readonly frame: Uint8Array<ArrayBuffer>;
  readonly #batch: OtelSpan;
  /** By slot. */
  readonly #tasks: Map<number, OtelSpan>;

  private constructor(
    frame: Uint8Array<ArrayBuffer>,
    batch: OtelSpan,
    tasks: Map<number, OtelSpan>,
  ) {
    this.frame = frame;
    this.#batch = batch;
    this.#tasks = tasks;
  }

  /** @returns undefined when no task of the batch is sampled; the batch is not changed */
  static open(
    api: OpenTelemetry,
    tracer: OtelTracer,
    batch: Uint8Array<ArrayBuffer>,
    rules: SpanRules,
  ): BatchSpans | undefined {
    if (!hasSampled(batch)) return undefined;
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
    const carriers = new Map<number, Uint8Array>();
    for (const { index, entry, trace, origin } of sampled) {
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
      const own = { ...trace, traceparent: traceparentOf(span.spanContext()) };
      carriers.set(index, encodeMetadata({ trace: own })!);
    }
    return new BatchSpans(withMetadata(reader, carriers), whole, spans);
  }

  /** Tasks of the batch have ended: a frame of results, which is not kept. */
  onResults(results: Uint8Array): void {
    const reader = openFrame(results, FrameKind.RESULTS);
    for (let index = 0; index < reader.count; index++) {
      const { slot, outcome, runMs, bytes } = readResult(reader, index);
      const span = this.#tasks.get(slot);
      if (span === undefined) continue;
      this.#tasks.delete(slot);
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

/** A look at every record: this is all that a batch without sampled tasks costs. */
function hasSampled(batch: Uint8Array<ArrayBuffer>): boolean {
  const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength);
  const count = view.getUint32(8, true);
  const recordsAt = view.getUint32(16, true);
  const bytesAt = view.getUint32(20, true);
  const size = count === 0 ? 0 : (bytesAt - recordsAt) / count;
  for (let at = recordsAt; at < bytesAt; at += size) {
    const length = view.getUint32(at + 44, true);
    if (length === 0) continue;
    const from = bytesAt + view.getUint32(at + 40, true);
    if (hasTrace(batch, from, length) && isSampled(batch, from)) return true;
  }
  return false;
}

function sampledTasks(api: OpenTelemetry, reader: FrameReader): SampledTask[] {
  const sampled: SampledTask[] = [];
  for (let index = 0; index < reader.count; index++) {
    const entry = readBatchEntry(reader, index);
    const trace = readTrace(entry.metadata);
    if (trace === undefined) continue;
    const origin = spanContextOf(api, trace);
    if ((origin.traceFlags & 1) === 1) sampled.push({ index, entry, trace, origin });
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

/** The frame with other metadata for some records. They go to the end of the bytes; what they replace stays, unread. */
function withMetadata(
  reader: FrameReader,
  metadata: ReadonlyMap<number, Uint8Array>,
): Uint8Array<ArrayBuffer> {
  const { frame } = reader;
  let end = frame.length;
  for (const bytes of metadata.values()) end += bytes.length;
  const grown = new Uint8Array(end);
  grown.set(frame);
  const view = new DataView(grown.buffer);
  const bytesAt = view.getUint32(20, true);
  view.setUint32(24, end, true);
  let at = frame.length;
  for (const [index, bytes] of metadata) {
    const record = reader.recordAt(index);
    grown.set(bytes, at);
    view.setUint32(record + 40, at - bytesAt, true);
    view.setUint32(record + 44, bytes.length, true);
    at += bytes.length;
  }
  return grown;
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
