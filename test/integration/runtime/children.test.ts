/** Children on real threads. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createRuntime, memoryStore, type Runtime } from '../../../src/index.js';
import { careful, fanOut, impatient, sum, total } from '../../fixtures/workers/children.js';

const TASKS = new URL('../../fixtures/workers/children.js', import.meta.url);

async function setup(t: TestContext): Promise<Runtime> {
  const runtime = await createRuntime({
    tasks: TASKS,
    store: memoryStore(),
    threads: { max: 1 },
    shutdown: { soft: 0, hard: 0 },
  });
  t.after(() => runtime.close());
  return runtime;
}

test('600 parents that wait for their children on one thread all end', async (t) => {
  const runtime = await setup(t);
  const parents = await runtime.submitMany(
    sum,
    Array.from({ length: 600 }, () => 2),
  );
  const values: unknown[] = [];
  for await (const end of parents.results()) {
    values.push(end.status === 'completed' ? end.value : end.status);
  }
  assert.deepEqual(
    values,
    Array.from({ length: 600 }, () => 5),
  );
});

test('a parent sees how a child failed, as its submitter would', async (t) => {
  const runtime = await setup(t);
  const parent = await runtime.submit(careful, null);
  assert.equal(await parent.result({ timeout: '30s' }), 'ERR_MILLRACE_TASK_FAILED');
});

test('a parent that overruns while it waits has timed out, and keeps its thread', async (t) => {
  const runtime = await setup(t);
  const parent = await runtime.submit(impatient, null);
  const end = await parent.settled({ timeout: '30s' });
  assert.equal(end.status, 'failed');
  assert.equal(
    (end as { readonly error: { readonly code?: unknown } }).error.code,
    'ERR_MILLRACE_TASK_TIMEOUT',
  );
  assert.equal(runtime.stats().delayed, 1, 'the child goes on');
});

test('300 joining tasks wait for their children on one thread, and begin when these have ended', async (t) => {
  const runtime = await setup(t);
  const parents = await runtime.submitMany(fanOut, Array(300).fill(4));
  for await (const end of parents.results()) {
    assert.ok(end.status === 'completed');
    const joining = runtime.handle(total, end.value);
    assert.deepEqual(await joining.result({ timeout: '30s' }), { joined: 4, sum: 30 });
  }
});
