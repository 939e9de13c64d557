/**
 * The account of one batch, in memory that both threads see: which tasks have begun, and when; which have ended; and
 * the results that are not on their way yet.
 *
 *   [0] u32 results   [4] u32 bytes of JSON   [8] u64 zero
 *   [16] marks: one f64 per record of the batch: 0 not begun, above 0 when its handler was called (milliseconds on
 *        the running thread's clock), below 0 ended
 *   then result records as in a results frame, 24 bytes each; then their JSON, with commas between, or bytes
 *
 * The running thread appends a result when a task ends and takes all of them into a frame when it reports. If it
 * dies in between, the other side takes what is left: a task that ended is not lost with its thread, however that
 * dies, and a task that had not begun is known for certain. The count is stored last, so a result is in the log
 * either whole or not at all. (Between taking a frame and sending it lie a few microseconds in which a kill does
 * lose results. That way round they are lost, which the owner of a task is ready for, and never told twice.)
 *
 * Copying from here into the frame replaces the copy that any frame writer makes, so the log costs nothing extra.
 * Thread safety: one thread at a time; the other one reads after the first has ended. Marks may be read at any time:
 * each is one aligned store, and what is seen late is looked at again.
 */
import { Encoding } from '../core/codec.js';
import {
  FRAME_HEADER_BYTES,
  FrameFlag,
  FrameKind,
  FrameWriter,
  recordBytes,
} from '../core/frame.js';
import type { Outcome } from '../core/states.js';

const HEAD_BYTES = 16;
const MARK_BYTES = 8;
const ENDED = -1;
const COMMA = 0x2c;
const RECORD_BYTES = recordBytes(FrameKind.RESULTS);
/** Results of a batch until it reports. More is no harm: it reports in between. */
const JSON_BYTES = 131_072;
/** A results frame without results: what `take` starts from. */
const EMPTY_FRAME = new FrameWriter(FrameKind.RESULTS, { records: 0, bytes: 0 }).finish();

export class ResultLog {
  readonly memory: ArrayBuffer | SharedArrayBuffer;
  /** Records of the largest batch it can account for. */
  readonly capacity: number;
  readonly #head: Uint32Array;
  readonly #marks: Float64Array;
  readonly #view: DataView;
  readonly #recordsAt: number;
  readonly #json: Buffer;
  #count: number;
  #jsonUsed: number;
  /** Whether every result in it is JSON, so that the frame is a list. */
  #isList: boolean;

  /** Over memory of `bytesFor` bytes, zeroed or written by another log. */
  constructor(memory: ArrayBuffer | SharedArrayBuffer, capacity: number) {
    this.memory = memory;
    this.capacity = capacity;
    this.#head = new Uint32Array(memory, 0, 2);
    this.#marks = new Float64Array(memory, HEAD_BYTES, capacity);
    this.#recordsAt = HEAD_BYTES + capacity * MARK_BYTES;
    this.#view = new DataView(memory, this.#recordsAt, capacity * RECORD_BYTES);
    this.#json = Buffer.from(memory, this.#recordsAt + capacity * RECORD_BYTES);
    this.#count = Atomics.load(this.#head, 0);
    this.#jsonUsed = this.#head[1]!;
    this.#isList = this.#count === 0;
  }

  static bytesFor(capacity: number): number {
    return HEAD_BYTES + capacity * (MARK_BYTES + RECORD_BYTES) + JSON_BYTES;
  }

  /** Results not taken yet. */
  get count(): number {
    return this.#count;
  }

  /** The task's handler is about to be called. */
  begin(index: number, nowMs: number): void {
    this.#marks[index] = nowMs > 0 ? nowMs : Number.MIN_VALUE;
  }

  /** The task has its result, whether its handler was called or not. */
  end(index: number): void {
    this.#marks[index] = ENDED;
  }

  hasBegun(index: number): boolean {
    return this.#marks[index] !== 0;
  }

  /** When the handler was called, on the running thread's clock; 0 before, negative when the task has ended. */
  startedAtMs(index: number): number {
    return this.#marks[index]!;
  }

  /** Whether `add` has room for so many bytes now; after `take`, if at all. */
  hasRoom(byteLength: number): boolean {
    const comma = this.#jsonUsed > 0 ? 1 : 0;
    return this.#jsonUsed + comma + byteLength <= JSON_BYTES && this.#count < this.capacity;
  }

