/**
 * Writes docs/benchmarks.md, the tables of docs/scaling.md and the table of README.md, from the reports in bench/results.
 *
 *   node scripts/docs-benchmarks.mjs           writes them
 *   node scripts/docs-benchmarks.mjs --check   says which is old, and fails then (a test runs this)
 *
 * Figures are copied, none is left out: what a report has is on the page. What each bench asks comes from the compiled bench:
 * run `npm run build` first.
 */

import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { at, fail, readText } from './lib/project.mjs';
import { scalingTables } from './lib/scaling-tables.mjs';

const PAGE = at('docs/benchmarks.md');
const README = at('README.md');
const SCALING = at('docs/scaling.md');
const README_BEGIN = '<!-- From bench/results by scripts/docs-benchmarks.mjs. -->';
const README_END = '<!-- End of the figures. -->';

const INTRODUCTION = `<!-- Generated from bench/results/*.json by scripts/docs-benchmarks.mjs. -->

# Benchmarks

Medians of the rounds that each section names, on the machine, the day and the commit it names; sections are of different days and not to be compared
with one another. What each bench does and how its figures are to be read: [benchmarking](internals/benchmarking.md). Raw reports, with the
smallest and the largest of each figure, and charts: [bench/results](../bench/results).

A dash: not measured, for the reason below the table; an empty cell: no figure of that contender. A run whose \`scale\` is below 1 is a shorter one.
Contenders whose figures are better than ours stay on the page.

\`npm run bench -- <name> --json bench/results/<name>.json\` takes the figures of a section anew, \`npm run bench\` those of all, and
\`node scripts/docs-benchmarks.mjs\` writes this page.`;

/** The lines of README: a figure of ours next to others', one line per bench. */
const README_ROWS = [
  {
    bench: 'engine',
    what: 'no-op tasks/s, submit to result, one process',
    metric: 'tasksPerSecond',
    contenders: {
      'millrace-embedded': 'millrace, synced to disk',
      'millrace-memory': 'millrace, in memory',
      piscina: 'Piscina, which stores nothing',
    },
  },
  {
    bench: 'queue',
    what: 'tasks/s, submitted and run at once, with the server on the same machine',
    metric: 'endToEndPerSecond',
    contenders: {
      'millrace-etcd': 'millrace on etcd, synced',
      'bullmq-everysec': 'BullMQ on Redis, which may lose a second',
    },
  },
  {
    bench: 'queue',
    what: 'ms from send to start at 500 tasks/s, p50',
    metric: 'latencyP50Ms@500',
    contenders: { 'millrace-etcd': 'millrace on etcd', 'bullmq-everysec': 'BullMQ' },
  },
  {
    bench: 'pool',
    what: 'no-op messages/s to one thread, results checked',
    metric: 'tasksPerSecond@noop',
    contenders: {
      millrace: '`BatchPool`',
      piscina: 'Piscina',
      poolifier: 'poolifier',
      'worker_threads-batched': 'bare `worker_threads`, batches by hand',
    },
  },
  {
    bench: 'timers',
    what: 'ns to schedule one of a million timers',
    metric: 'scheduleNs@1M',
    contenders: {
      millrace: '`TimerQueue`',
      'js-typed-wheel': 'typed arrays in JavaScript',
      setTimeout: '`setTimeout`',
    },
  },
  {
    bench: 'gc',
    what: 'ms of garbage collection in 10 s of 100 000 timers/s',
    metric: 'pauseTotalMs',
    contenders: { millrace: '`TimerQueue`', 'js-heap': 'binary heap', setTimeout: '`setTimeout`' },
  },
];

const reports = readdirSync(at('bench/results'))
  .filter((file) => file.endsWith('.json'))
  .sort()
  .map((file) => JSON.parse(readText(at('bench/results', file))));
const { short } = await importBuilt('bench/lib/table.js');
const pages = [
  { file: PAGE, text: await benchmarksPage() },
  { file: README, text: readmeWith(readmeTable()) },
  { file: SCALING, text: scalingPage() },
];

if (process.argv.includes('--check')) {
  const old = pages.filter(({ file, text }) => readText(file) !== text);
  if (old.length > 0) {
    const names = old.map(({ file }) => file.slice(at('').length)).join(' and ');
    fail(`${names} differ from bench/results; run: node scripts/docs-benchmarks.mjs`);
  }
} else {
  for (const { file, text } of pages) writeFileSync(file, text);
}

async function importBuilt(file) {
  const path = at('dist', file);
  if (!existsSync(path)) fail('the benches are not compiled; run: npm run build');
  return import(path);
}

