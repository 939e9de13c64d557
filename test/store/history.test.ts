/**
 * What local stores keep of the past, and for whom: the parts of the contract that a store may choose.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Revision, Store } from '../../src/core/store.js';
import { type HistoryOptions, memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import {
  ALL,
  apply,
  iterate,
  nextEvents,
  put,
  rejectsWith,
  text,
} from '../conformance/store/harness.js';

function open(history: HistoryOptions): Promise<Store> {
  return memoryStore({ history }).open({ clock: new VirtualClock() });
}

test('the history keeps as many revisions as it is told to', async () => {
  const store = await open({ revisionsMax: 3 });
  const revisions: Revision[] = [];
  for (let count = 0; count < 10; count++) revisions.push(await apply(store, put('a', `${count}`)));
  assert.equal(text(await store.get('a', { revision: revisions[7]! })), '7');
  assert.equal(text(await store.get('a', { revision: revisions[6]! })), '6');
  await rejectsWith(store.get('a', { revision: revisions[5]! }), 'ERR_MILLRACE_COMPACTED');
});

test('the history keeps no more bytes than it is told to, but always the newest revision', async (t) => {
  const store = await open({ bytesMax: 100_000 });
  const iterator = iterate(t, store.watch(ALL));
  const first = await apply(store, put('a', new Uint8Array(10_000)));
  for (let count = 0; count < 20; count++) {
    await apply(store, put(`b${count}`, new Uint8Array(10_000)));
  }
  await rejectsWith(store.get('a', { revision: first }), 'ERR_MILLRACE_COMPACTED');
  await rejectsWith(nextEvents(iterator), 'ERR_MILLRACE_COMPACTED');
  const current = iterate(t, store.watch(ALL));
  await apply(store, put('large', new Uint8Array(1_000_000)));
  const { value } = await current.next();
  assert.equal(value.events[0].entry.value.length, 1_000_000);
});

test('a slow reader falls off when changes of its range are forgotten, and only then', async (t) => {
  const store = await open({ revisionsMax: 5 });
  const patient = iterate(t, store.watch({ from: 'mine', to: 'mine~' }));
  const slow = iterate(t, store.watch({ from: 'busy', to: 'busy~' }));
  for (let count = 0; count < 50; count++) await apply(store, put('busy', `${count}`));
  await apply(store, put('mine', 'at last'));
  assert.deepEqual(await nextEvents(patient), ['put mine=at last']);
  await assert.rejects(slow.next(), (error: unknown) => {
    const { code, details } = error as { code: string; details: { compactRevision: number } };
    assert.equal(code, 'ERR_MILLRACE_COMPACTED');
    assert.equal(details.compactRevision, 48);
    return true;
  });
  assert.deepEqual(await slow.next(), { done: true, value: undefined });
});

test('a reader of whom nobody asks anything skips what does not concern it at a compaction too', async (t) => {
  const store = await open({});
  const patient = iterate(t, store.watch({ from: 'mine', to: 'mine~' }));
  for (let count = 0; count < 5; count++) await apply(store, put('busy', `${count}`));
  await store.compact(await apply(store, put('mine', '1')));
  assert.deepEqual(await nextEvents(patient), ['put mine=1']);
});

test('a history without room is refused', async () => {
  for (const history of [{ revisionsMax: 0 }, { bytesMax: Number.NaN }]) {
    await rejectsWith(open(history), 'ERR_MILLRACE_INVALID_OPTION');
  }
});
