/**
 * Deadlines, blame and suspects in the engine, on virtual time: the test plays the threads and their marks.
 */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { test } from 'node:test';
import type { Engine } from '../../src/engine/engine.js';
import type { Accepted } from '../../src/engine/submission.js';
import type { VirtualClock } from '../../src/testing/virtual-clock.js';
import { within } from '../support/runtime.js';
import { created, lost, scriptedEngine, slotsOf } from '../support/scripted-engine.js';
import { Outcome, type ScriptedBatch, type ScriptedPool } from '../support/scripted-pool.js';

const FIXED = { adaptive: false, max: 500, grace: 100 } as const;
const ONCE = { attempts: 1 } as const;

/** What a handler that throws at its signal's abort makes of it. */
function throwAtSignal(batch: ScriptedBatch, slot: number): void {
  const { reason } = batch.cancelled.find((one) => one.slot === slot)!;
  batch.report([slot], Outcome.CANCELLED, JSON.stringify(reason));
}

/** The thread was ended because of a timeout, with so many tasks under way. */
const killed = (begun: number) => lost({ reason: 'timeout', begun });

async function endOf(clock: VirtualClock, engine: Engine, task: Accepted | undefined) {
  const { state, json } = await within(clock, 10_000, engine.ended(created(task)));
  return { state, error: JSON.parse(json) as { code?: string; details?: object; cause?: unknown } };
}

function begin(batch: ScriptedBatch, slots: readonly number[], clock: VirtualClock): void {
  for (const slot of slots) batch.startedAtMs[slot] = clock.monoMs();
}

function only(pool: ScriptedPool): ScriptedBatch {
  const batch = pool.batches.at(-1);
  assert.ok(batch);
  return batch;
}

test('a task that overruns is aborted at its limit, and its thread ended after the grace period', async () => {
  const { clock, engine, pool, submit } = await scriptedEngine({ timeout: FIXED, retry: ONCE }, 1);
  const tasks = await submit(3);
  await clock.advance(200);
  const batch = only(pool);
  batch.startedAtMs[0] = -1;
  batch.report([0], Outcome.COMPLETED, '1');
  begin(batch, [1], clock);
  await clock.advance(499);
  assert.deepEqual(batch.cancelled, []);
  await clock.advance(1);
  assert.deepEqual(batch.cancelled, [{ slot: 1, reason: 'the task runs longer than 500ms' }]);
  await clock.advance(99);
  assert.equal(batch.isKilled, false);
  await clock.advance(1);
  assert.equal(batch.isKilled, true);

  batch.report([2], Outcome.NOT_STARTED);
  batch.end(killed(1));
  const { error } = await endOf(clock, engine, tasks[1]);
  assert.equal(error.code, 'ERR_MILLRACE_TASK_TIMEOUT');
  assert.deepEqual(error.details, {
    taskId: (error.details as { taskId: string }).taskId,
    attempt: 1,
    timeoutMs: 500,
  });
  const again = only(pool);
  assert.deepEqual(
    again.tasks.map(({ attempt }) => attempt),
    [1],
    'the mate that had not begun spent nothing',
  );
  again.report([0], Outcome.COMPLETED, '1');
  again.end();
  await clock.advance(1);
  assert.equal(engine.stats.open, 0);
});

test('a task that gives up at its signal has timed out: its attempts are spent one by one', async () => {
  const { clock, engine, pool, submit } = await scriptedEngine(
    { timeout: FIXED, retry: { attempts: 2, min: 10, jitter: 'none' } },
    1,
  );
  const retried: { error: { code: string } }[] = [];
  const onRetry = (event: unknown): void => void retried.push(event as (typeof retried)[0]);
  subscribe('millrace:task:retry', onRetry);
  const [task] = await submit(1);
  for (const attempt of [1, 2]) {
    await clock.advance(20);
    const batch = only(pool);
    assert.equal(batch.tasks[0]!.attempt, attempt);
    begin(batch, [0], clock);
    await clock.advance(500);
    throwAtSignal(batch, 0);
    batch.end();
  }
  unsubscribe('millrace:task:retry', onRetry);
  const { error } = await endOf(clock, engine, task);
  assert.equal(error.code, 'ERR_MILLRACE_TASK_TIMEOUT');
  assert.deepEqual(
    retried.map((event) => event.error.code),
    ['ERR_MILLRACE_TASK_TIMEOUT'],
  );
  assert.equal(pool.batches.length, 2);
  assert.ok(pool.batches.every((batch) => !batch.isKilled));
});

