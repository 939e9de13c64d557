/**
 * Frames under arbitrary records and hostile bytes: what is written comes back, and what was not written by us is
 * refused or read within its bounds, whatever lies around it in memory.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isMillraceError } from '../../src/core/errors.js';
import { FRAME_HEADER_BYTES, FrameWriter } from '../../src/core/frame.js';
import { frameOf, KINDS, type KindOfFrame, plain, readAll } from '../core/frames.js';

const RUNS = { numRuns: 300 };

for (const of of KINDS) {
  test(`${of.name}: every record comes back as it was written`, () => {
    fc.assert(
      fc.property(fc.array(of.arbitrary, { maxLength: 20 }), (records) => {
        assert.deepEqual(readAll(of, frameOf(of, records)), records.map(plain));
      }),
      RUNS,
    );
  });

  test(`${of.name}: a writer that is used again writes the same bytes as a new one`, () => {
    const used = new FrameWriter(of.kind, { records: 1, bytes: 1 });
    fc.assert(
      fc.property(fc.array(of.arbitrary, { maxLength: 20 }), (records) => {
        used.reset();
        const frame = frameOf(of, records, used);
        assert.equal(used.frameBytes, frame.length);
        assert.deepEqual(frame, frameOf(of, records));
      }),
      RUNS,
    );
  });

  test(`${of.name}: any bytes are refused, or read within their bounds`, () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => tryRead(of, bytes)),
      RUNS,
    );
  });

  test(`${of.name}: a frame with bytes changed anywhere is refused, or read within its bounds`, () => {
    const change = fc.record({ at: fc.nat(), to: fc.nat(255), isHeader: fc.boolean() });
    fc.assert(
      fc.property(
        fc.array(of.arbitrary, { minLength: 1, maxLength: 4 }),
        fc.array(change, { minLength: 1, maxLength: 6 }),
        (records, changes) => {
          const frame = frameOf(of, records);
          for (const { at, to, isHeader } of changes) {
            // The magic number and the kind stay, or nothing behind them would be reached.
            const span = isHeader ? FRAME_HEADER_BYTES : frame.length;
            frame[6 + (at % (span - 6))] = to;
          }
          tryRead(of, frame);
        },
      ),
      { numRuns: 1_000 },
    );
  });
}

/**
 * Reads bytes as a frame in two surroundings. Only the frame may decide what comes out, and nothing but a refusal
 * may come instead.
 */
function tryRead(of: KindOfFrame<unknown>, bytes: Uint8Array): void {
  assert.deepEqual(readWithin(of, bytes, 0x00), readWithin(of, bytes, 0xff));
}

function readWithin(of: KindOfFrame<unknown>, bytes: Uint8Array, around: number): unknown {
  const memory = new Uint8Array(bytes.length + 128).fill(around);
  memory.set(bytes, 64);
  try {
    return readAll(of, memory.subarray(64, 64 + bytes.length));
  } catch (error) {
    assert.ok(isMillraceError(error), String(error));
    assert.match(error.code, /STORE_(CORRUPT|FORMAT)$/);
    return error.message;
  }
}
