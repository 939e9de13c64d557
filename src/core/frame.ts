/**
 * Frames: one binary buffer that holds up to a few hundred records.
 *
 * Main thread, worker threads, the native core and the store all speak this format; the byte-by-byte reference is
 * docs/internals/frame-format.md. Little-endian; every kind shares the outer shape:
 *
 *   header | string table | records (fixed size, 8-aligned) | bytes
 *
 *   header, 32 bytes:
 *     [0] u32 magic 'MRF1'   [4] u8 version   [5] u8 kind      [6] u16 flags
 *     [8] u32 records        [12] u32 strings [16] u32 recordsOffset
 *     [20] u32 bytesOffset   [24] u32 total   [28] u32 zero
 *   string table: per string u16 byte length + UTF-8; then zeros up to a multiple of 8
 *
 * Offsets in records count from `bytesOffset`. Frames come from disks, networks and other threads, so a decoder
 * believes nothing: `openFrame` checks the outer shape once, the typed readers check each reference they follow,
 * and a bad frame is ERR_MILLRACE_STORE_CORRUPT with the reason, never a crash or a read outside the frame.
 */
import { invariant, MillraceError } from './errors.js';

export const FrameKind = { TASKS: 1, BATCH: 2, RESULTS: 3, STATES: 4 } as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

/** Bits of the header's flags. */
export const FrameFlag = {
  /** The bytes area, with brackets around it, is one JSON array: a value per record, in their order. */
  JSON_LIST: 1,
} as const;

/** Written into every frame; a reader refuses newer ones. */
export const FRAME_VERSION = 1;
export const FRAME_HEADER_BYTES = 32;
/** More records than any writer puts into one frame. */
export const FRAME_RECORDS_MAX = 4_096;

const MAGIC = 0x3146524d; // 'MRF1' read as little-endian u32
const STRINGS_MAX = 65_535;
const STRING_BYTES_MAX = 65_535;

const RECORD_BYTES: Readonly<Record<FrameKind, number>> = {
  [FrameKind.TASKS]: 64,
  [FrameKind.BATCH]: 48,
  [FrameKind.RESULTS]: 24,
  [FrameKind.STATES]: 40,
};

const EMPTY = new Uint8Array(0);

/** Bytes of one record of a kind. */
export function recordBytes(kind: FrameKind): number {
  return RECORD_BYTES[kind];
}

/**
 * Builds a frame. Records and bytes grow side by side and are joined by `finish()`; a writer is reusable after
 * `reset()`, so the hot path allocates nothing but the finished frame.
 */
export class FrameWriter {
  readonly #kind: FrameKind;
  readonly #recordBytes: number;
  #records: Buffer;
  #view: DataView;
  #bytes: Buffer;
  #bytesUsed = 0;
  #count = 0;
  #strings: string[] = [];
  #stringIndex = new Map<string, number>();
  #stringBytes = 0;

  constructor(kind: FrameKind, expected: { records?: number; bytes?: number } = {}) {
    this.#kind = kind;
    this.#recordBytes = RECORD_BYTES[kind];
    this.#records = Buffer.alloc((expected.records ?? 64) * this.#recordBytes);
    this.#view = viewOf(this.#records);
    this.#bytes = Buffer.allocUnsafe(expected.bytes ?? 16_384);
  }

  /** Records so far. */
  get count(): number {
    return this.#count;
  }

  /** What `finish()` would return, in bytes. */
  get frameBytes(): number {
    return this.#recordsOffset() + this.#count * this.#recordBytes + this.#bytesUsed;
  }