test('what an aborted task still says within its grace period counts', async () => {
  const { clock, engine, pool, submit } = await scriptedEngine({ timeout: FIXED }, 1);
  const tasks = await submit(2);
  await clock.advance(1);
  const batch = only(pool);
  begin(batch, [0, 1], clock);
  await clock.advance(500);
  batch.report([0], Outcome.COMPLETED, '"late"');
  batch.report([1], Outcome.CANCELLED, '"changed my mind"');
  batch.end();
  assert.equal((await within(clock, 100, engine.ended(created(tasks[0])))).json, '"late"');
  const { error } = await endOf(clock, engine, tasks[1]);
  assert.equal(error.code, 'ERR_MILLRACE_TASK_CANCELLED');
});

test('suspects run again alone, one at a time, at no cost; only who is killed alone is blamed', async () => {
  const { clock, engine, pool, submit } = await scriptedEngine({ timeout: FIXED, retry: ONCE }, 1);
  assert.equal(pool.keepsReserve, true);
  const tasks = await submit(4);
  await clock.advance(1);
  const first = only(pool);
  begin(first, [0, 1, 2], clock);
  await clock.advance(600);
  assert.equal(first.isKilled, true);
  first.report([3], Outcome.NOT_STARTED);
  first.end(killed(3));
  await clock.advance(1);

  const [, ...after] = pool.batches;
  assert.deepEqual(
    after.map(({ isAlone, tasks: { length } }) => ({ isAlone, length })),
    [
      { isAlone: true, length: 1 },
      { isAlone: false, length: 1 },
    ],
    'one suspect in the reserve, and the innocent mate beside it in an ordinary place',
  );
  const suspect = after[0]!;
  assert.equal(suspect.tasks[0]!.attempt, 1);
  assert.ok(suspect.tasks[0]!.token > first.tasks[0]!.token);
  suspect.report([0], Outcome.COMPLETED, '"innocent"');
  suspect.end();
  await clock.advance(1);
  const culprit = only(pool);
  assert.equal(culprit.isAlone, true);
  begin(culprit, [0], clock);
  await clock.advance(600);
  assert.equal(culprit.isKilled, true);
  culprit.end(killed(1));
  const { error } = await endOf(clock, engine, tasks[1]);
  assert.equal(error.code, 'ERR_MILLRACE_TASK_TIMEOUT');
  only(pool).report([0], Outcome.COMPLETED, '"innocent"');
  only(pool).end();
  assert.equal((await within(clock, 100, engine.ended(created(tasks[2])))).json, '"innocent"');
});

test('suspects wait for the thread in reserve, and nobody waits for them', async () => {
  const { clock, pool, submit } = await scriptedEngine({ timeout: FIXED }, 1);
  await submit(2);
  await clock.advance(1);
  begin(only(pool), [0, 1], clock);
  await clock.advance(600);
  pool.isReserveFree = false;
  only(pool).end(killed(2));
  await submit(1);
  await clock.advance(10);
  assert.deepEqual(
    pool.batches.map(({ isAlone }) => isAlone),
    [false, false],
  );
  pool.isReserveFree = true;
  pool.onReserve?.();
  await clock.advance(10);
  assert.equal(only(pool).isAlone, true);
});

test('a thread in reserve that is gone again when the claim is durable only delays the suspect', async () => {
  const { clock, pool, store, submit } = await scriptedEngine({ timeout: FIXED }, 1);
  await submit(2);
  await clock.advance(1);
  begin(only(pool), [0, 1], clock);
  await clock.advance(600);
  let open = (): void => {};
  store.gate = new Promise((resolve) => {
    open = resolve;
  });
  only(pool).end(killed(2));
  await clock.advance(1);
  pool.isReserveFree = false;
  open();
  store.gate = undefined;
  await clock.advance(10);
  assert.equal(pool.batches.length, 1);
  pool.isReserveFree = true;
  pool.onReserve?.();
  await clock.advance(1);
  assert.equal(only(pool).isAlone, true);
});

test('a suspect that is cancelled while it waits does not run, and the next one does', async () => {
  const { clock, engine, pool, submit } = await scriptedEngine({ timeout: FIXED }, 1);
  const tasks = await submit(2);
  await clock.advance(1);
  begin(only(pool), [0, 1], clock);
  await clock.advance(600);
  pool.isReserveFree = false;
  only(pool).end(killed(2));
  await clock.advance(1);
  assert.equal(await within(clock, 100, engine.cancel(created(tasks[0]), 'enough')), 'cancelled');
  pool.isReserveFree = true;
  pool.onReserve?.();
  await clock.advance(1);
  assert.equal(pool.batches.length, 2);
  assert.equal(only(pool).tasks[0]!.index, 1);
});

