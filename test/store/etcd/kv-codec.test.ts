import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type {
  Compare,
  LeaseId,
  Operation,
  OperationResult,
  Revision,
  Txn,
} from '../../../src/core/store.js';
import { KvCodec, type LoneWrite, loneWriteOf } from '../../../src/store/etcd/kv-codec.js';
import { type Message, PREFIX_BYTES, ProtobufError } from '../../../src/store/etcd/protobuf.js';

/** The fields of a message as the specification writes them, below 128 bytes each. */
type Fields = readonly number[];

function num(field: number, value: number): Fields {
  const low = value & 0x7f;
  return [field << 3, ...(value < 128 ? [value] : [low | 0x80, value >> 7])];
}

function len(field: number, content: string | Fields): Fields {
  const bytes = [...Buffer.from(content as string)];
  return [(field << 3) | 2, bytes.length, ...bytes];
}

function message(...fields: readonly Fields[]): Fields {
  return fields.flat();
}

const codec = new KvCodec('/n/');
const put = (key: string): Operation => ({ type: 'put', key, value: Buffer.from('v') });
const PUT_A = message(len(1, '/n/a'), len(2, 'v'));

function assertBytes(given: Message, ...fields: readonly Fields[]): void {
  assert.deepEqual([...given.subarray(PREFIX_BYTES)], message(...fields));
}

describe('etcd key-value codec: requests', () => {
  test('a compare names its target, and its operand stands in the field of that target', () => {
    const numbers = (['version', 'create', 'mod'] as const).flatMap((target, index) =>
      (['=', '>', '<', '!='] as const).map((operator, result) => ({
        target,
        operator,
        index,
        result,
      })),
    );
    for (const { target, operator, index, result } of numbers) {
      const compare: Compare = { target, key: 'a', operator, operand: 300 };
      assertBytes(
        codec.encodeTxn({ compares: [compare], success: [] }),
        len(
          1,
          message(
            result === 0 ? [] : num(1, result),
            index === 0 ? [] : num(2, index),
            len(3, '/n/a'),
            num(4 + index, 300),
          ),
        ),
      );
    }
    for (const value of ['', 'x']) {
      const operand = Buffer.from(value);
      assertBytes(
        codec.encodeTxn({
          compares: [{ target: 'value', key: 'a', operator: '<', operand }],
          success: [],
        }),
        len(1, message(num(1, 2), num(2, 3), len(3, '/n/a'), len(7, value))),
      );
    }
  });

  test('each operation has its field, in the list it belongs to and in order', () => {
    const operations: readonly (readonly [Operation, Fields])[] = [
      [put('a'), len(2, PUT_A)],
      [
        { ...put('a'), leaseId: '12c' as LeaseId } as Operation,
        len(2, message(PUT_A, num(3, 300))),
      ],
      [{ type: 'get', key: 'a' }, len(1, len(1, '/n/a'))],
      [
        { type: 'range', range: { from: 'a', to: 'c' }, limit: 3 },
        len(1, message(len(1, '/n/a'), len(2, '/n/c'), num(3, 3))),
      ],
      [{ type: 'delete', key: 'a' }, len(3, len(1, '/n/a'))],
      [
        { type: 'deleteRange', range: { from: 'a', to: 'c' } },
        len(3, message(len(1, '/n/a'), len(2, '/n/c'))),
      ],
    ];
    for (const [operation, fields] of operations) {
      const txn: Txn = { compares: [], success: [operation, put('a')], failure: [operation] };
      assertBytes(codec.encodeTxn(txn), len(2, fields), len(2, len(2, PUT_A)), len(3, fields));
    }
  });

  test('a nested transaction is whole: compares, both lists', () => {
    const inner: Txn = {
      compares: [{ target: 'version', key: 'b', operator: '>', operand: 1 }],
      success: [put('a')],
      failure: [{ type: 'delete', key: 'c' }],
    };
    assertBytes(
      codec.encodeTxn({ compares: [], success: [{ type: 'txn', txn: inner }] }),
      len(
        2,
        len(
          4,
          message(
            len(1, message(num(1, 1), len(3, '/n/b'), num(4, 1))),
            len(2, len(2, PUT_A)),
            len(3, len(3, len(1, '/n/c'))),
          ),
        ),
      ),
    );
  });

  test('a lone write is the bare request, and only one without a condition is lone', () => {
    const write = loneWriteOf({ compares: [], success: [put('a')] });
    assertBytes(codec.encodeLone(write!), PUT_A);
    const isNew: Compare = { target: 'version', key: 'a', operator: '=', operand: 0 };
    assert.equal(loneWriteOf({ compares: [isNew], success: [put('a')] }), undefined);
    assert.equal(loneWriteOf({ compares: [], success: [put('a'), put('b')] }), undefined);
    assert.equal(loneWriteOf({ compares: [], success: [{ type: 'get', key: 'a' }] }), undefined);
  });

  test('reads carry revision, limit, order and the wish for keys alone', () => {
    assertBytes(codec.encodeGet('a', undefined), len(1, '/n/a'));
    assertBytes(codec.encodeGet('a', 300 as Revision), len(1, '/n/a'), num(4, 300));
    const range = { from: 'a', to: 'c' };
    assertBytes(
      codec.encodeRange({
        range,
        revision: 9 as Revision,
        limit: 5,
        reverse: true,
        keysOnly: true,
      }),
      ...[len(1, '/n/a'), len(2, '/n/c'), num(3, 5), num(4, 9), num(5, 2), num(8, 1)],
    );
    assertBytes(codec.encodeCompact(300 as Revision), num(1, 300));
  });
});

