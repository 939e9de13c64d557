/**
 * The engine against a pool whose every move the test makes: batches, losses, late and doubled reports.
 */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { test } from 'node:test';
import { overlayKey, segmentKey } from '../../src/engine/keys.js';
import { within } from '../support/runtime.js';
import { created, lost, scriptedEngine, slotsOf } from '../support/scripted-engine.js';
import { Outcome } from '../support/scripted-pool.js';

test('spreads what is ready over the free places, at most 64 to a batch', async () => {
  const { submit, pool, clock } = await scriptedEngine({}, 4);
  await submit(10);
  await clock.advance(1);
  assert.deepEqual(
    pool.batches.map((batch) => batch.tasks.length),
    [3, 3, 3, 1],
  );
  for (const batch of [...pool.batches]) {
    batch.report(slotsOf(batch.tasks.length), Outcome.COMPLETED, '1');
    batch.end();
  }
  await clock.settle();
  pool.batches.length = 0;
  await submit(1_000);
  await clock.advance(1);
  assert.ok(pool.batches.length >= 4);
  for (const batch of pool.batches) assert.ok(batch.tasks.length <= 64);
});

test('long tasks make small batches', async () => {
  const { submit, pool, clock } = await scriptedEngine({}, 1);
  await submit(1);
  await clock.advance(1);
  // The scripted pool reports 1 ms per run, so about ten make a batch of 10 ms.
  pool.batches[0]!.report([0], Outcome.COMPLETED, '1');
  pool.batches[0]!.end();
  await submit(500);
  await clock.advance(1);
  assert.equal(pool.batches[1]!.tasks.length, 10);
});

test('a batch-mate that reports early is settled before the rest', async () => {
  const { submit, pool, clock, engine } = await scriptedEngine({}, 1);
  const [a, b] = await submit(2);
  await clock.advance(1);
  pool.batches[0]!.report([1], Outcome.COMPLETED, '"b"');
  await clock.advance(1);
  assert.equal(await engine.status(created(b)), 'completed');
  assert.equal(await engine.status(created(a)), 'running');
  assert.equal(engine.stats.open, 1);
});

test('a second report of the same slot, or of none, is refused and counted', async () => {
  const { submit, pool, clock, engine } = await scriptedEngine({}, 1);
  const stale: unknown[] = [];
  const onStale = (event: unknown): void => void stale.push(event);
  subscribe('millrace:result:stale', onStale);
  const [a] = await submit(1);
  await clock.advance(1);
  const [batch] = pool.batches;
  batch!.report([0], Outcome.COMPLETED, '"first"');
  batch!.report([0], Outcome.COMPLETED, '"second"');
  batch!.report([7], Outcome.COMPLETED, '"nobody"');
  batch!.end();
  const end = await within(clock, 1_000, engine.ended(created(a)));
  assert.equal(end.json, '"first"');
  assert.equal(stale.length, 2);
  unsubscribe('millrace:result:stale', onStale);
});

test('what a dead thread did not report runs again without a spent attempt, alone after two losses', async () => {
  const { submit, pool, clock, engine } = await scriptedEngine({}, 1);
  const accepted = await submit(3);
  await clock.advance(1);
  const [first] = pool.batches;
  first!.report([0], Outcome.COMPLETED, '1');
  first!.end(lost());
  await clock.advance(1);
  const [, second] = pool.batches;
  assert.deepEqual(
    second!.tasks.map((task) => task.attempt),
    [1, 1],
  );
  assert.ok(second!.tasks[0]!.token > first!.tasks[0]!.token);
  second!.end(lost());
  await clock.advance(1);
  assert.equal(pool.batches[2]!.tasks.length, 1, 'suspects run alone');
  pool.batches[2]!.end(lost());
  await clock.advance(1);
  const [, culprit] = accepted;
  const end = await within(clock, 1_000, engine.ended(created(culprit)));
  assert.match(end.json, /ERR_MILLRACE_TASK_LOST/);
  assert.equal(pool.batches[3]!.tasks.length, 1);
  pool.batches[3]!.report([0], Outcome.COMPLETED, '"innocent"');
  pool.batches[3]!.end();
  await clock.advance(1);
  assert.equal(await engine.status(created(accepted[2])), 'completed');
  assert.equal(engine.stats.open, 0);
  assert.equal(engine.stats.running, 0);
});

