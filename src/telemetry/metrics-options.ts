/**
 * What users say about metrics, and the same checked.
 *
 * Hand-over needs no package: a registry or a meter is known by its methods, so the host's one copy is used, whichever of
 * them it is.
 */
import { invalidOption, knownOptions } from '../core/options.js';

/** What of a prom-client registry is used; `prom-client` 15 and `@prometheus-io/client` have it. */
export interface PromRegistry {
  // biome-ignore lint/suspicious/noExplicitAny: the registries' own types ask for their classes.
  registerMetric(metric: any): void;
  removeSingleMetric(name: string): void;
}

/** What of an OpenTelemetry meter is used. */
export interface OtelMeter {
  createObservableCounter(name: string, options?: OtelMetricOptions): OtelObservable;
  createObservableGauge(name: string, options?: OtelMetricOptions): OtelObservable;
}

export interface OtelMetricOptions {
  description?: string;
  unit?: string;
}

/** What a callback reports to. */
export interface OtelObserver {
  // biome-ignore lint/suspicious/noExplicitAny: attributes are generic in OpenTelemetry.
  observe(value: number, attributes?: any): void;
}

export interface OtelObservable {
  addCallback(callback: (observer: OtelObserver) => void): void;
  removeCallback(callback: (observer: OtelObserver) => void): void;
}

export interface MetricsOptions {
  /** A prom-client registry of yours: its own scrape has millrace's metrics too. */
  readonly registry?: PromRegistry;
  /** An OpenTelemetry meter: metrics are observed when its reader collects. */
  readonly meter?: OtelMeter;
}

const METRICS_OPTIONS: Readonly<Record<keyof MetricsOptions, true>> = {
  registry: true,
  meter: true,
};

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function resolveMetrics(
  options: MetricsOptions | boolean | undefined,
): MetricsOptions | false {
  if (typeof options === 'boolean') return options && {};
  const { registry, meter } = knownOptions(options, 'metrics.', METRICS_OPTIONS);
  if (registry !== undefined && !hasMethods(registry, ['registerMetric', 'removeSingleMetric'])) {
    throw invalidOption('metrics.registry', registry, 'a Registry of prom-client');
  }
  if (
    meter !== undefined &&
    !hasMethods(meter, ['createObservableCounter', 'createObservableGauge'])
  ) {
    throw invalidOption('metrics.meter', meter, 'a Meter of @opentelemetry/api');
  }
  return {
    ...(registry !== undefined && { registry }),
    ...(meter !== undefined && { meter }),
  };
}

function hasMethods(value: unknown, names: readonly string[]): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    names.every((name) => typeof (value as Record<string, unknown>)[name] === 'function')
  );
}
