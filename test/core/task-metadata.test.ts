import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FrameKind, FrameWriter, openFrame } from '../../src/core/frame.js';
import {
  addMetadata,
  encodeMetadata,
  hasTrace,
  isSampled,
  metadataBytes,
  metadataToWrite,
  readParent,
  readTrace,
  replaceTraceparent,
  type SpanIds,
} from '../../src/core/task-metadata.js';

const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

/** Metadata as a store that others write to may give them. */
function bytesOf(fields: object): Uint8Array {
  return Buffer.from(JSON.stringify(fields));
}

test('a task without key and trace carries nothing', () => {
  assert.equal(encodeMetadata({}), undefined);
});

test('what a task carries reads as it was written, with and without a key', () => {
  const trace = { traceparent: TRACEPARENT, tracestate: 'a=1', baggage: 'user=7', isLoose: true };
  for (const key of [undefined, 'order-1']) {
    assert.deepEqual(readTrace(encodeMetadata({ key, trace })!), trace);
  }
  assert.equal(encodeMetadata({ key: 'k' })!.toString(), '{"key":"k"}');
  assert.equal(readTrace(encodeMetadata({ key: 'k' })!), undefined);
});

test('a span is written into a frame as its carrier would be, without one', () => {
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const spanId = 'b7ad6b7169203331';
  for (const traceFlags of [0, 1, 0xa3]) {
    const span: SpanIds = { traceId, spanId, traceFlags };
    const traceparent = `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
    const alone = metadataToWrite({ key: undefined, trace: span, parent: undefined });
    assert.equal(alone, span);
    const writer = new FrameWriter(FrameKind.TASKS);
    assert.equal(addMetadata(writer, span), 0);
    const reader = openFrame(writer.finish(), FrameKind.TASKS);
    const bytes = reader.bytes(0, metadataBytes(span));
    assert.deepEqual(Buffer.from(bytes), encodeMetadata({ trace: { traceparent } }));
    assert.equal(readTrace(bytes)?.traceparent, traceparent);
    const keyed = metadataToWrite({ key: 'k', trace: span, parent: undefined });
    assert.deepEqual(keyed, encodeMetadata({ key: 'k', trace: { traceparent } }));
  }
});

test('a traceparent takes the place of another, and nothing else changes', () => {
  const after = TRACEPARENT.replace('b7ad', 'beef');
  const parent = 'default.00.0mjuohs00.0123abcd00000001.1';
  const bytes = encodeMetadata({ key: 'k', trace: { traceparent: TRACEPARENT }, parent })!;
  const expected = encodeMetadata({ key: 'k', trace: { traceparent: after }, parent })!;
  replaceTraceparent(bytes, 0, { before: TRACEPARENT, after });
  assert.deepEqual(bytes, expected);
  assert.equal(readParent(bytes), readParent(expected));
  // Another program wrote it elsewhere.
  const foreign = Buffer.from(`{ "traceparent": "${TRACEPARENT}" }`);
  const same = Buffer.from(foreign);
  replaceTraceparent(foreign, 0, { before: TRACEPARENT, after });
  assert.deepEqual(foreign, same);
});

test('a look at the bytes says whether there is a trace and whether it is sampled', () => {
  for (let flags = 0; flags < 256; flags++) {
    const traceparent = `${TRACEPARENT.slice(0, -2)}${flags.toString(16).padStart(2, '0')}`;
    const bytes = encodeMetadata({ key: 'k', trace: { traceparent } })!;
    assert.ok(hasTrace(bytes, 0, bytes.length));
    assert.equal(isSampled(bytes, 0), flags % 2 === 1, traceparent);
  }
  const keyed = encodeMetadata({ key: 't'.repeat(200) })!;
  assert.equal(hasTrace(keyed, 0, keyed.length), false);
});

test('a context that is not of the form of W3C Trace Context is none', () => {
  for (const traceparent of [
    TRACEPARENT.replace('0af7', '0AF7'),
    TRACEPARENT.replace('00-', 'ff-'),
    TRACEPARENT.replace('b7ad6b7169203331', '0'.repeat(16)),
    TRACEPARENT.replace('0af7651916cd43dd8448eb211c80319c', '0'.repeat(32)),
    `${TRACEPARENT}-more`,
    TRACEPARENT.slice(1),
    42,
  ]) {
    assert.equal(readTrace(bytesOf({ traceparent })), undefined, String(traceparent));
  }
});

test('what is longer than its header may be is left out', () => {
  const long = 'x'.repeat(2_000);
  const read = readTrace(bytesOf({ traceparent: TRACEPARENT, tracestate: long, baggage: long }));
  assert.deepEqual(read, {
    traceparent: TRACEPARENT,
    tracestate: undefined,
    baggage: undefined,
    isLoose: false,
  });
});

test('no bytes make reading throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (tail, isNear) => {
      const head = isNear ? Buffer.from(`{"traceparent":"${TRACEPARENT}"`) : Buffer.alloc(0);
      readTrace(Buffer.concat([head, tail]));
    }),
  );
});