  /**
   * REQUIRES: hasRoom(byteLength). `byteLength` is the UTF-8 length of a text, 0 for `undefined`; the result is JSON if
   * it is a text.
   */
  add(
    slot: number,
    outcome: Outcome,
    attempt: number,
    runMs: number,
    result: string | Uint8Array | ArrayBuffer,
    byteLength: number,
  ): void {
    const view = this.#view;
    const at = this.#count * RECORD_BYTES;
    if (this.#jsonUsed > 0) this.#json[this.#jsonUsed++] = COMMA;
    const resultAt = this.#jsonUsed;
    view.setUint32(at, slot, true);
    view.setUint8(at + 4, outcome);
    view.setUint8(at + 5, encodingOf(result));
    view.setUint16(at + 6, attempt, true);
    view.setFloat64(at + 8, runMs, true);
    view.setUint32(at + 16, byteLength === 0 ? 0 : resultAt, true);
    view.setUint32(at + 20, byteLength, true);
    if (typeof result !== 'string') {
      this.#isList = false;
      this.#json.set(result instanceof Uint8Array ? result : new Uint8Array(result), resultAt);
    } else if (byteLength === 0) {
      this.#isList = false;
    } else if (byteLength === result.length) {
      // Equal lengths mean ASCII, which the latin1 writer copies without transcoding.
      this.#json.write(result, resultAt, byteLength, 'latin1');
    } else {
      this.#json.write(result, resultAt, byteLength, 'utf8');
    }
    this.#jsonUsed = resultAt + byteLength;
    this.#head[1] = this.#jsonUsed;
    this.#count++;
    Atomics.store(this.#head, 0, this.#count);
  }

  /** Takes all results out, as a frame of their own. REQUIRES: count > 0. */
  take(): Uint8Array<ArrayBuffer> {
    const recordsBytes = this.#count * RECORD_BYTES;
    const bytesOffset = FRAME_HEADER_BYTES + recordsBytes;
    const frame = new Uint8Array(bytesOffset + this.#jsonUsed);
    frame.set(EMPTY_FRAME);
    const header = new DataView(frame.buffer);
    header.setUint16(6, this.#isList ? FrameFlag.JSON_LIST : 0, true);
    header.setUint32(8, this.#count, true);
    header.setUint32(20, bytesOffset, true);
    header.setUint32(24, frame.length, true);
    frame.set(new Uint8Array(this.memory, this.#recordsAt, recordsBytes), FRAME_HEADER_BYTES);
    frame.set(this.#json.subarray(0, this.#jsonUsed), bytesOffset);
    this.#reset();
    return frame;
  }

  /** For the next batch. */
  clear(): void {
    this.#marks.fill(0);
    this.#reset();
  }

  #reset(): void {
    this.#count = 0;
    this.#jsonUsed = 0;
    this.#isList = true;
    this.#head[1] = 0;
    Atomics.store(this.#head, 0, 0);
  }
}

/** A frame with one result that is larger than a log. */
export function singleResult(
  slot: number,
  outcome: Outcome,
  attempt: number,
  runMs: number,
  result: string | Uint8Array | ArrayBuffer,
): Uint8Array<ArrayBuffer> {
  const writer = new FrameWriter(FrameKind.RESULTS, { records: 1, bytes: 0 });
  const at = writer.addRecord();
  const bytes =
    typeof result === 'string' ? Buffer.from(result) : new Uint8Array(result as ArrayBuffer);
  const { view } = writer;
  view.setUint32(at, slot, true);
  view.setUint8(at + 4, outcome);
  view.setUint8(at + 5, encodingOf(result));
  view.setUint16(at + 6, attempt, true);
  view.setFloat64(at + 8, runMs, true);
  view.setUint32(at + 16, writer.addBytes(bytes), true);
  view.setUint32(at + 20, bytes.length, true);
  return writer.finish();
}

function encodingOf(result: string | Uint8Array | ArrayBuffer): Encoding {
  if (typeof result === 'string') return Encoding.JSON;
  return result instanceof Uint8Array ? Encoding.BYTES : Encoding.ARRAY_BUFFER;
}