test('places that a pool loses between claim and launch only delay the batch', async () => {
  const { submit, pool, clock, store } = await scriptedEngine({}, 2);
  let open = (): void => {};
  store.gate = new Promise((resolve) => {
    open = resolve;
  });
  const submitted = submit(2);
  await clock.advance(1);
  pool.freePlaces = 0;
  open();
  store.gate = undefined;
  await submitted;
  await clock.advance(1);
  assert.equal(pool.batches.length, 0);
  pool.freePlaces = 2;
  pool.onFree?.();
  await clock.advance(1);
  assert.equal(pool.batches.flatMap((batch) => batch.tasks).length, 2);
});

test('a cancel between claim and launch reaches the running task', async () => {
  const { submit, pool, clock, engine } = await scriptedEngine({}, 1);
  const [a] = await submit(1);
  assert.equal(await within(clock, 100, engine.cancel(created(a), 'early')), 'signalled');
  await clock.advance(1);
  assert.deepEqual(pool.batches[0]!.cancelled, [{ slot: 0, reason: 'early' }]);
});

test('ends that do not fit into one commit survive a crash between the two', async () => {
  const { submit, pool, clock, store, open } = await scriptedEngine({ retry: { attempts: 1 } }, 4);
  const taskCount = 250;
  await submit(taskCount);
  await clock.advance(1);
  // Dead letters take an operation each, so 250 of them need three commits: only the first one gets through.
  const sentBefore = store.sent.length;
  store.diesAfter = sentBefore + 1;
  for (const batch of pool.batches) {
    batch.report(slotsOf(batch.tasks.length), Outcome.FAILED_FOR_GOOD, '{"message":"no"}');
  }
  await clock.advance(10);
  const filed = store.sent[sentBefore]!.success.filter(
    (op) => op.type === 'put' && op.key.startsWith('d/'),
  ).length;
  assert.ok(filed > 50 && filed < taskCount, `${filed} filed by the first commit`);

  const second = await open();
  await clock.advance(1);
  assert.equal(second.engine.stats.open, taskCount - filed, 'the others are still to be done');
});

test('short tasks are claimed ahead of the free places; ones that may run once never are', async () => {
  for (const [onLost, isAhead] of [
    ['retry', true],
    ['fail', false],
  ] as const) {
    const { submit, pool, clock, store } = await scriptedEngine({ onLost }, 1);
    pool.runMs = 0.01;
    await submit(1);
    await clock.advance(1);
    pool.batches[0]!.report([0], Outcome.COMPLETED, '1');
    pool.batches[0]!.end();
    await submit(500);
    await clock.advance(1);
    assert.equal(pool.batches.length, 2, 'one place, one batch at a time');
    const commits = store.sent.length;
    const [, second] = pool.batches;
    second!.end(lost());
    const wasClaimed = pool.batches.at(-1) !== second;
    assert.equal(wasClaimed, isAhead, `${onLost}: the next one had been claimed`);
    assert.equal(store.sent.length, commits);
  }
});

test('a task that was asked to end, and lost its thread instead, is cancelled', async () => {
  const { submit, pool, clock, engine } = await scriptedEngine({}, 1);
  const [a] = await submit(1);
  await clock.advance(1);
  await engine.cancel(created(a), 'enough');
  pool.batches[0]!.end(lost());
  const end = await within(clock, 1_000, engine.ended(created(a)));
  assert.match(end.json, /ERR_MILLRACE_TASK_CANCELLED.*enough/);
  assert.equal(pool.batches.length, 1);
});

