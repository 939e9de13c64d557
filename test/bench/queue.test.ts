/** The queue bench's witness: figures count only when every task ran exactly once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ledger } from '../../bench/queue/ledger.js';
import { ITEM_BYTES, itemOf } from '../../bench/queue/queue.js';

test('a task that is lost, doubled or unknown is noticed', async () => {
  const ledger = Ledger.create(8);
  ledger.openGate();
  for (const id of [0, 1, 2]) await ledger.run(id);
  ledger.check(3);
  assert.throws(() => ledger.check(4), /task 3 ran 0 times, not 1/);
  assert.throws(() => ledger.check(2), /task 2 ran 1 times, not 0/);
  await ledger.run(1);
  assert.throws(() => ledger.check(3), /task 1 ran 2 times, not 1/);
  ledger.clear();
  ledger.check(0);
});

test('a shut gate holds handlers, and lets all go when it opens', async () => {
  const ledger = Ledger.create(8);
  ledger.shutGate();
  const runs = [ledger.run(0), ledger.run(1)];
  assert.equal(ledger.runs, 0);
  ledger.openGate();
  await Promise.all(runs);
  ledger.check(2);
  assert.equal(ledger.run(2), undefined, 'an open gate costs no promise');
});

test('items are 200 bytes as JSON, whatever their number', () => {
  for (const id of [0, 9, 10, 199_999]) {
    assert.equal(JSON.stringify(itemOf(id)).length, ITEM_BYTES);
  }
});
