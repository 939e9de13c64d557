import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { defineTask, defineTasks } from '../../src/core/task.js';
import { TestClock } from '../../src/testing/test-clock.js';
import { type TestRuntimeOptions, testRuntime } from '../../src/testing/test-runtime.js';

async function setup(t: TestContext, options: Partial<TestRuntimeOptions> = {}) {
  const ran: number[] = [];
  const add = defineTask({
    name: 'add',
    run: (n: number) => {
      ran.push(n);
      return n + 1;
    },
  });
  const flaky = defineTask({
    name: 'flaky',
    retry: { attempts: 3, min: '10m', jitter: 'none' },
    run: (_input: null, ctx) => {
      if (ctx.execution.attempt < 3) throw new Error('not yet');
      return ctx.execution.attempt;
    },
  });
  const reading = defineTask({ name: 'reading', run: () => delay(20, 'read') });
  const stuck = defineTask({ name: 'stuck', run: () => new Promise(() => {}) });
  const started = await testRuntime({
    tasks: defineTasks({ add, flaky, reading, stuck }),
    ...options,
  });
  t.after(() => started.close());
  return { rt: started, runtime: started.runtime, add, flaky, reading, stuck, ran };
}

test('a task that is due runs by itself, and its result is there without moving the clock', async (t) => {
  const { runtime, add } = await setup(t);
  const handle = await runtime.submit(add, 1);
  assert.equal(await handle.result(), 2);
});

test('a delayed task runs when its time has come, and not before', async (t) => {
  const { rt, runtime, add, ran } = await setup(t);
  const startMs = rt.clock.wallMs();
  await runtime.submit(add, 1, { delay: '24h' });
  await rt.clock.advance('23h');
  assert.deepEqual(ran, []);
  await rt.clock.advance('61m');
  assert.deepEqual(ran, [1]);
  assert.ok(rt.clock.wallMs() - startMs < 24 * 3_600_000 + 61_000, 'the rest takes no time');
});

test('manual: nothing runs before drain, and nothing after it', async (t) => {
  const { rt, runtime, add, ran } = await setup(t, { mode: 'manual' });
  await runtime.submitMany(add, [1, 2, 3]);
  await rt.clock.advance('1h');
  assert.deepEqual(ran, []);
  rt.expectSubmitted(add, (n) => n === 2);
  await rt.drain();
  assert.deepEqual(ran, [1, 2, 3]);
  await runtime.submit(add, 4);
  await rt.clock.advance('1h');
  assert.deepEqual(ran, [1, 2, 3]);
});

test('drain waits for what is real, leaves retries, and with delayed lets their time pass', async (t) => {
  const { rt, runtime, flaky, reading } = await setup(t);
  const [retried, read] = [await runtime.submit(flaky, null), await runtime.submit(reading, null)];
  await rt.drain();
  assert.equal(await read.status(), 'completed');
  assert.equal(await retried.status(), 'pending');
  await rt.drain({ delayed: true });
  assert.equal(await retried.result(), 3);
});

test('a task that never ends is named by drain instead of hanging the test', async (t) => {
  const { rt, runtime, stuck } = await setup(t, { runtime: { shutdown: { soft: 0, hard: 0 } } });
  await runtime.submit(stuck, null);
  await assert.rejects(rt.drain({ within: 50 }), {
    code: 'ERR_MILLRACE_RESULT_TIMEOUT',
    message: /1 tasks still run/,
  });
});

test('expectations see inputs, options and counts, and say what was there instead', async (t) => {
  const { rt, runtime, add, flaky } = await setup(t, { mode: 'manual' });
  await runtime.submit(add, 1, { delay: '1m', tenant: 'acme' });
  await runtime.submit('add', 2);
  await runtime.submit(add, 7, { idempotencyKey: 'seven' });
  await runtime.submit(add, 7, { idempotencyKey: 'seven' });
  assert.equal(rt.expectSubmitted(add).length, 3);
  rt.expectSubmitted(add, 1, { times: 1, options: { delay: 60_000, tenant: 'acme' } });
  rt.expectSubmitted(add, 7, { times: 1 });
  rt.expectNotSubmitted(flaky);
  assert.throws(() => rt.expectNotSubmitted(add, 2), { name: 'AssertionError' });
  assert.throws(() => rt.expectSubmitted(add, 3), /of it there were 3: 1, 2, 7/);
  assert.throws(() => rt.expectSubmitted(add, 1, { options: { delay: '2m' } }), {
    name: 'AssertionError',
  });
  rt.clearSubmitted();
  rt.expectNotSubmitted(add);
});

test('a clock in a test moves in one direction, whoever moves it', async () => {
  const clock = new TestClock();
  const seen: number[] = [];
  const note = (): void => {
    seen.push(clock.monoMs());
  };
  clock.wakeIn(1, note);
  clock.wakeIn(10, note);
  clock.wakeSoon(note);
  await Promise.all([clock.advance(5), clock.advance('10ms')]);
  clock.wakeIn(0, note);
  await clock.advance(0);
  assert.deepEqual(
    seen,
    [...seen].sort((a, b) => a - b),
  );
  assert.equal(seen.length, 4);
  assert.ok(clock.monoMs() >= 15);
});