test('a task that somebody asked to end is cancelled, also when it overran', async () => {
  const { clock, engine, pool, submit } = await scriptedEngine({ timeout: FIXED, retry: ONCE }, 1);
  const [task] = await submit(1);
  await clock.advance(1);
  begin(only(pool), [0], clock);
  await engine.cancel(created(task), 'enough');
  await clock.advance(600);
  assert.equal(only(pool).isKilled, true);
  only(pool).end(killed(1));
  const { error } = await endOf(clock, engine, task);
  assert.equal(error.code, 'ERR_MILLRACE_TASK_CANCELLED');
});

test('a task that may run once is not tried again after its thread was ended, whoever overran', async () => {
  const { clock, engine, pool, submit } = await scriptedEngine(
    { timeout: FIXED, onLost: 'fail' },
    1,
  );
  const tasks = await submit(2);
  await clock.advance(1);
  const batch = only(pool);
  begin(batch, [0], clock);
  await clock.advance(50);
  begin(batch, [1], clock);
  await clock.advance(550);
  assert.equal(batch.isKilled, true);
  batch.end(killed(2));
  const ends = [await endOf(clock, engine, tasks[0]), await endOf(clock, engine, tasks[1])];
  assert.deepEqual(
    ends.map(({ error }) => error.code),
    ['ERR_MILLRACE_TASK_TIMEOUT', 'ERR_MILLRACE_TASK_TIMEOUT'],
  );
  assert.equal(pool.batches.length, 1);
});

test('a limit is of a type: each is measured by itself', async () => {
  const adaptive = { timeout: { adaptive: 3, min: 10, max: '1h' } } as const;
  const { clock, newTask, pool, submitOne } = await scriptedEngine(adaptive, 2, [
    { name: 'slow', ...adaptive },
  ]);
  const submitAll = (type: string, count: number): Promise<unknown> =>
    within(
      clock,
      100,
      Promise.all(Array.from({ length: count }, () => submitOne(newTask('1', type)))),
    );
  const runAll = async (type: string, runMs: number): Promise<void> => {
    pool.runMs = runMs;
    await submitAll(type, 32);
    for (let next = 0; next < pool.batches.length; next++) {
      const batch = pool.batches[next]!;
      batch.report(slotsOf(batch.tasks.length), Outcome.COMPLETED, '1');
      batch.end();
      await clock.advance(1);
    }
    pool.batches.length = 0;
  };
  await runAll('work', 20);
  await runAll('slow', 2_000);
  await submitAll('work', 1);
  await submitAll('slow', 1);
  await clock.advance(1);
  const [work, slow] = pool.batches;
  for (const batch of pool.batches) begin(batch, [0], clock);
  await clock.advance(59);
  assert.deepEqual([work!.cancelled.length, slow!.cancelled.length], [0, 0]);
  await clock.advance(5);
  assert.deepEqual([work!.cancelled.length, slow!.cancelled.length], [1, 0]);
  await clock.advance(5_900);
  assert.deepEqual([work!.cancelled.length, slow!.cancelled.length], [1, 0]);
  await clock.advance(1_000);
  assert.deepEqual([work!.cancelled.length, slow!.cancelled.length], [1, 1]);
});

test('without a timeout there is a net that no slow first task falls into', async () => {
  const { clock, pool, submit } = await scriptedEngine({}, 1);
  assert.equal(pool.keepsReserve, false);
  await submit(1);
  await clock.advance(1);
  const first = only(pool);
  begin(first, [0], clock);
  await clock.advance(23 * 3_600_000);
  assert.deepEqual(first.cancelled, []);
  await clock.advance(3_600_000 + 1_000);
  assert.equal(first.isKilled, true);
});

test('deadlines end with the engine', async () => {
  const { clock, engine, pool, submit } = await scriptedEngine({ timeout: FIXED }, 1);
  await submit(1);
  await clock.advance(1);
  const batch = only(pool);
  begin(batch, [0], clock);
  const closing = engine.shutdown({ softMs: 0, hardMs: 0 });
  batch.end(lost({ reason: 'shutdown' }));
  await within(clock, 10_000, closing);
  assert.equal(clock.sleeping, 0, 'nothing keeps the engine in memory');
  batch.cancelled.length = 0;
  await clock.advance(10_000);
  assert.deepEqual(batch.cancelled, []);
  assert.equal(batch.isKilled, false);
});

// --- After a process died ------------------------------------------------------------------------------------------

