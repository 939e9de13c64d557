import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { FrameKind, openFrame } from '../../src/core/frame.js';
import { readResult } from '../../src/core/records.js';
import { Outcome } from '../../src/core/states.js';
import { ResultLog, singleResult } from '../../src/pool/result-log.js';

function logFor(capacity: number): ResultLog {
  return new ResultLog(new SharedArrayBuffer(ResultLog.bytesFor(capacity)), capacity);
}

function resultsIn(frame: Uint8Array): unknown[] {
  const reader = openFrame(frame, FrameKind.RESULTS);
  return Array.from({ length: reader.count }, (_, index) => {
    const { bytes, ...rest } = readResult(reader, index);
    return { ...rest, json: Buffer.from(bytes).toString() };
  });
}

describe('ResultLog', () => {
  it('gives a frame of what was added, also to somebody who only has the memory', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 70 }).chain((capacity) =>
          fc.record({
            capacity: fc.constant(capacity),
            begun: fc.array(fc.integer({ min: 0, max: capacity - 1 })),
            results: fc.array(
              fc.record({
                slot: fc.integer({ min: 0, max: 0xffff_ffff }),
                outcome: fc.constantFrom(...Object.values(Outcome)),
                attempt: fc.integer({ min: 0, max: 65_535 }),
                runMs: fc.double({ min: 0, max: 1e9, noNaN: true }),
                json: fc.string({ unit: 'grapheme' }),
              }),
              { minLength: 1, maxLength: capacity },
            ),
          }),
        ),
        ({ capacity, begun, results }) => {
          const log = logFor(capacity);
          for (const index of begun) log.begin(index, 1);
          for (const { slot, outcome, attempt, runMs, json } of results) {
            const bytes = Buffer.byteLength(json);
            assert.ok(log.hasRoom(bytes));
            log.add(slot, outcome, attempt, runMs, json, bytes);
          }
          const left = new ResultLog(log.memory, capacity);
          assert.equal(left.count, results.length);
          for (let index = 0; index < capacity; index++) {
            assert.equal(left.hasBegun(index), begun.includes(index));
          }
          assert.deepEqual(
            resultsIn(left.take()),
            results.map((result) => ({ ...result })),
          );
          assert.equal(left.count, 0);
        },
      ),
    );
  });

  it('is used again after take() and clear()', () => {
    const log = logFor(2);
    for (const json of ['1', '22', '333']) {
      log.begin(0, 1);
      log.add(7, Outcome.COMPLETED, 1, 0, json, json.length);
      assert.equal((resultsIn(log.take())[0] as { json: string }).json, json);
      log.clear();
      assert.equal(log.hasBegun(0), false);
    }
  });

  it('says when it is full, in records and in bytes', () => {
    const log = logFor(2);
    log.add(0, Outcome.COMPLETED, 1, 0, '', 0);
    assert.equal(log.hasRoom(131_072), true);
    assert.equal(log.hasRoom(131_073), false);
    log.add(1, Outcome.COMPLETED, 1, 0, '', 0);
    assert.equal(log.hasRoom(0), false);
    log.take();
    assert.equal(log.hasRoom(0), true);
  });

  it('leaves a result that is larger than itself to a frame of its own', () => {
    const json = `"${'x'.repeat(200_000)}"`;
    assert.deepEqual(resultsIn(singleResult(3, Outcome.COMPLETED, 2, 1.5, json)), [
      { slot: 3, outcome: Outcome.COMPLETED, attempt: 2, runMs: 1.5, json },
    ]);
  });
});
