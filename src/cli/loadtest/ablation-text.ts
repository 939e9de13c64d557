/** The ablation as a table, each row in relation to all-on, and why a row shows nothing where it does. */
import { table } from '../table.js';
import { millis } from '../units.js';
import { type AblationReport, BASE, type ContenderSummary, relative } from './ablation-report.js';

interface Column {
  readonly title: string;
  /** Of a metric, or of a note. */
  readonly name: string;
}

const COLUMNS: readonly Column[] = [
  { title: 'tasks/s', name: 'tasksPerSecond' },
  { title: 'p50 ms', name: 'latencyP50Ms' },
  { title: 'p95 ms', name: 'latencyP95Ms' },
  { title: 'p99 ms', name: 'latencyP99Ms' },
  { title: 'CPU us/task', name: 'cpuUsPerTask' },
  { title: 'GC ms/s', name: 'gcMsPerSecond' },
  { title: 'lock p95 ms', name: 'lockP95Ms' },
  { title: 'p95 ms, slow store', name: 'slowLatencyP95Ms' },
];

/** Below it, a difference between two rows is what runs differ by anyway. */
const NOTICEABLE = 0.1;

/** Where an optimisation works, for when the table does not show it. */
const REASONS: Readonly<Record<string, string>> = {
  'no-client': 'a connection is shared by the calls to etcd; other stores have none',
  'no-leakchecks':
    'the watchdog only looks, every 5 s: off saves its cost, which is below what runs differ by, and no leak is found',
  'no-batching': 'batches form where tasks wait for a commit or a thread',
  'no-tls':
    'a handshake is made when a connection is: the shared one lives through the whole run. With the client off as well it is made for each call (all-off); what a reconnect costs is in the bench `store`',
  'no-locks': 'one submit in a hundred takes a lock; see the column of locks',
  'no-logs': 'a line per task is written by a thread of its own to a disk that keeps up',
  'no-breaker':
    'it acts while the store is slow (last column): tasks of low priority are then refused, which frees what others wait for only where something is scarce',
};

export function ablationText(report: AblationReport): string {
  return [table(ablationRows(report)), ...unnoticed(report).map((line) => `${line}\n`)].join('\n');
}

/** A heading, and a row for each contender. */
export function ablationRows(report: AblationReport): string[][] {
  return [
    ['', ...COLUMNS.map(({ title }) => title)],
    ...report.contenders.map((contender) => [
      contender.name,
      ...COLUMNS.map(({ name }) => cell(report, contender, name)),
    ]),
  ];
}

/** A line for each optimisation whose row is like all-on, and for what could not be measured. */
export function unnoticed(report: AblationReport): string[] {
  return report.contenders.flatMap((contender) => {
    const { name, failures } = contender;
    if (contender.metrics.tasksPerSecond == null && failures === undefined) return [];
    if (failures !== undefined) return [`${name} failed: ${failures[0]?.split('\n')[0]}`];
    const reason = REASONS[name];
    if (reason === undefined || isNoticed(report, contender)) return [];
    return [`${name} buys nothing here: ${reason}`];
  });
}

/** Whether switching it off made throughput or the 95th percentile worse. */
function isNoticed(report: AblationReport, contender: ContenderSummary): boolean {
  const throughput = relative(report, contender, 'tasksPerSecond') ?? 1;
  const latency = relative(report, contender, 'latencyP95Ms') ?? 1;
  return throughput < 1 - NOTICEABLE || latency > 1 + NOTICEABLE;
}

function cell(report: AblationReport, contender: ContenderSummary, name: string): string {
  const value = contender.metrics[name]?.median ?? contender.notes[name];
  if (typeof value !== 'number') return '-';
  const share = relative(report, contender, name);
  const times = contender.name === BASE || share === undefined ? '' : ` (x${factor(share)})`;
  return `${millis(value)}${times}`;
}

function factor(share: number): string {
  return share >= 10 ? share.toFixed(0) : share.toPrecision(2);
}