test('a task that kills its process three times takes nobody along, however many ran beside it', async () => {
  const { clock, open, submit, ...first } = await scriptedEngine({}, 6);
  const taskCount = 40;
  const accepted = await submit(taskCount);
  const poison = created(accepted[17]);
  let { engine, pool, store } = first;
  const died = new Set<string>();
  const onFailed = (event: unknown): void => void died.add((event as { taskId: string }).taskId);
  subscribe('millrace:task:failed', onFailed);
  let crashes = 0;
  // Every engine runs what it gets, one batch after the other, until it comes to the poison.
  for (let turn = 0; turn < 500 && engine.stats.open > 0; turn++) {
    await clock.advance(1);
    const isPoison = ({ index, segment }: { index: number; segment: string }): boolean =>
      index === poison.index && segment === poison.segment;
    const inFlight = pool.batches.filter((batch) => batch.startedAtMs.every((atMs) => atMs === 0));
    const suspects = inFlight.filter((batch) => batch.isAlone);
    assert.ok(suspects.length <= 1, 'one suspect on the node at a time');
    if (inFlight.some((batch) => batch.tasks.some(isPoison))) {
      crashes++;
      store.diesAfter = store.sent.length;
      ({ engine, pool, store } = await open(6));
      continue;
    }
    for (const batch of inFlight) {
      batch.startedAtMs.fill(-1);
      batch.report(slotsOf(batch.tasks.length), Outcome.COMPLETED, '1');
      batch.end();
    }
  }
  unsubscribe('millrace:task:failed', onFailed);
  assert.equal(crashes, 3);
  assert.equal(died.size, 1, 'only the poison is a dead letter');
  assert.equal(engine.stats.open, 0);
});

test('of two pools, only one has a suspect at a time', async () => {
  const { clock, newTask, open, submitOne, ...first } = await scriptedEngine({}, 1, [
    { name: 'here', exec: 'inline' },
  ]);
  await within(clock, 100, Promise.all(['work', 'here'].map((it) => submitOne(newTask('1', it)))));
  await clock.advance(1);
  first.store.diesAfter = first.store.sent.length;
  const second = await open(1);
  await clock.advance(1);
  second.store.diesAfter = second.store.sent.length;
  const third = await open(1);
  await clock.advance(1);
  const running = (): boolean[] =>
    [...third.pool.batches, ...third.inline.batches].map(({ isAlone }) => isAlone);
  assert.deepEqual(running(), [true]);
  const one = [...third.pool.batches, ...third.inline.batches][0]!;
  one.report([0], Outcome.COMPLETED, '1');
  one.end();
  await clock.advance(1);
  assert.deepEqual(running(), [true, true], 'then it is the turn of the other one');
});

test('on the main thread nothing is killed, and those beside a deaf task keep their limits', async () => {
  const { clock, inline, newTask, submitOne } = await scriptedEngine({}, 1, [
    { name: 'here', exec: 'inline', timeout: FIXED },
  ]);
  await within(clock, 100, Promise.all([1, 2].map(() => submitOne(newTask('1', 'here')))));
  await clock.advance(1);
  const batch = only(inline);
  begin(batch, [0], clock);
  await clock.advance(800);
  begin(batch, [1], clock);
  await clock.advance(500);
  assert.deepEqual(
    batch.cancelled.map(({ slot }) => slot),
    [0, 1],
  );
  await clock.advance(10_000);
  assert.equal(batch.isKilled, false);
});

test('claims go ahead for types that may run again, also beside one that may not', async () => {
  const { clock, newTask, pool, store, submit, submitOne } = await scriptedEngine({}, 1, [
    { name: 'once', onLost: 'fail' },
  ]);
  pool.runMs = 0.01;
  await submit(1);
  await clock.advance(1);
  only(pool).report([0], Outcome.COMPLETED, '1');
  only(pool).end();
  await within(
    clock,
    100,
    Promise.all([
      ...Array.from({ length: 200 }, () => submitOne(newTask('1'))),
      ...Array.from({ length: 5 }, () => submitOne({ ...newTask('1', 'once'), priority: -1 })),
      ...Array.from({ length: 200 }, () => submitOne({ ...newTask('1'), priority: -2 })),
    ]),
  );
  await clock.advance(1);
  const ran: string[] = [];
  const commits = store.sent.length;
  // Without a commit in between, only what was claimed ahead can come.
  for (let before = 0; before < pool.batches.length; ) {
    before = pool.batches.length;
    const batch = only(pool);
    ran.push(...batch.tasks.map(({ type }) => type));
    batch.end(lost());
  }
  assert.equal(store.sent.length, commits);
  assert.ok(ran.length > 64, `${ran.length} had been claimed`);
  assert.ok(!ran.includes('once'));
});
