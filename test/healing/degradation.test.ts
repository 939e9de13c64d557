import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { publish } from '../../src/core/channels.js';
import { Degradation, lookEveryMs } from '../../src/healing/degradation.js';
import { resolveHealing } from '../../src/healing/healing-options.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { DEGRADED, fakePorts, RECOVERED } from './ports.js';

async function setup(t: TestContext) {
  const clock = new VirtualClock();
  const { levers, pulled } = fakePorts();
  const degradation = new Degradation(clock, levers, {
    incarnation: 'here',
    watchDelay: resolveHealing(true, false)!.watchDelay,
  });
  await degradation.start();
  t.after(() => degradation.stop());
  /** A canary every 10 s, each so late, for so long. */
  const late = async (
    delayMs: number,
    forMs: number,
    watchClass: 'control' | 'data' = 'control',
  ) => {
    for (let ms = 0; ms < forMs; ms += 10_000) {
      publish('millrace:watch:delay', () => ({ class: watchClass, delayMs, commitMs: 1 }));
      await clock.advance(10_000);
    }
  };
  return { clock, degradation, pulled, late };
}

test('by default: more than 2000 ms for 30 s degrades, and not a moment before', async (t) => {
  const { degradation, pulled, late } = await setup(t);
  await late(2_001, 30_000);
  assert.equal(degradation.isDegraded, false);
  await late(2_001, 10_000);
  assert.equal(degradation.isDegraded, true);
  assert.deepEqual(pulled, DEGRADED);
});

test('delays are looked at three times within the time of the rule, and never so often that a late one is not yet late', () => {
  assert.equal(lookEveryMs(undefined), 10_000);
  assert.equal(lookEveryMs(resolveHealing(true, false)!.watchDelay), 10_000);
  assert.equal(lookEveryMs({ aboveMs: 500, forMs: 60_000 }), 10_000);
  assert.equal(lookEveryMs({ aboveMs: 100, forMs: 3_000 }), 1_000);
  assert.equal(lookEveryMs({ aboveMs: 2_000, forMs: 3_000 }), 4_000);
  assert.equal(lookEveryMs({ aboveMs: 0, forMs: 0 }), 100);
});

test('2000 ms is fine for ever, and one timely canary starts the count anew', async (t) => {
  const { degradation, late } = await setup(t);
  await late(2_000, 600_000);
  for (let i = 0; i < 10; i++) {
    await late(9_000, 30_000);
    await late(1_999, 10_000);
  }
  assert.equal(degradation.isDegraded, false);
});

test('recovery needs less than half of it for as long: around the limit nothing switches', async (t) => {
  const { degradation, pulled, late } = await setup(t);
  await late(5_000, 40_000);
  for (let i = 0; i < 20; i++) {
    await late(1_500, 10_000);
    await late(2_500, 10_000);
  }
  await late(1_500, 600_000);
  assert.deepEqual(pulled, DEGRADED);
  await late(999, 30_000);
  assert.equal(degradation.isDegraded, true);
  await late(999, 10_000);
  assert.equal(degradation.isDegraded, false);
  assert.deepEqual(pulled.slice(3), RECOVERED);
});

test('each stream of watches counts for itself; it recovers when all have', async (t) => {
  const { degradation, late } = await setup(t);
  await late(3_000, 40_000, 'control');
  await late(3_000, 40_000, 'data');
  await late(100, 40_000, 'control');
  assert.equal(degradation.isDegraded, true);
  await late(100, 40_000, 'data');
  assert.equal(degradation.isDegraded, false);
});

test('a reason with a time is forgotten when that is over, unless it is said again', async (t) => {
  const { clock, degradation } = await setup(t);
  degradation.degrade('alert', 60_000);
  await clock.advance(59_000);
  degradation.degrade('alert', 60_000);
  await clock.advance(59_000);
  assert.equal(degradation.isDegraded, true);
  await clock.advance(1_000);
  assert.equal(degradation.isDegraded, false);
});

test('it is degraded while any reason holds; lifting what was not said does nothing', async (t) => {
  const { degradation, pulled } = await setup(t);
  degradation.lift('b');
  degradation.degrade('a');
  degradation.degrade('b');
  degradation.lift('a');
  assert.equal(degradation.isDegraded, true);
  degradation.lift('b');
  degradation.lift('b');
  assert.deepEqual(pulled, [...DEGRADED, ...RECOVERED]);
});

test('options: off in parts, as a whole, or with other figures', () => {
  assert.equal(resolveHealing(true, true), undefined);
  assert.equal(resolveHealing(false, false), undefined);
  const none = resolveHealing(
    { rules: { breaker: false, watchDelay: false, dependency: false } },
    false,
  )!;
  assert.deepEqual(
    [none.breaker, none.watchDelay, none.dependency, none.cpu],
    Array(4).fill(undefined),
  );
  const other = resolveHealing(
    { rules: { breaker: { open: '1m', max: '1s' }, watchDelay: { for: 0 }, cpu: true } },
    false,
  )!;
  assert.deepEqual(other.breaker, { failures: 5, openMs: 60_000, openMsMax: 60_000, probes: 1 });
  assert.deepEqual(other.watchDelay, { aboveMs: 2_000, forMs: 0 });
  assert.deepEqual(other.cpu, { above: 0.9, forMs: 180_000 });
  assert.deepEqual(other.dependency, { above: 0.15, forMs: 60_000 });
  assert.ok(!other.allowed.has('exit') && other.allowed.has('restart-pool'));
  for (const [options, message] of [
    [{ rules: { breaker: { failures: 0 } } }, /healing.rules.breaker.failures is 0/],
    [{ rules: { breaker: { open: 0 } } }, /healing.rules.breaker.open is 0/],
    [{ rules: { watchDelay: { above: 'x' } } }, /healing.rules.watchDelay.above/],
    [{ rules: { cpu: { above: -1 } } }, /healing.rules.cpu.above is -1/],
    [{ actions: ['reboot'] }, /healing.actions is 'reboot'/],
    [{ webhook: { token: 'short' } }, /healing.webhook.token is 'a token of 5 characters'/],
    [{ dryRun: 'yes' }, /healing.dryRun is 'yes'/],
    [{ rules: { breakers: false } }, /did you mean healing.rules.breaker\?/],
  ] as const) {
    assert.throws(() => resolveHealing(options as never, false), { message });
  }
});
