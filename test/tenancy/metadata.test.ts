import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../src/core/random.js';
import type { KeyRange, Revision } from '../../src/core/store.js';
import { counterKey, entryKey } from '../../src/tenancy/keys.js';
import { WatchBus } from '../../src/tenancy/watch-bus.js';
import { gate, track } from '../coordination/world.js';
import { MessageHub } from './message-bus.js';
import { nodes } from './nodes.js';

test('what one node writes, all nodes read; from their caches once they have read it', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  const revision = await a.metadata.put('acme', 'plan', 'current', { seats: 5 });
  const read = () => b.metadata.get('acme', 'plan', 'current');
  assert.deepEqual(await read(), { id: 'current', value: { seats: 5 }, revision });
  assert.deepEqual(await read(), { id: 'current', value: { seats: 5 }, revision });
  assert.equal(b.metadata.stats().misses, 1);
  const next = await a.metadata.put('acme', 'plan', 'current', { seats: 6 });
  await w.clock.settle();
  assert.deepEqual(await read(), { id: 'current', value: { seats: 6 }, revision: next });
  await a.metadata.delete('acme', 'plan', 'current');
  await w.clock.settle();
  assert.equal(await read(), undefined);
  assert.equal(b.metadata.stats().misses, 1);
});

test('an entry that is not there is remembered as such, until somebody puts it', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  for (let i = 0; i < 3; i++) assert.equal(await b.metadata.get('acme', 'x', '1'), undefined);
  assert.equal(b.metadata.stats().misses, 1);
  await a.metadata.put('acme', 'x', '1', 'here');
  await w.clock.settle();
  assert.equal((await b.metadata.get('acme', 'x', '1'))?.value, 'here');
  assert.equal(b.metadata.stats().misses, 1);
});

test('a batch is written together or not at all, and cached values follow together', async (t) => {
  const w = await nodes(t);
  const { metadata } = await w.join();
  const revision = await metadata.put('acme', 'x', '1', 'old');
  await assert.rejects(
    metadata.write('acme', [
      { op: 'put', type: 'x', id: '2', value: 'new' },
      { op: 'put', type: 'x', id: '1', value: 'new', ifRevision: revision + 1 },
    ]),
    { code: 'ERR_MILLRACE_STALE_REVISION' },
  );
  assert.equal(await metadata.get('acme', 'x', '2'), undefined);
  const written = await metadata.write('acme', [
    { op: 'put', type: 'x', id: '2', value: 'new' },
    { op: 'delete', type: 'x', id: '1', ifRevision: revision },
  ]);
  assert.equal((await metadata.get('acme', 'x', '2'))?.revision, written);
  assert.equal(await metadata.get('acme', 'x', '1'), undefined);
});

test('entries get ULIDs when they have no ids, and are listed by pages of one moment', async (t) => {
  const w = await nodes(t);
  const { metadata } = await w.join();
  const ids: string[] = [];
  for (let i = 0; i < 7; i++) ids.push((await metadata.add('acme', 'user', { i })).id);
  await metadata.put('acme', 'users', 'other type', 1);
  await metadata.put('acme2', 'user', 'other tenant', 1);
  const first = await metadata.list<{ i: number }>('acme', 'user', { limit: 3 });
  assert.deepEqual(
    first.entries.map(({ id }) => id),
    ids.slice(0, 3),
  );
  await metadata.delete('acme', 'user', ids[4]!);
  const all = [...first.entries];
  for (let { next } = first; next !== undefined; ) {
    const page = await metadata.list<{ i: number }>('acme', 'user', { limit: 3, page: next });
    all.push(...page.entries);
    next = page.next;
  }
  assert.deepEqual(
    all.map(({ value }) => value.i),
    [0, 1, 2, 3, 4, 5, 6],
  );
  const { entries } = await metadata.list('acme', 'user');
  assert.equal(entries.length, 6);
});

test('a page that is asked for after its moment was forgotten says so', async (t) => {
  const w = await nodes(t);
  const { metadata } = await w.join();
  for (let i = 0; i < 4; i++) await metadata.put('acme', 'x', `${i}`, i);
  const { next, revision } = await metadata.list('acme', 'x', { limit: 2 });
  await metadata.put('acme', 'x', '9', 9);
  await w.store.compact((revision + 1) as Revision);
  await assert.rejects(metadata.list('acme', 'x', { page: next! }), {
    code: 'ERR_MILLRACE_COMPACTED',
  });
});

