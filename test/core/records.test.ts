import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { hasCode } from '../../src/core/errors.js';
import { openFrame } from '../../src/core/frame.js';
import { frameOf, KINDS, type KindOfFrame, plain, readAll } from './frames.js';

/**
 * The sample of each kind in version 1, as it was written when the format was fixed. Stored frames look like this,
 * so these bytes are never edited: a change of the format needs a new version beside them.
 */
const FROZEN: Readonly<Record<string, string>> = {
  tasks:
    '4d52463101010000010000000200000038000000780000008f0000000000000009006d61696c2e73656e64040061636d65' +
    '00000000000000000080aa6db77942008047a96db77942000026b96db779420000000000000100feff0000010002000000' +
    '00000b0000000b0000000c00000003000000000000007b22746f223a22c3a9227d7b226b6579223a226b31227d',
  batch:
    '4d52463101020000010000000300000058000000880000008d0000000000000009006d61696c2e73656e64000025006465' +
    '6661756c742e30302e306d6a756f687330302e303132336162636430303030303030310000000007000000000001000000' +
    '00000067b24002000500000000000200000000000000000000000500000000000000000000005b312c325d',
  results:
    '4d52463101030000010000000000000020000000380000003c000000000000000700000000000200000000000000294000' +
    '00000004000000226f6b22',
  states:
    '4d524631010400000100000001000000300000005800000058000000000000000800303132336162636400000000000005' +
    '00010002000100000080aa6db779420080beaa6db7794200000000000000000000000000000000',
};

const PAGE = new URL('../../../docs/internals/frame-format.md', import.meta.url);

for (const of of KINDS) {
  test(`${of.name}: the frozen bytes are read as they were meant, and written again`, () => {
    const frozen = Buffer.from(FROZEN[of.name] ?? '', 'hex');
    assert.deepEqual(readAll(of, frozen), [plain(of.sample)]);
    assert.equal(Buffer.from(frameOf(of, [of.sample])).toString('hex'), FROZEN[of.name]);
  });

  test(`${of.name}: the example in docs/internals/frame-format.md is this frame`, () => {
    assert.equal(documentedFrame(of.name), FROZEN[of.name]);
  });
}

test('each reference of a record is checked', () => {
  const places: Readonly<Record<string, { strings: number[]; bytes: number[] }>> = {
    tasks: { strings: [28, 30], bytes: [40, 48] },
    batch: { strings: [4, 6, 24], bytes: [32, 40] },
    results: { strings: [], bytes: [16] },
    states: { strings: [24], bytes: [32] },
  };
  for (const of of KINDS) {
    const { strings, bytes } = places[of.name]!;
    for (const at of strings) refuses(of, (view, record) => view.setUint16(record + at, 3, true));
    for (const at of bytes) {
      refuses(of, (view, record) => {
        view.setUint32(record + at, 0xffff_ff00, true);
        view.setUint32(record + at + 4, 1, true);
      });
      refuses(of, (view, record) => view.setUint32(record + at + 4, 0xffff_ffff, true));
    }
  }
});

test('times and tokens are finite, and at least 0', () => {
  const places: Readonly<Record<string, number[]>> = {
    tasks: [0, 8, 16],
    batch: [8],
    results: [8],
    states: [8, 16],
  };
  for (const of of KINDS) {
    for (const at of places[of.name]!) {
      for (const value of [Number.NaN, -1, -1e-9, Infinity, -Infinity, 2 ** 53]) {
        refuses(of, (view, record) => view.setFloat64(record + at, value, true));
      }
    }
  }
});

test('states and outcomes that do not exist are refused', () => {
  const [, , results, states] = KINDS;
  for (const value of [6, 0xffff]) {
    refuses(results!, (view, record) => view.setUint16(record + 4, value, true));
  }
  for (const value of [6, 0xff])
    refuses(states!, (view, record) => view.setUint8(record + 2, value));
});

test('a task without payload, tenant and metadata reads as empty', () => {
  const of = KINDS[0]!;
  const bare = {
    ...(of.sample as object),
    tenant: '',
    payload: new Uint8Array(0),
    metadata: new Uint8Array(0),
  };
  assert.deepEqual(readAll(of, frameOf(of, [bare])), [bare]);
});

/** A sample with its record spoilt must not be read. */
function refuses(of: KindOfFrame<unknown>, spoil: (view: DataView, record: number) => void): void {
  const frame = frameOf(of, [of.sample]);
  const reader = openFrame(frame, of.kind);
  spoil(reader.view, reader.recordAt(0));
  assert.throws(
    () => of.read(openFrame(frame, of.kind), 0),
    (error) => hasCode(error, 'ERR_MILLRACE_STORE_CORRUPT'),
    `${of.name}: ${Buffer.from(frame).toString('hex')}`,
  );
}

/** The bytes of a `hex` block of the page: each line is an offset, bytes, and words about them. */
function documentedFrame(name: string): string {
  const page = readFileSync(PAGE, 'utf8');
  const block = new RegExp(`\`\`\`hex ${name}\\n([^\`]*)\`\`\``).exec(page)?.[1] ?? '';
  let hex = '';
  for (const line of block.trimEnd().split('\n')) {
    const [, offset, bytes] =
      /^([0-9a-f]{4}) {2}((?:[0-9a-f]{2} )*[0-9a-f]{2})(?: {2}|$)/.exec(line) ?? [];
    assert.ok(offset !== undefined && bytes !== undefined, `a line of bytes: ${line}`);
    assert.equal(Number.parseInt(offset, 16) * 2, hex.length, `the offset of: ${line}`);
    hex += bytes.replaceAll(' ', '');
  }
  return hex;
}
