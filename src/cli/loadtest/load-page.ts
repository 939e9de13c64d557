/** The report of an open load as a page with charts. */
import { span } from '../units.js';
import type { LoadReport } from './load-report.js';
import { delayRows, phaseRows, processRows } from './load-tables.js';
import { deliveryLine, headline } from './load-text.js';
import { escaped, htmlTable } from './page/html.js';
import { type LineChart, lineChart, type Series } from './page/line-chart.js';
import { page } from './page/page.js';
import { linearScale, logScale, percentileScale, type Scale } from './page/scale.js';
import type { VitalSecond } from './process-vitals.js';

const BYTES_PER_MIB = 1_048_576;

export function loadPage(report: LoadReport): string {
  const { scenario, machine, node, version, date, isExact, delivery, faults } = report;
  const facts = `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.kernel}, Node ${node}, millrace ${version}, ${date.slice(0, 16).replace('T', ' ')} UTC`;
  return page(`millrace loadtest ${scenario}`, facts, [
    `<p>${escaped(headline(report))}</p>`,
    `<p class="${isExact ? 'good' : 'bad'}">${escaped(deliveryLine(delivery, isExact))}</p>`,
    htmlTable(phaseRows(report)),
    `<div class="charts">${charts(report).map(lineChart).join('\n')}</div>`,
    htmlTable(processRows(report)),
    htmlTable(delayRows(report)),
    faults.length === 0
      ? ''
      : htmlTable([
          ['fault', 'at', 'what was done'],
          ...faults.map(({ fault, atSeconds, result }) => [fault, span(atSeconds * 1_000), result]),
        ]),
    `<p class="soft">${escaped(`Load: ${JSON.stringify(report.load)}`)}</p>`,
  ]);
}

function charts(report: LoadReport): LineChart[] {
  const { timeline, processes, faults } = report;
  const lastSecond = Math.max(1, timeline.length - 1);
  const overTime = {
    xName: 'seconds since the load began',
    x: linearScale(lastSecond),
    marks: faults.map(({ atSeconds, result }) => ({ x: atSeconds, name: result })),
  };
  const perSecond = (
    name: string,
    read: (second: (typeof timeline)[number]) => number,
  ): Series => ({
    name,
    points: timeline.map((second) => ({ x: second.second, y: read(second) })),
  });
  const perProcess = (read: (second: VitalSecond) => number): Series[] =>
    processes.map(({ name, seconds }) => ({
      name,
      points: seconds
        .filter(({ second }) => second >= 0 && second <= lastSecond)
        .map((second) => ({ x: second.second, y: read(second) })),
    }));
  const ended = timeline.filter((second) => second.ended > 0);
  const latency = (
    read: (facts: (typeof timeline)[number]['latencyMs']) => number,
  ): Series['points'] => ended.map(({ second, latencyMs }) => ({ x: second, y: read(latencyMs) }));
  return [
    byPercentile(report),
    chart(overTime, {
      title: 'Throughput over time',
      about: 'what was meant to arrive in each second, and what ended in it',
      yName: 'per second',
      series: [perSecond('arrived', ({ arrived }) => arrived), perSecond('ended', (s) => s.ended)],
    }),
    chart(
      overTime,
      {
        title: 'Latency over time',
        about: 'of what ended in each second, from when it was due',
        yName: 'ms',
        series: [
          { name: 'p50', points: latency(({ p50 }) => p50) },
          { name: 'p99', points: latency(({ p99 }) => p99) },
          { name: 'max', points: latency(({ max }) => max) },
        ],
      },
      'log',
    ),
    chart(overTime, {
      title: 'Garbage collection',
      about: 'time in collections, in each second',
      yName: 'ms per second',
      series: perProcess(({ gcMs }) => gcMs),
    }),
    chart(overTime, {
      title: 'Event-loop delay',
      about: '99th percentile in each second: how late a timer is',
      yName: 'ms',
      series: perProcess(({ loopDelayP99Ms }) => loopDelayP99Ms),
    }),
    chart(overTime, {
      title: 'Memory',
      about: 'resident, at the end of each second',
      yName: 'MiB',
      series: perProcess(({ rssBytes }) => rssBytes / BYTES_PER_MIB),
    }),
  ];
}

function byPercentile({ phases }: LoadReport): LineChart {
  const told = phases.filter(({ curve }) => curve.length > 0);
  const points = told.flatMap(({ curve }) => curve);
  const below = Math.max(0, ...points.map(({ percentile }) => (percentile < 100 ? percentile : 0)));
  return {
    title: 'Latency by percentile',
    about: told.map(({ name, about }) => `${name}: ${about}`).join('; '),
    xName: 'percentile, the slowest at the end',
    yName: 'ms',
    x: percentileScale(below),
    y: scaleOf(
      points.map(({ ms }) => ms),
      'log',
    ),
    series: told.map(({ name, curve }) => ({
      name,
      points: curve.map(({ percentile, ms }) => ({ x: percentile, y: ms })),
    })),
  };
}

function chart(
  common: Pick<LineChart, 'x' | 'xName' | 'marks'>,
  own: Omit<LineChart, 'x' | 'xName' | 'marks' | 'y'>,
  kind: 'linear' | 'log' = 'linear',
): LineChart {
  const values = own.series.flatMap(({ points }) => points.map(({ y }) => y));
  return { ...common, ...own, y: scaleOf(values, kind) };
}

function scaleOf(values: readonly number[], kind: 'linear' | 'log'): Scale {
  const largest = values.reduce((most, value) => Math.max(most, value), 0);
  if (kind === 'linear' || largest === 0) return linearScale(largest || 1);
  const positive = values.filter((value) => value > 0);
  return logScale(
    positive.reduce((least, value) => Math.min(least, value)),
    largest,
  );
}
