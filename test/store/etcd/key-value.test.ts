import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { LeaseId, Operation, Revision, Txn } from '../../../src/core/store.js';
import { KeyValue } from '../../../src/store/etcd/key-value.js';
import {
  DELETE_METHOD,
  PUT_METHOD,
  RANGE_METHOD,
  TXN_METHOD,
} from '../../../src/store/etcd/kv-codec.js';
import { type Message, PREFIX_BYTES, Reader, Writer } from '../../../src/store/etcd/protobuf.js';
import { CallFailure, type Transport } from '../../../src/store/etcd/transport.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';

const ALL = { from: '', to: '\x7f' };
const NO_SPACE = new CallFailure(8, 'etcdserver: mvcc: database space exceeded', {
  wasSent: true,
  isFromServer: true,
});

type Answer = Message | CallFailure | Uint8Array;

/** A namespace `/n/` over a transport that answers from a list and notes what it was asked. */
function setup(answers: readonly Answer[], known = 10) {
  const clock = new VirtualClock();
  const asked: { method: string; request: Message }[] = [];
  const transport: Transport = {
    async call(method, request) {
      const next = answers[asked.length];
      asked.push({ method, request });
      if (next instanceof CallFailure) throw next;
      return next?.subarray(PREFIX_BYTES) ?? assert.fail(`no answer for call ${asked.length}`);
    },
    open: () => assert.fail('no stream is asked for'),
    close: async () => {},
  };
  const facts = { revision: known as Revision, isFull: false };
  return { kv: new KeyValue(transport, clock, '/n/', facts), clock, asked, facts };
}

function header(writer: Writer, revision: number): void {
  const mark = writer.open();
  writer.uint(3, revision);
  writer.close(1, mark);
}

function kvs(writer: Writer, entries: readonly (readonly [key: string, mod: number])[]): void {
  for (const [key, mod] of entries.toReversed()) {
    const mark = writer.open();
    writer.bytes(5, Buffer.from('value'));
    writer.uint(4, 1);
    writer.uint(3, mod);
    writer.uint(2, mod);
    writer.latin1(1, `/n/${key}`);
    writer.close(2, mark);
  }
}

function rangeAnswer(
  revision: number,
  entries: readonly (readonly [string, number])[],
  more = false,
): Message {
  const writer = new Writer();
  writer.bool(3, more);
  kvs(writer, entries);
  header(writer, revision);
  return writer.finish();
}

/** The answer to a transaction whose operations are all gets. */
function getsAnswer(
  revision: number,
  found: readonly (readonly (readonly [string, number])[])[],
): Message {
  const writer = new Writer();
  for (const entries of found.toReversed()) {
    const outer = writer.open();
    const inner = writer.open();
    kvs(writer, entries);
    writer.close(1, inner);
    writer.close(3, outer);
  }
  writer.bool(2, true);
  header(writer, revision);
  return writer.finish();
}

function refusedAnswer(revision: number): Message {
  const writer = new Writer();
  header(writer, revision);
  return writer.finish();
}

const put = (key: string): Operation => ({ type: 'put', key, value: Buffer.from('new') });
const unconditional = (...success: Operation[]): Txn => ({ compares: [], success });

