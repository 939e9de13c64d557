/** A report as text: a row per figure, a column per contender. */
import type { Bench, Json, JsonObject } from './bench.js';
import type { BenchReport, MetricReport } from './report.js';

export function describeReport(bench: Bench, report: BenchReport): string {
  const { contenders, ratios, machine, settings } = report;
  const rows = [['', ...contenders.map(({ name }) => name)]];
  for (const [metric, { unit }] of Object.entries(bench.metrics)) {
    const cells = contenders.map((contender) => cell(contender.metrics[metric]));
    if (cells.some((text) => text !== '')) rows.push([`${metric} (${unit})`, ...cells]);
  }
  const lines = [
    `${bench.name}: ${bench.question}`,
    `${machine.cpu}, ${machine.cores} cores, ${machine.kernel}, Node ${report.node}, ` +
      `load ${machine.loadAverage}; medians of ${settings.runs} (smallest to largest)`,
    '',
    ...align(rows),
    '',
    ...contenders.map(
      ({ name, version, durability }) => `${name} ${version}; durability: ${durability}`,
    ),
  ];
  const notes = contenders.filter(({ notes }) => notes !== undefined);
  lines.push(...notes.map(({ name, notes }) => `${name}: ${noted(notes ?? {})}`));
  const failed = contenders.filter(({ failures }) => failures !== undefined);
  lines.push(
    ...failed.map(
      ({ name, failures = [] }) => `${name}: ${failures.length} runs failed: ${failures[0]}`,
    ),
  );
  const reasons = contenders.flatMap(({ name, reasons: nulls = {} }) => grouped(name, nulls));
  if (reasons.length > 0) lines.push('', ...reasons);
  if (Object.keys(ratios).length > 0) {
    lines.push('', ...align(Object.entries(ratios).map(([name, ratio]) => [name, short(ratio)])));
  }
  return lines.join('\n');
}

const NAMED_MAX = 4;

/** One line for all figures that have the same reason. */
function grouped(name: string, nulls: Readonly<Record<string, string>>): string[] {
  const byReason = new Map<string, string[]>();
  for (const [metric, reason] of Object.entries(nulls)) {
    byReason.set(reason, [...(byReason.get(reason) ?? []), metric]);
  }
  return [...byReason].map(([reason, metrics]) => {
    const more = metrics.length > NAMED_MAX ? ` and ${metrics.length - NAMED_MAX} more` : '';
    return `${name}: no ${metrics.slice(0, NAMED_MAX).join(', ')}${more}: ${reason}`;
  });
}

function noted(notes: JsonObject): string {
  const text = (value: Json): string => (typeof value === 'number' ? short(value) : `${value}`);
  return Object.entries(notes)
    .map(([name, value]) => `${name} ${text(value)}`)
    .join(', ');
}

function cell(metric: MetricReport | null | undefined): string {
  if (metric === undefined) return '';
  if (metric === null) return '-';
  const { median, min, max } = metric;
  return min === max ? short(median) : `${short(median)} (${short(min)} to ${short(max)})`;
}

/** Three digits that count, thousands apart: 12 300, 4.56, 0.0789. */
export function short(value: number): string {
  if (value === 0) return '0';
  if (Math.abs(value) >= 1000) {
    const digits = Math.round(Number(value.toPrecision(4))).toString();
    return digits.replace(/\B(?=(\d{3})+$)/g, ' ');
  }
  return `${Number(value.toPrecision(3))}`;
}

function align(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, text] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, text.length);
    }
  }
  return rows.map((row) =>
    row
      .map((text, column) =>
        column === 0 ? text.padEnd(widths[0]!) : text.padStart(widths[column]!),
      )
      .join('   ')
      .trimEnd(),
  );
}
