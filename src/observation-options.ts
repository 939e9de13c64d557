/**
 * What `createRuntime` takes about being observed, and the same checked. What is not asked for costs nothing: no
 * subscription, no timer, no port.
 */
import { type AdminOptions, type ResolvedAdmin, resolveAdmin } from './admin/admin-options.js';
import { invalidOption } from './core/options.js';
import {
  type HealingOptions,
  type ResolvedHealing,
  resolveHealing,
} from './healing/healing-options.js';
import {
  type LogOptions,
  type ResolvedLogs,
  resolveLogs,
  UNSAMPLED,
} from './telemetry/log-options.js';
import { checkLogger, type Logger } from './telemetry/logger.js';
import { type MetricsOptions, resolveMetrics } from './telemetry/metrics-options.js';
import {
  type ResolvedTracing,
  resolveTracing,
  type TracingOptions,
} from './telemetry/tracing-options.js';

export interface ObservationOptions {
  /**
   * Where lines go: a pino logger of yours (9.14 or later, or anything with its methods), or `true` for one that writes
   * JSON to standard output, for which pino has to be installed. @defaultValue false
   */
  readonly logger?: Logger | boolean;
  /** Which lines are kept, and what is never in them. With `logger` only. */
  readonly logs?: LogOptions;
  /**
   * Where metrics go besides `runtime.metrics`: a prom-client registry or an OpenTelemetry meter of yours. `false`:
   * nothing is counted. @defaultValue true
   */
  readonly metrics?: MetricsOptions | boolean;
  /**
   * Traces through `@opentelemetry/api`, which has to be installed: tasks carry the context of who submits them, and
   * executions have spans. @defaultValue false
   */
  readonly tracing?: TracingOptions | boolean;
  /**
   * An HTTP server with `/metrics`, `/healthz` and `/readyz`; `true` listens on 127.0.0.1:9464. @defaultValue false
   */
  readonly admin?: AdminOptions | boolean;
  /** What the runtime does by itself when something is wrong; `false`: nothing. @defaultValue true */
  readonly healing?: HealingOptions | boolean;
}

export interface ResolvedObservation {
  /** Undefined: nothing is logged. */
  readonly log:
    | { readonly logger: Logger | true; readonly isSync: boolean; readonly logs: ResolvedLogs }
    | undefined;
  readonly metrics: MetricsOptions | false;
  /** Undefined: tasks carry no context. */
  readonly tracing: ResolvedTracing | undefined;
  /** Undefined: no server. */
  readonly admin: ResolvedAdmin | undefined;
  /** Undefined: nothing heals. */
  readonly healing: ResolvedHealing | undefined;
}

/** The options' names, for the check that none is misspelt. */
export const OBSERVATION_OPTIONS: Readonly<Record<keyof ObservationOptions, true>> = {
  logger: true,
  logs: true,
  metrics: true,
  tracing: true,
  admin: true,
  healing: true,
};

/**
 * @param off - mechanisms to do the naive way, for measuring: `logs` writes every line, and at once; `breaker`: nothing heals
 * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION
 */
export function resolveObservation(
  options: ObservationOptions,
  off: ReadonlySet<string>,
): ResolvedObservation {
  const resolved = resolveHealing(options.healing, off.has('breaker'));
  const healing = resolved && off.has('leakchecks') ? { ...resolved, leaks: undefined } : resolved;
  if (healing?.webhook !== undefined && resolveAdmin(options.admin) === undefined) {
    throw invalidOption('healing.webhook', 'set', '`admin` as well: it serves the webhook');
  }
  return {
    log: resolveLog(options, off),
    metrics: resolveMetrics(options.metrics ?? true),
    tracing: resolveTracing(options.tracing),
    admin: resolveAdmin(options.admin),
    healing,
  };
}

function resolveLog(
  options: ObservationOptions,
  off: ReadonlySet<string>,
): ResolvedObservation['log'] {
  const logger = checkLogger(options.logger ?? false);
  const logs = resolveLogs(options.logs);
  if (logger === false) {
    if (options.logs === undefined) return undefined;
    throw invalidOption(
      'logs',
      options.logs,
      'it together with `logger`: nothing is logged without one',
    );
  }
  const isNaive = off.has('logs');
  return { logger, isSync: isNaive, logs: isNaive ? { ...logs, rules: UNSAMPLED } : logs };
}
