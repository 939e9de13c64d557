import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { unlessAborted } from '../../src/core/unless-aborted.js';

test('gives what the work comes to, and lets go of the signal', async () => {
  const { signal } = new AbortController();
  assert.equal(await unlessAborted(Promise.resolve(1), signal), 1);
  await assert.rejects(unlessAborted(Promise.reject(new Error('no')), signal), { message: 'no' });
  assert.equal(getEventListeners(signal, 'abort').length, 0);
});

test('ends with the signal, before it began as well, and hears nothing of the work any more', async () => {
  const aborter = new AbortController();
  let fail = (_cause: Error): void => {};
  const work = new Promise<void>((_, reject) => {
    fail = reject;
  });
  const waiting = unlessAborted(work, aborter.signal);
  aborter.abort(new Error('enough'));
  await assert.rejects(waiting, { message: 'enough' });
  await assert.rejects(unlessAborted(work, aborter.signal), { message: 'enough' });
  // Nobody is told, and nothing is unhandled.
  fail(new Error('too late'));
  await new Promise((resolve) => setImmediate(resolve));
});
