/** The tables of an open load's report, as rows of cells: for the terminal and for the page. */
import type { PercentileFacts } from '../percentiles.js';
import { bytes, count, millis } from '../units.js';
import type { LoadReport } from './load-report.js';

type Rows = string[][];

export function phaseRows({ phases }: LoadReport): Rows {
  return [
    ['ms', 'p50', 'p95', 'p99', 'max', 'count'],
    ...phases.map(({ name, facts }) => percentileRow(name, facts)),
  ];
}

export function processRows({ processes }: LoadReport): Rows {
  return [
    ['process', 'GCs', 'GC ms', 'longest', 'loop p99', 'loop max', 'CPU s', 'RSS max', 'started'],
    ...processes.map((each) => [
      each.name,
      count(each.gcCount),
      millis(each.gcTotalMs),
      millis(each.gcMaxMs),
      millis(each.loopDelayP99Ms),
      millis(each.loopDelayMaxMs),
      (each.cpuMs / 1_000).toFixed(1),
      bytes(each.rssBytesMax),
      count(each.lives),
    ]),
  ];
}

/** How long the store took; no rows when nobody heard. */
export function delayRows({ processes }: LoadReport): Rows {
  const rows = processes.flatMap(({ name, commitMs, watchMs }) => [
    ...(commitMs.count > 0 ? [percentileRow(`commits of ${name}`, commitMs)] : []),
    ...(watchMs.count > 0 ? [percentileRow(`watches of ${name}`, watchMs)] : []),
  ]);
  return rows.length === 0
    ? []
    : [['store delay, ms', 'p50', 'p95', 'p99', 'max', 'count'], ...rows];
}

function percentileRow(
  label: string,
  { p50, p95, p99, max, count: total }: PercentileFacts,
): string[] {
  return [label, ...[p50, p95, p99, max].map(millis), count(total)];
}
