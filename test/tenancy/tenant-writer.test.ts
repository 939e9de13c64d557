import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { seededRandom } from '../../src/core/random.js';
import type { Revision, Store } from '../../src/core/store.js';
import { memoryStore } from '../../src/store/index.js';
import { counterKey, entryKey } from '../../src/tenancy/keys.js';
import { readCounter } from '../../src/tenancy/tenant-counter.js';
import { type Change, TenantWriter } from '../../src/tenancy/tenant-writer.js';
import { VirtualClock } from '../../src/testing/index.js';
import { track } from '../coordination/world.js';
import { FaultyStore } from '../support/faulty-store.js';

const KEY = entryKey('acme', 'user', '1');

async function setup(t: TestContext): Promise<{
  readonly clock: VirtualClock;
  readonly store: Store;
  writer(): { readonly writer: TenantWriter; readonly faults: FaultyStore };
  count(): Promise<number>;
  value(key?: string): Promise<string | undefined>;
}> {
  const clock = new VirtualClock();
  const store = await memoryStore().open({ clock });
  t.after(() => store.close());
  let writers = 0;
  return {
    clock,
    store,
    writer() {
      const faults = new FaultyStore(store, clock);
      return { writer: new TenantWriter(clock, seededRandom(++writers), faults), faults };
    },
    count: async () => readCounter(await store.get(counterKey('acme'))).count,
    value: async (key = KEY) => {
      const entry = await store.get(key);
      return entry && Buffer.from(entry.value).toString();
    },
  };
}

function put(value: string, ifRevision?: number, key = KEY): Change {
  return { key, value: Buffer.from(value), ifRevision: ifRevision as Revision | undefined };
}

test('each write counts, in one transaction with what it writes, and names the one before it', async (t) => {
  const { writer, store, count } = await setup(t);
  const { writer: w } = writer();
  const first = await w.write('acme', [
    put('a'),
    put('b', undefined, entryKey('acme', 'user', '2')),
  ]);
  const second = await w.write('acme', [{ key: KEY, value: undefined, ifRevision: undefined }]);
  assert.equal(await count(), 2);
  assert.equal(second.previous, first.revision);
  const counter = await store.get(counterKey('acme'));
  assert.equal(counter?.modRevision, second.revision);
  assert.equal(readCounter(counter).previous, first.revision);
  assert.match(Buffer.from(counter!.value).toString(), /^2 \d+ [0-9a-z]{8} [0-9a-z]{8}$/);
  assert.equal(await store.get(KEY), undefined);
});

test('an expectation that does not hold is refused, and nothing is written', async (t) => {
  const { writer, count, value } = await setup(t);
  const { writer: w } = writer();
  const { revision } = await w.write('acme', [put('a', 0)]);
  const refused = { code: 'ERR_MILLRACE_STALE_REVISION' };
  await assert.rejects(w.write('acme', [put('b', 0)]), { ...refused, message: /is at revision/ });
  await assert.rejects(w.write('acme', [put('b', revision + 1)]), refused);
  const other = put('x', 5, entryKey('acme', 'user', '2'));
  await assert.rejects(w.write('acme', [put('b', revision), other]), refused);
  assert.deepEqual([await count(), await value()], [1, 'a']);
  await w.write('acme', [put('b', revision)]);
  assert.deepEqual([await count(), await value()], [2, 'b']);
});

test('writers of one tenant collide and all get through; of those with one expectation one wins', async (t) => {
  const { clock, writer, count } = await setup(t);
  const writers = Array.from({ length: 5 }, () => writer().writer);
  const free = writers.map((w, i) => track(w.write('acme', [put(`${i}`)])));
  const racing = writers.map((w, i) =>
    track(w.write('acme', [put(`${i}`, 0, entryKey('acme', 'race', '1'))])),
  );
  await clock.advance(10_000);
  assert.deepEqual(new Set(free.map(({ state }) => state)), new Set(['done']));
  assert.equal(racing.filter(({ state }) => state === 'done').length, 1);
  assert.equal(racing.filter(({ state }) => state === 'failed').length, 4);
  assert.equal(await count(), 6);
});

test('a write whose answer was lost is found out by reading, and not written twice', async (t) => {
  const { clock, writer, count } = await setup(t);
  const { writer: w, faults } = writer();
  await w.write('acme', [put('a')]);
  faults.fates.push('answer lost');
  const sent = faults.sent.length;
  const written = track(w.write('acme', [put('b')]));
  await clock.advance(1_000);
  assert.equal(written.state, 'done');
  assert.equal(written.value?.isExact, true);
  assert.equal(await count(), 2);
  const writes = faults.sent.slice(sent).filter(({ success }) => success[0]?.type === 'put');
  assert.equal(writes.length, 1);
});

