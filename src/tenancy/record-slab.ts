/**
 * RecordSlab: memory for millions of small records of any size, outside the JavaScript heap.
 *
 * Records are appended to segments of equal size, as in a log. A record that is replaced or dropped is only marked dead;
 * when the segments are used up, the one with the most dead bytes is emptied: what lives in it is copied into the
 * reserve, which then goes on as the open segment, and the emptied one becomes the reserve.
 *
 *   |#####.##|  |##.#....|  |#####   |  |        |        # live   . dead
 *                 ^ victim     open       reserve
 *
 * An address is one number: record positions in steps of 8 bytes, counted over all segments. 0 is no address. Addresses
 * change when a segment is emptied: whoever keeps some is told, record by record (`onMove`). append() is what moves.
 *
 *   record, a multiple of 8 bytes:
 *     [0] u32 bytes of the record   [4] u32 hash of the key   [8] f64 revision
 *     [16] u32 next  [20] u32 previous  [24] u32 other        addresses, or what the owner likes
 *     [28] u32 value bytes   [32] u16 key bytes   [34] u16 flags
 *     [36] u32 x 3                                            only in records with the flag TENANT
 *     key (one byte a character), value
 *
 * Cost: append O(bytes). Emptying a segment copies at most its size; with at most `LIVE_SHARE_MAX` of the room alive,
 * each emptying frees at least the rest of a segment's worth.
 */
import { invariant } from '../core/errors.js';

export type Address = number;

/** A record's fields, by their place in u32. */
export const Field = {
  HASH: 1,
  NEXT: 4,
  PREVIOUS: 5,
  OTHER: 6,
  VALUE_BYTES: 7,
  OLDEST: 9,
  WRITER: 10,
  COUNT: 11,
} as const;

export const Flag = {
  /** Free; the length is still right. */
  DEAD: 1,
  TENANT: 2,
  /** Known not to be in the store. */
  ABSENT: 4,
  /** Ends with a lease. */
  LEASED: 8,
  /** Read since the hand of eviction last came by. */
  USED: 16,
  /** It is being read from the store: it stays. */
  PENDING: 32,
  /** What the store has is not known; the revision is one that it is above. */
  UNKNOWN: 64,
  /** Somebody wants to be told of it: it stays. */
  PINNED: 128,
  /** Characters of its names are encoded in the key. */
  ENCODED: 256,
} as const;

/** Where the key of a record without the flag TENANT begins. */
export const HEADER_BYTES = 36;
const TENANT_BYTES = 12;
/** In u16. */
export const KEY_BYTES_AT = 16;
/** In u16. */
export const FLAGS_AT = 17;
const SEGMENT_BYTES_MAX = 512 * 1024;
const SEGMENT_BYTES_MIN = 16 * 1024;
/** Fewer segments waste too much in the reserve. */
const SEGMENTS_WANTED = 16;
const LIVE_SHARE_MAX = 0.85;
/** A segment of which less is alive is emptied before another one is taken. */
const SPARSE_SHARE = 0.85;
/** Fewer need no tidying. */
const SPARSE_SEGMENTS_MIN = 4;

/** Memory of one segment, seen in four ways. */
export interface Segment {
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly f64: Float64Array;
  used: number;
  live: number;
}

export class RecordSlab {
  readonly segmentBytes: number;
  readonly #segmentsMax: number;
  readonly #shift: number;
  readonly #mask: number;
  readonly #segments: Segment[] = [];
  readonly #onMove: (from: Address, to: Address) => void;
  #open = 0;
  #reserve = -1;
  #live = 0;

  /**
   * @param bytesMax - for all segments together
   * @param onMove - a record has been copied; the old one is still readable during the call
   */
  constructor(bytesMax: number, onMove: (from: Address, to: Address) => void) {
    let segmentBytes = SEGMENT_BYTES_MAX;
    while (segmentBytes > SEGMENT_BYTES_MIN && bytesMax / segmentBytes < SEGMENTS_WANTED) {
      segmentBytes /= 2;
    }
    this.segmentBytes = segmentBytes;
    this.#segmentsMax = Math.max(3, Math.floor(bytesMax / segmentBytes));
    this.#shift = Math.log2(segmentBytes / 8);
    this.#mask = segmentBytes / 8 - 1;
    this.#onMove = onMove;
    this.#segments.push(newSegment(segmentBytes));
    // Nothing has the address 0.
    this.#segments[0]!.used = 8;
  }

  /** Held now: whole segments. */
  get bytes(): number {
    return this.#segments.length * this.segmentBytes;
  }

  /** Of records that live. */
  get liveBytes(): number {
    return this.#live;
  }

