/**
 * Traces inside a handler: calls it in the context of its task, so that what it does (spans of its own, calls out, tasks that it
 * submits) belongs to the task's span. Loaded by every worker thread while tracing is on, and by the main thread for
 * handlers that run there.
 *
 * A thread has an SDK of its own, or none: then there is nobody to follow contexts, `ctx.traceparent` is what a handler
 * hands on itself, and nothing is woven around it. Each batch asks anew, since an SDK may be registered late.
 */
import type { HandlerHooks, HookedTask } from '../core/handler-hooks.js';
import { loadOpenTelemetry, type OpenTelemetry, type OtelContext } from './open-telemetry.js';
import { contextOf } from './trace-context.js';

export async function createHooks(): Promise<HandlerHooks> {
  return new TraceWeaver(await loadOpenTelemetry());
}

class TraceWeaver implements HandlerHooks {
  around: HandlerHooks['around'];
  readonly #api: OpenTelemetry;
  /** Nobody else's: whoever makes it the active one follows contexts. */
  readonly #probe: OtelContext;

  constructor(api: OpenTelemetry) {
    this.#api = api;
    const noSpan = { traceId: '0'.repeat(32), spanId: '0'.repeat(16), traceFlags: 0 };
    this.#probe = api.trace.setSpanContext(api.ROOT_CONTEXT, noSpan);
  }

  onBatch(): void {
    const { context } = this.#api;
    const isFollowed = context.with(this.#probe, () => context.active()) === this.#probe;
    this.around = isFollowed ? this.#inContext : undefined;
  }

  readonly #inContext = <T>({ trace }: HookedTask, call: () => T): T =>
    trace === undefined ? call() : this.#api.context.with(contextOf(this.#api, trace), call);
}