  /** Appends a zeroed record and returns its offset in `view`. */
  addRecord(): number {
    const offset = this.#count * this.#recordBytes;
    if (offset + this.#recordBytes > this.#records.length) {
      const grown = Buffer.alloc(Math.max(this.#records.length * 2, offset + this.#recordBytes));
      this.#records.copy(grown);
      this.#records = grown;
      this.#view = viewOf(grown);
    }
    this.#count++;
    return offset;
  }

  /** Where records are written. Fetch it after `addRecord()`: growing replaces it. */
  get view(): DataView {
    return this.#view;
  }

  /** The table index of a string, added when new. REQUIRES: at most FRAME_STRING_BYTES_MAX bytes of UTF-8. */
  addString(text: string): number {
    let index = this.#stringIndex.get(text);
    if (index === undefined) {
      const bytes = Buffer.byteLength(text);
      // A longer one would wrap its length field and take the frame with it.
      invariant(bytes <= STRING_BYTES_MAX, 'frame.string', { bytes });
      index = this.#strings.length;
      this.#strings.push(text);
      this.#stringIndex.set(text, index);
      this.#stringBytes += 2 + bytes;
    }
    return index;
  }

  /** Appends bytes and returns their offset. */
  addBytes(bytes: Uint8Array): number {
    const offset = this.#reserve(bytes.length);
    this.#bytes.set(bytes, offset);
    return offset;
  }

  /** Writes characters of ASCII over bytes that were appended: below some dozens of them a loop is faster than a call. */
  overwriteAscii(at: number, text: string): void {
    const bytes = this.#bytes;
    for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
  }

  /** Appends text as UTF-8; `byteLength` is what `Buffer.byteLength` says of it. */
  addText(text: string, byteLength: number): number {
    const offset = this.#reserve(byteLength);
    // Equal lengths mean ASCII, which the latin1 writer copies without transcoding.
    this.#bytes.write(text, offset, byteLength === text.length ? 'latin1' : 'utf8');
    return offset;
  }

  /** The frame, in a buffer of its own. The writer keeps its contents until `reset()`. */
  finish(): Uint8Array<ArrayBuffer> {
    invariant(this.#count <= FRAME_RECORDS_MAX, 'frame.records', { records: this.#count });
    const recordsOffset = this.#recordsOffset();
    const recordsLength = this.#count * this.#recordBytes;
    const bytesOffset = recordsOffset + recordsLength;
    const total = bytesOffset + this.#bytesUsed;
    const frame = new Uint8Array(total);
    const header = new DataView(frame.buffer);
    header.setUint32(0, MAGIC, true);
    header.setUint8(4, FRAME_VERSION);
    header.setUint8(5, this.#kind);
    header.setUint32(8, this.#count, true);
    header.setUint32(12, this.#strings.length, true);
    header.setUint32(16, recordsOffset, true);
    header.setUint32(20, bytesOffset, true);
    header.setUint32(24, total, true);
    let at = FRAME_HEADER_BYTES;
    for (const text of this.#strings) {
      const encoded = Buffer.from(text);
      header.setUint16(at, encoded.length, true);
      frame.set(encoded, at + 2);
      at += 2 + encoded.length;
    }
    frame.set(this.#records.subarray(0, recordsLength), recordsOffset);
    frame.set(this.#bytes.subarray(0, this.#bytesUsed), bytesOffset);
    return frame;
  }

  /** Forgets everything; keeps the room. */
  reset(): void {
    this.#records.fill(0, 0, this.#count * this.#recordBytes);
    this.#count = 0;
    this.#bytesUsed = 0;
    if (this.#strings.length > 0) {
      this.#strings = [];
      this.#stringIndex.clear();
      this.#stringBytes = 0;
    }
  }

  #recordsOffset(): number {
    return alignedTo8(FRAME_HEADER_BYTES + this.#stringBytes);
  }

  #reserve(byteLength: number): number {
    const offset = this.#bytesUsed;
    this.#bytesUsed += byteLength;
    if (this.#bytesUsed > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#bytesUsed));
      this.#bytes.copy(grown, 0, 0, offset);
      this.#bytes = grown;
    }
    return offset;
  }
}

/** A frame whose outer shape has been checked. Readers fetch fields through `view` and follow references safely. */
export class FrameReader {
  readonly kind: FrameKind;
  readonly count: number;
  readonly frame: Uint8Array;
  /** Over the whole frame; record i starts at `recordAt(i)`. */
  readonly view: DataView;
  readonly strings: readonly string[];
  readonly #recordsOffset: number;
  readonly #recordBytes: number;
  readonly #bytesOffset: number;

  /** Use {@link openFrame}. */
  constructor(
    frame: Uint8Array,
    view: DataView,
    shape: {
      kind: FrameKind;
      count: number;
      strings: readonly string[];
      recordsOffset: number;
      bytesOffset: number;
    },
  ) {
    this.frame = frame;
    this.view = view;
    this.kind = shape.kind;
    this.count = shape.count;
    this.strings = shape.strings;
    this.#recordsOffset = shape.recordsOffset;
    this.#recordBytes = RECORD_BYTES[shape.kind];
    this.#bytesOffset = shape.bytesOffset;
  }

  /** Offset of a record in `view`. REQUIRES: 0 <= index < count. */
  recordAt(index: number): number {
    return this.#recordsOffset + index * this.#recordBytes;
  }

  string(index: number): string {
    const text = this.strings[index];
    if (text === undefined) throw badFrame(`string ${index} of ${this.strings.length}`);
    return text;
  }

  /** The bytes a record refers to, as a view into the frame. */
  bytes(offset: number, length: number): Uint8Array {
    if (length === 0) return EMPTY;
    const from = this.placeOf(offset, length);
    return this.frame.subarray(from, from + length);
  }

  /** Where in the frame the bytes begin that a record refers to; for a look at them without a view of their own. */
  placeOf(offset: number, length: number): number {
    const from = this.#bytesOffset + offset;
    if (from + length > this.frame.length) {
      throw badFrame(`bytes [${offset}, ${offset + length}) lie outside the frame`);
    }
    return from;
  }
}

/**
 * Checks a frame's outer shape: header, string table, room for the records.
 *
 * @param frame - any bytes
 * @param kind - the kind the caller can read
 * @throws ERR_MILLRACE_STORE_FORMAT for a version newer than this one
 * @throws ERR_MILLRACE_STORE_CORRUPT for anything else that is not such a frame
 */
export function openFrame(frame: Uint8Array, kind: FrameKind): FrameReader {
  if (frame.length < FRAME_HEADER_BYTES) throw badFrame(`${frame.length} bytes are no header`);
  const view = viewOf(frame);
  if (view.getUint32(0, true) !== MAGIC) throw badFrame('the magic number is not MRF1');
  const version = view.getUint8(4);
  if (version > FRAME_VERSION) {
    throw new MillraceError(
      'ERR_MILLRACE_STORE_FORMAT',
      `a frame has format ${version}, this version reads up to ${FRAME_VERSION}; upgrade millrace`,
      { details: { version, supported: FRAME_VERSION } },
    );
  }
  if (version === 0) throw badFrame('format 0 does not exist');
  if (view.getUint8(5) !== kind) throw badFrame(`kind ${view.getUint8(5)} where ${kind} belongs`);
  const count = view.getUint32(8, true);
  const stringCount = view.getUint32(12, true);
  const recordsOffset = view.getUint32(16, true);
  const bytesOffset = view.getUint32(20, true);
  const total = view.getUint32(24, true);
  if (total !== frame.length) throw badFrame(`it says ${total} bytes and has ${frame.length}`);
  if (count > FRAME_RECORDS_MAX) throw badFrame(`${count} records are above ${FRAME_RECORDS_MAX}`);
  if (stringCount > STRINGS_MAX) throw badFrame(`${stringCount} strings are above ${STRINGS_MAX}`);
  if (recordsOffset % 8 !== 0 || recordsOffset < FRAME_HEADER_BYTES || recordsOffset > total) {
    throw badFrame(`records at ${recordsOffset}`);
  }
  if (bytesOffset !== recordsOffset + count * RECORD_BYTES[kind] || bytesOffset > total) {
    throw badFrame(`bytes at ${bytesOffset} do not follow ${count} records`);
  }
  const strings = new Array<string>(stringCount);
  let at = FRAME_HEADER_BYTES;
  for (let i = 0; i < stringCount; i++) {
    const end = at + 2 + (at + 2 <= recordsOffset ? view.getUint16(at, true) : 0);
    if (end > recordsOffset || at + 2 > recordsOffset) throw badFrame(`string ${i} is cut off`);
    strings[i] = utf8(frame, at + 2, end);
    at = end;
  }
  return new FrameReader(frame, view, { kind, count, strings, recordsOffset, bytesOffset });
}

/** The error for a frame that lies. */
export function badFrame(reason: string): MillraceError {
  return new MillraceError('ERR_MILLRACE_STORE_CORRUPT', `a frame does not decode: ${reason}`, {
    details: { reason },
  });
}

/** Decodes UTF-8 out of a frame without copying it first. */
export function utf8(bytes: Uint8Array, from = 0, to: number = bytes.length): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8', from, to);
}

/** Longest string the table takes, in UTF-8 bytes; callers check before they add. */
export const FRAME_STRING_BYTES_MAX: number = STRING_BYTES_MAX;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function alignedTo8(length: number): number {
  return (length + 7) & ~7;
}