async function benchmarksPage() {
  const sections = [];
  for (const report of reports) {
    const { default: bench } = await importBuilt(`bench/${report.name}/${report.name}.bench.js`);
    sections.push(section(bench, report));
  }
  const list = reports.map(({ name }) => `[${name}](#${name})`).join(', ');
  return `${[INTRODUCTION, list, ...sections].join('\n\n')}\n`;
}

function section(bench, report) {
  const { name, contenders, machine, settings, node, date, commit } = report;
  const head = ['', ...contenders.map((contender) => `${contender.name} ${contender.version}`)];
  const rows = Object.entries(bench.metrics)
    .filter(([metric]) => contenders.some(({ metrics }) => metrics[metric]))
    .map(([metric, { unit }]) => [
      `\`${metric}\`, ${unit}`,
      ...contenders.map(({ metrics }) => cell(metrics[metric])),
    ]);
  const { runs, ...rest } = settings;
  return [
    `## ${name}`,
    '',
    `${bench.question[0].toUpperCase()}${bench.question.slice(1)}`,
    '',
    table([head, ...rows]),
    '',
    ...missing(contenders),
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.kernel}, ${machine.disk ?? 'disk unknown'}, load ${machine.loadAverage ?? '-'} at the start; Node ${node}; ${date.slice(0, 10)}; commit \`${(commit ?? 'unknown').slice(0, 12)}\`; medians of ${runs}.`,
    `Settings: \`${JSON.stringify(rest)}\`.`,
    `Durability: ${durabilities(contenders)}.`,
    ...(existsSync(at(`bench/results/${name}.svg`))
      ? ['', `[Chart](../bench/results/${name}.svg)`]
      : []),
  ].join('\n');
}

function cell(metric) {
  if (metric === undefined) return '';
  return metric === null ? '-' : short(metric.median);
}

/** One line for each reason, with the contenders that it is of. */
function missing(contenders) {
  const byReason = new Map();
  for (const { name, reasons = {} } of contenders) {
    for (const [metric, reason] of Object.entries(reasons)) {
      const key = reason.split('\n')[0];
      const known = byReason.get(key) ?? new Map();
      known.set(name, [...(known.get(name) ?? []), metric]);
      byReason.set(key, known);
    }
  }
  const lines = [...byReason].map(([reason, byName]) => {
    const of = [...byName].map(([name, metrics]) => `${name} (${metrics.length} figures)`);
    return `- not measured, ${of.join(', ')}: ${reason}`;
  });
  return lines.length > 0 ? [...lines, ''] : [];
}

function durabilities(contenders) {
  const byText = new Map();
  for (const { name, durability } of contenders) {
    byText.set(durability, [...(byText.get(durability) ?? []), name]);
  }
  return [...byText].map(([text, names]) => `${names.join(', ')}: ${text}`).join('; ');
}

function readmeTable() {
  const rows = README_ROWS.flatMap(({ bench, what, metric, contenders }) => {
    const report = reports.find(({ name }) => name === bench);
    const told = Object.entries(contenders).flatMap(([name, label]) => {
      const value = report?.contenders.find((each) => each.name === name)?.metrics[metric];
      return value ? [`${label}: ${short(value.median)}`] : [];
    });
    if (told.length < 2) return [];
    return [[`${what} (\`${bench}\`)`, told[0], told.slice(1).join('; ')]];
  });
  return table([['', 'millrace', 'next to it'], ...rows]);
}

function readmeWith(text) {
  const readme = readText(README);
  const [before, rest] = readme.split(README_BEGIN);
  const [, after] = (rest ?? '').split(README_END);
  if (after === undefined) fail(`README.md lacks ${README_BEGIN} or ${README_END}`);
  return `${before}${README_BEGIN}\n${text}\n${README_END}${after}`;
}

/** The page with its tables between their marks. */
function scalingPage() {
  const report = reports.find(({ name }) => name === 'scale');
  if (report === undefined) fail('bench/results/scale.json is not there; run the bench scale');
  let page = readText(SCALING);
  for (const [name, text] of Object.entries(scalingTables(report, table))) {
    const place = new RegExp(`(<!-- scaling:${name} -->\\n)[^]*?(<!-- scaling:end -->)`);
    if (!place.test(page)) fail(`docs/scaling.md lacks <!-- scaling:${name} -->`);
    page = page.replace(place, (_, begin, end) => `${begin}${text}\n${end}`);
  }
  return page;
}

function table([head, ...rows]) {
  const line = (cells) => `| ${cells.map((text) => text.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}
