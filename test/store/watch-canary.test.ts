import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type TestContext, test } from 'node:test';
import type { ChannelPayloads } from '../../src/core/channels.js';
import { MillraceError } from '../../src/core/errors.js';
import { memoryStore } from '../../src/store/index.js';
import { WatchCanary } from '../../src/store/watch-canary.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { FaultyStore } from '../support/faulty-store.js';

type Delay = ChannelPayloads['millrace:watch:delay'];

async function setup(t: TestContext) {
  const clock = new VirtualClock();
  const store = new FaultyStore(await memoryStore().open({ clock }));
  const canary = new WatchCanary(clock, store, { key: 'y/here', everyMs: 1_000 });
  const delays: Delay[] = [];
  const listen = (message: unknown): void => void delays.push(message as Delay);
  subscribe('millrace:watch:delay', listen);
  t.after(async () => {
    unsubscribe('millrace:watch:delay', listen);
    await canary.stop();
    await store.close();
  });
  return { clock, store, canary, delays };
}

test('a canary is sent every period, and its delay told when it comes back', async (t) => {
  const { clock, store, canary, delays } = await setup(t);
  await canary.start();
  await clock.advance(3_500);
  assert.equal(delays.length, 4);
  assert.deepEqual(delays[0], { class: 'control', delayMs: 0, commitMs: delays[0]!.commitMs });
  await canary.stop();
  assert.equal(await store.get('y/here'), undefined);
  await clock.advance(5_000);
  assert.equal(delays.length, 4);
});

test('one that is overdue is told with the delay it has reached, and again when it comes', async (t) => {
  const { clock, store, canary, delays } = await setup(t);
  let open = (): void => {};
  store.gate = new Promise((resolve) => {
    open = resolve;
  });
  await canary.start();
  await clock.advance(2_500);
  assert.deepEqual(
    delays.map(({ delayMs }) => delayMs),
    [1_000, 2_000],
  );
  open();
  store.gate = undefined;
  await clock.settle();
  assert.equal(delays.at(-1)?.delayMs, 2_500);
});

test('one that was certainly not written is not waited for', async (t) => {
  const { clock, store, canary, delays } = await setup(t);
  store.fates.push('full');
  await canary.start();
  await clock.advance(1_500);
  assert.deepEqual(
    delays.map(({ delayMs }) => delayMs),
    [0],
  );
});

test('one of which nobody knows whether it was written is told so, and not waited for', async (t) => {
  const { clock, store, canary, delays } = await setup(t);
  store.fates.push('ok', 'request lost');
  await canary.start();
  await clock.advance(3_500);
  assert.deepEqual(
    delays.map(({ delayMs }) => delayMs),
    [0, 0, 0, 0],
  );
});

test('a watch that has ended for good measures nothing any more', async (t) => {
  const { clock, store, canary, delays } = await setup(t);
  store.watch = () => {
    throw new MillraceError('ERR_MILLRACE_STORE_UNAVAILABLE', 'nobody may watch here');
  };
  await canary.start();
  await clock.advance(3_500);
  assert.deepEqual(delays, []);
  assert.deepEqual(store.sent, []);
});

test('stopping without starting, and twice, is fine', async (t) => {
  const { canary } = await setup(t);
  await canary.stop();
  await canary.stop();
});
