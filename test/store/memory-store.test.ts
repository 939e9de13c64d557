import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileStore, memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import {
  ALL,
  apply,
  del,
  iterate,
  keys,
  nextEvents,
  put,
  rejectsWith,
} from '../conformance/store/harness.js';

test('what is opened from one description shows the same data, whoever closes', async (t) => {
  const factory = memoryStore();
  assert.deepEqual([factory.kind, factory.location], ['memory', 'memory']);
  const clock = new VirtualClock();
  const [first, second] = [await factory.open({ clock }), await factory.open({ clock })];
  const iterator = iterate(t, second.watch(ALL));
  const waiting = first.watch(ALL)[Symbol.asyncIterator]().next();
  const ended = rejectsWith(waiting, 'ERR_MILLRACE_CLOSED');
  await first.close();
  await ended;
  await rejectsWith(first.get('a'), 'ERR_MILLRACE_CLOSED');
  const third = await factory.open({ clock });
  await apply(third, put('a', '1'));
  assert.deepEqual(await nextEvents(iterator), ['put a=1']);
  assert.deepEqual(await keys(second), ['a']);
  assert.deepEqual(await keys(await memoryStore().open({ clock })), [], 'another description');
});

test('leases go on with the clock that was given last, with the time they have left', async () => {
  const factory = memoryStore();
  const before = new VirtualClock();
  const first = await factory.open({ clock: before });
  const { leaseId } = await first.grantLease(10_000);
  await apply(first, put('a', '', leaseId));
  await before.advance(6_000);
  await first.close();
  const after = new VirtualClock();
  const second = await factory.open({ clock: after });
  await before.advance(60_000);
  await after.advance(3_999);
  assert.deepEqual(await keys(second), ['a']);
  await after.advance(1);
  assert.deepEqual(await keys(second), []);
});

test('a lease is over at its deadline, also when the wake-up is late', async () => {
  const clock = new VirtualClock();
  // A clock whose wake-ups never come: an event loop that is stuck.
  const stuck = {
    wallMs: () => clock.wallMs(),
    monoMs: () => clock.monoMs(),
    wakeIn: () => ({ cancel: () => {} }),
    wakeSoon: () => ({ cancel: () => {} }),
  };
  const store = await memoryStore().open({ clock: stuck });
  const { leaseId } = await store.grantLease(1_000);
  await apply(store, put('a', '', leaseId));
  await clock.advance(1_000);
  await rejectsWith(store.renewLease(leaseId), 'ERR_MILLRACE_LEASE_LOST');
  await store.txn({ compares: [], success: [] });
  assert.deepEqual(await keys(store), []);
});

test('a memory store that is full says so and takes deletions', async () => {
  const store = await memoryStore({ bytesMax: 10_000 }).open({ clock: new VirtualClock() });
  await apply(store, put('a', new Uint8Array(6_000)));
  await rejectsWith(
    store.txn({ compares: [], success: [put('b', new Uint8Array(6_000))] }),
    'ERR_MILLRACE_STORE_FULL',
  );
  assert.deepEqual(await keys(store), ['a']);
  await apply(store, del('a'));
  await apply(store, put('b', new Uint8Array(6_000)));
  assert.throws(() => memoryStore({ bytesMax: 0 }), { code: 'ERR_MILLRACE_INVALID_OPTION' });
});

test('a file store is described without touching the disk', () => {
  const factory = fileStore('some/folder');
  assert.equal(factory.kind, 'embedded');
  assert.equal(factory.location, `${process.cwd()}/some/folder`);
  assert.throws(() => fileStore(''), { code: 'ERR_MILLRACE_INVALID_OPTION' });
});
