/** A whole runtime on virtual time, watched: what is counted, what is logged, where it is handed over. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics';
import { Registry } from 'prom-client';
import { NonRetryableError } from '../../src/core/errors.js';
import { seededRandom } from '../../src/core/random.js';
import { defineTask, defineTasks } from '../../src/core/task.js';
import { createRuntimeIn } from '../../src/millrace.js';
import type { Runtime } from '../../src/runtime.js';
import type { RuntimeOptions } from '../../src/runtime-options.js';
import { METRICS } from '../../src/telemetry/metric-table.js';
import { testBed, within } from '../support/runtime.js';

const tasks = defineTasks({
  work: defineTask({
    name: 'work',
    exec: 'inline',
    queue: 'fast',
    run: (what: string, ctx) => {
      if (what === 'throw') throw new NonRetryableError('no');
      if (what === 'snooze' && ctx.execution.attempt === 1) ctx.log.info({ password: 'x' }, 'soon');
      if (what === 'cancel') return ctx.cancel('enough');
      return what;
    },
  }),
  flaky: defineTask({
    name: 'flaky',
    exec: 'inline',
    retry: { attempts: 2, min: 10, jitter: 'none' },
    run: (_: unknown, ctx) => {
      if (ctx.execution.attempt === 1) throw new Error('once');
    },
  }),
});

/** @param seed - of chance, and so of the runtime's name */
async function setup(t: TestContext, options: Partial<RuntimeOptions> = {}, seed = 1) {
  const { clock, store } = testBed(tasks);
  const world = { clock, random: seededRandom(seed) };
  const runtime = await createRuntimeIn(world, { tasks, store, ...options });
  t.after(() => within(clock, 60_000, runtime.close()));
  const run = async (task: string, input: unknown, submit = {}) => {
    const handle = await within(clock, 1_000, runtime.submit(task, input, submit));
    return within(clock, 10_000, handle.settled());
  };
  return { clock, runtime, run };
}

