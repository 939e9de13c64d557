/**
 * Metrics as Prometheus reads them: text format 0.0.4, as `promtool check metrics` accepts it.
 *
 *   # HELP millrace_tasks_dead_total Tasks that failed for good.
 *   # TYPE millrace_tasks_dead_total counter
 *   millrace_tasks_dead_total{queue="default"} 3
 */
import { type CounterCell, type GaugeCell, HistogramCell } from './metric-cells.js';
import type { Family, Series } from './metric-registry.js';
import { type HistogramFact, SCALES } from './metric-table.js';

/** Of the text below. */
export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** One number of a histogram: `_bucket`, `_sum` or `_count`. */
interface Sample {
  readonly suffix: '_bucket' | '_sum' | '_count';
  /** Of a bucket. */
  readonly le?: string;
  readonly value: number;
}

export function exposition(families: readonly Family[]): string {
  const lines: string[] = [];
  for (const { fact, series } of families) {
    lines.push(`# HELP ${fact.name} ${escapeHelp(fact.help)}`, `# TYPE ${fact.name} ${fact.type}`);
    for (const one of series) {
      if (fact.type !== 'histogram') {
        const { value } = one.cell as CounterCell | GaugeCell;
        lines.push(`${fact.name}${labelText(fact.labels, one.labels)} ${text(value)}`);
        continue;
      }
      for (const { suffix, le, value } of histogramSamples(one, fact.scale)) {
        const labels = labelText(fact.labels, one.labels, le);
        lines.push(`${fact.name}${suffix}${labels} ${text(value)}`);
      }
    }
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

/** A histogram's buckets, each with everything below it, then sum and count. */
export function histogramSamples(series: Series, of: HistogramFact['scale']): Sample[] {
  const scale = SCALES[of];
  const cell = series.cell;
  if (!(cell instanceof HistogramCell)) return [];
  const { count } = cell;
  const below = cell.cumulative();
  const samples: Sample[] = [];
  for (let place = 0; place < below.length; place++) {
    if ((below.length - 1 - place) % scale.shown !== 0) continue;
    const le = text(2 ** (scale.lowest + place));
    samples.push({ suffix: '_bucket', le, value: below[place]! });
  }
  return [
    ...samples,
    { suffix: '_bucket', le: '+Inf', value: count },
    { suffix: '_sum', value: cell.sum },
    { suffix: '_count', value: count },
  ];
}

function labelText(names: readonly string[], values: readonly string[], le?: string): string {
  const pairs = names.map((name, i) => `${name}="${escapeLabel(values[i] ?? '')}"`);
  if (le !== undefined) pairs.push(`le="${le}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function text(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}

function escapeHelp(help: string): string {
  return help.replace(/\\/g, '\\\\').replace(/\n/g, '\\n');
}

function escapeLabel(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/\n/g, '\\n').replace(/"/g, '\\"');
}
