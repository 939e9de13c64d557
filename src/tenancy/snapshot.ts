/**
 * What a cache knows, as bytes: so that a process that starts again begins where it was.
 *
 *   'MRC1' u32 | version u32 | records u32 | crc32 of the rest u32
 *   record: revision f64 | writer u32 | value bytes u32 | key bytes u16 | flags u16 | key | value
 *
 * Little-endian. A tenant's record comes before its entries, and has its writer instead of a value. Tenants whose last
 * writer is not known are left out, since nothing could prove later that they have not changed.
 *
 * A snapshot is a hint, never a truth: before anything of it is served, the counter of each tenant is compared with the
 * store, and the entries of those that have moved are read again. So an old one costs reads, and one of another store, or
 * a damaged one, is as good as none. It comes from a disk: nothing in it is believed before it is checked.
 */
import { crc32 } from 'node:zlib';
import { MillraceError } from '../core/errors.js';
import type { Entry, Key, LeaseId, Revision } from '../core/store.js';
import { counterKeyOf, isEntryKey, METADATA_PREFIX, parseKey } from './keys.js';
import { type Address, Flag } from './record-slab.js';
import { NOT_KNOWN, type RevisionCache, type TenantState } from './revision-cache.js';

const MAGIC = 0x3143524d; // 'MRC1' read as little-endian u32
const VERSION = 1;
const HEADER_BYTES = 16;
const RECORD_BYTES = 20;
const KEPT_FLAGS = Flag.TENANT | Flag.ABSENT | Flag.LEASED;
/** Stands for a lease of the past: such entries are read again in any case. */
const SOME_LEASE = '0' as LeaseId;

/** Everything that is known and can be proven later. */
export function encodeSnapshot(cache: RevisionCache): Uint8Array {
  const chunks: Uint8Array[] = [];
  let records = 0;
  const add = (key: Key, revision: number, writer: number, flags: number, value: Uint8Array) => {
    const chunk = Buffer.alloc(RECORD_BYTES + key.length + value.length);
    chunk.writeDoubleLE(revision, 0);
    chunk.writeUInt32LE(writer, 8);
    chunk.writeUInt32LE(value.length, 12);
    chunk.writeUInt16LE(key.length, 16);
    chunk.writeUInt16LE(flags, 18);
    chunk.write(key, RECORD_BYTES, 'latin1');
    chunk.set(value, RECORD_BYTES + key.length);
    chunks.push(chunk);
    records++;
  };
  for (const counter of cache.counters()) {
    const tenant = cache.tenant(counter);
    if (tenant === undefined || tenant.revision === NOT_KNOWN || tenant.writer === 0) continue;
    add(counter, tenant.revision, tenant.writer, Flag.TENANT, new Uint8Array(0));
    for (const address of cache.entriesOf(counter)) {
      const flags = cache.flags(address);
      if ((flags & Flag.UNKNOWN) !== 0) continue;
      add(
        cache.keyOf(address),
        cache.revision(address),
        0,
        flags & KEPT_FLAGS,
        valueOfRecord(cache, address),
      );
    }
  }
  const body = Buffer.concat(chunks);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(VERSION, 4);
  header.writeUInt32LE(records, 8);
  header.writeUInt32LE(crc32(body), 12);
  return Buffer.concat([header, body]);
}

/**
 * Fills an empty cache, as far as it has room.
 *
 * @returns the highest revision in it: a store that is not as far is another one
 * @throws ERR_MILLRACE_STORE_CORRUPT; the cache may have some of it then, and is to be cleared
 */
export function restoreSnapshot(cache: RevisionCache, snapshot: Uint8Array): Revision {
  const bytes = Buffer.from(snapshot.buffer, snapshot.byteOffset, snapshot.byteLength);
  const isWhole =
    bytes.length >= HEADER_BYTES &&
    bytes.readUInt32LE(0) === MAGIC &&
    bytes.readUInt32LE(4) === VERSION &&
    bytes.readUInt32LE(12) === crc32(bytes.subarray(HEADER_BYTES));
  if (!isWhole) throw unreadable('its header or its checksum is wrong');
  let highest = 0;
  let at = HEADER_BYTES;
  let tenant: { readonly counter: Key; readonly state: TenantState } | undefined;
  for (let left = bytes.readUInt32LE(8); left > 0; left--) {
    if (at + RECORD_BYTES > bytes.length) throw unreadable('it ends too early');
    const revision = bytes.readDoubleLE(at);
    const writer = bytes.readUInt32LE(at + 8);
    const valueAt = at + RECORD_BYTES + bytes.readUInt16LE(at + 16);
    const flags = bytes.readUInt16LE(at + 18);
    const end = valueAt + bytes.readUInt32LE(at + 12);
    if (end > bytes.length) throw unreadable('it ends too early');
    if (!Number.isSafeInteger(revision) || revision < 0) throw unreadable('a revision is none');
    const key = bytes.toString('latin1', at + RECORD_BYTES, valueAt);
    if (!key.startsWith(METADATA_PREFIX) || parseKey(key) === undefined) {
      throw unreadable('a key is none');
    }
    highest = Math.max(highest, revision);
    if (!isEntryKey(key)) {
      tenant = { counter: key, state: { revision: revision as Revision, writer } };
    } else if (tenant === undefined || counterKeyOf(key) !== tenant.counter) {
      throw unreadable('an entry stands before its tenant');
    } else if (cache.begin(key, tenant.counter)) {
      const modRevision = revision as Revision;
      const value = bytes.subarray(valueAt, end);
      if ((flags & Flag.ABSENT) !== 0) cache.applyAbsence(key, modRevision);
      else cache.apply(entryOf(key, value, modRevision, (flags & Flag.LEASED) !== 0));
      cache.end(key);
      cache.advance(tenant.counter, tenant.state);
    }
    at = end;
  }
  return highest as Revision;
}

function valueOfRecord(cache: RevisionCache, address: Address): Uint8Array {
  const at = cache.valueAt(address);
  return cache.memory(address).subarray(at, at + cache.valueBytes(address));
}

function entryOf(key: Key, value: Uint8Array, modRevision: Revision, isLeased: boolean): Entry {
  const leaseId = isLeased ? SOME_LEASE : undefined;
  return { key, value, version: 1, createRevision: modRevision, modRevision, leaseId };
}

function unreadable(reason: string): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_CORRUPT',
    `the snapshot of the cache cannot be read: ${reason}; it is made anew`,
    { details: { reason } },
  );
}
