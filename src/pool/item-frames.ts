/**
 * Batch frames of single items, and their results, without an object per record: BatchPool's share of a task's cost
 * on the main thread is mostly here. The layouts are those of core/records.ts.
 *
 * Items of a pool differ in little: slot, encoding, and where the payload is. The rest of a frame, down to its header,
 * is a template that is copied. There is a comma between payloads; where all of them are JSON, that
 * makes one array of the bytes area, which the reader parses in one go (FrameFlag.JSON_LIST): a call costs more
 * than a short text.
 */
import { Encoding } from '../core/codec.js';
import { FrameFlag, FrameKind, type FrameReader, FrameWriter, openFrame } from '../core/frame.js';
import { isOutcome, Outcome } from '../core/states.js';
import { FrameText } from './frame-text.js';
import { ITEM } from './messages.js';

/** An item's payload: in `memory`, or JSON as `text` ('' for undefined) when there is none. */
export interface ItemPayload {
  readonly text: string;
  readonly memory: Uint8Array | undefined;
  readonly offset: number;
  readonly byteLength: number;
  readonly encoding: Encoding;
}

const RECORD_BYTES = 48;
const COMMA = 0x2c;

/** A frame of so many items without payloads. */
function template(count: number): Uint8Array {
  const writer = new FrameWriter(FrameKind.BATCH, { records: count, bytes: 0 });
  const type = writer.addString(ITEM);
  const nothing = writer.addString('');
  for (let slot = 0; slot < count; slot++) {
    const at = writer.addRecord();
    const { view } = writer;
    view.setUint32(at, slot, true);
    view.setUint16(at + 4, type, true);
    view.setUint16(at + 6, nothing, true);
    view.setUint16(at + 16, 1, true);
    view.setUint16(at + 24, nothing, true);
  }
  return writer.finish();
}

const RECORDS_AT = new DataView(template(0).buffer).getUint32(16, true);
let longest = template(64);

/** A batch of items, each in the slot that is its position. The frame owns its buffer. */
export function itemFrame(items: readonly ItemPayload[]): Uint8Array<ArrayBuffer> {
  const count = items.length;
  const bytesAt = RECORDS_AT + count * RECORD_BYTES;
  let total = bytesAt + Math.max(0, count - 1);
  let isList = count > 0;
  for (let index = 0; index < count; index++) {
    const { encoding, byteLength } = items[index]!;
    total += byteLength;
    if (encoding !== Encoding.JSON || byteLength === 0) isList = false;
  }
  if (longest.length < bytesAt) longest = template(count);
  // Not out of Node's shared slab: the buffer is transferred.
  const frame = Buffer.allocUnsafeSlow(total) as Buffer<ArrayBuffer>;
  frame.set(bytesAt === longest.length ? longest : longest.subarray(0, bytesAt));
  const view = new DataView(frame.buffer);
  view.setUint16(6, isList ? FrameFlag.JSON_LIST : 0, true);
  view.setUint32(8, count, true);
  view.setUint32(20, bytesAt, true);
  view.setUint32(24, total, true);
  // Neighbours in memory, with the comma between them, are copied together.
  let run: Uint8Array | undefined;
  let runFrom = 0;
  let runTo = 0;
  let runAt = 0;
  let at = bytesAt;
  for (let index = 0; index < count; index++) {
    const { text, memory, offset, byteLength, encoding } = items[index]!;
    const record = RECORDS_AT + index * RECORD_BYTES;
    view.setUint16(record + 26, encoding, true);
    view.setUint32(record + 32, at - bytesAt, true);
    view.setUint32(record + 36, byteLength, true);
    if (memory !== undefined && memory === run && offset === runTo + 1) {
      runTo = offset + byteLength;
    } else {
      if (run !== undefined) frame.set(run.subarray(runFrom, runTo), runAt);
      run = memory;
      runFrom = offset;
      runTo = offset + byteLength;
      runAt = at;
      if (memory === undefined) writeText(frame, text, at, byteLength);
    }
    at += byteLength;
    if (at < total) frame[at++] = COMMA;
  }
  if (run !== undefined) frame.set(run.subarray(runFrom, runTo), runAt);
  return frame;
}

function writeText(frame: Buffer, text: string, at: number, byteLength: number): void {
  // Equal lengths mean ASCII, which the latin1 writer copies without transcoding.
  frame.write(text, at, byteLength, byteLength === text.length ? 'latin1' : 'utf8');
}

/** A results frame, record by record. */
export class ItemResults {
  readonly count: number;
  readonly #reader: FrameReader;
  readonly #text: FrameText;
  /** All values, where they could be read in one go. */
  readonly #values: readonly unknown[] | undefined;

  /** @throws ERR_MILLRACE_STORE_CORRUPT when the frame's outer shape is wrong */
  constructor(frame: Uint8Array) {
    this.#reader = openFrame(frame, FrameKind.RESULTS);
    this.count = this.#reader.count;
    this.#text = new FrameText(this.#reader);
    this.#values = this.#text.list();
  }

  slot(index: number): number {
    return this.#reader.view.getUint32(this.#reader.recordAt(index), true);
  }

  outcome(index: number): Outcome {
    const outcome = this.#reader.view.getUint8(this.#reader.recordAt(index) + 4);
    return isOutcome(outcome) ? outcome : Outcome.FAILED_FOR_GOOD;
  }

  runMs(index: number): number {
    return this.#reader.view.getFloat64(this.#reader.recordAt(index) + 8, true);
  }

  /** The value of a completed item, or what else the record has. @throws SyntaxError for bytes that are not JSON */
  value(index: number): unknown {
    if (this.#values !== undefined) return this.#values[index];
    const { view } = this.#reader;
    const at = this.#reader.recordAt(index);
    return this.#text.value(
      view.getUint8(at + 5),
      view.getUint32(at + 16, true),
      view.getUint32(at + 20, true),
    );
  }
}
