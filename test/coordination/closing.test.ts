/**
 * Closing while the store does not answer: what hangs on the lease is left to end with it, and nobody waits for more.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codeOf, TTL_MS, track, world } from './world.js';

/** What a process may wait for a store that has gone, in all. */
const CLOSE_MS_MAX = 3_000;

test('a process that lost its lease while it was cut off closes all the same', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  await w.store.revokeLease(c.session.leaseId!);
  faults.isCut = true;
  // It leads, is fenced, and goes on to tell the store that it leads no more.
  await w.clock.advance(2 * TTL_MS);
  const closed = track(c.stop());
  await w.clock.advance(CLOSE_MS_MAX);
  assert.equal(closed.state, 'done');
});

test('a lock that the store never heard was released does not hold up the end', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  const lock = await c.locks.tryLock('report');
  faults.isCut = true;
  const released = track(lock!.release());
  await w.clock.advance(1_000);
  assert.equal(released.state, 'done');
  const closed = track(c.stop());
  await w.clock.advance(CLOSE_MS_MAX);
  assert.equal(closed.state, 'done');
});

test('whoever releases a lock is answered when its process leaves a store that says nothing', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  const lock = await c.locks.tryLock('report');
  faults.gate = new Promise(() => {});
  const released = track(lock!.release());
  await w.clock.settle();
  assert.equal(released.state, 'open', 'the store was not told yet');
  const closed = track(c.stop());
  await w.clock.advance(CLOSE_MS_MAX);
  assert.equal(released.state, 'done');
  assert.equal(closed.state, 'done');
});

test('a campaign that waits for an earlier one to be forgotten ends with its signal', async (t) => {
  const w = await world(t);
  const { c, faults } = await w.join();
  const first = await c.elections.campaign('cron', 'a');
  faults.isCut = true;
  await first.resign();
  const giveUp = new AbortController();
  const again = track(c.elections.campaign('cron', 'a', { signal: giveUp.signal }));
  await w.clock.advance(1_000);
  assert.equal(again.state, 'open');
  giveUp.abort(new Error('enough'));
  await w.clock.settle();
  assert.equal(again.state, 'failed');
  assert.equal(codeOf(again.error), 'Error: enough');
});