test('a write that was lost on its way is sent again, and a copy that comes late applies nothing', async (t) => {
  const { clock, writer, count, value } = await setup(t);
  const { writer: w, faults } = writer();
  await w.write('acme', [put('a')]);
  faults.fates.push('late');
  const written = track(w.write('acme', [put('b')]));
  await clock.advance(1_000);
  assert.equal(written.state, 'done');
  await w.write('acme', [put('c')]);
  await faults.applyLate();
  assert.deepEqual([await count(), await value()], [3, 'c']);
});

test('a write without an answer is told from others that followed, as far as the counter remembers', async (t) => {
  const { clock, writer, count } = await setup(t);
  const { writer: ours, faults } = writer();
  const { writer: theirs } = writer();
  for (const followers of [3, 20]) {
    await ours.write('acme', [put('a')]);
    faults.fates.push('answer lost');
    const before = await count();
    const written = track(ours.write('acme', [put('b')]));
    await clock.settle();
    for (let i = 0; i < followers; i++) await theirs.write('acme', [put(`${i}`)]);
    await clock.advance(2_000);
    assert.equal(await count(), before + 1 + followers);
    if (followers === 3) {
      assert.equal(written.value?.isExact, false);
      continue;
    }
    const error = written.error as { code: string; details: { outcome: string } };
    assert.equal(error.code, 'ERR_MILLRACE_STORE_UNAVAILABLE');
    assert.equal(error.details.outcome, 'unknown');
  }
});

test('a write that was not applied while others wrote is written after them', async (t) => {
  const { clock, writer, count, value } = await setup(t);
  const { writer: ours, faults } = writer();
  const { writer: theirs } = writer();
  await ours.write('acme', [put('a')]);
  faults.fates.push('request lost');
  const written = track(ours.write('acme', [put('b')]));
  await clock.settle();
  await theirs.write('acme', [put('c')]);
  await clock.advance(2_000);
  assert.equal(written.state, 'done');
  assert.deepEqual([await count(), await value()], [3, 'b']);
});

test('a store that stays away makes an outcome unknown, or certain when nothing was sent', async (t) => {
  const { clock, writer } = await setup(t);
  const { writer: w, faults } = writer();
  await w.write('acme', [put('a')]);
  faults.isCut = true;
  const written = track(w.write('acme', [put('b')]));
  await clock.advance(60_000);
  assert.equal((written.error as { details: { outcome: string } }).details.outcome, 'unknown');
  faults.isCut = false;
  faults.fates.push('full');
  await assert.rejects(w.write('acme', [put('c')]), { code: 'ERR_MILLRACE_STORE_FULL' });
});

test('a counter that somebody else has written over is mended by the next write, not believed', async (t) => {
  const { clock, writer, store, count } = await setup(t);
  const { writer: w } = writer();
  await w.write('acme', [put('a')]);
  const key = counterKey('acme');
  await store.txn({ compares: [], success: [{ type: 'put', key, value: Buffer.from('42') }] });
  const written = track(w.write('acme', [put('b')]));
  await clock.advance(1_000);
  assert.equal(written.state, 'done');
  assert.equal(await count(), 3);
});

test('a writer that has seen the writes of others is not refused by them', async (t) => {
  const { writer, store } = await setup(t);
  const { writer: ours, faults } = writer();
  const { writer: theirs } = writer();
  await ours.write('acme', [put('a')]);
  await theirs.write('acme', [put('b')]);
  ours.saw((await store.get(counterKey('acme')))!);
  const sent = faults.sent.length;
  await ours.write('acme', [put('c')]);
  assert.equal(faults.sent.length, sent + 1);
});

test('a refusal of the second copy says nothing of the first: the outcome is unknown', async (t) => {
  const { clock, writer, value } = await setup(t);
  const { writer: w, faults } = writer();
  await w.write('acme', [put('a')]);
  // The first copy is under way, the counter is read, the second copy finds the store full.
  faults.fates.push('late', 'ok', 'full');
  const written = track(w.write('acme', [put('b')]));
  await clock.advance(1_000);
  assert.equal((written.error as { details: { outcome: string } }).details.outcome, 'unknown');
  await faults.applyLate();
  assert.equal(await value(), 'b');
});