test('what has ended is no longer held', async () => {
  const { submit, pool, clock, engine } = await scriptedEngine({}, 1);
  const [a] = await submit(1);
  await clock.advance(1);
  pool.batches[0]!.report([0], Outcome.COMPLETED, '1');
  pool.batches[0]!.end();
  await clock.advance(1);
  const { segment, index } = created(a);
  assert.equal(engine.find(segment, index), 0);
  assert.equal(await engine.status({ segment, index, task: created(a).task }), 'completed');
});

test('a burst of due tasks is handed out in slices, and completely', async () => {
  const { clock, newTask, submitOne, engine } = await scriptedEngine({}, 1);
  const dueMonoMs = clock.monoMs() + 1_000;
  const task = { ...newTask('1'), dueMonoMs, dueAtMs: clock.wallMs() + 1_000 };
  await within(clock, 500, Promise.all(Array.from({ length: 10_000 }, () => submitOne(task))));
  assert.equal(engine.stats.delayed, 10_000);
  await clock.advance(1_000);
  assert.equal(engine.stats.delayed, 0);
  assert.equal(engine.stats.ready + engine.stats.running, 10_000);
});

test('tasks without a handler here wait, and run once there is one', async () => {
  const { clock, engine, newTask, open, pool, submitOne } = await scriptedEngine();
  const unhandled: unknown[] = [];
  const onUnhandled = (event: unknown): void => void unhandled.push(event);
  subscribe('millrace:task:unhandled', onUnhandled);
  await within(clock, 100, submitOne({ ...newTask('1'), type: 'elsewhere' }));
  await clock.advance(1_000);
  assert.equal(pool.batches.length, 0);
  assert.equal(unhandled.length, 1);
  assert.equal(engine.stats.ready, 1);
  await within(clock, 100, engine.drain());
  unsubscribe('millrace:task:unhandled', onUnhandled);
  await within(clock, 100, engine.stop());
  const again = await open();
  assert.equal(again.engine.stats.open, 1);
});

test('a damaged segment is set aside loudly, and the rest goes on', async () => {
  const { clock, submit, store, open } = await scriptedEngine({}, 1);
  await submit(1);
  await within(
    clock,
    100,
    store.txn({
      compares: [],
      success: [
        { type: 'put', key: 't/default/00/000000001/aaaaaaaabbbbbbbb', value: Buffer.from('junk') },
      ],
    }),
  );
  const [damaged] = await submit(1);
  await within(
    clock,
    100,
    store.txn({
      compares: [],
      success: [
        { type: 'put', key: overlayKey(created(damaged).segment), value: Buffer.from('x') },
      ],
    }),
  );
  const corrupt: { key: string }[] = [];
  const onCorrupt = (event: unknown): void => void corrupt.push(event as { key: string });
  subscribe('millrace:store:corrupt', onCorrupt);
  const second = await open();
  await clock.advance(1);
  assert.deepEqual(
    corrupt.map((event) => event.key),
    ['t/default/00/000000001/aaaaaaaabbbbbbbb', segmentKey(created(damaged).segment)],
  );
  assert.equal(second.engine.stats.open, 1);
  assert.equal(second.pool.batches.length, 1);
  unsubscribe('millrace:store:corrupt', onCorrupt);
});

test('a segment of a newer format keeps the engine from starting', async () => {
  const { clock, store, open } = await scriptedEngine();
  const future = Buffer.alloc(64);
  future.write('MRF1');
  future[4] = 99;
  future[5] = 1;
  await within(
    clock,
    100,
    store.txn({
      compares: [],
      success: [{ type: 'put', key: 't/default/00/000000001/aaaaaaaabbbbbbbb', value: future }],
    }),
  );
  await assert.rejects(open(), { code: 'ERR_MILLRACE_STORE_FORMAT' });
});
