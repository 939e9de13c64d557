/**
 * Protocol Buffers, as much of it as etcd's messages need: a writer and a reader without an object per field.
 *
 *   field  = tag varint (number << 3 | wire type), then   0: varint   2: length varint + bytes   (1, 5: skipped)
 *   varint = 7 bits a byte, lowest first, high bit = "more follows"; a negative int64 takes all 10 bytes
 *
 * The writer runs **backwards**, from the end of its buffer to the front: when a nested message is complete its
 * length is known, so the length goes in front of it without a second pass and without moving a byte. Fields are
 * therefore written last first, the members of a repeated field too. `finish()` puts gRPC's prefix before all of it.
 *
 *   Message:  [0] u8 compressed = 0   [1] u32 big-endian length   [5] body
 *
 * Numbers: revisions, counts and ids of watches fit a double exactly (below 2^53) and are numbers. Lease ids use all
 * 64 bits and travel as lower-case hex, which is how etcd's own recipes spell them in keys; they are put together
 * from two 32-bit halves, without BigInt. The last id read is remembered, since neighbours usually share a lease.
 *
 * The reader trusts nothing: what does not decode is a ProtobufError, whatever the bytes.
 *
 * Source: protobuf.dev/programming-guides/encoding; writing backwards is what gogo/protobuf's MarshalToSizedBuffer does.
 */
import type { LeaseId } from '../../core/store.js';

/** Bytes that are not the message they should be. Internal: the transport turns it into a failure of the call. */
export class ProtobufError extends Error {
  override readonly name = 'ProtobufError';
}

/** An encoded message with gRPC's prefix, ready to be sent. */
export type Message = Uint8Array & { readonly __brand: 'Message' };

/** Bytes of gRPC's prefix: a flag and the length of the body. */
export const PREFIX_BYTES = 5;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
const TWO_32 = 4_294_967_296;
const LEASE_FORM = /^[0-9a-f]{1,16}$/;

/** Encodes one message after another; not two at a time. Field numbers are below 16 (a tag of one byte). */
export class Writer {
  #buffer: Buffer;
  /** What is written is `[#at, length)`. */
  #at: number;

  /** @param bytes - room to begin with; it grows as needed and stays */
  constructor(bytes = 4_096) {
    this.#buffer = Buffer.allocUnsafeSlow(bytes);
    this.#at = bytes;
  }

  /** A whole number from 0 to 2^53; 0 is the default and is left out. */
  uint(field: number, value: number): void {
    if (value === 0) return;
    this.#reserve(11);
    this.#varint(value);
    this.#buffer[--this.#at] = (field << 3) | VARINT;
  }

  bool(field: number, value: boolean): void {
    if (value) this.uint(field, 1);
  }

  /** @param value - lower-case hex; the id is positive, as all of etcd's are */
  leaseId(field: number, value: LeaseId): void {
    if (!LEASE_FORM.test(value)) throw new ProtobufError(`lease id '${value}' is no 64-bit hex`);
    const split = Math.max(0, value.length - 8);
    const high = split === 0 ? 0 : Number.parseInt(value.slice(0, split), 16);
    const low = Number.parseInt(value.slice(split), 16);
    this.#reserve(11);
    this.#varint64(high, low);
    this.#buffer[--this.#at] = (field << 3) | VARINT;
  }

  /** Copies the bytes. Empty ones are the default and are left out. */
  bytes(field: number, value: Uint8Array): void {
    if (value.length > 0) this.presentBytes(field, value);
  }

  /** The same, written even when empty: a member of a oneof or of a repeated field. */
  presentBytes(field: number, value: Uint8Array): void {
    const { length } = value;
    this.#reserve(length + 6);
    this.#at -= length;
    this.#buffer.set(value, this.#at);
    this.#varint(length);
    this.#buffer[--this.#at] = (field << 3) | BYTES;
  }

  /** Characters up to 0xff, a byte each: keys. */
  latin1(field: number, value: string): void {
    const { length } = value;
    if (length === 0) return;
    this.#reserve(length + 6);
    this.#at -= length;
    this.#buffer.write(value, this.#at, length, 'latin1');
    this.#varint(length);
    this.#buffer[--this.#at] = (field << 3) | BYTES;
  }

  utf8(field: number, value: string): void {
    this.bytes(field, Buffer.from(value, 'utf8'));
  }

  /** Where a nested message will end: take it, write the fields, then `close()`. */
  open(): number {
    return this.#buffer.length - this.#at;
  }

  /** Puts tag and length before what was written since `open()` gave `mark`. */
  close(field: number, mark: number): void {
    this.#reserve(6);
    this.#varint(this.#buffer.length - this.#at - mark);
    this.#buffer[--this.#at] = (field << 3) | BYTES;
  }

  /** The message, in bytes of its own; the writer is empty again. */
  finish(): Message {
    const body = this.#buffer.length - this.#at;
    this.#reserve(PREFIX_BYTES);
    const start = this.#at - PREFIX_BYTES;
    this.#buffer[start] = 0;
    this.#buffer.writeUInt32BE(body, start + 1);
    const message = Buffer.allocUnsafe(body + PREFIX_BYTES);
    this.#buffer.copy(message, 0, start);
    this.#at = this.#buffer.length;
    return message as Uint8Array as Message;
  }

  /** Forgets what was written: after an error in the middle of a message. */
  reset(): void {
    this.#at = this.#buffer.length;
  }

