/**
 * What happens between a call and its answer, with a backend that commits when it is told to.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MillraceError } from '../../src/core/errors.js';
import type { Revision, TxnOutcome } from '../../src/core/store.js';
import {
  ALL,
  apply,
  bytes,
  get,
  isAbsent,
  iterate,
  keys,
  newest,
  nextEvents,
  put,
  rejectsWith,
  text,
} from '../conformance/store/harness.js';
import { scriptedStore, settle } from './scripted-backend.js';

const full = new MillraceError('ERR_MILLRACE_STORE_FULL', 'full');

/** What a promise has come to so far. */
interface Seen<T> {
  isSettled: boolean;
  value: T | undefined;
  error: unknown;
}

function watchFor<T>(promise: Promise<T>): Seen<T> {
  const seen: Seen<T> = { isSettled: false, value: undefined, error: undefined };
  promise.then(
    (value) => Object.assign(seen, { isSettled: true, value }),
    (error: unknown) => Object.assign(seen, { isSettled: true, error }),
  );
  return seen;
}

test('what arrives in one turn, or while a commit flies, shares the next commit', async () => {
  const { backend, store } = scriptedStore();
  const first = Promise.all([apply(store, put('a')), apply(store, put('b'))]);
  const flight = await backend.next();
  assert.deepEqual(flight.keys, ['a', 'b']);
  const second = Promise.all([apply(store, put('c')), apply(store, put('d'))]);
  await settle();
  assert.equal(backend.commits.length, 0, 'one commit at a time');
  await flight.succeed();
  assert.deepEqual(await first, [2, 3]);
  const next = await backend.next();
  assert.deepEqual([next.keys, next.revision], [['c', 'd'], 5]);
  await next.succeed();
  assert.deepEqual(await second, [4, 5]);
});

test('nothing is answered, read or watched before it is durable, even if the backend shows it', async (t) => {
  const { backend, store } = scriptedStore();
  const iterator = iterate(t, store.watch(ALL));
  const event = watchFor(nextEvents(iterator));
  const written = watchFor(apply(store, put('a', 'new')));
  const refusal = watchFor(store.txn({ compares: [isAbsent('a')], success: [] }));
  const read = watchFor(store.txn({ compares: [], success: [get('a')] }));
  const flight = await backend.next();
  await flight.show();
  const startRevision = 2 as Revision;
  const late = watchFor(nextEvents(iterate(t, store.watch(ALL, { startRevision }))));
  await settle();
  assert.equal(await store.get('a'), undefined);
  assert.deepEqual(await keys(store), []);
  assert.equal(await newest(store), 1);
  for (const { isSettled } of [event, late, written, refusal, read]) assert.ok(!isSettled);
  await flight.succeed();
  assert.equal(written.value, 2);
  assert.equal(refusal.value?.kind, 'refused', 'it rests on the write that was in flight');
  assert.deepEqual([event.value, late.value], [['put a=new'], ['put a=new']]);
  assert.equal(text(await store.get('a')), 'new');
});

test('a full store fails only the transaction that does not fit', async () => {
  const { backend, store } = scriptedStore();
  const small = watchFor(apply(store, put('a', 'small')));
  const large = watchFor(apply(store, put('b', 'large')));
  const after = watchFor(store.txn({ compares: [isAbsent('b')], success: [put('c')] }));
  await (await backend.next()).fail(full);
  const queued = watchFor(apply(store, put('d')));
  for (const expected of ['a', 'b', 'c', 'd']) {
    const commit = await backend.next();
    assert.deepEqual(commit.keys, [expected], 'alone, in the order of the calls');
    await (expected === 'b' ? commit.fail(full) : commit.succeed());
  }
  assert.equal((large.error as MillraceError).code, 'ERR_MILLRACE_STORE_FULL');
  assert.deepEqual([small.value, queued.value], [2, 4]);
  assert.equal(after.value?.kind, 'done', 'decided again: b was never written');
  assert.deepEqual(await keys(store), ['a', 'c', 'd']);
  assert.equal(await newest(store), 4);
});

test('a full store takes the leases of its keys back', async () => {
  const { backend, store } = scriptedStore();
  const { leaseId } = await store.grantLease(60_000);
  const kept = apply(store, put('kept', '', leaseId));
  await (await backend.next()).succeed();
  await kept;
  const lost = watchFor(apply(store, put('kept'), put('lost', '', leaseId)));
  await (await backend.next()).fail(full);
  assert.ok(lost.error);
  const revoked = store.revokeLease(leaseId);
  const commit = await backend.next();
  assert.deepEqual(commit.keys, ['kept']);
  await commit.succeed();
  await revoked;
  assert.deepEqual(await keys(store), []);
});

test('the keys of an ended lease are deleted later when the store is full', async () => {
  const { backend, clock, store } = scriptedStore();
  const { leaseId } = await store.grantLease(5_000);
  const written = apply(store, put('a', '', leaseId));
  await (await backend.next()).succeed();
  await written;
  await clock.advance(5_000);
  await (await backend.next()).fail(full);
  assert.deepEqual(await keys(store), ['a']);
  await clock.advance(1_000);
  await (await backend.next()).succeed();
  assert.deepEqual(await keys(store), []);
});

