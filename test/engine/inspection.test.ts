/** What is told of single tasks: where they stand, and why they are not running. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { defineTask, defineTasks } from '../../src/core/task.js';
import { Idleness } from '../../src/engine/idleness.js';
import { listTasks, type TaskFilter } from '../../src/engine/task-list.js';
import { cluster } from '../../src/testing/cluster.js';
import { testBed, within } from '../support/runtime.js';

function setup() {
  const gates: ((value: unknown) => void)[] = [];
  const held = defineTask({
    name: 'held',
    exec: 'inline',
    concurrency: 1,
    run: (_input: unknown) => new Promise((release) => gates.push(release)),
  });
  const echo = defineTask({ name: 'echo', exec: 'inline', run: (input: unknown) => input });
  const failing = defineTask({
    name: 'failing',
    exec: 'inline',
    retry: { attempts: 1 },
    run: () => {
      throw new RangeError('broken');
    },
  });
  const elsewhere = defineTask({ name: 'elsewhere' });
  const bed = testBed(defineTasks({ held, echo, failing, elsewhere }));
  const soon = <T>(promise: Promise<T>): Promise<T> => within(bed.clock, 10_000, promise);
  return { bed, held, echo, failing, elsewhere, gates, soon };
}

test('a task is inspected from its submission to its end, also by a later process', async () => {
  const { bed, echo, failing, soon } = setup();
  const runtime = await bed.start();
  const nowMs = bed.clock.wallMs();
  const later = await soon(
    runtime.submit(echo, { n: 1 }, { delay: '1m', priority: 5, tenant: 'acme', ttl: '1h' }),
  );
  const pending = await soon(runtime.inspect(later.id));
  assert.equal(pending.status, 'pending');
  assert.equal(pending.task, 'echo');
  assert.deepEqual([pending.queue, pending.shard, pending.tenant], ['default', 0, 'acme']);
  assert.deepEqual([pending.priority, pending.attempt, pending.deadLetter], [5, 0, false]);
  assert.equal(pending.submittedAtMs, nowMs);
  assert.equal(pending.dueAtMs, nowMs + 60_000);
  assert.equal(pending.expiresAtMs, nowMs + 60_000 + 3_600_000);
  assert.equal(pending.inputBytes, 7);

  const failed = await soon(runtime.submit(failing, null));
  await soon(failed.settled());
  const letter = await soon(runtime.inspect(failed.id));
  assert.deepEqual([letter.status, letter.deadLetter, letter.attempt], ['failed', true, 1]);
  assert.equal((letter.error as { code: string }).code, 'ERR_MILLRACE_TASK_FAILED');
  assert.equal(letter.task, 'failing');

  await bed.clock.advance(61_000);
  await soon(runtime.close());
  const next = await bed.start();
  const done = await soon(next.inspect(later.id));
  assert.equal(done.status, 'completed');
  assert.deepEqual([done.result, done.resultBytes], [{ n: 1 }, 7]);
  await soon(next.close());
});

test('a task that nobody knows is gone, and what is no id is refused', async () => {
  const { bed, soon } = setup();
  const runtime = await bed.start();
  const unknown = 'default.00.0mg2x9k1f.7c4k2m9p00000001.0f';
  await assert.rejects(soon(runtime.inspect(unknown)), { code: 'ERR_MILLRACE_TASK_GONE' });
  await assert.rejects(soon(runtime.explain(unknown)), { code: 'ERR_MILLRACE_TASK_GONE' });
  await assert.rejects(soon(runtime.inspect('42')), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  await soon(runtime.close());
});

test('an explanation names the first reason that applies', async () => {
  const { bed, held, echo, elsewhere, gates, soon } = setup();
  const runtime = await bed.start();
  const explain = async (id: string) => soon(runtime.explain(id));

  const delayed = await soon(runtime.submit(echo, 1, { delay: '1m' }));
  const later = await explain(delayed.id);
  assert.equal(later.reason, 'delayed');
  assert.match(later.message, /due in 60s/);

  const far = await soon(runtime.submit(echo, 1, { delay: '2d' }));
  assert.equal((await explain(far.id)).reason, 'far');

  const first = await soon(runtime.submit(held, 1));
  const second = await soon(runtime.submit(held, 2));
  await bed.clock.settle();
  assert.equal((await explain(first.id)).reason, 'running');
  const waiting = await explain(second.id);
  assert.equal(waiting.reason, 'concurrency');
  if (waiting.reason === 'concurrency') {
    assert.deepEqual([waiting.limit, waiting.running], [1, 1]);
  }

  await soon(runtime.pause({ tenant: 'acme' }));
  const resting = await soon(runtime.submit(echo, 1, { tenant: 'acme' }));
  const pause = await explain(resting.id);
  assert.equal(pause.reason, 'paused');
  assert.match(pause.message, /^tenant 'acme' rests since/);

  const foreign = await soon(runtime.submit(elsewhere, 1));
  await bed.clock.settle();
  assert.equal((await explain(foreign.id)).reason, 'no-capable-node');

  gates[0]!('done');
  await soon(first.result());
  const ended = await explain(first.id);
  assert.equal(ended.reason, 'ended');
  if (ended.reason === 'ended') assert.equal(ended.status, 'completed');
  gates[1]?.('done');
  await soon(runtime.close());
});

test('a node tells of tasks that another one holds', async (t) => {
  const { c, work, contract } = await setupCluster(t);
  const producer = await c.join({ tasks: defineTasks({ contract }) });
  const { id } = await c.run(producer.runtime.submit(work, 1, { delay: '1m' }));
  const read = () => c.run(() => producer.runtime.explain(id));
  assert.equal((await read()).reason, 'delayed');
  await c.advance('62s');
  const started = await read();
  assert.equal(started.reason, 'running');
  const inspected = await c.run(() => producer.runtime.inspect(id));
  assert.equal(inspected.status, 'running');
  assert.equal(inspected.executor?.length, 8);

  // The one node that runs it is full: the second waits there.
  const second = await c.run(producer.runtime.submit(work, 2));
  await c.advance('5s');
  const waiting = await c.run(() => producer.runtime.explain(second.id));
  assert.equal(waiting.reason, 'other-node');
  assert.match(waiting.message, /holds it: 1 of its tasks are due and wait, 1 run/);

  c.nodes[0]!.kill();
  await c.advance('30s');
  assert.equal((await c.run(() => producer.runtime.explain(second.id))).reason, 'no-node');
});

async function setupCluster(t: TestContext) {
  const work = defineTask({
    name: 'work',
    exec: 'inline',
    concurrency: 1,
    run: (_input: number) => new Promise<void>(() => {}),
  });
  const contract = defineTask<number, void>({ name: 'work' });
  const c = await cluster(1, {
    tasks: defineTasks({ work }),
    runtime: { session: { ttl: '3s' }, shutdown: { soft: 0, hard: 0 } },
  });
  t.after(() => c.close());
  return { c, work, contract };
}

test('tasks are listed page by page, by what is asked for', async () => {
  const { bed, echo, failing, elsewhere, soon } = setup();
  const runtime = await bed.start();
  const done = await soon(runtime.submitMany(echo, [1, 2, 3]));
  for await (const _ of done.results()) void _;
  const bad = await soon(runtime.submit(failing, null, { tenant: 'acme' }));
  await soon(bad.settled());
  await soon(
    runtime.submitMany(
      elsewhere,
      Array.from({ length: 300 }, (_, i) => i),
    ),
  );
  const other = await soon(runtime.submit(elsewhere, 1, { tenant: 'acme', delay: '1h' }));
  await bed.clock.settle();

  const all = async (filter: TaskFilter, limit = 100) => {
    const found = [];
    let pages = 0;
    for (let after: string | undefined; ; pages++) {
      const page = await soon(listTasks(bed.faults, filter, { limit, after }));
      found.push(...page.tasks);
      after = page.next;
      if (after === undefined) return { found, pages: pages + 1 };
    }
  };
  const everything = await all({});
  assert.equal(everything.found.length, 305);
  assert.equal(new Set(everything.found.map(({ id }) => id)).size, 305);
  assert.equal((await all({ status: 'pending' })).found.length, 301);
  assert.equal((await all({ status: 'completed' })).found.length, 3);
  const failed = (await all({ status: 'failed' })).found;
  assert.deepEqual(
    failed.map(({ id, task, tenant }) => [id, task, tenant]),
    [[bad.id, 'failing', 'acme']],
  );
  const acme = (await all({ tenant: 'acme', task: 'elsewhere' })).found;
  assert.deepEqual(
    acme.map(({ id }) => id),
    [other.id],
  );
  assert.equal((await all({ queue: 'other' })).found.length, 0);
  const small = await all({ status: 'pending' }, 7);
  assert.deepEqual([small.found.length, small.pages], [301, 43]);
  await assert.rejects(listTasks(bed.faults, {}, { limit: 1, after: '../x#1' }), {
    code: 'ERR_MILLRACE_INVALID_OPTION',
  });
  await soon(runtime.close());
});

test('a node with work, a place for it, and no claim for five seconds says that it is not ready', async () => {
  const { bed, echo, soon } = setup();
  const runtime = await bed.start();
  await soon(runtime.submit(echo, 1, { delay: '1s' }));
  // A commit hangs, so nothing that turns ready meanwhile is claimed.
  bed.faults.gate = new Promise(() => {});
  runtime.submit(echo, 2).catch(() => {});
  await bed.clock.advance(1_001);
  const stalls = () => runtime.health().reasons.filter((reason) => /was claimed/.test(reason));
  assert.deepEqual(stalls(), []);
  await bed.clock.advance(4_990);
  assert.deepEqual(stalls(), []);
  await bed.clock.advance(20);
  assert.deepEqual(stalls(), [
    '1 task is ready and there is a place for it, and nothing was claimed for 5 s',
  ]);
  assert.equal(runtime.health().ready, false);
});

test('idleness counts from when it is first seen, and ends with a claim', () => {
  const idleness = new Idleness();
  assert.equal(idleness.stalledMs(true, 1_000), 0);
  assert.equal(idleness.stalledMs(true, 7_000), 6_000);
  idleness.noteClaim(false);
  assert.equal(idleness.stalledMs(true, 8_000), 7_000);
  idleness.noteClaim(true);
  assert.equal(idleness.stalledMs(true, 9_000), 0);
  assert.equal(idleness.stalledMs(false, 20_000), 0);
  assert.equal(idleness.stalledMs(true, 21_000), 0);
});
