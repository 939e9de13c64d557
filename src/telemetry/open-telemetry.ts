/**
 * What of `@opentelemetry/api` is used, by its methods, and how it is loaded.
 *
 * The package is an optional peer: it is loaded when tracing is asked for. Its copies find one another through a global of
 * the thread, so the one that millrace loads meets the SDK that the service has registered with its own.
 */
import { MillraceError } from '../core/errors.js';

/** An immutable set of values that calls hand on. Opaque here. */
export type OtelContext = object & { readonly __otel?: never };

export interface OtelSpanContext {
  readonly traceId: string;
  readonly spanId: string;
  /** Bit 0: sampled. */
  readonly traceFlags: number;
  readonly isRemote?: boolean;
  readonly traceState?: { serialize(): string } | undefined;
}

export interface OtelSpan {
  spanContext(): OtelSpanContext;
  setAttribute(name: string, value: string | number): unknown;
  setStatus(status: { code: number; message?: string }): unknown;
  end(): void;
}

export interface OtelSpanOptions {
  readonly kind?: number;
  readonly root?: boolean;
  readonly attributes?: Readonly<Record<string, string | number>>;
  readonly links?: readonly { readonly context: OtelSpanContext }[];
}

export interface OtelTracer {
  startSpan(name: string, options: OtelSpanOptions, context: OtelContext): OtelSpan;
}

interface OtelBaggage {
  getAllEntries(): [string, { readonly value: string }][];
}

export interface OpenTelemetry {
  readonly ROOT_CONTEXT: OtelContext;
  readonly context: {
    active(): OtelContext;
    with<T>(context: OtelContext, call: () => T): T;
  };
  readonly trace: {
    getTracer(name: string, version?: string): OtelTracer;
    getSpanContext(context: OtelContext): OtelSpanContext | undefined;
    setSpanContext(context: OtelContext, spanContext: OtelSpanContext): OtelContext;
  };
  readonly propagation: {
    getBaggage(context: OtelContext): OtelBaggage | undefined;
    createBaggage(entries: Record<string, { value: string }>): OtelBaggage;
    setBaggage(context: OtelContext, baggage: OtelBaggage): OtelContext;
  };
  createTraceState(text: string): OtelSpanContext['traceState'];
}

/** `SpanKind.CONSUMER` */
export const CONSUMER = 4;
/** `SpanStatusCode.ERROR` */
export const ERROR = 2;

/** @throws ERR_MILLRACE_INVALID_OPTION when it is not installed */
export async function loadOpenTelemetry(): Promise<OpenTelemetry> {
  try {
    return (await import('@opentelemetry/api')) as unknown as OpenTelemetry;
  } catch (cause) {
    throw new MillraceError(
      'ERR_MILLRACE_INVALID_OPTION',
      'tracing is set, and @opentelemetry/api is not installed; run: npm install @opentelemetry/api',
      { details: { option: 'tracing' }, cause },
    );
  }
}
