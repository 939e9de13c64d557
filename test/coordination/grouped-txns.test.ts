import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { GroupedTxns } from '../../src/coordination/grouped-txns.js';
import { MillraceError } from '../../src/core/errors.js';
import type { Store, Txn, TxnOutcome } from '../../src/core/store.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';

const bytes = (text: string): Uint8Array => Buffer.from(text);
const put = (key: string, value = 'x'): Txn => ({
  compares: [{ target: 'create', key, operator: '=', operand: 0 }],
  success: [{ type: 'put', key, value: bytes(value) }],
  failure: [{ type: 'get', key }],
});

/** A store whose transactions wait until the test lets them go, and what it was sent. */
async function setup() {
  const clock = new VirtualClock();
  const store = await memoryStore().open({ clock });
  const sent: Txn[] = [];
  const held: (() => void)[] = [];
  let answer: (txn: Txn) => Promise<TxnOutcome> = (txn) => store.txn(txn);
  const slow: Pick<Store, 'txn'> = {
    txn: async (txn) => {
      sent.push(txn);
      await new Promise<void>((resolve) => held.push(resolve));
      return answer(txn);
    },
  };
  const turn = async (): Promise<void> => {
    for (const go of held.splice(0)) go();
    await clock.settle();
  };
  return {
    store,
    grouped: new GroupedTxns(slow),
    sent,
    turn,
    /** Answers of the store from now on. */
    answerWith(answerer: (txn: Txn) => Promise<TxnOutcome>) {
      answer = answerer;
    },
    settle: () => clock.settle(),
  };
}

const sizeOf = (txn: Txn): number => (txn.success[0]?.type === 'txn' ? txn.success.length : 1);

describe('transactions that go together', () => {
  test('go at once and as they are while few are under way; the next ones gather', async () => {
    const bed = await setup();
    const first = Array.from({ length: 4 }, (_, i) => bed.grouped.txn(put(`a${i}`)));
    const more = Array.from({ length: 10 }, (_, i) => bed.grouped.txn(put(`b${i}`)));
    assert.deepEqual(bed.sent.map(sizeOf), [1, 1, 1, 1]);
    await bed.turn();
    await Promise.all(first);
    assert.deepEqual(bed.sent.slice(4).map(sizeOf), [10]);
    await bed.turn();
    assert.ok((await Promise.all(more)).every(({ kind }) => kind === 'done'));
  });

  test('each has its own compares: one that is refused refuses nobody else', async () => {
    const bed = await setup();
    await bed.store.txn(put('taken', 'old'));
    for (let i = 0; i < 4; i++) void bed.grouped.txn(put(`filler-${i}`));
    const [free, taken] = [bed.grouped.txn(put('free')), bed.grouped.txn(put('taken'))];
    await bed.turn();
    await bed.turn();
    assert.equal((await free).kind, 'done');
    const refused = await taken;
    assert.ok(refused.kind === 'refused');
    const [got] = refused.results;
    assert.ok(got?.type === 'get' && Buffer.from(got.entry!.value).toString() === 'old');
  });

  test('a key is written once in a group: the second waits for the next, and keeps its place', async () => {
    const bed = await setup();
    for (let i = 0; i < 4; i++) void bed.grouped.txn(put(`filler-${i}`));
    const both = [bed.grouped.txn(put('k', '1')), bed.grouped.txn(put('k', '2'))];
    for (let i = 0; i < 4; i++) await bed.turn();
    const [first, second] = await Promise.all(both);
    assert.deepEqual([first!.kind, second!.kind], ['done', 'refused']);
    assert.equal(Buffer.from((await bed.store.get('k'))!.value).toString(), '1');
  });

  test('an answer that is lost is lost for all, and nothing is sent again', async () => {
    const bed = await setup();
    for (let i = 0; i < 4; i++) void bed.grouped.txn(put(`filler-${i}`));
    const two = [bed.grouped.txn(put('a')), bed.grouped.txn(put('b'))];
    await bed.turn();
    const cause = new MillraceError('ERR_MILLRACE_STORE_UNAVAILABLE', 'cut');
    bed.answerWith(async () => ({ kind: 'unknown', cause }));
    await bed.turn();
    assert.deepEqual(
      (await Promise.all(two)).map(({ kind }) => kind),
      ['unknown', 'unknown'],
    );
    assert.equal(bed.sent.length, 5);
  });

  test('a group that is refused for certain goes again one by one: only the culprit fails', async () => {
    const bed = await setup();
    for (let i = 0; i < 4; i++) void bed.grouped.txn(put(`filler-${i}`));
    const good = bed.grouped.txn(put('good'));
    const bad = assert.rejects(bed.grouped.txn(put('bad')), { code: 'ERR_MILLRACE_LEASE_LOST' });
    await bed.turn();
    bed.answerWith((txn) =>
      JSON.stringify(txn).includes('"bad"')
        ? Promise.reject(new MillraceError('ERR_MILLRACE_LEASE_LOST', 'no such lease'))
        : bed.store.txn(txn),
    );
    await bed.turn();
    await bed.turn();
    assert.equal((await good).kind, 'done');
    await bad;
  });

  test('what is nested, deletes a range or has a deadline goes alone', async () => {
    const bed = await setup();
    const range = { from: 'a', to: 'b' };
    const nested: Txn = { compares: [], success: [{ type: 'txn', txn: put('n') }] };
    const wide: Txn = { compares: [], success: [{ type: 'deleteRange', range }] };
    for (let i = 0; i < 6; i++) void bed.grouped.txn(put(`filler-${i}`));
    void bed.grouped.txn(nested);
    void bed.grouped.txn(wide);
    void bed.grouped.txn(put('d'), { deadlineMs: 100 });
    assert.deepEqual(bed.sent.slice(4), [nested, wide, put('d')]);
    await bed.turn();
  });

  test('whatever the order of answers, each gets what its own transaction came to', async () => {
    const key = fc.integer({ min: 0, max: 5 }).map((n) => `k${n}`);
    await fc.assert(
      fc.asyncProperty(fc.array(key, { minLength: 1, maxLength: 40 }), async (keys) => {
        const bed = await setup();
        const asked = keys.map((k, i) => bed.grouped.txn(put(k, String(i))));
        for (let i = 0; i < 60; i++) await bed.turn();
        const outcomes = await Promise.all(asked);
        const winners = new Map<string, number>();
        for (const [i, outcome] of outcomes.entries()) {
          if (outcome.kind === 'done') {
            assert.ok(!winners.has(keys[i]!), 'one creates a key');
            winners.set(keys[i]!, i);
          }
        }
        assert.deepEqual([...winners.keys()].sort(), [...new Set(keys)].sort());
        for (const [k, i] of winners) {
          assert.equal(Buffer.from((await bed.store.get(k))!.value).toString(), String(i));
        }
      }),
      { numRuns: 50 },
    );
  });
});
