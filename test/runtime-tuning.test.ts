/** Knobs of a runtime that follow its configuration while everything runs, on virtual time. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { defineTask, defineTasks } from '../src/core/task.js';
import type { RuntimeOptions } from '../src/runtime-options.js';
import { testBed, within } from './support/runtime.js';

async function setup(t: TestContext, options: Partial<RuntimeOptions> = {}) {
  const begun: string[] = [];
  let calls = 0;
  const tasks = defineTasks({
    note: defineTask({
      name: 'note',
      exec: 'inline',
      run: (_: null, ctx) => void begun.push(ctx.tenant ?? ''),
    }),
    call: defineTask({
      name: 'call',
      exec: 'inline',
      retry: { attempts: 1_000, min: 10, max: 10, jitter: 'none' },
      run: () => {
        calls++;
        throw Object.assign(new Error('no'), { code: 'ECONNREFUSED' });
      },
    }),
  });
  const bed = testBed(tasks);
  const { clock } = bed;
  const runtime = await bed.start(options);
  t.after(() => within(clock, 60_000, runtime.close()));
  return {
    clock,
    runtime,
    /** How many of the first 50 executions are pro's, of 100 tasks of each tenant that become due together. */
    async shareOfPro(): Promise<number> {
      begun.length = 0;
      const submitted = Array.from({ length: 200 }, (_, i) =>
        runtime.submit('note', null, { tenant: i < 100 ? 'free' : 'pro', delay: '1s' }),
      );
      await within(clock, 900, Promise.all(submitted));
      await clock.advance(2_000);
      assert.equal(begun.length, 200);
      return begun.slice(0, 50).filter((tenant) => tenant === 'pro').length;
    },
    /** How often a task is called whose dependency is away, before its breaker opens. */
    async callsUntilOpen(): Promise<number> {
      calls = 0;
      const handle = await within(clock, 1_000, runtime.submit('call', null));
      await clock.advance(5_000);
      await within(clock, 1_000, handle.cancel('seen enough'));
      return calls;
    },
  };
}

test('weights of tenants follow the configuration, and without a value all are alike', async (t) => {
  const { clock, runtime, shareOfPro } = await setup(t, { fairness: { weights: { free: 4 } } });
  assert.equal(await shareOfPro(), 10);
  const stop = runtime.config.watch<Record<string, number>>('weights', (weights) =>
    runtime.tune({ fairness: { weights: weights ?? {} } }),
  );
  await clock.settle();
  assert.equal(await shareOfPro(), 25);
  await within(clock, 1_000, runtime.config.set('weights', { pro: 4 }));
  assert.equal(await shareOfPro(), 40);
  stop();
});

test('the limits of breakers follow the configuration, one by one', async (t) => {
  const { clock, runtime, callsUntilOpen } = await setup(t);
  runtime.config.watch<number>('failures', (failures = 5) =>
    runtime.tune({ healing: { rules: { breaker: { failures } } } }),
  );
  await within(clock, 1_000, runtime.config.set('failures', 2));
  runtime.tune({ healing: { rules: { breaker: { open: '1h', max: '1h' } } } });
  assert.equal(await callsUntilOpen(), 2);
  // The time that was asked for last, not ten seconds.
  await clock.advance(1_800_000);
  assert.match(
    runtime.metrics.prometheus(),
    /^millrace_breaker_state\{name="call",state="open"\} 1$/m,
  );
});

test('a knob that cannot be meant is refused, and nothing else changes with it', async (t) => {
  const { clock, runtime, shareOfPro } = await setup(t);
  const refused = (tuning: object, message: RegExp): void =>
    assert.throws(() => runtime.tune(tuning), { code: 'ERR_MILLRACE_INVALID_OPTION', message });
  refused({ fairnes: {} }, /did you mean fairness\?/);
  refused({ fairness: { weights: { pro: 0 } } }, /fairness.weights.pro is 0/);
  refused({ fairness: { weight: {} } }, /did you mean fairness.weights\?/);
  refused({ healing: { rules: { cpu: true } } }, /no option healing.rules.cpu/);
  refused(
    { fairness: { weights: { pro: 4 } }, healing: { rules: { breaker: { failures: 0 } } } },
    /healing.rules.breaker.failures is 0/,
  );
  assert.equal(await shareOfPro(), 25);
  await within(clock, 60_000, runtime.close());
  assert.throws(() => runtime.tune({}), { code: 'ERR_MILLRACE_CLOSED' });
});

test('breakers that a runtime does not have cannot be tuned', async (t) => {
  const { runtime } = await setup(t, { healing: { rules: { breaker: false } } });
  assert.throws(() => runtime.tune({ healing: { rules: { breaker: { failures: 2 } } } }), {
    code: 'ERR_MILLRACE_INVALID_OPTION',
    message: /no breakers to tune/,
  });
});
