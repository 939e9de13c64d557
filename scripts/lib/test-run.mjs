/**
 * Runs test files with node:test and reports them as one run.
 *
 * Test files are of three kinds. Most are pure and keep a core busy. Those that start processes or servers wait for
 * events most of the time, with generous limits: three of them share two cores, and one goes on beside a pure one.
 * Those that watch the clock run last, one after another: they would otherwise measure each other.
 *
 * Every file is a run of node:test of its own, because only whole runs can be ended from outside in every Node
 * from 20 on: the `timeout` of a run is a budget for each file up to Node 22, and for each test from 24 on,
 * where a file that leaves a timer behind would hang for ever. The events of all files go through one reporter,
 * a file at a time, and the closing counts are added up and printed last.
 */

import { availableParallelism } from 'node:os';
import { relative } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { ROOT } from './project.mjs';

/** Time budget of one test file. A test that needs another limit for itself sets `timeout`. */
const FILE_TIMEOUT_MS = 240_000;
/** The same for files that start processes and install packages. */
const LONG_FILE_TIMEOUT_MS = 300_000;
/** How much of a core a file keeps busy, in percent. */
const PURE_LOAD = 100;
const WITH_PROCESSES_LOAD = 65;
const SLOWEST_COUNT = 10;

/**
 * Files of a group start in the order given, so those known to take long come first.
 *
 * @param groups.withProcesses - files that start processes
 * @param groups.pure - files that compute
 * @param groups.alone - files to run one after another, at the end
 * @param options.namePattern - run only the tests whose name matches
 * @param options.longTimeoutMs - time budget of a file with processes or of one that runs alone
 * @returns whether at least one test passed, none failed, and every file ran to its end
 */
export async function runTests(
  { withProcesses = [], pure = [], alone = [] },
  { namePattern, longTimeoutMs = LONG_FILE_TIMEOUT_MS } = {},
) {
  const startedAt = Date.now();
  const report = new spec();
  report.pipe(process.stdout, { end: false });
  const ended = [];
  const capacity = 100 * availableParallelism();
  const jobs = [
    ...jobsOf(withProcesses, WITH_PROCESSES_LOAD, longTimeoutMs),
    ...jobsOf(pure, PURE_LOAD, FILE_TIMEOUT_MS),
    ...jobsOf(alone, capacity, longTimeoutMs),
  ];
  await runWithin(capacity, jobs, async ({ file, timeoutMs }) => {
    const result = await runFile(file, timeoutMs, namePattern);
    for (const event of result.events) report.write(event);
    ended.push(result);
  });

  // Repeats the failures: Node 20 does so when its reporter ends, newer ones when they are given the summary.
  const summary = ended.find((result) => result.summary !== undefined)?.summary;
  if (summary !== undefined) report.write(summary);
  await finished(report);

  printSlowest(ended);
  const totals = new Map();
  for (const [name, count] of ended.flatMap((result) => [...result.counts])) {
    totals.set(name, (totals.get(name) ?? 0) + count);
  }
  totals.set('duration_ms', Date.now() - startedAt);
  await printTotals(totals);
  return ended.every((result) => result.passed) && ended.some((result) => result.hasRun);
}

/** Runs one file in a process of its own, and collects what is to be reported. */
async function runFile(file, timeoutMs, namePattern) {
  const watchdog = new AbortController();
  const timer = setTimeout(() => watchdog.abort(), timeoutMs);
  const startedAt = Date.now();
  const events = [];
  const counts = new Map();
  let summary;
  let hasTests = false;
  let hasRun = false;
  const names = namePattern === undefined ? {} : { testNamePatterns: [namePattern] };
  for await (const event of run({ files: [file], signal: watchdog.signal, ...names })) {
    if (isSummary(event)) summary = event;
    else if (!addToCounts(event, counts)) events.push(event);
    // A file without tests, or that left in the middle of one, is itself reported as a test that passed.
    if (event.type === 'test:pass' && event.data.name !== file) {
      hasTests = true;
      hasRun ||= event.data.skip === undefined;
    }
  }
  clearTimeout(timer);

  const failures = (counts.get('fail') ?? 0) + (counts.get('cancelled') ?? 0);
  const complaint = watchdog.signal.aborted
    ? `did not end within ${timeoutMs / 1000} s and was stopped`
    : failures === 0 && !hasTests && namePattern === undefined
      ? 'ended without having run a test'
      : undefined;
  if (complaint !== undefined) {
    const message = `${relative(ROOT, file)} ${complaint}`;
    events.push({ type: 'test:diagnostic', data: { nesting: 0, message, level: 'error' } });
  }
  const passed = failures === 0 && complaint === undefined;
  return { file, ms: Date.now() - startedAt, events, counts, summary, passed, hasRun };
}

function jobsOf(files, load, timeoutMs) {
  return files.map((file) => ({ file, load, timeoutMs }));
}

/** Runs the first of the waiting jobs that fits, whenever one does. A load above the capacity counts as all of it. */
async function runWithin(capacity, jobs, work) {
  const waiting = [...jobs];
  const running = new Set();
  let load = 0;
  while (waiting.length > 0) {
    const index = waiting.findIndex((job) => load === 0 || load + job.load <= capacity);
    if (index === -1) {
      await Promise.race(running);
      continue;
    }
    const [job] = waiting.splice(index, 1);
    load += job.load;
    const run = work(job).finally(() => {
      running.delete(run);
      load -= job.load;
    });
    running.add(run);
  }
  await Promise.all(running);
}

/** Takes the closing counts ("pass 12") out of the stream of events. */
function addToCounts({ type, data }, counts) {
  if (type !== 'test:diagnostic' || data.nesting !== 0 || data.file !== undefined) return false;
  const match = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) ([\d.]+)$/.exec(
    data.message,
  );
  if (match === null) return false;
  counts.set(match[1], Number(match[2]));
  return true;
}

function isSummary({ type, data }) {
  return type === 'test:summary' && data.file === undefined;
}

function printSlowest(ended) {
  const slowest = [...ended].sort((a, b) => b.ms - a.ms).slice(0, SLOWEST_COUNT);
  console.log(`\nslowest of ${ended.length} files:`);
  for (const { file, ms } of slowest) {
    console.log(`${(ms / 1000).toFixed(1).padStart(7)} s  ${relative(ROOT, file)}`);
  }
  console.log('');
}

/** Node's own closing lines, by Node's own reporter. */
async function printTotals(totals) {
  const report = new spec();
  report.pipe(process.stdout, { end: false });
  for (const [name, value] of totals) {
    report.write({ type: 'test:diagnostic', data: { nesting: 0, message: `${name} ${value}` } });
  }
  await finished(report);
}

/** Ends a reporter and waits until it has passed everything on. */
async function finished(report) {
  const end = new Promise((resolve) => report.once('end', resolve));
  report.end();
  await end;
}
