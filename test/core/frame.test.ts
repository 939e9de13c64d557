import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode, isMillraceError } from '../../src/core/errors.js';
import {
  FRAME_HEADER_BYTES,
  FRAME_RECORDS_MAX,
  FRAME_STRING_BYTES_MAX,
  FRAME_VERSION,
  FrameKind,
  FrameWriter,
  openFrame,
  recordBytes,
  utf8,
} from '../../src/core/frame.js';
import { frameOf, KINDS, type KindOfFrame, readAll } from './frames.js';

const [TASKS, BATCH] = KINDS as [KindOfFrame<unknown>, KindOfFrame<unknown>];

const isCorrupt = (error: unknown): boolean => hasCode(error, 'ERR_MILLRACE_STORE_CORRUPT');

/** A frame of the sample with one field of its header changed. */
function withHeader(of: KindOfFrame<unknown>, offset: number, value: number): Uint8Array {
  const frame = frameOf(of, [of.sample]);
  new DataView(frame.buffer).setUint32(offset, value, true);
  return frame;
}

for (const of of KINDS) {
  test(`${of.name}: a frame cut off at any byte is refused`, () => {
    const frame = frameOf(of, [of.sample, of.sample]);
    for (let length = 0; length < frame.length; length++) {
      assert.throws(() => openFrame(frame.subarray(0, length), of.kind), isCorrupt, `${length}`);
    }
  });

  test(`${of.name}: a frame with more bytes than it says is refused`, () => {
    const frame = frameOf(of, [of.sample]);
    assert.throws(() => openFrame(new Uint8Array([...frame, 0]), of.kind), isCorrupt);
  });

  test(`${of.name}: any byte changed to anything is refused, or still a frame`, () => {
    const frame = frameOf(of, [of.sample, of.sample]);
    for (let at = 0; at < frame.length; at++) {
      const original = frame[at]!;
      for (let value = 0; value < 256; value++) {
        frame[at] = value;
        try {
          assert.equal(readAll(of, frame).length, 2);
        } catch (error) {
          const isRefusal = isMillraceError(error) && /STORE_(CORRUPT|FORMAT)$/.test(error.code);
          assert.ok(isRefusal, `byte ${at} = ${value}: ${error}`);
          assert.notEqual(value, original, `the frame itself was refused at ${at}`);
        }
      }
      frame[at] = original;
    }
  });

  test(`${of.name}: no other kind of frame is taken for it`, () => {
    for (const other of KINDS) {
      if (other === of) continue;
      assert.throws(() => openFrame(frameOf(other, [other.sample]), of.kind), isCorrupt);
      // Without records their size cannot give it away.
      assert.throws(() => openFrame(frameOf(other, []), of.kind), isCorrupt);
    }
  });

  test(`${of.name}: records beyond the writer's first room are as good as the first`, () => {
    const writer = new FrameWriter(of.kind, { records: 0, bytes: 0 });
    const records = Array.from({ length: 300 }, () => of.sample);
    const frame = frameOf(of, records, writer);
    assert.equal(writer.count, 300);
    assert.deepEqual(frame, frameOf(of, records));
    assert.equal(readAll(of, frame).length, 300);
  });
}

test('a frame of a newer version is told from a damaged one', () => {
  const frame = frameOf(TASKS, [TASKS.sample]);
  frame[4] = FRAME_VERSION + 1;
  // Nothing else of a newer frame may be believed, not even its length.
  const extended = new Uint8Array([...frame, 1, 2, 3]);
  assert.throws(
    () => openFrame(extended, FrameKind.TASKS),
    (error) =>
      hasCode(error, 'ERR_MILLRACE_STORE_FORMAT') &&
      error.details.version === FRAME_VERSION + 1 &&
      error.details.supported === FRAME_VERSION,
  );
  frame[4] = 0;
  assert.throws(() => openFrame(frame, FrameKind.TASKS), isCorrupt);
});

