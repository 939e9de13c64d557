/**
 * Who waits for whom, through the whole engine: tenants that share a node with one that submits nearly everything, weights,
 * and tasks of low priority under a stream of higher ones that never ends. Virtual time, and threads that are played.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { inThread } from '../support/in-thread.js';
import { within } from '../support/runtime.js';
import { type Begun, setup, waitsOfSmall } from './fairness-run.js';

const PLAYED = new URL('./fairness-run.js', import.meta.url).href;

test('a tenant with 95 % of the load makes the others wait at most twice as long', async (t: TestContext) => {
  for (const load of [0.1, 0.2, 0.4, 0.6]) {
    const alone = await inThread(PLAYED, waitsOfSmall, load, false);
    const beside = await inThread(PLAYED, waitsOfSmall, load, true);
    const share = `${(100 * beside.share).toFixed(1)} %`;
    t.diagnostic(
      `threads filled to ${load} by the others: p99 ${alone.p99Ms} ms alone, ${beside.p99Ms} ms beside ${share}`,
    );
    assert.ok(beside.share > 0.94);
    assert.ok(beside.p99Ms <= 2 * alone.p99Ms, `${beside.p99Ms} ms, ${alone.p99Ms} ms alone`);
  }
});

test('tenants get what runs by their weights, within 10 % over 100 000 tasks', async (t: TestContext) => {
  const weights = { bronze: 1, silver: 2, gold: 4 };
  const { clock, begun, submit, tick } = await setup(4, 0.1, weights);
  const submitted: Promise<unknown>[] = [];
  for (const [tenant, weight] of Object.entries(weights)) {
    for (let i = 0; i < weight * 17_500; i++) submitted.push(submit({ tenant }));
  }
  await within(clock, 60_000, Promise.all(submitted));
  while (begun.length < 100_000) await tick();
  const first = begun.slice(0, 100_000);
  for (const [tenant, weight] of Object.entries(weights)) {
    const count = first.filter((one) => one.tenant === tenant).length;
    const due = (100_000 * weight) / 7;
    t.diagnostic(`${tenant}: ${count}, ${((count / due - 1) * 100).toFixed(2)} % off`);
    assert.ok(Math.abs(count / due - 1) <= 0.1, `${tenant}: ${count} of ${due}`);
  }
});

test('a task of low priority waits for its age and no longer, however many higher ones come', async () => {
  const { begun, submit, tick, clock } = await setup(1, 100);
  const isLow = ({ priority }: Begun) => priority === 0;
  let high = 0;
  const passWithHigh = async (): Promise<void> => {
    // Ten of them are always waiting.
    while (high - begun.length < 10) {
      high++;
      void submit({ priority: 2 });
    }
    await tick();
  };
  for (let ms = 0; ms < 2_000; ms++) await passWithHigh();
  void submit({ priority: 0 });
  while (!begun.some(isLow) && clock.monoMs() < 120_000) await passWithHigh();
  // Two levels below, at 30 s a level; and what the others have waited, which is about a second.
  const { waitMs } = begun.find(isLow)!;
  assert.ok(waitMs > 59_000 && waitMs < 64_000, `${waitMs} ms`);
});