test('an entry with a ttl ends by itself, on every node, and some share a lease', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  for (let i = 0; i < 3; i++) await a.metadata.put('acme', 'x', `${i}`, i, { ttl: '10s' });
  const entry = async (id: string) => w.store.get(entryKey('acme', 'x', id));
  assert.equal((await entry('0'))?.leaseId, (await entry('2'))?.leaseId);
  assert.equal((await b.metadata.get('acme', 'x', '0'))?.value, 0);
  await w.clock.advance(9_900);
  assert.equal((await b.metadata.get('acme', 'x', '0'))?.value, 0);
  await w.clock.advance(1_700);
  assert.equal(await b.metadata.get('acme', 'x', '0'), undefined);
  assert.equal(await a.metadata.get('acme', 'x', '2', { consistency: 'linearizable' }), undefined);
});

test('a shared lease that was revoked by hand costs no write', async (t) => {
  const w = await nodes(t);
  const { metadata } = await w.join();
  await metadata.put('acme', 'x', '1', 1, { ttl: '1m' });
  await w.store.revokeLease((await w.store.get(entryKey('acme', 'x', '1')))!.leaseId!);
  await metadata.put('acme', 'x', '2', 2, { ttl: '1m' });
  assert.equal((await metadata.get('acme', 'x', '2'))?.value, 2);
});

test('who is given the revision of a write reads it on any node, however late its watch is', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  const read = (consistency?: { atLeast: number } | 'linearizable') =>
    b.metadata.get('acme', 'x', '1', consistency ? { consistency } : {});
  await a.metadata.put('acme', 'x', '1', 'old');
  await read();
  const letGo = b.holdWatch();
  const revision = await a.metadata.put('acme', 'x', '1', 'new');
  assert.equal((await read())?.value, 'old');

  // The watch comes in time.
  const waiting = track(read({ atLeast: revision }));
  await w.clock.advance(100);
  assert.equal(waiting.state, 'open');
  letGo();
  await w.clock.settle();
  assert.equal(waiting.value?.value, 'new');
  assert.equal(b.metadata.stats().misses, 1);

  // It does not: the store is asked.
  b.holdWatch();
  const newer = await a.metadata.put('acme', 'x', '1', 'newer');
  for (const consistency of [{ atLeast: newer }, 'linearizable'] as const) {
    const reading = track(read(consistency));
    await w.clock.advance(300);
    assert.equal(reading.value?.value, 'newer');
  }
  assert.equal((await read())?.value, 'newer');
});

test('a linearizable read is served from the cache when the tenant has not changed, whatever others did', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  await a.metadata.put('acme', 'x', '1', 'value');
  await b.metadata.get('acme', 'x', '1');
  b.holdWatch();
  await a.metadata.put('globex', 'x', '1', 'other');
  const { value } = (await b.metadata.get('acme', 'x', '1', { consistency: 'linearizable' }))!;
  assert.equal(value, 'value');
  assert.equal(b.metadata.stats().misses, 1);
});

test('a revision that the store has not reached is of another store, and refused', async (t) => {
  const w = await nodes(t);
  const { metadata } = await w.join();
  const reading = track(metadata.get('acme', 'x', '1', { consistency: { atLeast: 10_000 } }));
  await w.clock.advance(1_000);
  assert.match(String(reading.error), /consistency\.atLeast is 10000/);
});

