/**
 * Runs test files with node:test and reports them as one run.
 *
 * Test files are of two kinds. Most are pure and run side by side, one process per core. Those that start
 * processes, threads or servers, and watch the clock while doing so, run one after another when the others
 * are done: on two cores they would otherwise measure each other. That makes two runs of node:test, so their
 * events go through one reporter, and their closing counts are added up and printed last.
 */

import { availableParallelism } from 'node:os';
import { relative } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { ROOT } from './project.mjs';

/** Time budget of one test file. A test that needs another limit for itself sets `timeout`. */
const FILE_TIMEOUT_MS = 120_000;
/** The same for files that run alone: they start processes and install packages. */
const SERIAL_FILE_TIMEOUT_MS = 300_000;
const SLOWEST_COUNT = 10;

/**
 * @param parallel - files to run side by side
 * @param serial - files to run one after another, after the others
 * @param options.namePattern - run only the tests whose name matches
 * @param options.serialTimeoutMs - time budget of a file that runs alone
 * @returns whether at least one test ran and none failed
 */
export async function runTests(
  parallel,
  serial,
  { namePattern, serialTimeoutMs = SERIAL_FILE_TIMEOUT_MS } = {},
) {
  const shared = namePattern === undefined ? {} : { testNamePatterns: [namePattern] };
  const totals = new Map();
  const fileMs = new Map();
  let summary;
  const report = new spec();
  report.pipe(process.stdout, { end: false });

  const groups = [
    { files: parallel, concurrency: availableParallelism(), timeout: FILE_TIMEOUT_MS },
    { files: serial, concurrency: 1, timeout: serialTimeoutMs },
  ];
  for (const group of groups) {
    if (group.files.length === 0) continue;
    for await (const event of run({ ...group, ...shared })) {
      noteDuration(event, fileMs);
      if (isSummary(event)) summary = event;
      else if (!addToTotals(event, totals)) report.write(event);
    }
  }
  if (summary !== undefined) report.write(summary);
  await new Promise((resolve) => report.end(resolve));
  await drained(report);

  printSlowest(fileMs);
  await printTotals(totals);
  const failed = (totals.get('fail') ?? 0) + (totals.get('cancelled') ?? 0);
  return failed === 0 && (totals.get('pass') ?? 0) > 0;
}

/** The event of a file as a whole carries the file's path as its name, in every Node from 20 on. */
function noteDuration({ type, data }, fileMs) {
  if (type !== 'test:complete' || data.nesting !== 0) return;
  if (data.name === data.file || data.name === relative(process.cwd(), data.file ?? '')) {
    fileMs.set(data.file, data.details.duration_ms);
  }
}

/** Takes the closing counts ("pass 12") out of the stream of events. */
function addToTotals({ type, data }, totals) {
  if (type !== 'test:diagnostic' || data.nesting !== 0 || data.file !== undefined) return false;
  const match = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) ([\d.]+)$/.exec(
    data.message,
  );
  if (match === null) return false;
  totals.set(match[1], (totals.get(match[1]) ?? 0) + Number(match[2]));
  return true;
}

/** The event on which the reporter of Node >= 22 repeats the failures; Node 20 does that at the end by itself. */
function isSummary({ type, data }) {
  return type === 'test:summary' && data.file === undefined;
}

function printSlowest(fileMs) {
  const slowest = [...fileMs].sort((a, b) => b[1] - a[1]).slice(0, SLOWEST_COUNT);
  console.log(`\nslowest of ${fileMs.size} files:`);
  for (const [file, ms] of slowest) {
    console.log(`${(ms / 1000).toFixed(1).padStart(7)} s  ${relative(ROOT, file)}`);
  }
  console.log('');
}

/** Node's own closing lines, by Node's own reporter. */
async function printTotals(totals) {
  const report = new spec();
  report.pipe(process.stdout, { end: false });
  for (const [name, value] of totals) {
    const message = `${name} ${Math.round(value * 1e6) / 1e6}`;
    report.write({ type: 'test:diagnostic', data: { nesting: 0, message } });
  }
  report.end();
  await drained(report);
}

function drained(stream) {
  return stream.readableEnded ? undefined : new Promise((resolve) => stream.once('end', resolve));
}