  #varint(value: number): void {
    if (value < 0x80) {
      this.#buffer[--this.#at] = value;
    } else if (value < 0x4000) {
      this.#buffer[--this.#at] = value >>> 7;
      this.#buffer[--this.#at] = (value & 0x7f) | 0x80;
    } else {
      this.#varint64(Math.floor(value / TWO_32), value >>> 0);
    }
  }

  #varint64(high: number, low: number): void {
    let size = 1;
    for (let h = high, l = low >>> 0; h !== 0 || l >= 0x80; size++) {
      l = ((l >>> 7) | (h << 25)) >>> 0;
      h >>>= 7;
    }
    let at = this.#at - size;
    this.#at = at;
    let [h, l] = [high, low];
    for (let left = size; left > 1; left--) {
      this.#buffer[at++] = (l & 0x7f) | 0x80;
      l = ((l >>> 7) | (h << 25)) >>> 0;
      h >>>= 7;
    }
    this.#buffer[at] = l;
  }

  #reserve(bytes: number): void {
    if (this.#at >= bytes) return;
    const used = this.#buffer.length - this.#at;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, used + bytes));
    this.#buffer.copy(grown, grown.length - used, this.#at);
    this.#buffer = grown;
    this.#at = grown.length - used;
  }
}

/** Decodes one message. Every method @throws ProtobufError for bytes that do not fit. */
export class Reader {
  readonly #buffer: Buffer;
  #at = 0;
  #high = 0;
  #low = 0;
  #leaseHigh = 0;
  #leaseLow = 0;
  #leaseId = '0' as LeaseId;

  constructor(body: Uint8Array) {
    this.#buffer = Buffer.isBuffer(body)
      ? body
      : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  }

  /** Where the whole message ends: the `end` of the outermost loop. */
  get length(): number {
    return this.#buffer.length;
  }

  /** The next tag of the message that ends at `end`; 0 when there is none left. */
  tag(end: number): number {
    if (this.#at === end) return 0;
    if (this.#at > end) throw new ProtobufError('a field is longer than its message');
    const byte = this.#buffer[this.#at]!;
    if (byte < 0x80) {
      this.#at++;
      if (byte < 8) throw new ProtobufError('field number 0');
      return byte;
    }
    const tag = this.uint();
    if (tag < 8 || tag >= TWO_32) throw new ProtobufError(`tag ${tag}`);
    return tag;
  }

  /** A whole number from 0 to 2^53. */
  uint(): number {
    const byte = this.#buffer[this.#at];
    if (byte !== undefined && byte < 0x80) {
      this.#at++;
      return byte;
    }
    this.#varint();
    if (this.#high >= 0x200000) throw new ProtobufError('a number above 2^53');
    return this.#high * TWO_32 + this.#low;
  }

  /** An int64 or int32 between -2^53 and 2^53. */
  int(): number {
    const byte = this.#buffer[this.#at];
    if (byte !== undefined && byte < 0x80) {
      this.#at++;
      return byte;
    }
    this.#varint();
    const high = this.#high | 0;
    if (high >= 0x200000 || high < -0x200000) throw new ProtobufError('a number beyond 2^53');
    return high * TWO_32 + this.#low;
  }

  bool(): boolean {
    this.#varint();
    return this.#low !== 0 || this.#high !== 0;
  }

  /** The id in hex; undefined for 0, etcd's "none". */
  leaseId(): LeaseId | undefined {
    this.#varint();
    const [high, low] = [this.#high, this.#low];
    if (high === 0 && low === 0) return undefined;
    if (high !== this.#leaseHigh || low !== this.#leaseLow) {
      this.#leaseHigh = high;
      this.#leaseLow = low;
      const hex = low.toString(16);
      this.#leaseId = (high === 0 ? hex : high.toString(16) + hex.padStart(8, '0')) as LeaseId;
    }
    return this.#leaseId;
  }

  /** A view of the message's bytes, not a copy. */
  bytes(): Uint8Array {
    const end = this.open();
    const view = this.#buffer.subarray(this.#at, end);
    this.#at = end;
    return view;
  }

  /**
   * Bytes that may be kept: a copy, so that a small value does not hold a whole answer in memory, unless they are
   * most of the message anyway.
   */
  ownBytes(): Uint8Array {
    const view = this.bytes();
    return view.length * 2 > this.#buffer.length ? view : Buffer.from(view);
  }

  /**
   * Bytes as characters up to 0xff: keys.
   *
   * @param skip - how many to leave out at the front: a prefix that is known
   */
  latin1(skip = 0): string {
    const end = this.open();
    const text = this.#buffer.toString('latin1', this.#at + skip, end);
    this.#at = end;
    return text;
  }

  utf8(): string {
    const end = this.open();
    const text = this.#buffer.toString('utf8', this.#at, end);
    this.#at = end;
    return text;
  }

  /** Enters a nested message. @returns its end, for `tag()` */
  open(): number {
    const length = this.uint();
    const end = this.#at + length;
    if (end > this.#buffer.length) {
      throw new ProtobufError(`${length} bytes where ${this.#buffer.length - this.#at} are left`);
    }
    return end;
  }

  /** Leaves out a field that nobody wants. */
  skip(tag: number): void {
    const wire = tag & 7;
    if (wire === VARINT) this.#varint();
    else if (wire === BYTES) this.#at = this.open();
    else if (wire === FIXED64) this.#at += 8;
    else if (wire === FIXED32) this.#at += 4;
    else throw new ProtobufError(`wire type ${wire}`);
    if (this.#at > this.#buffer.length) throw new ProtobufError('a field is cut short');
  }

  /** Reads 64 bits into `#high` and `#low`, both unsigned. */
  #varint(): void {
    let [low, high] = [0, 0];
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#buffer[this.#at++];
      if (byte === undefined) throw new ProtobufError('a number is cut short');
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else high |= bits << (shift - 32);
      if (byte < 0x80) {
        this.#low = low >>> 0;
        this.#high = high >>> 0;
        return;
      }
    }
    throw new ProtobufError('a number of more than 10 bytes');
  }
}