test('counts and offsets that do not fit together are refused', () => {
  const lies: readonly [string, number, number][] = [
    ['more records than there are', 8, 2],
    ['fewer records than there are', 8, 0],
    ['more records than any frame has', 8, FRAME_RECORDS_MAX + 1],
    ['records whose size overflows 32 bits', 8, 0xffff_ffff],
    ['more strings than there is room for', 12, 20],
    ['strings without end', 12, 0xffff_ffff],
    ['records inside the header', 16, 8],
    ['records at an odd offset', 16, FRAME_HEADER_BYTES + 1],
    ['records behind the end', 16, 0xffff_fff8],
    ['bytes in the middle of the records', 20, FRAME_HEADER_BYTES + 8],
    ['bytes behind the end', 20, 0xffff_fff8],
    ['another length', 24, 0],
  ];
  for (const [lie, offset, value] of lies) {
    assert.throws(
      () => openFrame(withHeader(TASKS, offset, value), FrameKind.TASKS),
      isCorrupt,
      lie,
    );
  }
});

test('a frame whose counts and offsets agree with one another is still held to the limits', () => {
  const size = recordBytes(FrameKind.RESULTS);
  const begin = FRAME_HEADER_BYTES;
  const table = 2 * 65_536;
  const shapes: readonly [string, Shape, boolean][] = [
    ['one record', { records: 1, strings: 0, begin, total: begin + size }, true],
    [
      'one record too many',
      {
        records: FRAME_RECORDS_MAX + 1,
        strings: 0,
        begin,
        total: begin + (FRAME_RECORDS_MAX + 1) * size,
      },
      false,
    ],
    ['as many strings as may be', { records: 0, strings: 65_535, begin: begin + table }, true],
    ['one string too many', { records: 0, strings: 65_536, begin: begin + table }, false],
    ['records at an odd place', { records: 1, strings: 0, begin: begin + 4 }, false],
    ['records over the header', { records: 1, strings: 0, begin: begin - 8, total: 64 }, false],
    ['records over the end', { records: 1, strings: 0, begin, total: begin + size - 8 }, false],
  ];
  for (const [what, shape, isFine] of shapes) {
    const open = () => openFrame(resultsFrame(shape), FrameKind.RESULTS);
    if (isFine) assert.equal(open().count, shape.records, what);
    else assert.throws(open, isCorrupt, what);
  }
});

interface Shape {
  readonly records: number;
  readonly strings: number;
  /** Where the records begin. */
  readonly begin: number;
  /** @defaultValue the end of the records */
  readonly total?: number;
}

/** A frame of zeroed results and empty strings, with a header of our own making. */
function resultsFrame(shape: Shape): Uint8Array {
  const bytesBegin = shape.begin + shape.records * recordBytes(FrameKind.RESULTS);
  const total = shape.total ?? bytesBegin;
  const frame = new Uint8Array(total);
  frame.set(new FrameWriter(FrameKind.RESULTS).finish());
  const view = new DataView(frame.buffer);
  view.setUint32(8, shape.records, true);
  view.setUint32(12, shape.strings, true);
  view.setUint32(16, shape.begin, true);
  view.setUint32(20, bytesBegin, true);
  view.setUint32(24, total, true);
  return frame;
}

test('a string whose length leads out of the table is refused', () => {
  const frame = frameOf(TASKS, [TASKS.sample]);
  const view = new DataView(frame.buffer);
  // As far as the last byte before the records is allowed; one further is not.
  const room = view.getUint32(16, true) - FRAME_HEADER_BYTES - 2;
  view.setUint32(12, 1, true);
  view.setUint16(FRAME_HEADER_BYTES, room, true);
  assert.equal(openFrame(frame, FrameKind.TASKS).strings.length, 1);
  view.setUint16(FRAME_HEADER_BYTES, room + 1, true);
  assert.throws(() => openFrame(frame, FrameKind.TASKS), isCorrupt);
});