test('what is cached is read while the store is away, what is not is refused', async (t) => {
  const w = await nodes(t);
  const { metadata, faults } = await w.join();
  await metadata.put('acme', 'x', '1', 1);
  await metadata.get('acme', 'x', '1');
  faults.isCut = true;
  assert.equal((await metadata.get('acme', 'x', '1'))?.value, 1);
  await assert.rejects(metadata.get('acme', 'x', '2'), { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' });
  faults.isCut = false;
  assert.equal(await metadata.get('acme', 'x', '2'), undefined);
});

test('a node reads its own write at once, before its watch has told it', async (t) => {
  const w = await nodes(t);
  const { metadata, holdWatch } = await w.join();
  await metadata.put('acme', 'x', '1', 1);
  await metadata.get('acme', 'x', '1');
  holdWatch();
  await metadata.put('acme', 'x', '1', 2);
  assert.equal((await metadata.get('acme', 'x', '1'))?.value, 2);
});

test('a write whose answer was lost is seen by its own node, too', async (t) => {
  const w = await nodes(t);
  const { metadata, faults, holdWatch } = await w.join();
  await metadata.put('acme', 'x', '1', 1);
  await metadata.get('acme', 'x', '1');
  holdWatch();
  faults.fates.push('answer lost');
  const written = track(metadata.put('acme', 'x', '1', 2));
  await w.clock.advance(1_000);
  assert.equal(written.state, 'done');
  assert.equal((await metadata.get('acme', 'x', '1'))?.value, 2);
});

test('the first read of a tenant does not vouch for what was cached before it', async (t) => {
  const w = await nodes(t);
  const hub = new MessageHub(w.clock, seededRandom(1), { lost: 1 });
  const [a, b] = [await w.join(() => hub.join(5_000)), await w.join(() => hub.join(5_000))];
  // A read that fails; while it was under way a write of our own was taken in.
  const { opened, open } = gate();
  a.faults.gate = opened;
  const failing = a.metadata.get('acme', 'x', '1');
  await w.clock.settle();
  a.faults.gate = undefined;
  await a.metadata.put('acme', 'x', '1', 'ours');
  a.faults.fates.push('request lost');
  open();
  await assert.rejects(failing, { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' });
  await b.metadata.put('acme', 'x', '1', 'newer');
  await a.metadata.get('acme', 'x', '2');
  await w.clock.advance(6_000);
  assert.equal((await a.metadata.get('acme', 'x', '1'))?.value, 'newer');
});

test('news that come while an entry is read for the first time are not lost on it', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  await a.metadata.put('acme', 'x', '1', 'old');
  const slow = gate();
  const { txn } = b.faults;
  // The read's answer is late.
  b.faults.txn = async (...args) => {
    const outcome = await txn.apply(b.faults, args);
    await slow.opened;
    return outcome;
  };
  const reading = track(b.metadata.get('acme', 'x', '1'));
  await w.clock.settle();
  await a.metadata.put('acme', 'x', '1', 'new');
  await w.clock.settle();
  // Told in the meantime: nobody has to wait for the answer.
  assert.equal((await b.metadata.get('acme', 'x', '1'))?.value, 'new');
  slow.open();
  await w.clock.settle();
  assert.equal(reading.value?.value, 'new');
  assert.equal((await b.metadata.get('acme', 'x', '1'))?.value, 'new');
});

test('a tenant that is evicted while news of it arrive reads as the store has it', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  await a.metadata.put('acme', 'x', '1', 0);
  for (let i = 1; i < 10; i++) {
    await b.metadata.get('acme', 'x', '1');
    b.metadata.evict('acme');
    await a.metadata.put('acme', 'x', '1', i);
    const reading = b.metadata.get('acme', 'x', '1');
    b.metadata.evict('acme');
    assert.equal((await reading)?.value, i);
    await w.clock.settle();
    assert.equal((await b.metadata.get('acme', 'x', '1'))?.value, i);
  }
  assert.equal(b.metadata.stats().gaps, 0);
});

test('after a compaction under its watch a node re-checks what it has, and reads only what has changed', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  for (const tenant of ['acme', 'globex']) {
    for (const id of ['1', '2', '3']) await a.metadata.put(tenant, 'x', id, 'old');
  }
  await w.clock.settle();
  for (const tenant of ['acme', 'globex']) {
    for (const id of ['1', '2', '3', '4']) await b.metadata.get(tenant, 'x', id);
  }
  const told: unknown[] = [];
  b.metadata.watch('acme', 'x', '2', (entry) => told.push(entry?.value));
  await w.clock.settle();
  const letGo = b.holdWatch();
  await a.metadata.put('acme', 'x', '1', 'new');
  await a.metadata.delete('acme', 'x', '2');
  await a.metadata.put('acme', 'x', '4', 'new');
  const revision = await a.metadata.put('initech', 'x', '1', 'elsewhere');
  await w.store.compact(revision);
  letGo();
  await w.clock.advance(5_000);
  const misses = b.metadata.stats().misses;
  const values = await Promise.all(
    ['1', '2', '3', '4'].map(async (id) => (await b.metadata.get('acme', 'x', id))?.value),
  );
  assert.deepEqual(values, ['new', undefined, 'old', 'new']);
  assert.equal((await b.metadata.get('globex', 'x', '1'))?.value, 'old');
  assert.equal(b.metadata.stats().misses, misses);
  assert.deepEqual(told, ['old', undefined]);
  // And it follows again.
  await a.metadata.put('acme', 'x', '3', 'newer');
  await w.clock.settle();
  assert.equal((await b.metadata.get('acme', 'x', '3'))?.value, 'newer');
});

test("a watch that loses an event is found out by the tenant's next write", async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  await a.metadata.put('acme', 'x', '1', 'old');
  await b.metadata.get('acme', 'x', '1');
  b.watching.isLosing = true;
  await a.metadata.put('acme', 'x', '1', 'lost');
  await w.clock.settle();
  b.watching.isLosing = false;
  assert.equal((await b.metadata.get('acme', 'x', '1'))?.value, 'old');
  await a.metadata.put('acme', 'x', '2', 'next');
  await w.clock.settle();
  assert.equal((await b.metadata.get('acme', 'x', '1'))?.value, 'lost');
  assert.equal(b.metadata.stats().gaps, 1);
});