  /** Records that live may have so many bytes; above it, append() may find no room. */
  get liveBytesMax(): number {
    return Math.floor((this.#segmentsMax - 1) * this.segmentBytes * LIVE_SHARE_MAX);
  }

  /** The largest record. */
  get recordBytesMax(): number {
    return Math.floor(this.segmentBytes * (1 - LIVE_SHARE_MAX) * 0.9);
  }

  static recordBytes(keyBytes: number, valueBytes: number, isTenant: boolean): number {
    return (HEADER_BYTES + (isTenant ? TENANT_BYTES : 0) + keyBytes + valueBytes + 7) & ~7;
  }

  /**
   * A new record; its links and value are the caller's to fill. May move others.
   * REQUIRES: recordBytes <= recordBytesMax, and liveBytes with it <= liveBytesMax.
   */
  append(key: string, hash: number, valueBytes: number, flags: number): Address {
    const isTenant = (flags & Flag.TENANT) !== 0;
    const bytes = RecordSlab.recordBytes(key.length, valueBytes, isTenant);
    let segment = this.#segments[this.#open]!;
    if (segment.used + bytes > this.segmentBytes) {
      this.#makeRoom(bytes);
      segment = this.#segments[this.#open]!;
    }
    const at = segment.used;
    segment.used += bytes;
    segment.live += bytes;
    this.#live += bytes;
    const word = at >>> 2;
    segment.u32.fill(0, word, word + ((HEADER_BYTES + TENANT_BYTES) >>> 2));
    segment.u32[word] = bytes;
    segment.u32[word + Field.HASH] = hash;
    segment.f64[(at >>> 3) + 1] = 0;
    segment.u32[word + Field.VALUE_BYTES] = valueBytes;
    segment.u16[(at >>> 1) + KEY_BYTES_AT] = key.length;
    segment.u16[(at >>> 1) + FLAGS_AT] = flags;
    const keyAt = at + HEADER_BYTES + (isTenant ? TENANT_BYTES : 0);
    for (let i = 0; i < key.length; i++) segment.u8[keyAt + i] = key.charCodeAt(i);
    return (this.#open << this.#shift) + (at >>> 3);
  }

  /** Frees a record. */
  drop(address: Address): void {
    const bytes = this.field(address, 0);
    this.setFlags(address, Flag.DEAD);
    const segment = this.#segments[address >>> this.#shift]!;
    segment.live -= bytes;
    this.#live -= bytes;
  }

  field(address: Address, field: number): number {
    return this.#segments[address >>> this.#shift]!.u32[((address & this.#mask) << 1) + field]!;
  }

  setField(address: Address, field: number, value: number): void {
    this.#segments[address >>> this.#shift]!.u32[((address & this.#mask) << 1) + field] = value;
  }

  revision(address: Address): number {
    return this.#segments[address >>> this.#shift]!.f64[(address & this.#mask) + 1]!;
  }

  setRevision(address: Address, revision: number): void {
    this.#segments[address >>> this.#shift]!.f64[(address & this.#mask) + 1] = revision;
  }

  flags(address: Address): number {
    return this.#segments[address >>> this.#shift]!.u16[((address & this.#mask) << 2) + FLAGS_AT]!;
  }

  setFlags(address: Address, flags: number): void {
    this.#segments[address >>> this.#shift]!.u16[((address & this.#mask) << 2) + FLAGS_AT] = flags;
  }

  keyBytes(address: Address): number {
    return this.#segments[address >>> this.#shift]!.u16[
      ((address & this.#mask) << 2) + KEY_BYTES_AT
    ]!;
  }

  /** The segment a record lies in, for paths that read much of it. */
  segmentOf(address: Address): Segment {
    return this.#segments[address >>> this.#shift]!;
  }

  /** Where in its segment a record begins, in bytes. */
  offsetOf(address: Address): number {
    return (address & this.#mask) << 3;
  }

  /** The memory a record lies in; positions in it come from {@link keyAt} and {@link valueAt}. */
  memory(address: Address): Uint8Array {
    return this.#segments[address >>> this.#shift]!.u8;
  }

  keyAt(address: Address): number {
    const isTenant = (this.flags(address) & Flag.TENANT) !== 0;
    return ((address & this.#mask) << 3) + HEADER_BYTES + (isTenant ? TENANT_BYTES : 0);
  }

  valueAt(address: Address): number {
    return this.keyAt(address) + this.keyBytes(address);
  }

  #makeRoom(bytes: number): void {
    const victim = this.#emptiest();
    const isSparse =
      this.#segments.length >= SPARSE_SEGMENTS_MIN &&
      this.#segments[victim]!.live + bytes < this.segmentBytes * SPARSE_SHARE;
    const isLast = this.#segments.length >= this.#segmentsMax - (this.#reserve < 0 ? 1 : 0);
    if (!isSparse && !isLast) {
      this.#open = this.#segments.push(newSegment(this.segmentBytes)) - 1;
      return;
    }
    if (this.#reserve < 0) this.#reserve = this.#segments.push(newSegment(this.segmentBytes)) - 1;
    // Where no segment may be added, some have room, since not all of the room is alive; the emptiest has most.
    const target = this.#reserve;
    this.#empty(victim, target);
    this.#open = target;
    this.#reserve = victim;
    invariant(this.#segments[target]!.used + bytes <= this.segmentBytes, 'record-slab-room');
  }

  #emptiest(): number {
    let best = -1;
    for (const [index, { live }] of this.#segments.entries()) {
      if (index === this.#reserve) continue;
      if (best < 0 || live < this.#segments[best]!.live) best = index;
    }
    return best;
  }

  /** Copies what lives in one segment into another, empty one. */
  #empty(from: number, to: number): void {
    const source = this.#segments[from]!;
    const target = this.#segments[to]!;
    for (let at = from === 0 ? 8 : 0; at < source.used; ) {
      const bytes = source.u32[at >>> 2]!;
      if ((source.u16[(at >>> 1) + FLAGS_AT]! & Flag.DEAD) === 0) {
        target.u8.set(source.u8.subarray(at, at + bytes), target.used);
        const address = (to << this.#shift) + (target.used >>> 3);
        target.used += bytes;
        target.live += bytes;
        this.#onMove((from << this.#shift) + (at >>> 3), address);
      }
      at += bytes;
    }
    source.used = from === 0 ? 8 : 0;
    source.live = 0;
  }
}

function newSegment(bytes: number): Segment {
  const buffer = new ArrayBuffer(bytes);
  return {
    u8: new Uint8Array(buffer),
    u16: new Uint16Array(buffer),
    u32: new Uint32Array(buffer),
    f64: new Float64Array(buffer),
    used: 0,
    live: 0,
  };
}
