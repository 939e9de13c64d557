import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Encoding } from '../../src/core/codec.js';
import { FrameKind, type FrameReader, openFrame } from '../../src/core/frame.js';
import { readBatchEntry } from '../../src/core/records.js';
import { Outcome } from '../../src/core/states.js';
import { FrameText } from '../../src/pool/frame-text.js';
import { type ItemPayload, ItemResults, itemFrame } from '../../src/pool/item-frames.js';
import { PayloadSlab } from '../../src/pool/payload-slab.js';
import { ResultLog } from '../../src/pool/result-log.js';

function jsonItem(value: unknown): ItemPayload {
  const text = value === undefined ? '' : JSON.stringify(value);
  const byteLength = Buffer.byteLength(text);
  return { text, memory: undefined, offset: 0, byteLength, encoding: Encoding.JSON };
}

/** As a pool does it: in the slab where that takes it. */
function slabItem(slab: PayloadSlab, value: unknown): ItemPayload {
  const place = {
    text: '',
    memory: undefined as Uint8Array | undefined,
    offset: 0,
    byteLength: 0,
    encoding: Encoding.JSON as Encoding,
  };
  if (value instanceof Uint8Array) slab.copy(value, Encoding.BYTES, place);
  else if (!slab.write(value, place, 64)) return jsonItem(value);
  return place;
}

function valuesOneByOne(reader: FrameReader): unknown[] {
  const text = new FrameText(reader);
  return Array.from({ length: reader.count }, (_, index) => {
    const at = reader.recordAt(index);
    const { view } = reader;
    const encoding = view.getUint16(at + 26, true);
    return text.value(encoding, view.getUint32(at + 32, true), view.getUint32(at + 36, true));
  });
}

describe('item frames', () => {
  it('have every item, read in one go or one by one', () => {
    const item = fc.oneof(
      fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value)) as unknown),
      fc.constant(undefined),
      fc.uint8Array({ maxLength: 40 }),
    );
    fc.assert(
      fc.property(fc.array(item, { maxLength: 150 }), (values) => {
        const slab = new PayloadSlab();
        const items = values.map((value) => slabItem(slab, value));
        const reader = openFrame(itemFrame(items), FrameKind.BATCH);
        assert.equal(reader.count, values.length);
        assert.deepEqual(valuesOneByOne(reader), values);
        const isList = values.every(
          (value) => value !== undefined && !(value instanceof Uint8Array),
        );
        const list = new FrameText(reader).list();
        assert.deepEqual(list, isList && values.length > 0 ? values : undefined);
        for (let index = 0; index < values.length; index++) {
          const entry = readBatchEntry(reader, index);
          assert.equal(entry.slot, index);
          assert.equal(entry.attempt, 1);
        }
      }),
    );
  });

  it('take what lies apart in memory, in any order', () => {
    const slab = new PayloadSlab();
    const items = Array.from({ length: 20 }, (_, index) => slabItem(slab, { index }));
    for (const order of [
      [1, 3, 5],
      [5, 4, 3],
      [0, 1, 3, 4, 2, 9],
    ]) {
      const reader = openFrame(itemFrame(order.map((index) => items[index]!)), FrameKind.BATCH);
      assert.deepEqual(
        valuesOneByOne(reader),
        order.map((index) => ({ index })),
      );
    }
  });

  it('a list that does not parse, or has other values than records, is read one by one', () => {
    for (const lie of ['"a,b"', '1,2  ', '{"a":1', '[],[] ']) {
      const frame = itemFrame([jsonItem('1'), jsonItem(2)]);
      const text = '"1",2';
      const at = frame.length - text.length;
      frame.set(Buffer.from(lie.slice(0, text.length)), at);
      const list = new FrameText(openFrame(frame, FrameKind.BATCH)).list();
      if (list !== undefined) assert.equal(list.length, 2, lie);
    }
  });

  it('results are read in one go when all are JSON, and one by one otherwise', () => {
    for (const withNothing of [false, true]) {
      const log = new ResultLog(new ArrayBuffer(ResultLog.bytesFor(4)), 4);
      const texts = ['{"a":"ü,"}', withNothing ? '' : '[1]', '"x"'];
      for (const [slot, text] of texts.entries()) {
        log.add(slot, Outcome.COMPLETED, 1, 0.5, text, Buffer.byteLength(text));
      }
      const results = new ItemResults(log.take());
      assert.equal(results.count, 3);
      assert.deepEqual(
        [0, 1, 2].map((index) => results.value(index)),
        [{ a: 'ü,' }, withNothing ? undefined : [1], 'x'],
      );
      assert.deepEqual([results.slot(2), results.outcome(2), results.runMs(2)], [2, 0, 0.5]);
    }
  });
});
