import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { exposition } from '../../src/telemetry/exposition.js';
import { CounterCell, HistogramCell } from '../../src/telemetry/metric-cells.js';
import { MetricRegistry } from '../../src/telemetry/metric-registry.js';
import { METRIC_GROUPS, METRICS } from '../../src/telemetry/metric-table.js';
import { otelName } from '../../src/telemetry/metrics-handover.js';
import { resolveMetrics } from '../../src/telemetry/metrics-options.js';

const SCALE = { lowest: -13, highest: 6, shown: 2 };

test('a histogram puts each value into the first bucket that bounds it', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { maxLength: 50 }),
      (values) => {
        const cell = new HistogramCell(SCALE);
        for (const value of values) cell.observe(value);
        const expected = Array.from(
          { length: 20 },
          (_, i) => values.filter((value) => value <= 2 ** (i - 13)).length,
        );
        assert.deepEqual(cell.cumulative(), expected);
        assert.equal(cell.count, values.length);
      },
    ),
  );
});

test('bounds belong to their bucket: powers of two, zero, tiny and huge numbers', () => {
  for (const [value, bucket] of [
    [2 ** -13, 0],
    [2 ** -13 + 2 ** -60, 1],
    [1, 13],
    [1.000001, 14],
    [64, 19],
    [0, 0],
    [-5, 0],
    [Number.MIN_VALUE, 0],
  ] as const) {
    const cell = new HistogramCell(SCALE);
    cell.observe(value);
    assert.equal(cell.cumulative().indexOf(1), bucket, String(value));
  }
  const beyond = new HistogramCell(SCALE);
  beyond.observe(65);
  assert.deepEqual([beyond.cumulative().at(-1), beyond.count, beyond.sum], [0, 1, 65]);
});

test('a counter that follows another one never falls', () => {
  const cell = new CounterCell();
  cell.raiseTo(5);
  cell.raiseTo(3);
  cell.add();
  assert.equal(cell.value, 6);
});

test('the text has help, type and series of each metric, in the order of the table', () => {
  const metrics = new MetricRegistry();
  metrics.cell('tasksDead', 'b"\\\n').add(2);
  metrics.cell('tasksDead', 'a').add();
  metrics.cell('tasksSubmitted', 'a').add(3);
  assert.equal(
    exposition(metrics.collect()),
    [
      `# HELP millrace_tasks_submitted_total ${METRICS.tasksSubmitted.help}`,
      '# TYPE millrace_tasks_submitted_total counter',
      'millrace_tasks_submitted_total{queue="a"} 3',
      `# HELP millrace_tasks_dead_total ${METRICS.tasksDead.help}`,
      '# TYPE millrace_tasks_dead_total counter',
      'millrace_tasks_dead_total{queue="b\\"\\\\\\n"} 2',
      'millrace_tasks_dead_total{queue="a"} 1',
      '',
    ].join('\n'),
  );
  assert.equal(exposition(new MetricRegistry().collect()), '');
});

test('a histogram is shown in every second bucket, with everything below', () => {
  const metrics = new MetricRegistry();
  const cell = metrics.cell('execution', 'q');
  for (const seconds of [0.0001, 0.2, 0.2, 3, 100]) cell.observe(seconds);
  const lines = exposition(metrics.collect()).split('\n').slice(2, -1);
  const name = 'millrace_task_execution_seconds';
  assert.deepEqual(lines, [
    `${name}_bucket{queue="q",le="0.000244140625"} 1`,
    `${name}_bucket{queue="q",le="0.0009765625"} 1`,
    `${name}_bucket{queue="q",le="0.00390625"} 1`,
    `${name}_bucket{queue="q",le="0.015625"} 1`,
    `${name}_bucket{queue="q",le="0.0625"} 1`,
    `${name}_bucket{queue="q",le="0.25"} 3`,
    `${name}_bucket{queue="q",le="1"} 3`,
    `${name}_bucket{queue="q",le="4"} 4`,
    `${name}_bucket{queue="q",le="16"} 4`,
    `${name}_bucket{queue="q",le="64"} 4`,
    `${name}_bucket{queue="q",le="+Inf"} 5`,
    `${name}_sum{queue="q"} 103.4001`,
    `${name}_count{queue="q"} 5`,
  ]);
});

test('queues without end share one series, and the process warns once', async (t) => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning);
  process.on('warning', onWarning);
  t.after(() => process.removeListener('warning', onWarning));
  const metrics = new MetricRegistry();
  for (let i = 0; i < 5_000; i++) metrics.cell('tasksDead', `queue-${i}`).add();
  const [family] = metrics.collect();
  const series = [...family!.series];
  assert.equal(series.length, 201);
  const other = series.find(({ labels }) => labels[0] === '_other')?.cell as CounterCell;
  assert.equal(other.value, 4_800);
  await new Promise((resolve) => setImmediate(resolve));
  const many = warnings.filter(
    (one) => (one as { code?: string }).code === 'millrace:metrics:many',
  );
  assert.equal(many.length, 1);
});

test('names keep to the rules of Prometheus, and lose prefix and unit nowhere', () => {
  const names = Object.values(METRICS).map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const { name, type, help } of Object.values(METRICS)) {
    assert.match(name, /^millrace(_[a-z]+)+$/);
    assert.equal(name.endsWith('_total'), type === 'counter', name);
    assert.match(help, /^[A-Z0-9].*\.$/);
  }
  assert.deepEqual(otelName('millrace_process_cpu_seconds_total'), {
    name: 'millrace.process.cpu',
    unit: 's',
  });
  assert.deepEqual(otelName('millrace_tasks'), { name: 'millrace.tasks' });
  const used = new Set(Object.values(METRICS).map(({ group }) => group));
  assert.deepEqual([...used], Object.keys(METRIC_GROUPS));
  const dotted = names.map((name) => otelName(name).name);
  assert.equal(new Set(dotted).size, names.length);
});

test('options: on, off, a registry, a meter, and nothing else', () => {
  assert.deepEqual(resolveMetrics(true), {});
  assert.equal(resolveMetrics(false), false);
  for (const [options, message] of [
    [{ registry: {} }, /metrics.registry is .*; give a Registry of prom-client/],
    [{ meter: 1 }, /metrics.meter is 1; give a Meter/],
    [{ meters: 1 }, /did you mean metrics.meter\?/],
    [5, /metrics is 5/],
  ] as const) {
    assert.throws(() => resolveMetrics(options as never), { message });
  }
});
