/** The ablation's rows on a store in memory, and what the report makes of them. Its figures are not judged here. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type AblationSettings,
  ablationSettings,
  CONTENDERS,
  METRICS,
} from '../../../src/cli/loadtest/ablation-plan.js';
import {
  ablationReport,
  type RowOutcome,
  relative,
} from '../../../src/cli/loadtest/ablation-report.js';
import { measureRow } from '../../../src/cli/loadtest/ablation-row.js';
import { ablationRows, unnoticed } from '../../../src/cli/loadtest/ablation-text.js';
import { memoryStore } from '../../../src/index.js';

const TINY: AblationSettings = {
  ...ablationSettings(true, 1),
  inFlight: 20,
  warmUpMs: 50,
  throughputMs: 300,
  latencyMs: 300,
  slowMs: 200,
  slowByMs: 20,
};

const nothing = (): void => {};
const SILENT = { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing };

test('every contender has a name of its own, and each optimisation is off in two', () => {
  assert.deepEqual(
    CONTENDERS.map(({ name }) => name),
    [
      ...['all-on', 'all-off', 'no-client', 'no-leakchecks', 'no-batching', 'no-tls', 'no-locks'],
      ...['no-logs', 'no-breaker'],
    ],
  );
  const off = CONTENDERS.flatMap((contender) => contender.off);
  assert.equal(off.length, 14);
  assert.equal(new Set(off).size, 7);
});

test('a quick run has the window of the breaker at 3 s, and is over in 3 minutes', () => {
  const settings = ablationSettings(true, 2);
  assert.equal(settings.breakerWindowMs, 3_000);
  const { warmUpMs, throughputMs, latencyMs, slowMs, slowByMs } = settings;
  const rowMs = warmUpMs + throughputMs + latencyMs + slowMs + slowByMs;
  assert.ok(CONTENDERS.length * (rowMs + 2_500) < 180_000, `${rowMs} ms each`);
});

for (const { name, off } of CONTENDERS.slice(0, 2)) {
  test(`a row with ${name} has every figure`, async () => {
    const { metrics, notes } = await measureRow(memoryStore(), off, TINY, SILENT);
    assert.deepEqual(Object.keys(metrics), Object.keys(METRICS));
    for (const [metric, value] of Object.entries(metrics)) assert.ok(value > 0, metric);
    assert.ok((notes.slowLatencyP95Ms as number) >= TINY.slowByMs, 'the store was slow');
    assert.ok((notes.lockP95Ms as number) > 0, 'locks were taken');
  });
}

/** An outcome whose throughput and latencies are these. */
function outcome(name: string, tasksPerSecond: number, latencyMs: number): RowOutcome {
  const contender = CONTENDERS.find((each) => each.name === name)!;
  const metrics = {
    tasksPerSecond,
    ...{ latencyP50Ms: latencyMs, latencyP95Ms: latencyMs, latencyP99Ms: latencyMs },
  };
  return { contender, results: [{ metrics, notes: { cpuUsPerTask: 10 } }], failures: [] };
}

const FACTS = {
  date: '2026-11-28T00:00:00.000Z',
  version: '0.0.0',
  durability: 'none',
  settings: { ...TINY, store: 'memory' },
  interrupted: false,
};

test('rows are related to all-on, and what is not noticed has its reason', () => {
  const outcomes = [
    outcome('all-on', 8_000, 5),
    outcome('all-off', 1_000, 50),
    outcome('no-tls', 7_900, 5),
  ];
  const report = ablationReport(outcomes, FACTS);
  assert.equal(report.ratios['tasksPerSecond: all-on/all-off'], 8);
  assert.equal(report.ratios['latencyP95Ms: all-on/all-off'], 0.1);
  assert.equal(relative(report, report.contenders[1]!, 'latencyP95Ms'), 10);
  const [, on, off] = ablationRows(report);
  assert.equal(on?.[1], '8 000');
  assert.equal(off?.[1], '1 000 (x0.13)');
  const lines = unnoticed(report);
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /^no-tls buys nothing here: a handshake is made when a connection is/);
});

test('of a row that was not come to nothing is said', () => {
  const unmeasured = { contender: CONTENDERS[5]!, results: [], failures: [] };
  const report = ablationReport([outcome('all-on', 8_000, 5), unmeasured], FACTS);
  assert.equal(report.contenders[1]?.metrics.tasksPerSecond, null);
  assert.deepEqual(unnoticed(report), []);
});

test('a row that could not be measured is null and says why', () => {
  const failed: RowOutcome = {
    contender: CONTENDERS[2]!,
    results: [],
    failures: ['Error: no server\n    at somewhere'],
  };
  const report = ablationReport([outcome('all-on', 8_000, 5), failed], FACTS);
  assert.equal(report.contenders[1]?.metrics.tasksPerSecond, null);
  assert.deepEqual(unnoticed(report), ['no-client failed: Error: no server']);
});
