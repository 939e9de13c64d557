import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '../../src/core/clock.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';

test('sleep resolves when its time has passed on the clock, and not before', async () => {
  const clock = new VirtualClock();
  let isAwake = false;
  void sleep(clock, 100).then(() => {
    isAwake = true;
  });
  await clock.advance(99);
  assert.equal(isAwake, false);
  await clock.advance(1);
  assert.equal(isAwake, true);
});

test('sleep rejects with the reason of a signal that aborts first, and asks for no wake-up any more', async () => {
  const clock = new VirtualClock();
  const aborter = new AbortController();
  const reason = new Error('changed my mind');
  const slept = sleep(clock, 100, aborter.signal);
  assert.equal(clock.sleeping, 1);
  aborter.abort(reason);
  await assert.rejects(slept, reason);
  assert.equal(clock.sleeping, 0);
});

test('sleep with an aborted signal never begins', async () => {
  const clock = new VirtualClock();
  await assert.rejects(sleep(clock, 100, AbortSignal.abort('no')), (reason) => reason === 'no');
  assert.equal(clock.sleeping, 0);
});

test('a signal that outlives many sleeps collects no listeners', async () => {
  const clock = new VirtualClock();
  const { signal } = new AbortController();
  let listeners = 0;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listeners++;
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listeners--;
    remove(...args);
  };
  for (let i = 0; i < 10; i++) {
    const slept = sleep(clock, 10, signal);
    assert.equal(listeners, 1);
    await clock.advance(10);
    await slept;
  }
  assert.equal(listeners, 0);
});