test('a fault leaves the group unknown, refuses what was not sent, and writes no more', async () => {
  const { backend, store } = scriptedStore();
  const before = apply(store, put('a', 'old'));
  await (await backend.next()).succeed();
  await before;
  const first = watchFor(store.txn({ compares: [], success: [put('a', 'new')] }));
  const flight = await backend.next();
  const queued = watchFor(store.txn({ compares: [], success: [put('b')] }));
  await flight.show();
  await flight.fail(new Error('I/O error'));
  const outcome = first.value as Extract<TxnOutcome, { kind: 'unknown' }>;
  assert.equal(outcome.kind, 'unknown');
  assert.equal(outcome.cause.code, 'ERR_MILLRACE_STORE_UNAVAILABLE');
  assert.match(outcome.cause.message, /I\/O error/);
  assert.equal((queued.error as MillraceError).code, 'ERR_MILLRACE_STORE_UNAVAILABLE');
  await rejectsWith(
    store.txn({ compares: [], success: [put('c')] }),
    'ERR_MILLRACE_STORE_UNAVAILABLE',
  );
  assert.equal(backend.commits.length, 0);
  assert.equal(text(await store.get('a')), 'old', 'reads stay with what is certain');
  await store.close();
});

test('an answer later than its deadline is unknown, and the write may be applied all the same', async () => {
  const { backend, clock, store } = scriptedStore();
  const late = watchFor(store.txn({ compares: [], success: [put('a')] }, { deadlineMs: 1_000 }));
  const flight = await backend.next();
  await clock.advance(999);
  assert.ok(!late.isSettled);
  await clock.advance(1);
  assert.equal(late.value?.kind, 'unknown');
  await flight.succeed();
  assert.deepEqual(await keys(store), ['a']);
  assert.equal(clock.sleeping, 0);
  const inTime = store.txn({ compares: [], success: [put('b')] }, { deadlineMs: 1_000 });
  await (await backend.next()).succeed();
  assert.equal((await inTime).kind, 'done');
  assert.equal(clock.sleeping, 0, 'the deadline of an answered transaction is forgotten');
});

test('a group is bounded in bytes, so that one commit stays short', async () => {
  const { backend, store } = scriptedStore();
  const writes = Array.from({ length: 6 }, (_, index) =>
    apply(store, put(`k${index}`, new Uint8Array(1_500_000))),
  );
  const sizes: number[] = [];
  for (let sent = 0; sent < 6; sent += sizes.at(-1)!) {
    const commit = await backend.next();
    sizes.push(commit.keys.length);
    await commit.succeed();
  }
  assert.deepEqual(sizes, [3, 3]);
  assert.deepEqual(await Promise.all(writes), [2, 3, 4, 5, 6, 7]);
});

test('a deletion too large to remember holds reads up instead of memory', async () => {
  const { backend, store } = scriptedStore({ bytesMax: 10_000 });
  const filling = apply(store, ...Array.from({ length: 100 }, (_, i) => put(`k${i}`, bytes('x'))));
  await (await backend.next()).succeed();
  const before = await filling;
  const deleting = apply(store, { type: 'deleteRange', range: ALL });
  const flight = await backend.next();
  const read = watchFor(store.get('k1'));
  const list = watchFor(store.range(ALL));
  await settle();
  assert.ok(!list.isSettled && !read.isSettled);
  await rejectsWith(store.range(ALL, { revision: before }), 'ERR_MILLRACE_COMPACTED');
  await flight.succeed();
  assert.equal(await deleting, before + 1);
  assert.ok(read.isSettled && read.value === undefined);
  assert.deepEqual(list.value?.entries, []);
});

test('a deletion too large to remember that is taken back can be read again', async () => {
  const { backend, store } = scriptedStore({ bytesMax: 10_000 });
  const filling = apply(store, ...Array.from({ length: 100 }, (_, i) => put(`k${i}`, bytes('x'))));
  await (await backend.next()).succeed();
  const revision = await filling;
  const deleting = watchFor(apply(store, { type: 'deleteRange', range: ALL }));
  const flight = await backend.next();
  const list = watchFor(store.range(ALL));
  await flight.fail(full);
  assert.equal((deleting.error as MillraceError).code, 'ERR_MILLRACE_STORE_FULL');
  assert.equal(list.value?.entries.length, 100);
  assert.equal((await store.range(ALL, { revision })).entries.length, 100);
});

test('closing waits for the commit in flight', async () => {
  const { backend, store } = scriptedStore();
  const written = apply(store, put('a'));
  const flight = await backend.next();
  const closed = watchFor(store.close().then(() => true));
  await settle();
  assert.ok(!closed.isSettled);
  await flight.succeed();
  assert.equal(await written, 2 as Revision);
  assert.equal(closed.value, true);
});
