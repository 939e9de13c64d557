import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { LeaseId } from '../../../src/core/store.js';
import {
  type Message,
  PREFIX_BYTES,
  ProtobufError,
  Reader,
  Writer,
} from '../../../src/store/etcd/protobuf.js';

function bodyOf(message: Message): Uint8Array {
  return message.subarray(PREFIX_BYTES);
}

function hex(message: Message): string {
  return Buffer.from(bodyOf(message)).toString('hex');
}

function written(write: (writer: Writer) => void): Message {
  const writer = new Writer(16);
  write(writer);
  return writer.finish();
}

/** The varint of 64 bits, by BigInt: slow and plainly right. */
function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
}

describe('protobuf: the writer', () => {
  test('gives the bytes of the specification, last field first, and the prefix of gRPC before them', () => {
    const message = written((writer) => {
      const mark = writer.open();
      writer.uint(1, 150);
      writer.close(3, mark);
      writer.utf8(2, 'testing');
    });
    assert.equal(hex(message), '120774657374696e671a03089601');
    assert.deepEqual([...message.subarray(0, PREFIX_BYTES)], [0, 0, 0, 0, 14]);
  });

  test('leaves defaults out, but not an empty member of a oneof', () => {
    const message = written((writer) => {
      writer.presentBytes(5, new Uint8Array(0));
      writer.bytes(4, new Uint8Array(0));
      writer.latin1(3, '');
      writer.bool(2, false);
      writer.uint(1, 0);
    });
    assert.equal(hex(message), '2a00');
  });

  test('grows, and the message it gave stays as it was', () => {
    const writer = new Writer(16);
    writer.bytes(1, new Uint8Array(100_000).fill(7));
    const first = writer.finish();
    writer.bytes(1, new Uint8Array(100_000).fill(9));
    writer.finish();
    assert.equal(first.length, PREFIX_BYTES + 1 + 3 + 100_000);
    assert.ok(first.subarray(9).every((byte) => byte === 7));
  });

  test('refuses a lease id that is no hex of 64 bits', () => {
    for (const id of ['', 'xyz', '12345678901234567', 'AB']) {
      assert.throws(() => written((writer) => writer.leaseId(1, id as LeaseId)), ProtobufError);
    }
  });
});

describe('protobuf: writer and reader', () => {
  test('whole numbers below 2^53 come back, in the fewest bytes', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        const message = written((writer) => writer.uint(1, value));
        const reader = new Reader(bodyOf(message));
        if (value === 0) return assert.equal(reader.length, 0);
        assert.equal(hex(message).slice(2), varint(BigInt(value)).toString('hex'));
        assert.equal(reader.tag(reader.length), 8);
        assert.equal(reader.uint(), value);
      }),
    );
  });

  test('negative numbers come back from their ten bytes', () => {
    for (const value of [-1, -2, -300, Number.MIN_SAFE_INTEGER]) {
      assert.equal(new Reader(varint(BigInt(value))).int(), value);
    }
    assert.throws(() => new Reader(varint(-(2n ** 62n))).int(), ProtobufError);
    assert.throws(() => new Reader(varint(2n ** 53n)).uint(), ProtobufError);
    assert.throws(() => new Reader(varint(2n ** 53n)).int(), ProtobufError);
  });

  test('lease ids come back as hex, all 64 bits of them', () => {
    fc.assert(
      fc.property(fc.bigInt(1n, 2n ** 64n - 1n), (id) => {
        const message = written((writer) => writer.leaseId(6, id.toString(16) as LeaseId));
        assert.equal(hex(message).slice(2), varint(id).toString('hex'));
        const reader = new Reader(bodyOf(message));
        assert.equal(reader.tag(reader.length), (6 << 3) | 0);
        assert.equal(reader.leaseId(), id.toString(16));
      }),
    );
    assert.equal(new Reader(varint(0n)).leaseId(), undefined);
  });

  test('the last lease id is remembered only for the same bits', () => {
    const reader = new Reader(Buffer.concat([5n, 5n, 2n ** 32n + 5n, 5n].map(varint)));
    assert.deepEqual(
      [reader.leaseId(), reader.leaseId(), reader.leaseId(), reader.leaseId()],
      ['5', '5', '100000005', '5'],
    );
  });
});

/** Reads whatever is there, as a decoder of any message would. */
function readAll(reader: Reader, end: number, depth: number): void {
  for (let tag = reader.tag(end); tag !== 0; tag = reader.tag(end)) {
    if ((tag & 7) === 2 && depth < 3) readAll(reader, reader.open(), depth + 1);
    else if ((tag & 7) === 0) reader.int();
    else reader.skip(tag);
  }
}

describe('protobuf: hostile bytes', () => {
  test('end in a ProtobufError or in a message, never in anything else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const reader = new Reader(bytes);
        try {
          readAll(reader, reader.length, 0);
        } catch (error) {
          assert.ok(error instanceof ProtobufError, String(error));
        }
      }),
      { numRuns: 20_000 },
    );
  });

  test('a message cut anywhere is an error or shorter, and a length beyond the end is an error', () => {
    const whole = bodyOf(written((writer) => writer.bytes(1, new Uint8Array(300))));
    for (let length = 1; length < whole.length; length++) {
      const reader = new Reader(whole.subarray(0, length));
      assert.throws(() => readAll(reader, length, 9), ProtobufError);
    }
    assert.throws(
      () => new Reader(Buffer.from('ffffffffffffffffff01', 'hex')).bytes(),
      ProtobufError,
    );
    assert.throws(() => new Reader(Buffer.alloc(11, 0xff)).int(), ProtobufError);
  });

  test('a field that runs over the end of its nested message is an error', () => {
    // Field 1 holds two bytes, in which field 2 claims five; the five are there, but outside.
    const bytes = Buffer.from('0a0212056162636465', 'hex');
    const reader = new Reader(bytes);
    assert.throws(() => readAll(reader, reader.length, 0), ProtobufError);
  });
});
