/** Between OpenTelemetry's contexts and what a task carries of them. */
import {
  BAGGAGE_CHARS_MAX,
  isSpan,
  type SpanIds,
  TRACESTATE_CHARS_MAX,
  type TraceCarrier,
  traceparentOf,
} from '../core/task-metadata.js';
import type { OpenTelemetry, OtelContext, OtelSpanContext } from './open-telemetry.js';

/**
 * What a task submitted in this context carries: the span as it is, mostly; undefined outside of any.
 *
 * @param baggageKeys - entries of the baggage that may travel
 */
export function carrierOf(
  api: OpenTelemetry,
  context: OtelContext,
  baggageKeys: readonly string[],
): TraceCarrier | SpanIds | undefined {
  const span = api.trace.getSpanContext(context);
  if (span === undefined || !isSpan(span)) return undefined;
  if (span.traceState === undefined && baggageKeys.length === 0) return span;
  const tracestate = span.traceState?.serialize();
  const isCarried = tracestate !== undefined && tracestate.length <= TRACESTATE_CHARS_MAX;
  return {
    traceparent: traceparentOf(span),
    tracestate: isCarried && tracestate !== '' ? tracestate : undefined,
    baggage: baggageKeys.length === 0 ? undefined : baggageOf(api, context, baggageKeys),
  };
}

/** The span that a task was submitted in, as one of another process. */
export function spanContextOf(api: OpenTelemetry, carrier: TraceCarrier): OtelSpanContext {
  const { traceparent, tracestate } = carrier;
  return {
    traceId: traceparent.slice(3, 35),
    spanId: traceparent.slice(36, 52),
    traceFlags: Number.parseInt(traceparent.slice(53), 16),
    isRemote: true,
    ...(tracestate !== undefined && { traceState: api.createTraceState(tracestate) }),
  };
}

/** The context that a carrier stands for: its span, and its baggage. */
export function contextOf(api: OpenTelemetry, carrier: TraceCarrier): OtelContext {
  const context = api.trace.setSpanContext(api.ROOT_CONTEXT, spanContextOf(api, carrier));
  if (carrier.baggage === undefined) return context;
  const entries = carrier.baggage.split(',').map((entry) => {
    const [name, value] = entry.split('=', 2);
    return [name!, { value: decoded(value ?? '') }] as const;
  });
  return api.propagation.setBaggage(
    context,
    api.propagation.createBaggage(Object.fromEntries(entries)),
  );
}

/** As in the header `baggage`; entries that do not fit are left out. */
function baggageOf(
  api: OpenTelemetry,
  context: OtelContext,
  keys: readonly string[],
): string | undefined {
  let header = '';
  for (const [key, { value }] of api.propagation.getBaggage(context)?.getAllEntries() ?? []) {
    if (!keys.includes(key)) continue;
    const entry = `${header === '' ? '' : ','}${key}=${encodeURIComponent(value)}`;
    if (header.length + entry.length <= BAGGAGE_CHARS_MAX) header += entry;
  }
  return header === '' ? undefined : header;
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