test('watchers are told what an entry is and becomes, in order, each on its own', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  const told: unknown[][] = [[], []];
  const stop = b.metadata.watch('acme', 'x', '1', (entry) => told[0]!.push(entry?.value));
  await w.clock.settle();
  await a.metadata.put('acme', 'x', '1', 1);
  await w.clock.settle();
  b.metadata.watch('acme', 'x', '1', (entry) => told[1]!.push(entry?.value));
  await w.clock.settle();
  await a.metadata.put('acme', 'x', '1', 2);
  await a.metadata.put('acme', 'x', '2', 'other');
  await w.clock.settle();
  stop();
  stop();
  await a.metadata.delete('acme', 'x', '1');
  await w.clock.settle();
  assert.deepEqual(told, [
    [undefined, 1, 2],
    [1, 2, undefined],
  ]);
  assert.equal(b.metadata.stats().watched, 1);
});

test('a watch that begins while the store is away tells as soon as it is back', async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  await a.metadata.put('acme', 'x', '1', 1);
  b.faults.isCut = true;
  const told: unknown[] = [];
  b.metadata.watch('acme', 'x', '1', (entry) => told.push(entry?.value));
  await w.clock.advance(5_000);
  assert.deepEqual(told, []);
  b.faults.isCut = false;
  await w.clock.advance(5_000);
  assert.deepEqual(told, [1]);
});

test('the cursor finds what is cached, tells bytes from JSON, and never asks', async (t) => {
  const w = await nodes(t);
  const { metadata } = await w.join();
  const cursor = metadata.cursor();
  assert.equal(cursor.find('acme', 'x', 'bytes'), 'unknown');
  const revision = await metadata.put('acme', 'x', 'bytes', new Uint8Array([0, 1, 2]));
  await metadata.put('acme', 'x', 'json', { a: 1 });
  for (const id of ['bytes', 'json', 'none']) await metadata.get('acme', 'x', id);
  assert.equal(cursor.find('acme', 'x', 'bytes'), 'found');
  const { buffer, offset, length } = cursor;
  assert.deepEqual([...buffer.subarray(offset, offset + length)], [0, 1, 2]);
  assert.deepEqual([cursor.revision, cursor.value()], [revision, new Uint8Array([0, 1, 2])]);
  assert.equal(cursor.find('acme', 'x', 'json'), 'found');
  assert.deepEqual(cursor.value(), { a: 1 });
  assert.equal(cursor.find('acme', 'x', 'none'), 'absent');
  assert.deepEqual([cursor.length, cursor.revision, cursor.value()], [0, 0, undefined]);
});