describe('etcd key-value: reads', () => {
  test('keys lose the namespace, and a hostile answer is an error', async () => {
    const { kv, facts } = setup([rangeAnswer(12, [['a', 7]]), Buffer.alloc(40, 0xff)]);
    const entry = await kv.get('a');
    assert.deepEqual([entry?.key, entry?.modRevision, facts.revision], ['a', 7, 12]);
    await assert.rejects(kv.get('a'), { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' });
  });

  test('a large range comes in pages at the revision of the first one', async () => {
    const { kv, asked } = setup([
      rangeAnswer(
        12,
        [
          ['a', 1],
          ['b', 2],
        ],
        true,
      ),
      rangeAnswer(15, [['c', 3]]),
    ]);
    const { entries, revision, more } = await kv.range(ALL);
    assert.deepEqual(
      entries.map(({ key }) => key),
      ['a', 'b', 'c'],
    );
    assert.deepEqual([revision, more], [12, false]);
    const second = new Reader(asked[1]!.request.subarray(PREFIX_BYTES));
    assert.equal(second.tag(second.length), 0x0a);
    assert.equal(second.latin1(), '/n/b!');
    assert.equal(second.tag(second.length), 0x12);
    second.latin1();
    assert.equal(second.tag(second.length), 0x18);
    second.uint();
    assert.equal(second.tag(second.length), 0x20);
    assert.equal(second.uint(), 12);
  });

  test('a page that is too large for a message is asked for again in smaller ones', async () => {
    const tooLarge = new CallFailure(8, 'a message has too many bytes', { wasSent: true });
    const { kv } = setup([
      tooLarge,
      rangeAnswer(12, [['a', 1]], true),
      rangeAnswer(12, [['b', 2]]),
    ]);
    assert.equal((await kv.range(ALL)).entries.length, 2);
  });

  test('a compaction that overtakes the pages starts them again', async () => {
    const compacted = new CallFailure(
      11,
      'etcdserver: mvcc: required revision has been compacted',
      {
        wasSent: true,
        isFromServer: true,
      },
    );
    const { kv } = setup([
      rangeAnswer(12, [['a', 1]], true),
      compacted,
      rangeAnswer(90, [['x', 88]]),
    ]);
    const { entries, revision } = await kv.range(ALL);
    assert.deepEqual([entries.map(({ key }) => key), revision], [['x'], 90]);
    const { kv: at } = setup([compacted]);
    await assert.rejects(at.range(ALL, { revision: 3 as Revision }), {
      code: 'ERR_MILLRACE_COMPACTED',
    });
  });
});

describe('etcd key-value: transactions', () => {
  test('what was sent and has no answer is unknown, and is not sent again', async () => {
    for (const failure of [
      new CallFailure(14, 'connection reset', { wasSent: true }),
      new CallFailure(4, 'no answer', { wasSent: true }),
      new CallFailure(14, 'etcdserver: request timed out', { wasSent: true, isFromServer: true }),
    ]) {
      const { kv, asked } = setup([failure]);
      const outcome = await kv.txn(unconditional(put('a')));
      assert.equal(outcome.kind, 'unknown');
      assert.equal(asked.length, 1);
    }
  });

  test('what was not sent, or was refused, is thrown', async () => {
    const refused = { wasSent: true, isFromServer: true };
    for (const [failure, code] of [
      [new CallFailure(14, 'no connection', { wasSent: false }), 'ERR_MILLRACE_STORE_UNAVAILABLE'],
      [
        new CallFailure(5, 'etcdserver: requested lease not found', refused),
        'ERR_MILLRACE_LEASE_LOST',
      ],
      [new CallFailure(8, 'etcdserver: too many requests', refused), 'ERR_MILLRACE_STORE_FULL'],
    ] as const) {
      const { kv, asked } = setup([failure]);
      await assert.rejects(kv.txn(unconditional(put('a'))), { code });
      assert.equal(asked.length, 1);
    }
  });

  test('an answer that does not decode leaves it unknown', async () => {
    const { kv } = setup([Buffer.alloc(40, 0xff)]);
    assert.equal((await kv.txn(unconditional(put('a')))).kind, 'unknown');
    // An answer to another transaction is none.
    const { kv: other } = setup([getsAnswer(12, [[], []])]);
    assert.equal((await other.txn(unconditional(put('a'), put('b')))).kind, 'unknown');
  });

  test('one write without a condition is a request of its own, everything else a transaction', async () => {
    const writer = new Writer();
    writer.uint(2, 1);
    header(writer, 12);
    const done = writer.finish();
    const range = { from: 'a', to: 'b' };
    for (const [operation, method, result] of [
      [put('a'), PUT_METHOD, { type: 'put' }],
      [{ type: 'delete', key: 'a' }, DELETE_METHOD, { type: 'delete', deleted: 1 }],
      [{ type: 'deleteRange', range }, DELETE_METHOD, { type: 'delete', deleted: 1 }],
    ] as const) {
      const { kv, asked, facts } = setup([done]);
      const outcome = await kv.txn(unconditional(operation));
      assert.deepEqual(outcome, { kind: 'done', revision: 12, results: [result] });
      assert.deepEqual([asked[0]?.method, facts.revision], [method, 12]);
    }
    const isAbsent = { target: 'version', key: 'a', operator: '=', operand: 0 } as const;
    for (const txn of [
      { compares: [isAbsent], success: [put('a')] },
      unconditional(put('a'), put('b')),
    ]) {
      const { kv, asked } = setup([getsAnswer(12, [])]);
      await kv.txn(txn);
      assert.equal(asked[0]?.method, TXN_METHOD);
    }
  });

  test('a lease id that is none is thrown, and the next request is whole', async () => {
    const { kv, asked } = setup([Buffer.alloc(40, 0xff)]);
    const leaseId = 'not hex' as LeaseId;
    await assert.rejects(kv.txn(unconditional({ ...put('a'), leaseId } as Operation)));
    assert.equal(asked.length, 0);
    await kv.txn(unconditional(put('b')));
    const reader = new Reader((asked[0]?.request ?? new Uint8Array()).subarray(PREFIX_BYTES));
    assert.equal(reader.tag(reader.length), 0x0a);
    assert.equal(reader.latin1(), '/n/b');
  });

  test('the newest revision that any answer names is kept, and never an older one', async () => {
    const two = unconditional(put('a'), put('b'));
    const { kv, facts } = setup([
      getsAnswer(20, [[['a', 3]]]),
      rangeAnswer(30, [['a', 3]]),
      refusedAnswer(40),
      getsAnswer(25, [[]]),
    ]);
    await kv.txn(unconditional({ type: 'get', key: 'a' }));
    assert.equal(facts.revision, 20);
    await kv.range(ALL);
    assert.equal(facts.revision, 30);
    assert.deepEqual(await kv.txn({ ...two, failure: [] }), {
      kind: 'refused',
      revision: 40,
      results: [],
    });
    assert.equal(facts.revision, 40);
    await kv.txn(unconditional({ type: 'get', key: 'a' }));
    assert.equal(facts.revision, 40);
  });

  test('a transaction that only reads is repeated', async () => {
    const cut = new CallFailure(14, 'connection reset', { wasSent: true });
    const { kv, clock, asked } = setup([cut, getsAnswer(12, [[['a', 3]]])]);
    const reading = kv.txn(unconditional({ type: 'get', key: 'a' }));
    await clock.advance(1_000);
    assert.equal((await reading).kind, 'done');
    assert.deepEqual(
      asked.map(({ method }) => method),
      [TXN_METHOD, TXN_METHOD],
    );
  });
});

describe('etcd key-value: no space', () => {
  const isFull = { code: 'ERR_MILLRACE_STORE_FULL', kind: 'capacity' };

  test('a key that still has its old revision shows that nothing was written', async () => {
    const { kv } = setup([NO_SPACE, getsAnswer(30, [[], [['b', 9]]])]);
    await assert.rejects(kv.txn(unconditional(put('a'), put('b'))), isFull);
  });

  test('a store that has not moved shows it too', async () => {
    const { kv } = setup([NO_SPACE, getsAnswer(10, [[]])]);
    await assert.rejects(kv.txn(unconditional(put('a'))), isFull);
  });

  test('a key with a newer revision may be our own write: unknown', async () => {
    const { kv } = setup([NO_SPACE, getsAnswer(30, [[['a', 11]]])]);
    assert.equal((await kv.txn(unconditional(put('a')))).kind, 'unknown');
  });

  test('so may be an absent one that somebody deleted since', async () => {
    const { kv } = setup([NO_SPACE, getsAnswer(30, [[]])]);
    assert.equal((await kv.txn(unconditional(put('a')))).kind, 'unknown');
  });

  test('once the store is known to be full, nothing is applied and nothing is looked up', async () => {
    const { kv, asked } = setup([NO_SPACE, getsAnswer(10, [[]]), NO_SPACE]);
    await assert.rejects(kv.txn(unconditional(put('a'))), isFull);
    await assert.rejects(kv.txn(unconditional(put('a'))), isFull);
    assert.equal(asked.length, 3);
  });

  test('reads go on as if nothing were', async () => {
    const { kv, asked } = setup([NO_SPACE, getsAnswer(10, [[]]), rangeAnswer(10, [['a', 3]])]);
    await assert.rejects(kv.txn(unconditional(put('a'))), isFull);
    assert.equal((await kv.get('a'))?.modRevision, 3);
    assert.equal(asked[2]?.method, RANGE_METHOD);
  });
});