/** The value of one series; undefined when it is not there. */
function value(runtime: Runtime, series: string): number | undefined {
  const line = runtime.metrics
    .prometheus()
    .split('\n')
    .find((one) => one.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

test('every end and every refusal is counted, by queue and outcome', async (t) => {
  const { runtime, run } = await setup(t);
  for (const what of ['ok', 'ok', 'throw', 'cancel']) await run('work', what);
  await run('flaky', null);
  await run('work', 'ok', { idempotencyKey: 'k' });
  await run('work', 'ok', { idempotencyKey: 'k' });
  const executed = (queue: string, outcome: string): number | undefined =>
    value(runtime, `millrace_tasks_executed_total{queue="${queue}",outcome="${outcome}"}`);
  assert.equal(executed('fast', 'ok'), 3);
  assert.equal(executed('fast', 'failed'), 1);
  assert.equal(executed('fast', 'cancelled'), 1);
  assert.equal(executed('default', 'failed'), 1);
  assert.equal(executed('default', 'ok'), 1);
  assert.equal(value(runtime, 'millrace_tasks_submitted_total{queue="fast"}'), 5);
  assert.equal(value(runtime, 'millrace_tasks_deduplicated_total{queue="fast"}'), 1);
  assert.equal(value(runtime, 'millrace_tasks_retried_total{queue="default",reason="failed"}'), 1);
  assert.equal(value(runtime, 'millrace_tasks_dead_total{queue="fast"}'), 1);
  assert.equal(value(runtime, 'millrace_task_execution_seconds_count{queue="fast"}'), 5);
  assert.ok(value(runtime, 'millrace_commits_total{outcome="done"}')! > 5);
  assert.equal(value(runtime, 'millrace_tasks{state="running"}'), 0);
});

test('how long a due task waited is measured without the delay that was asked for', async (t) => {
  const { runtime, run } = await setup(t);
  await run('work', 'ok', { delay: '5s' });
  assert.equal(value(runtime, 'millrace_task_queue_wait_seconds_count{queue="fast"}'), 1);
  assert.ok(value(runtime, 'millrace_task_queue_wait_seconds_sum{queue="fast"}')! < 0.1);
});

test('a full queue is counted as backpressure', async (t) => {
  const { clock, runtime } = await setup(t, { queue: { maxTasks: 1, onFull: 'reject' } });
  await within(clock, 1_000, runtime.submit('work', 'ok', { delay: '1m' }));
  await assert.rejects(runtime.submit('work', 'ok'), { code: 'ERR_MILLRACE_QUEUE_FULL' });
  assert.equal(
    value(runtime, 'millrace_tasks_rejected_total{queue="fast",reason="backpressure"}'),
    1,
  );
});

test('two runtimes in one process count their own tasks', async (t) => {
  const { runtime, run } = await setup(t);
  const other = await setup(t, {}, 2);
  await run('work', 'ok');
  await other.run('work', 'ok');
  await other.run('work', 'ok');
  const series = 'millrace_tasks_submitted_total{queue="fast"}';
  assert.equal(value(runtime, series), 1);
  assert.equal(value(other.runtime, series), 2);
});

test('everything that is exposed is in the table, and figures stay after close', async (t) => {
  const { clock, runtime, run } = await setup(t);
  await run('work', 'ok');
  await within(clock, 60_000, runtime.close());
  const names = [...runtime.metrics.prometheus().matchAll(/^# TYPE (\S+) /gm)].map(
    ([, name]) => name,
  );
  const known = new Set<string>(Object.values(METRICS).map(({ name }) => name));
  assert.ok(names.length > 10);
  assert.deepEqual(
    names.filter((name) => !known.has(name ?? '')),
    [],
  );
});

test('with metrics: false nothing is counted', async (t) => {
  const { runtime, run } = await setup(t, { metrics: false });
  await run('work', 'ok');
  assert.equal(runtime.metrics.prometheus(), '');
});

test("a prom-client registry has the same series among the host's, and loses them with close()", async (t) => {
  const registry = new Registry();
  const { clock, runtime, run } = await setup(t, { metrics: { registry } });
  await run('work', 'ok');
  const theirs = await registry.metrics();
  assert.match(theirs, /^millrace_tasks_executed_total\{queue="fast",outcome="ok"\} 1$/m);
  assert.match(theirs, /^millrace_task_execution_seconds_bucket\{queue="fast",le="\+Inf"\} 1$/m);
  // But for what changes by itself, both say the same.
  const stable = (text: string): string[] =>
    text
      .split('\n')
      .filter((line) => /^millrace_(tasks|task_exec|commits|batch)/.test(line))
      .map((line) =>
        line.replace(/\{(.*)\}/, (_, labels) => `{${String(labels).split(',').sort()}}`),
      )
      .sort();
  assert.deepEqual(stable(theirs), stable(runtime.metrics.prometheus()));
  await within(clock, 60_000, runtime.close());
  assert.doesNotMatch(await registry.metrics(), /millrace/);
});

test('an OpenTelemetry meter observes the same figures when its reader collects', async (t) => {
  const reader = new (class extends MetricReader {
    protected override async onForceFlush(): Promise<void> {}
    protected override async onShutdown(): Promise<void> {}
  })();
  const provider = new MeterProvider({ readers: [reader] });
  const { run } = await setup(t, { metrics: { meter: provider.getMeter('test') } });
  await run('work', 'ok');
  await run('work', 'throw');
  const { resourceMetrics } = await reader.collect();
  const observed = new Map(
    resourceMetrics.scopeMetrics
      .flatMap(({ metrics }) => metrics)
      .map((metric) => [metric.descriptor.name, metric]),
  );
  const points = (name: string): unknown[] =>
    (observed.get(name)?.dataPoints ?? []).map(({ attributes, value: seen }) => [attributes, seen]);
  assert.deepEqual(points('millrace.tasks.dead'), [[{ queue: 'fast' }, 1]]);
  assert.deepEqual(points('millrace.task.execution.count'), [[{ queue: 'fast' }, 2]]);
  assert.equal(observed.get('millrace.task.execution.sum')?.descriptor.unit, 's');
  assert.deepEqual(points('millrace.task.execution.bucket').at(-1), [
    { queue: 'fast', le: '+Inf' },
    2,
  ]);
});

test('a logger gets the events of its runtime and what its handlers say, without secrets', async (t) => {
  const lines: { event?: string; type?: string; message: string; fields?: object }[] = [];
  const write = (fields: object, message: string): void => void lines.push({ ...fields, message });
  const logger = { trace: write, debug: write, info: write, warn: write, error: write };
  const { run } = await setup(t, { logger });
  await run('work', 'snooze');
  await run('work', 'throw');
  const said = lines.find(({ event }) => event === 'task.log');
  assert.equal(said?.message, 'soon');
  assert.deepEqual({ ...said?.fields }, { password: '[redacted]' });
  assert.deepEqual(
    lines.filter(({ event }) => event === 'task.failed').map(({ type }) => type),
    ['work'],
  );
  assert.ok(!JSON.stringify(lines).includes('"x"'));
});

test('the HTTP server serves the metrics, is ready while the runtime takes tasks, and ends with it', async (t) => {
  const { clock, runtime, run } = await setup(t, { admin: { listen: 0 } });
  await run('work', 'ok');
  const { host, port } = runtime.adminAddress!;
  const at = (path: string) => fetch(`http://${host}:${port}${path}`);
  assert.match(await (await at('/metrics')).text(), /^millrace_tasks_submitted_total.* 1$/m);
  assert.deepEqual([(await at('/healthz')).status, (await at('/readyz')).status], [200, 200]);
  assert.deepEqual(runtime.health(), { live: true, ready: true, reasons: [] });
  await within(clock, 60_000, runtime.close());
  assert.deepEqual(runtime.health(), { live: true, ready: false, reasons: ['it is closing'] });
  await assert.rejects(at('/healthz'));
});
