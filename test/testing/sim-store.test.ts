import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Revision, TxnOutcome } from '../../src/core/store.js';
import { type SimStore, type SimStoreOptions, simStore } from '../../src/testing/sim-store.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { ALL, put, rejectsWith, text } from '../conformance/store/harness.js';

async function setup(options: SimStoreOptions = {}) {
  const clock = new VirtualClock();
  const store: SimStore = simStore(options);
  const connection = await store.open({ clock });
  const write = (key = 'a'): Promise<TxnOutcome> =>
    connection.txn({ compares: [], success: [put(key, 'x')] }, { deadlineMs: 1_000 });
  return { clock, store, connection, write };
}

test('a lost answer is unknown, and was applied', async () => {
  const { clock, store, connection, write } = await setup({ faults: { answerLost: 1 } });
  const outcome = write();
  await clock.advance(1_000);
  assert.equal((await outcome).kind, 'unknown');
  store.setFaults();
  assert.equal(text(await connection.get('a')), 'x');
  assert.equal(store.counts.answerLost, 1);
});

test('a lost request is unknown, and was not applied', async () => {
  const { clock, store, connection, write } = await setup({ faults: { requestLost: 1 } });
  const outcome = write();
  await clock.advance(20_000);
  assert.equal((await outcome).kind, 'unknown');
  store.setFaults();
  assert.equal(await connection.get('a'), undefined);
});

test('a late transaction is applied after its caller was told unknown', async () => {
  const { clock, store, connection, write } = await setup({
    faults: { late: 1, lateMaxMs: 500 },
  });
  const outcome = write();
  await clock.advance(1_000);
  assert.equal((await outcome).kind, 'unknown');
  store.setFaults();
  assert.equal(await connection.get('a'), undefined);
  await clock.advance(500);
  assert.equal(text(await connection.get('a')), 'x');
});

test('what is refused, or too much for a full store, is thrown and not applied', async () => {
  const refused = await setup({ faults: { refused: 1 } });
  await rejectsWith(refused.write(), 'ERR_MILLRACE_STORE_UNAVAILABLE');
  const full = await setup({ faults: { full: 1 } });
  await rejectsWith(full.write(), 'ERR_MILLRACE_STORE_FULL');
});

test('an answer takes its time both ways, and calls arrive in order', async () => {
  const { clock, write } = await setup({ faults: { latency: { minMs: 5, maxMs: 50 } } });
  const revisions: number[] = [];
  for (let i = 0; i < 20; i++) {
    void write(`k${i}`).then((o) => revisions.push(o.kind === 'done' ? o.revision : 0));
  }
  await clock.advance(9);
  assert.equal(revisions.length, 0);
  await clock.advance(200);
  assert.deepEqual(
    revisions,
    Array.from({ length: 20 }, (_, i) => i + 2),
  );
});

test('who is cut off gets no answer, others do, and a watch goes on where it was', async () => {
  const { clock, store, connection, write } = await setup();
  const other = await store.open({ clock });
  const watch = connection.watch(ALL)[Symbol.asyncIterator]();
  const batch = watch.next();
  connection.partition();
  const outcome = write();
  await other.txn({ compares: [], success: [put('b')] });
  await clock.advance(5_000);
  assert.equal((await outcome).kind, 'unknown');
  connection.heal();
  assert.equal((await batch).value?.events[0]?.type, 'put');
});

test('a watch that is behind when history is compacted must list again', async () => {
  const { clock, store, connection, write } = await setup();
  const other = await store.open({ clock });
  const watch = connection.watch(ALL)[Symbol.asyncIterator]();
  const batch = watch.next();
  connection.partition();
  await other.txn({ compares: [], success: [put('b')] });
  await other.txn({ compares: [], success: [put('c')] });
  await clock.advance(1);
  await store.compact();
  connection.heal();
  await rejectsWith(batch, 'ERR_MILLRACE_COMPACTED');
  assert.equal((await write()).kind, 'done');
});

test('leases that are taken away are lost, and their keys are gone', async () => {
  const { clock, connection } = await setup();
  const lease = await connection.grantLease(10_000);
  await connection.txn({ compares: [], success: [put('mine', '', lease.leaseId)] });
  let lost: string | undefined;
  const keeper = connection.keepLease(lease, {
    onLost: ({ code }) => {
      lost = code;
    },
  });
  await clock.advance(100);
  await connection.loseLeases();
  assert.equal(await connection.get('mine'), undefined);
  await clock.advance(10_000);
  assert.equal(lost, 'ERR_MILLRACE_LEASE_LOST');
  await keeper.stop();
});

test('a dead process hears nothing, and what it had sent is applied', async () => {
  const { clock, store, connection, write } = await setup({
    faults: { latency: { minMs: 5, maxMs: 5 } },
  });
  const outcome = write();
  connection.kill();
  await clock.advance(100);
  const other = await store.open({ clock });
  store.setFaults();
  assert.equal(text(await other.get('a')), 'x');
  await clock.advance(1_000);
  assert.equal((await outcome).kind, 'unknown', 'a clock that goes on tells the deadline');
});

test('the same seed draws the same fates', async () => {
  const fates = async (seed: number): Promise<string> => {
    const { clock, write } = await setup({ seed, faults: { answerLost: 0.5 } });
    const kinds: string[] = [];
    for (let i = 0; i < 30; i++) {
      void write().then(({ kind }) => kinds.push(kind));
      await clock.advance(1_000);
    }
    return kinds.join(' ');
  };
  assert.equal(await fates(7), await fates(7));
  assert.notEqual(await fates(7), await fates(8));
});

test('sees every transaction that reaches the store, in order', async () => {
  const seen: Revision[] = [];
  const { write } = await setup({ onApplied: ({ outcome }) => seen.push(outcome.revision) });
  await Promise.all([write('a'), write('b'), write('c')]);
  assert.deepEqual(seen, [2, 3, 4]);
});

test('faults that make no sense are refused', () => {
  const refuses = (options: SimStoreOptions): void =>
    assert.throws(() => simStore(options), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  refuses({ faults: { late: 1.5 } });
  refuses({ faults: { latency: { minMs: 5, maxMs: 1 } } });
  refuses({ faults: { lost: 1 } as never });
  refuses({ sed: 1 } as never);
});
