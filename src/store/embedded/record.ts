/**
 * How an entry lies in the database: a header of 40 bytes, then the value as it was given.
 *
 * ```
 * [0]  u32 CRC-32 of everything behind it, and of the key
 * [4]  u32 version
 * [8]  f64 create revision
 * [16] f64 mod revision
 * [24] u32 lease id, upper half   [28] u32 lower half; both 0: no lease
 * [32] u64 zero
 * [40] the value
 * ```
 *
 * All numbers are little-endian; revisions stay below 2^53, so a float holds them exactly. A value starts on a
 * multiple of 8. LMDB has no checksums of its own, hence the CRC: a record that rotted, or one that turned up under
 * another key, is found when it is read.
 *
 * Values are copied once, into the place they are written from: `adoptValues` leaves room for the header in front
 * of each, and `sealRecord` fills it in when the revision is known.
 */
import { crc32 } from 'node:zlib';
import { MillraceError } from '../../core/errors.js';
import type { Entry, Key, LeaseId, Revision } from '../../core/store.js';

const HEADER_BYTES = 40;
const CRC_BYTES = 4;

/**
 * Copies values into one block, each with room for its header in front. One block for all, because handing a
 * block to LMDB costs more than the copy.
 */
export function adoptValues(values: readonly Uint8Array[]): readonly Uint8Array[] {
  let bytes = 0;
  for (const value of values) bytes += HEADER_BYTES + roundUp(value.length);
  const block = Buffer.allocUnsafeSlow(bytes);
  let offset = 0;
  return values.map((value) => {
    const start = offset + HEADER_BYTES;
    block.set(value, start);
    offset = start + roundUp(value.length);
    return new Uint8Array(block.buffer, start, value.length);
  });
}

/**
 * Fills in the header of an adopted entry.
 *
 * @returns the whole record, in the memory of the entry's value
 */
export function sealRecord(entry: Entry): Buffer {
  const { value, key, leaseId } = entry;
  const record = Buffer.from(
    value.buffer as ArrayBuffer,
    value.byteOffset - HEADER_BYTES,
    HEADER_BYTES + value.length,
  );
  record.writeUInt32LE(entry.version, 4);
  record.writeDoubleLE(entry.createRevision, 8);
  record.writeDoubleLE(entry.modRevision, 16);
  record.writeUInt32LE(leaseId === undefined ? 0 : Number.parseInt(leaseId.slice(0, 8), 16), 24);
  record.writeUInt32LE(leaseId === undefined ? 0 : Number.parseInt(leaseId.slice(8), 16), 28);
  record.fill(0, 32, HEADER_BYTES);
  record.writeUInt32LE(checksum(key, record), 0);
  return record;
}

/** @throws ERR_MILLRACE_STORE_CORRUPT unless the bytes are a record of this key */
export function openRecord(key: Key, bytes: Uint8Array): Entry {
  if (bytes.length < HEADER_BYTES) {
    throw corrupt(key, `the record has ${bytes.length} bytes, its header alone ${HEADER_BYTES}`);
  }
  const record = Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length);
  if (record.readUInt32LE(0) !== checksum(key, record)) throw corrupt(key, 'its checksum is wrong');
  return {
    key,
    value: new Uint8Array(
      record.buffer,
      record.byteOffset + HEADER_BYTES,
      record.length - HEADER_BYTES,
    ),
    version: record.readUInt32LE(4),
    createRevision: record.readDoubleLE(8) as Revision,
    modRevision: record.readDoubleLE(16) as Revision,
    leaseId: leaseIdOf(record.readUInt32LE(24), record.readUInt32LE(28)),
  };
}

/** The error of stored bytes that do not decode. */
export function corrupt(key: string, reason: string): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_CORRUPT',
    `stored bytes of '${key}' do not decode: ${reason}; restore the directory from a copy, or delete this key`,
    { details: { key, reason } },
  );
}

function checksum(key: Key, record: Buffer): number {
  return crc32(record.subarray(CRC_BYTES), crc32(key));
}

function leaseIdOf(upper: number, lower: number): LeaseId | undefined {
  if (upper === 0 && lower === 0) return undefined;
  return (hex32(upper) + hex32(lower)) as LeaseId;
}

function hex32(value: number): string {
  return value.toString(16).padStart(8, '0');
}

function roundUp(bytes: number): number {
  return (bytes + 7) & ~7;
}
