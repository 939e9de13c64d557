/**
 * Rates on one node: what begins in how much time, in virtual time, with a pool that is played.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { taskId } from '../../../src/core/ids.js';
import { type RateOptions, rateSpec } from '../../../src/core/rate.js';
import { Outcome } from '../../../src/core/states.js';
import type { Accepted } from '../../../src/engine/submission.js';
import { within } from '../../support/runtime.js';
import { scriptedEngine, slotsOf } from '../../support/scripted-engine.js';

async function setup(rate?: RateOptions, ofRuntime?: RateOptions) {
  const scripted = await scriptedEngine(rate ? { rate } : {}, 64, [{ name: 'other' }], {
    rate: ofRuntime && rateSpec(ofRuntime, 'rate'),
  });
  const { clock, pool, newTask, submitOne, engine } = scripted;
  let begun: string[] = [];
  /** Lets so much time pass, and completes what begins. @returns what began, in order */
  const pass = async (ms: number): Promise<string[]> => {
    const endMs = clock.monoMs() + ms;
    while (clock.monoMs() < endMs) {
      await clock.advance(Math.min(5, endMs - clock.monoMs()));
      for (const batch of pool.batches.splice(0)) {
        begun.push(...batch.tasks.map(({ payload }) => Buffer.from(payload).toString()));
        batch.report(slotsOf(batch.tasks.length), Outcome.COMPLETED, '1');
        batch.end();
      }
    }
    const told = begun;
    begun = [];
    return told;
  };
  const submit = (count: number, { type = 'work', tenant = '' } = {}) =>
    within(
      clock,
      1_000,
      Promise.all(
        Array.from({ length: count }, () =>
          submitOne({ ...newTask(tenant || type, type), tenant }),
        ),
      ),
    );
  const explain = async ({ segment, index }: Accepted) => {
    const id = taskId(segment, index);
    const task = await within(clock, 1_000, engine.inspect(id));
    return within(clock, 1_000, engine.explain(task!));
  };
  return { ...scripted, pass, submit, explain };
}

test('as many begin as the rate says, after a burst, and the rest waits its turn', async () => {
  const { engine, pass, submit } = await setup({ limit: 100, per: '1s', burst: 10 });
  await submit(1_000);
  assert.equal((await pass(1)).length, 10);
  const inFiveSeconds = await pass(5_000);
  assert.ok(Math.abs(inFiveSeconds.length - 500) <= 3, `${inFiveSeconds.length}`);
  assert.equal(engine.stats.ready, 1_000 - 10 - inFiveSeconds.length);
});

test('a quiet time saves up a burst and no more, and never less than one', async () => {
  const { pass, submit } = await setup({ limit: 60, per: '1m' });
  await submit(5);
  assert.equal((await pass(10)).length, 1);
  assert.equal((await pass(4_000)).length, 4);
  await pass(60_000);
  await submit(5);
  assert.equal((await pass(10)).length, 1);
});

test('other types do not wait, and neither do those that come after with no rate', async () => {
  const { pass, submit } = await setup({ limit: 1, per: '1h' });
  await submit(5);
  await submit(5, { type: 'other' });
  assert.deepEqual((await pass(10)).sort(), ['other', 'other', 'other', 'other', 'other', 'work']);
});

test('by tenant each one has the rate to itself', async () => {
  const { pass, submit } = await setup({ limit: 10, per: '1s', by: 'tenant', burst: 2 });
  await submit(50, { tenant: 'acme' });
  await submit(50, { tenant: 'zoo' });
  await submit(50);
  const count = (begun: string[], name: string) => begun.filter((one) => one === name).length;
  const first = await pass(1);
  for (const name of ['acme', 'zoo', 'work']) assert.equal(count(first, name), 2);
  const then = await pass(2_000);
  for (const name of ['acme', 'zoo', 'work']) {
    assert.ok(Math.abs(count(then, name) - 20) <= 2, `${name}: ${count(then, name)}`);
  }
});

test('the rate of the runtime holds for each type without one, or for tenants whatever the types', async () => {
  const ofTypes = await setup(
    { limit: 20, per: '1s', burst: 1 },
    { limit: 5, per: '1s', burst: 1 },
  );
  await ofTypes.submit(100);
  await ofTypes.submit(100, { type: 'other' });
  const begun = await ofTypes.pass(2_000);
  assert.ok(Math.abs(begun.filter((one) => one === 'work').length - 41) <= 2);
  assert.ok(Math.abs(begun.filter((one) => one === 'other').length - 11) <= 2);
  const ofTenants = await setup(undefined, { limit: 5, per: '1s', by: 'tenant', burst: 1 });
  await ofTenants.submit(100, { tenant: 'acme' });
  await ofTenants.submit(100, { tenant: 'acme', type: 'other' });
  assert.ok(Math.abs((await ofTenants.pass(2_000)).length - 11) <= 2);
});

test('a task that waits for its rate says so, and until when', async () => {
  const { clock, pass, submit, explain } = await setup({ limit: 6, per: '1m' });
  const [, second] = await submit(3);
  await pass(10);
  const nowMs = clock.wallMs();
  const explanation = await explain(second!);
  assert.equal(explanation.reason, 'rate-limited');
  assert.ok(explanation.reason === 'rate-limited' && explanation.untilMs !== undefined);
  assert.ok(Math.abs(explanation.untilMs - nowMs - 10_000) <= 50);
  assert.match(
    explanation.message,
    /^'work' is at its rate of 6 in 1m: the next may begin here in 10s, and 2 of 'work' wait$/,
  );
});

test('by tenant the explanation names the tenant', async () => {
  const { pass, submit, explain } = await setup(undefined, { limit: 6, per: '1m', by: 'tenant' });
  const [, second] = await submit(3, { tenant: 'acme' });
  await pass(10);
  assert.match((await explain(second!)).message, /^tenant 'acme' is at its rate of 6 in 1m/);
});

test('while nothing waits for credits, nothing ticks', async () => {
  const { clock, pass, submit } = await setup({ limit: 1_000, per: '1s' });
  await submit(100);
  await pass(3_000);
  const wakeUps = clock.sleeping;
  await pass(10_000);
  assert.equal(clock.sleeping, wakeUps);
});