const header = (revision: number): Fields =>
  len(1, message(num(1, 5), num(2, 6), num(3, revision)));
const ENTRY = message(
  ...[len(1, '/n/a'), num(2, 7), num(3, 300), num(4, 2), len(5, 'v'), num(6, 300)],
);
const A = {
  ...{ key: 'a', createRevision: 7, modRevision: 300, version: 2, leaseId: '12c' },
  value: Buffer.from('v'),
};

function asBytes(...fields: readonly Fields[]): Uint8Array {
  return Uint8Array.from(message(...fields));
}

describe('etcd key-value codec: answers', () => {
  test('a range gives its entries, its revision and whether there is more', () => {
    const { entries, revision, more } = codec.decodeRange(
      asBytes(header(310), len(2, ENTRY), num(3, 1), num(4, 2)),
    );
    assert.deepEqual([revision, more, entries.length], [310, true, 1]);
    assert.deepEqual({ ...entries[0], value: Buffer.from(entries[0]!.value) }, A);
  });

  test('a transaction gives the results of the list that ran, nested ones too', () => {
    const inner: Txn = {
      compares: [],
      success: [put('a')],
      failure: [
        { type: 'delete', key: 'c' },
        { type: 'get', key: 'd' },
      ],
    };
    const txn: Txn = {
      compares: [],
      success: [{ type: 'txn', txn: inner }, put('a')],
      failure: [{ type: 'range', range: { from: 'a', to: 'c' } }],
    };
    const refusedInside = message(
      len(1, []),
      len(3, len(3, num(2, 2))),
      len(3, len(1, message(len(1, []), num(4, 0)))),
    );
    const done = codec.decodeTxn(
      asBytes(header(310), num(2, 1), len(3, len(4, refusedInside)), len(3, len(2, []))),
      txn,
    );
    const results: OperationResult[] = [
      {
        type: 'txn',
        succeeded: false,
        results: [
          { type: 'delete', deleted: 2 },
          { type: 'get', entry: undefined },
        ],
      },
      { type: 'put' },
    ];
    assert.deepEqual(done, { succeeded: true, revision: 310, results });
    const refused = codec.decodeTxn(asBytes(header(311), len(3, len(1, num(3, 1)))), txn);
    assert.deepEqual(refused, {
      succeeded: false,
      revision: 311,
      results: [{ type: 'range', entries: [], more: true }],
    });
  });

  test('a nested transaction with too few or too many answers is an error', () => {
    const inner: Txn = { compares: [], success: [put('a')] };
    const txn: Txn = { compares: [], success: [{ type: 'txn', txn: inner }] };
    const answered = len(3, len(2, []));
    for (const answers of [[], [answered, answered]]) {
      const body = asBytes(
        ...[header(9), num(2, 1), len(3, len(4, message(num(2, 1), ...answers)))],
      );
      assert.throws(() => codec.decodeTxn(body, txn), ProtobufError);
    }
  });

  test('a lone write gives its revision and how much it deleted, and without a header it is an error', () => {
    const write = put('a') as LoneWrite;
    assert.deepEqual(codec.decodeLone(asBytes(header(310), len(2, ENTRY)), write), {
      succeeded: true,
      revision: 310,
      results: [{ type: 'put' }],
    });
    const gone: LoneWrite = { type: 'delete', key: 'a' };
    for (const deleted of [0, 3]) {
      assert.deepEqual(
        codec.decodeLone(asBytes(header(310), deleted === 0 ? [] : num(2, deleted)), gone),
        { succeeded: true, revision: 310, results: [{ type: 'delete', deleted }] },
      );
    }
    for (const operation of [write, gone]) {
      assert.throws(() => codec.decodeLone(asBytes(), operation), ProtobufError);
    }
  });
});
