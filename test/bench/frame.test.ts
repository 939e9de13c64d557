/** The frame of the benches: processes, medians, what cannot run, the JSON, the chart, the command line. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Bench, Unavailable } from '../../bench/lib/bench.js';
import { drawReport } from '../../bench/lib/chart.js';
import { benchCommand } from '../../bench/lib/command.js';
import { importPeer } from '../../bench/lib/peers.js';
import { type BenchReport, buildReport, reportHead } from '../../bench/lib/report.js';
import { runRounds } from '../../bench/lib/rounds.js';
import { percentile, summarize } from '../../bench/lib/stats.js';
import { describeReport, short } from '../../bench/lib/table.js';
import fixture from './fixture.bench.js';

const bench = fixture as unknown as Bench;
const RUNS = 3;

interface Setup {
  readonly report: BenchReport;
  /** One line per process: contender and pid. */
  readonly log: readonly string[];
}

let shared: Promise<Setup> | undefined;

/** The fixture's report. Made once, since it takes a process per line. */
function setup(): Promise<Setup> {
  shared ??= run();
  return shared;
}

async function run(): Promise<Setup> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
  const settings = { scale: 1, log: join(folder, 'log') };
  const head = reportHead(bench, settings, RUNS);
  const outcomes = await runRounds(bench, {
    module: new URL('./fixture.bench.js', import.meta.url).href,
    contenders: bench.contenders,
    settings,
    runs: RUNS,
    isProfiled: false,
    onProgress: () => {},
  });
  const log = readFileSync(settings.log, 'utf8').trim().split('\n');
  rmSync(folder, { recursive: true });
  return { report: buildReport(bench, head, outcomes), log };
}

function contender(report: BenchReport, name: string): BenchReport['contenders'][number] {
  const found = report.contenders.find((candidate) => candidate.name === name);
  assert.ok(found, name);
  return found;
}

test('every part of a contender has a process of its own, and contenders take turns', async () => {
  const { log } = await setup();
  const pids = log.map((line) => line.split(' ')[1]);
  assert.equal(new Set(pids).size, log.length);
  const order = log.map((line) => line.split(' ')[0]).filter((name) => name !== 'absent');
  const rounds = [order.slice(0, 3), order.slice(3, 6), order.slice(6)];
  assert.deepEqual(rounds, [
    ['good', 'peer-fast', 'peer-slim'],
    ['peer-fast', 'peer-slim', 'good'],
    ['good', 'peer-fast', 'peer-slim'],
  ]);
});

test('a figure is a median with its range and unit, from whichever part has it', async () => {
  const { report } = await setup();
  assert.deepEqual(contender(report, 'peer').metrics, {
    speed: { median: 4, min: 4, max: 4, unit: 'x/s' },
    size: { median: 7, min: 7, max: 7, unit: 'bytes' },
  });
});

test('a figure that is not measured is null and has a reason', async () => {
  const { report } = await setup();
  const { metrics, reasons } = contender(report, 'good');
  assert.equal(metrics.size, null);
  assert.deepEqual(reasons, { size: 'it has none' });
});

test('a contender that cannot run has null figures and a reason, and is not tried again', async () => {
  const { report, log } = await setup();
  const { metrics, reasons } = contender(report, 'absent');
  assert.deepEqual(metrics, { speed: null, size: null });
  assert.equal(reasons?.speed, 'there is no server');
  assert.equal(log.filter((line) => line.startsWith('absent')).length, 1);
});

test('a peer that is not installed is a contender that cannot run', async () => {
  const peer = { name: 'no-such-package', version: '0.0.0' };
  await assert.rejects(importPeer(peer), Unavailable);
});

test('a contender that throws or crashes costs only its own figures', async () => {
  const { report } = await setup();
  const failing = contender(report, 'failing');
  assert.equal(failing.reasons?.speed, 'TypeError: a mistake');
  assert.equal(failing.failures?.length, RUNS);
  assert.match(contender(report, 'crashing').reasons?.size ?? '', /ended with 3 and no answer/);
  assert.equal(contender(report, 'good').metrics.speed?.median, 10);
});

