/**
 * Hands metrics over to the library that the host already uses. Nothing is copied while tasks run: the library asks
 * when it is scraped, and gets the numbers of that moment.
 *
 * prom-client asks a metric for its values (`get`), so each of ours goes in as an object that answers from the table. An
 * OpenTelemetry meter has observable counters and gauges, but no observable histogram: a histogram becomes three counters,
 * `.bucket` with the attribute `le`, `.sum` and `.count`, as Prometheus has them. Names there have dots, and the unit apart.
 */
import { exposition, histogramSamples } from './exposition.js';
import type { CounterCell, GaugeCell } from './metric-cells.js';
import type { Family, MetricRegistry, Series } from './metric-registry.js';
import { type AnyMetricFact, METRICS } from './metric-table.js';
import type { OtelMeter, OtelObservable, PromRegistry } from './metrics-options.js';

/** One number with its labels, as prom-client prints it. */
interface PromValue {
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** How fresh the numbers are that all metrics of one scrape share. */
const SCRAPE_MS = 50;

/** Reads the registry once for all metrics of a scrape. */
class Scrape {
  readonly #registry: MetricRegistry;
  readonly #nowMs: () => number;
  #families = new Map<string, Family>();
  #atMs = Number.NEGATIVE_INFINITY;

  constructor(registry: MetricRegistry, nowMs: () => number) {
    this.#registry = registry;
    this.#nowMs = nowMs;
  }

  seriesOf(name: string): readonly Series[] {
    if (this.#nowMs() - this.#atMs > SCRAPE_MS) {
      this.#atMs = this.#nowMs();
      this.#families = new Map(
        this.#registry.collect().map((family) => [family.fact.name, family]),
      );
    }
    return this.#families.get(name)?.series ?? [];
  }
}

/** @returns takes them out again */
export function handToProm(
  metrics: MetricRegistry,
  registry: PromRegistry,
  nowMs: () => number,
): () => void {
  const scrape = new Scrape(metrics, nowMs);
  const facts: readonly AnyMetricFact[] = Object.values(METRICS);
  for (const fact of facts) {
    const { name, help, type } = fact;
    const get = async () => {
      const values = scrape.seriesOf(name).flatMap((series) => promValues(fact, series));
      return { name, help, type, values, aggregator: 'sum' };
    };
    registry.registerMetric({ name, help, type, aggregator: 'sum', get, reset: () => {} });
  }
  return () => {
    for (const { name } of facts) registry.removeSingleMetric(name);
  };
}

/** @returns takes them out again */
export function handToOtel(
  metrics: MetricRegistry,
  meter: OtelMeter,
  nowMs: () => number,
): () => void {
  const scrape = new Scrape(metrics, nowMs);
  const undo: (() => void)[] = [];
  const follow = (
    instrument: OtelObservable,
    fact: AnyMetricFact,
    read: (series: Series) => readonly { readonly value: number; readonly le?: string }[],
  ): void => {
    const callback: Parameters<OtelObservable['addCallback']>[0] = (result) => {
      for (const series of scrape.seriesOf(fact.name)) {
        const labels = labelsOf(fact, series);
        for (const { value, le } of read(series)) {
          result.observe(value, le === undefined ? labels : { ...labels, le });
        }
      }
    };
    instrument.addCallback(callback);
    undo.push(() => instrument.removeCallback(callback));
  };
  for (const fact of Object.values(METRICS) as AnyMetricFact[]) {
    const { name, unit } = otelName(fact.name);
    const options = { description: fact.help, ...(unit !== undefined && { unit }) };
    if (fact.type === 'histogram') {
      for (const suffix of ['_bucket', '_sum', '_count'] as const) {
        const part = `${name}.${suffix.slice(1)}`;
        const whole = suffix === '_sum' ? options : { description: fact.help };
        follow(meter.createObservableCounter(part, whole), fact, (series) =>
          histogramSamples(series, fact.scale).filter((sample) => sample.suffix === suffix),
        );
      }
      continue;
    }
    const instrument =
      fact.type === 'counter'
        ? meter.createObservableCounter(name, options)
        : meter.createObservableGauge(name, options);
    follow(instrument, fact, ({ cell }) => [{ value: (cell as CounterCell | GaugeCell).value }]);
  }
  return () => {
    for (const one of undo) one();
  };
}

/** Everything as text for Prometheus. */
export function prometheusText(metrics: MetricRegistry): string {
  return exposition(metrics.collect());
}

function promValues(fact: AnyMetricFact, series: Series): PromValue[] {
  const labels = labelsOf(fact, series);
  if (fact.type !== 'histogram') {
    const { value } = series.cell as CounterCell | GaugeCell;
    return [{ metricName: fact.name, labels, value }];
  }
  return histogramSamples(series, fact.scale).map(({ suffix, le, value }) => ({
    metricName: `${fact.name}${suffix}`,
    labels: le === undefined ? labels : { ...labels, le },
    value,
  }));
}

function labelsOf(fact: AnyMetricFact, { labels }: Series): Record<string, string> {
  return Object.fromEntries(fact.labels.map((name, i) => [name, labels[i]!]));
}

/** `millrace_process_cpu_seconds_total` -> `millrace.process.cpu` in `s`. */
export function otelName(name: string): { readonly name: string; readonly unit?: string } {
  const parts = /^(.*?)(?:_(seconds|bytes))?(?:_total)?$/.exec(name)!;
  const dotted = parts[1]!.replaceAll('_', '.');
  if (parts[2] === undefined) return { name: dotted };
  return { name: dotted, unit: parts[2] === 'seconds' ? 's' : 'By' };
}
