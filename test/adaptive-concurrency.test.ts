/** Adaptive concurrency in a whole runtime, on virtual time: a handler calls a service that gets slower the more it is asked at once. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { sleep } from '../src/core/clock.js';
import type { Concurrency } from '../src/core/concurrency.js';
import { hasCode } from '../src/core/errors.js';
import { defineTask, defineTasks } from '../src/core/task.js';
import { testBed, within } from './support/runtime.js';

const USUAL_MS = 500;

async function setup(t: TestContext, concurrency: Concurrency = 'adaptive') {
  const service = { knee: 10, inFlight: 0, inFlightMax: 0, isAway: false };
  const tasks = defineTasks({
    call: defineTask({
      name: 'call',
      exec: 'inline',
      concurrency,
      retry: { attempts: 1_000, min: '1s', max: '1s', jitter: 'none' },
      run: async (_: null) => {
        service.inFlight++;
        service.inFlightMax = Math.max(service.inFlightMax, service.inFlight);
        try {
          await sleep(clock, USUAL_MS * Math.max(1, service.inFlight / service.knee));
          if (service.isAway) throw Object.assign(new Error('no'), { code: 'ECONNREFUSED' });
        } finally {
          service.inFlight--;
        }
      },
    }),
    other: defineTask({ name: 'other', exec: 'inline', concurrency: 3, run: (_: null) => {} }),
    free: defineTask({ name: 'free', exec: 'inline', run: (_: null) => {} }),
  });
  const bed = testBed(tasks);
  const { clock } = bed;
  // Breakers would act on the same failures.
  const runtime = await bed.start({ healing: { rules: { breaker: false, dependency: false } } });
  t.after(() => within(clock, 60_000, runtime.close()));
  return {
    clock,
    runtime,
    service,
    limitOf: (task: string) => runtime.stats().concurrency.find((one) => one.task === task),
    submit: (count: number) =>
      within(
        clock,
        10_000,
        runtime.submitMany(
          'call',
          Array.from({ length: count }, () => null),
        ),
      ),
    /** How many were in flight at most within so long. */
    async inFlightMaxWithin(forMs: number): Promise<number> {
      service.inFlightMax = 0;
      await clock.advance(forMs);
      return service.inFlightMax;
    },
  };
}

test('as many run at once as the service bears; fewer when it bears less, and more again', async (t) => {
  const { clock, runtime, service, submit, limitOf, inFlightMaxWithin } = await setup(t);
  await submit(4_000);
  await clock.advance(40_000);
  const well = await inFlightMaxWithin(20_000);
  assert.ok(well >= 10 && well <= 23, `${well} at once for a knee of 10`);
  service.knee = 3;
  await clock.advance(80_000);
  const ill = await inFlightMaxWithin(20_000);
  assert.ok(ill >= 3 && ill <= 10, `${ill} at once for a knee of 3`);
  service.knee = 10;
  await clock.advance(40_000);
  const again = await inFlightMaxWithin(20_000);
  assert.ok(again >= 10 && again <= 23, `${again} at once for a knee of 10`);
  const { limit, min, max, running } = limitOf('call')!;
  assert.deepEqual([min, max], [1, 200]);
  assert.ok(running > 0 && running <= limit, `${running} of ${limit}`);
  assert.match(
    runtime.metrics.prometheus(),
    new RegExp(`millrace_concurrency_limit\\{type="call"\\} ${limit}\n`),
  );
});

test('a task that waits for it says so, with the bounds', async (t) => {
  const { clock, runtime, submit } = await setup(t, { min: 2, max: 30 });
  await submit(100);
  await clock.advance(10);
  const last = await within(clock, 1_000, runtime.submit('call', null));
  const why = await within(clock, 1_000, runtime.explain(last.id));
  assert.equal(why.reason, 'concurrency');
  assert.deepEqual(why.reason === 'concurrency' && why.adaptive, { min: 2, max: 30 });
  assert.match(
    why.message,
    /^5 of 'call' run here, which is all that its adaptive concurrency allows at the moment: 5, within 2 and 30$/,
  );
});

test('failures of a service that is away bring it down to one, and no further', async (t) => {
  const { clock, service, submit, limitOf } = await setup(t);
  service.isAway = true;
  await submit(500);
  await clock.advance(120_000);
  assert.equal(limitOf('call')!.limit, 1);
  service.isAway = false;
  await clock.advance(90_000);
  assert.ok(limitOf('call')!.limit > 5, `${limitOf('call')!.limit}`);
});

test('another limit while everything runs: fixed, adaptive within other bounds, and as before', async (t) => {
  const { clock, runtime, submit, limitOf, inFlightMaxWithin } = await setup(t);
  await submit(5_000);
  await clock.advance(60_000);
  runtime.tune({ concurrency: { call: 2 } });
  // What had begun goes on.
  await clock.advance(2_000);
  assert.equal(await inFlightMaxWithin(10_000), 2);
  assert.deepEqual(limitOf('call'), { task: 'call', limit: 2, min: 2, max: 2, running: 2 });
  runtime.tune({ concurrency: { call: { min: 6, max: 8 } } });
  const within8 = await inFlightMaxWithin(30_000);
  assert.ok(within8 >= 6 && within8 <= 8, `${within8}`);
  runtime.tune({ concurrency: { call: 'adaptive' } });
  assert.ok((await inFlightMaxWithin(60_000)) > 8);
});

test('limits that cannot be are refused, and nothing has changed then', async (t) => {
  const { runtime, limitOf } = await setup(t);
  const before = runtime.stats().concurrency;
  assert.deepEqual(before, [
    { task: 'call', limit: 5, min: 1, max: 200, running: 0 },
    { task: 'other', limit: 3, min: 3, max: 3, running: 0 },
  ]);
  for (const [concurrency, message] of [
    [{ other: 2, call: 0 }, /^concurrency\.call is 0; give a whole number from 1 to 200/],
    [{ other: 4 }, /^concurrency\.other is 4; give a whole number from 1 to 3/],
    [{ call: { min: 5, max: 4 } }, /^concurrency\.call\.min is 5; give a whole number from 1 to 4/],
    [{ call: { mx: 4 } }, /did you mean concurrency\.call\.max\?/],
    [{ call: 'fast' }, /^concurrency\.call is 'fast'; give a whole number/],
    [['call'], /^concurrency is call; give an object with limits by task name/],
  ] as const) {
    assert.throws(() => runtime.tune({ concurrency } as never), { message });
  }
  assert.throws(
    () => runtime.tune({ concurrency: { cal: 2 } }),
    (error) => hasCode(error, 'ERR_MILLRACE_UNKNOWN_TASK'),
  );
  assert.deepEqual(runtime.stats().concurrency, before);
  runtime.tune({ concurrency: { other: 'adaptive', free: 7 } });
  assert.deepEqual(limitOf('other'), { task: 'other', limit: 3, min: 1, max: 3, running: 0 });
  assert.equal(limitOf('free')!.limit, 7);
});
