/**
 * What a commit stands on, where guards are scarcer than operations: segments that came through an inbox, in a store that takes
 * few compares at once.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Txn } from '../../src/core/store.js';
import { inboxKey, PAUSES_KEY } from '../../src/engine/keys.js';
import { completing, scriptedCluster, submitApart } from '../support/scripted-cluster.js';

/** Of them the head takes one, and so do the question for it and what a submission with a gate would need. */
const OPERATIONS_MAX = 24;

/** A worker, which keeps nothing of what has ended, and somebody who only submits: through inboxes. */
async function setup(t: TestContext) {
  const limits = { operationsMax: OPERATIONS_MAX, completedMs: 0 };
  const cluster = await scriptedCluster(t, {}, limits);
  const worker = await cluster.join(['work'], 0);
  const producer = await cluster.join([]);
  await cluster.clock.advance(1_000);
  return { cluster, worker, producer };
}

function keysComparedBy({ compares }: Txn): string[] {
  return compares.map(({ key }) => key);
}

/** Segments whose states a transaction writes. */
function overlaidBy({ success }: Txn): string[] {
  return success.flatMap((operation) =>
    operation.type === 'put' && operation.key.startsWith('s/') ? operation.key.slice(2) : [],
  );
}

test('what is claimed of more inboxes than a commit can stand on is claimed by several, each standing on its own', async (t) => {
  const { cluster, worker, producer } = await setup(t);
  await submitApart(cluster, producer, 60);
  await cluster.until('all have come', () => worker.engine.stats.ready === 60);
  const before = worker.store.sent.length;
  worker.pool.freePlaces = 60;
  worker.pool.onFree?.();
  await cluster.clock.advance(100);
  assert.equal(worker.pool.batches.flatMap(({ tasks }) => tasks).length, 60);
  const claims = worker.store.sent.slice(before).filter((txn) => overlaidBy(txn).length > 0);
  assert.equal(claims.flatMap(overlaidBy).length, 60);
  for (const txn of claims) {
    const compared = keysComparedBy(txn);
    for (const segment of overlaidBy(txn)) assert.ok(compared.includes(`i/${segment}`), segment);
    assert.ok(compared.includes(PAUSES_KEY));
    assert.ok(compared.length < OPERATIONS_MAX, `${compared.length} compares`);
  }
  assert.ok(claims.length > 4, `${claims.length} commits: guards were scarce`);
  completing(worker)();
  await cluster.until('all have ended', async () => (await cluster.keys('i/')).length === 0);
});

test('a commit that has no room to stand on what rests claims nothing', async (t) => {
  const { cluster, worker, producer } = await setup(t);
  const [ended, waits] = await cluster.within(
    Promise.all([1, 2].map((i) => producer.submit(cluster.newTask(`${i}`)))),
  );
  assert.equal(ended!.segment, waits!.segment);
  const others = await submitApart(cluster, producer, 30);
  await cluster.until('all have come', () => worker.engine.stats.ready === 32);
  // The worker's watch of what rests is late.
  worker.store.isGated = ({ from }) => from === PAUSES_KEY;
  worker.store.watchGate = new Promise(() => {});
  await cluster.within(producer.engine.pauses.pause({ kind: 'task', name: 'work' }));
  assert.deepEqual(worker.engine.pauses.all, []);
  const before = worker.store.sent.length;
  // In one commit: it writes of the segment that the other task waits in, and deletes as many more as it can stand on.
  const cancels = [ended!, ...others].map((accepted) =>
    worker.engine.cancel({ ...accepted, task: 0 as never }, 'no more'),
  );
  worker.pool.freePlaces = 1;
  await cluster.within(Promise.all(cancels));
  await cluster.clock.advance(100);
  const [first] = worker.store.sent.slice(before);
  assert.deepEqual(overlaidBy(first!), [ended!.segment.replaceAll('.', '/')]);
  assert.ok(keysComparedBy(first!).includes(inboxKey(waits!.segment)));
  assert.equal(keysComparedBy(first!).length, OPERATIONS_MAX - 4, 'no room is left');
  assert.deepEqual(worker.pool.batches, []);
  assert.equal(worker.engine.stats.ready, 1);
});