test('a cache that is too small for everything goes on answering right', async (t) => {
  const w = await nodes(t, { cacheBytes: 64 * 1024 });
  const [a, b] = [await w.join(), await w.join()];
  for (let i = 0; i < 100; i++) await a.metadata.put(`t${i}`, 'x', '1', 'v'.repeat(900) + i);
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 100; i++) {
      assert.equal((await b.metadata.get<string>(`t${i}`, 'x', '1'))?.value, 'v'.repeat(900) + i);
    }
  }
  assert.ok(b.metadata.stats().evicted > 100);
});

test('what is asked for wrongly is refused before anything is sent', async (t) => {
  const w = await nodes(t);
  const { metadata, faults } = await w.join();
  const sent = faults.sent.length;
  const bad = { code: 'ERR_MILLRACE_INVALID_OPTION' };
  await assert.rejects(metadata.put('', 'x', '1', 1), bad);
  await assert.rejects(metadata.get('', 'x', '1'), bad);
  await assert.rejects(metadata.put('acme', 'x', '1', 1, { ifRevision: -1 }), bad);
  await assert.rejects(metadata.put('acme', 'x', '1', 1, { ttl: '10ms' }), bad);
  await assert.rejects(
    metadata.put('acme', 'x', '1', 1, { tll: '1s' } as object),
    /did you mean ttl/,
  );
  await assert.rejects(metadata.write('acme', []), bad);
  const same = { op: 'delete', type: 'x', id: '1' } as const;
  await assert.rejects(metadata.write('acme', [same, same]), bad);
  await assert.rejects(metadata.list('acme', 'x', { limit: 0 }), bad);
  await assert.rejects(metadata.get('acme', 'x', '1', { consistency: 'strong' as 'any' }), bad);
  assert.throws(() => metadata.watch('acme', 'x', '1', undefined as never), bad);
  assert.equal(faults.sent.length, sent);
});

test('after stop() everything is refused, and stopping twice or during a start is fine', async (t) => {
  const w = await nodes(t);
  const { metadata } = await w.join();
  const closed = { code: 'ERR_MILLRACE_CLOSED' };
  await Promise.all([metadata.stop(), metadata.stop()]);
  await assert.rejects(metadata.get('acme', 'x', '1'), closed);
  await assert.rejects(metadata.put('acme', 'x', '1', 1), closed);
  assert.throws(() => metadata.watch('acme', 'x', '1', () => {}), closed);
});

test('a node that starts while the store is away follows it as soon as it is back', async (t) => {
  const w = await nodes(t);
  const a = await w.join();
  const b = await w.join((faults) => {
    faults.isCut = true;
    return new WatchBus(w.clock, seededRandom(99), faults);
  });
  await assert.rejects(b.metadata.get('acme', 'x', '1'), {
    code: 'ERR_MILLRACE_STORE_UNAVAILABLE',
  });
  b.faults.isCut = false;
  await w.clock.advance(5_000);
  assert.equal(await b.metadata.get('acme', 'x', '1'), undefined);
  await a.metadata.put('acme', 'x', '1', 1);
  await w.clock.settle();
  assert.equal((await b.metadata.get('acme', 'x', '1'))?.value, 1);
});

test("a counter that another program removed is no way back: the cache goes by the store's revisions", async (t) => {
  const w = await nodes(t);
  const [a, b] = [await w.join(), await w.join()];
  await a.metadata.put('acme', 'x', '1', 1);
  await b.metadata.get('acme', 'x', '1');
  const range: KeyRange = { from: 'ns:acme:', to: 'ns:acme;' };
  await w.store.txn({ compares: [], success: [{ type: 'deleteRange', range }] });
  await w.clock.settle();
  assert.equal(await b.metadata.get('acme', 'x', '1'), undefined);
  const written = track(a.metadata.put('acme', 'x', '1', 2));
  await w.clock.advance(1_000);
  assert.equal(written.state, 'done');
  assert.equal((await b.metadata.get('acme', 'x', '1'))?.value, 2);
  assert.equal((await w.store.get(counterKey('acme')))?.version, 1);
});
