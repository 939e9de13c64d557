/** Breakers and degradation at work in a whole runtime, on virtual time. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { publish } from '../../src/core/channels.js';
import { defineTask, defineTasks } from '../../src/core/task.js';
import type { RuntimeOptions } from '../../src/runtime-options.js';
import { testBed, within } from '../support/runtime.js';

async function setup(t: TestContext, options: Partial<RuntimeOptions> = {}) {
  let isDown = false;
  let running = 0;
  let runningMax = 0;
  const calls: number[] = [];
  const tasks = defineTasks({
    call: defineTask({
      name: 'call',
      exec: 'inline',
      retry: { attempts: 1_000, min: 10, max: 10, jitter: 'none' },
      run: async () => {
        calls.push(clock.monoMs());
        runningMax = Math.max(runningMax, ++running);
        await Promise.resolve();
        running--;
        if (isDown) throw Object.assign(new Error('no'), { code: 'ECONNREFUSED' });
      },
    }),
    other: defineTask({ name: 'other', exec: 'inline', run: () => 'fine' }),
  });
  const bed = testBed(tasks);
  const { clock } = bed;
  const runtime = await bed.start(options);
  t.after(() => within(clock, 60_000, runtime.close()));
  const submit = (task = 'call', submitOptions = {}) =>
    within(clock, 1_000, runtime.submit(task, null, submitOptions));
  return {
    clock,
    runtime,
    calls,
    submit,
    /** Transactions while a task becomes due every 5 ms for a second. */
    async commitsInASecond(): Promise<number> {
      const before = bed.faults.sent.length;
      for (let i = 0; i < 200; i++) {
        void runtime.submit('other', null);
        await clock.advance(5);
      }
      return bed.faults.sent.length - before;
    },
    set isDown(value: boolean) {
      isDown = value;
    },
    takeRunningMax: () => {
      const seen = runningMax;
      runningMax = 0;
      return seen;
    },
  };
}

test('while what a type needs is away its tasks wait, keep their attempts, and others run', async (t) => {
  const world = await setup(t);
  const { clock, runtime, calls, submit } = world;
  world.isDown = true;
  const handles = await Promise.all(Array.from({ length: 20 }, () => submit()));
  await clock.advance(5_000);
  const tried = calls.length;
  assert.ok(tried >= 5 && tried < 60, `${tried} calls`);
  assert.match(
    runtime.metrics.prometheus(),
    /^millrace_breaker_state\{name="call",state="open"\} 1$/m,
  );
  const other = await submit('other');
  assert.equal((await within(clock, 100, other.settled())).status, 'completed');

  // The first probe finds it still away, the second one does not.
  world.takeRunningMax();
  await clock.advance(10_000);
  assert.equal(calls.length, tried + 1);
  assert.equal(world.takeRunningMax(), 1);
  world.isDown = false;
  await clock.advance(20_000);
  for (const handle of handles) {
    assert.equal((await within(clock, 1_000, handle.settled())).status, 'completed');
  }
  assert.match(
    runtime.metrics.prometheus(),
    /^millrace_breaker_state\{name="call",state="closed"\} 1$/m,
  );
});

test("experimental.off: ['breaker'] tries on and on", async (t) => {
  const world = await setup(t, { experimental: { off: ['breaker'] } });
  world.isDown = true;
  await world.submit();
  await world.clock.advance(5_000);
  assert.ok(world.calls.length > 100);
});

test('while watches are late, low priorities are refused and the rest is taken', async (t) => {
  const { clock, runtime, submit } = await setup(t);
  const late = async (delayMs: number) => {
    for (let i = 0; i < 4; i++) {
      publish('millrace:watch:delay', () => ({ class: 'control', delayMs, commitMs: 1 }));
      await clock.advance(10_000);
    }
  };
  await late(2_500);
  await assert.rejects(submit('other', { priority: -1 }), {
    code: 'ERR_MILLRACE_QUEUE_FULL',
    message: /takes no tasks of priority -1/,
  });
  const handle = await submit('other', { priority: 0 });
  assert.equal((await within(clock, 1_000, handle.settled())).status, 'completed');
  assert.match(runtime.metrics.prometheus(), /^millrace_degraded 1$/m);
  assert.match(runtime.metrics.prometheus(), /rejected_total\{queue="default",reason="shed"\} 1$/m);
  await late(100);
  await submit('other', { priority: -1 });
});

test('while degraded commits linger: fewer of them for the same tasks, and as before once it has recovered', async (t) => {
  const { clock, runtime, commitsInASecond } = await setup(t, {
    healing: { rules: { watchDelay: { above: '1s', for: '1s' } } },
  });
  const tell = async (delayMs: number) => {
    for (let i = 0; i < 2; i++) {
      publish('millrace:watch:delay', () => ({ class: 'control', delayMs, commitMs: 1 }));
      await clock.advance(1_000);
    }
  };
  const before = await commitsInASecond();
  assert.ok(before >= 200, `${before} commits`);
  await tell(3_000);
  const degraded = await commitsInASecond();
  assert.ok(degraded > 0 && degraded <= 21, `${degraded} commits while degraded`);
  await clock.advance(200);
  assert.equal(runtime.stats().open, 0);
  await tell(10);
  const after = await commitsInASecond();
  assert.ok(after >= 200, `${after} commits after`);
});
