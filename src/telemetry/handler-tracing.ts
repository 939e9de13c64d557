/**
 * Traces inside a handler: calls it in the context of its task, so that what it does (spans of its own, calls out, tasks that it
 * submits) belongs to the task's span. Loaded by every worker thread while tracing is on, and by the main thread for
 * handlers that run there.
 *
 * A thread has an SDK of its own, or none: then there is nobody to follow contexts, and `ctx.traceparent` is what a handler
 * hands on itself.
 */
import type { HandlerHooks } from '../core/handler-hooks.js';
import { loadOpenTelemetry } from './open-telemetry.js';
import { contextOf } from './trace-context.js';

export async function createHooks(): Promise<HandlerHooks> {
  const api = await loadOpenTelemetry();
  return {
    around(task, call) {
      const { trace } = task;
      return trace === undefined ? call() : api.context.with(contextOf(api, trace), call);
    },
  };
}