test('the JSON has the fixed shape, with ratios of ours to each peer', async () => {
  const { report } = await setup();
  const { machine, settings, ratios } = report;
  assert.deepEqual(Object.keys(report), [
    ...['name', 'date', 'machine', 'node', 'commit', 'settings', 'contenders', 'ratios'],
  ]);
  assert.deepEqual(ratios, { 'speed: good/peer': 2.5 });
  assert.equal(settings.scale, 1);
  assert.equal(settings.runs, RUNS);
  for (const fact of ['cpu', 'cores', 'memoryGiB', 'kernel']) assert.ok(machine[fact], fact);
  for (const { name, version, node, durability } of report.contenders) {
    assert.ok(name && version && node && durability);
  }
});

test('text and chart show every contender and every figure', async () => {
  const { report } = await setup();
  const text = describeReport(bench, report);
  const chart = drawReport(bench, report);
  assert.match(chart, /^<svg [\s\S]*<\/svg>\n$/);
  for (const name of bench.contenders.map((candidate) => candidate.name)) {
    assert.ok(text.includes(name) && chart.includes(`>${name}<`), name);
  }
  for (const metric of Object.keys(bench.metrics)) {
    assert.ok(text.includes(metric) && chart.includes(`>${metric}<`), metric);
  }
  assert.ok(!chart.includes('http') || chart.match(/http/g)?.length === 1, 'only its namespace');
});

test('medians and percentiles are exact', () => {
  assert.deepEqual(summarize([5, 1, 3]), { median: 3, min: 1, max: 5 });
  assert.deepEqual(summarize([4, 1]), { median: 2.5, min: 1, max: 4 });
  const hundred = Float64Array.from({ length: 100 }, (_, index) => index + 1);
  assert.equal(percentile(hundred, 0.5), 50);
  assert.equal(percentile(hundred, 0.99), 99);
  assert.equal(percentile(hundred, 1), 100);
  assert.equal(short(1_234_567), '1 235 000');
  assert.equal(short(0.01234), '0.0123');
});

test('a mistake in the command line is said in a line and ends with 2', async (t) => {
  const said = t.mock.method(console, 'error', () => {});
  assert.equal(await benchCommand(['nothing']), 2);
  assert.equal(await benchCommand(['engine', '--only', 'nobody']), 2);
  assert.equal(await benchCommand(['engine', '--runs', '0']), 2);
  assert.equal(await benchCommand(['engine', '--fast']), 2);
  const lines = said.mock.calls.map((call) => String(call.arguments[0]));
  assert.match(lines[0] ?? '', /no bench is called 'nothing'; there are .*engine/);
  assert.match(lines[1] ?? '', /no contender 'nobody'; there are millrace-embedded/);
});

test('without a name the benches and their contenders are listed', async (t) => {
  const said = t.mock.method(console, 'log', () => {});
  assert.equal(await benchCommand([]), 0);
  const text = String(said.mock.calls[0]?.arguments[0]);
  for (const word of ['engine', 'timers', 'gc', '--quick', 'js-typed-wheel', '--seconds <n>']) {
    assert.ok(text.includes(word), word);
  }
});

test('--json writes the report and its chart', async (t) => {
  t.mock.method(console, 'log', () => {});
  t.mock.method(console, 'error', () => {});
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'deeper', 'gc.json');
  const args = ['gc', '--quick', '--only', 'millrace', '--seconds', '1', '--json', file];
  assert.equal(await benchCommand(args), 0);
  const report = JSON.parse(readFileSync(file, 'utf8')) as BenchReport;
  assert.equal(report.name, 'gc');
  assert.deepEqual(
    report.contenders.map(({ name }) => name),
    ['millrace'],
  );
  assert.ok((report.contenders[0]?.metrics.latenessP50Ms?.median ?? 0) > 0);
  assert.ok(existsSync(file.replace('.json', '.svg')));
});