test('a reference to bytes may reach the last byte and not beyond', () => {
  const reader = openFrame(frameOf(TASKS, [TASKS.sample]), FrameKind.TASKS);
  const recordsEnd = reader.recordAt(reader.count);
  const available = reader.frame.length - recordsEnd;
  assert.equal(reader.bytes(0, available).length, available);
  assert.equal(reader.bytes(available - 1, 1).length, 1);
  for (const [offset, length] of [
    [0, available + 1],
    [available, 1],
    [0xffff_ffff, 1],
    [1, 0xffff_ffff],
    [0xffff_ffff, 0xffff_ffff],
  ] as const) {
    assert.throws(() => reader.bytes(offset, length), isCorrupt, `${offset}, ${length}`);
  }
  // Nothing is nothing, wherever it is said to be.
  assert.equal(reader.bytes(0xffff_ffff, 0).length, 0);
});

test('bytes are views into the frame, not copies', () => {
  const frame = frameOf(TASKS, [TASKS.sample]);
  const { payload } = TASKS.read(openFrame(frame, FrameKind.TASKS), 0) as { payload: Uint8Array };
  assert.equal(payload.buffer, frame.buffer);
});

test('a string that is not in the table is refused', () => {
  const reader = openFrame(frameOf(TASKS, [TASKS.sample]), FrameKind.TASKS);
  assert.throws(() => reader.string(reader.strings.length), isCorrupt);
});

test('equal strings are stored once', () => {
  const frame = openFrame(frameOf(BATCH, [BATCH.sample, BATCH.sample]), FrameKind.BATCH);
  assert.equal(frame.strings.length, 3);
});

test('the longest string comes back; a longer one never gets into a frame', () => {
  const longest = `${'é'.repeat(FRAME_STRING_BYTES_MAX >> 1)}x`;
  assert.equal(Buffer.byteLength(longest), FRAME_STRING_BYTES_MAX);
  const writer = new FrameWriter(FrameKind.STATES);
  writer.addString(longest);
  writer.addString('after');
  assert.deepEqual(openFrame(writer.finish(), FrameKind.STATES).strings, [longest, 'after']);
  assert.throws(() => writer.addString(`${longest}x`), { code: 'ERR_MILLRACE_INTERNAL' });
  assert.deepEqual(openFrame(writer.finish(), FrameKind.STATES).strings, [longest, 'after']);
});

test('a writer makes no frame that a reader would refuse for its number of records', () => {
  const writer = new FrameWriter(FrameKind.RESULTS);
  for (let i = 0; i < FRAME_RECORDS_MAX; i++) writer.addRecord();
  assert.equal(openFrame(writer.finish(), FrameKind.RESULTS).count, FRAME_RECORDS_MAX);
  writer.addRecord();
  assert.throws(() => writer.finish(), { code: 'ERR_MILLRACE_INTERNAL' });
});

test('a record is zeroed when it is added, also in a writer that was used before', () => {
  const writer = new FrameWriter(FrameKind.RESULTS, { records: 1 });
  const size = recordBytes(FrameKind.RESULTS);
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 3; i++) {
      const at = writer.addRecord();
      for (let byte = 0; byte < size; byte++) {
        assert.equal(writer.view.getUint8(at + byte), 0);
        writer.view.setUint8(at + byte, 0xee);
      }
    }
    writer.reset();
    assert.equal(writer.count, 0);
    assert.equal(writer.frameBytes, FRAME_HEADER_BYTES);
  }
});

test('text is written as UTF-8, ASCII or not, and decoded from any part of a buffer', () => {
  const writer = new FrameWriter(FrameKind.TASKS, { bytes: 1 });
  const texts = ['plain', 'caf\u00e9', '\u{1f9f5} thread', '', 'x'.repeat(10_000)];
  const places = texts.map((text) => {
    const length = Buffer.byteLength(text);
    return [writer.addText(text, length), length] as const;
  });
  // In the middle of a larger buffer, as frames from a store are.
  const frame = writer.finish();
  const memory = new Uint8Array(frame.length + 24);
  memory.set(frame, 16);
  const reader = openFrame(memory.subarray(16, 16 + frame.length), FrameKind.TASKS);
  assert.deepEqual(
    places.map(([offset, length]) => utf8(reader.bytes(offset, length))),
    texts,
  );
});

test('an empty frame is a frame', () => {
  const frame = new FrameWriter(FrameKind.STATES).finish();
  assert.equal(frame.length, FRAME_HEADER_BYTES);
  assert.equal(openFrame(frame, FrameKind.STATES).count, 0);
});
