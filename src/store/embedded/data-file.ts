/**
 * Looks at LMDB's file before LMDB does, for LMDB trusts it: on a file that is no database lmdb 3.5.6 ends the
 * process with a segmentation fault, and on one that was cut short with a bus error at the first page that is
 * missing. Either would read like a crash of millrace.
 *
 * ```
 * LMDB's first two pages, each:  [0] page header, 24 bytes
 * [24] u32 magic  [28] u16 version  [32] u64 address  [40] u64 map size
 * [48] u32 page size (in the record of the free list, 48 bytes)  [96] record of the main tree, 48 bytes
 * [144] u64 last page  [152] u64 transaction that wrote it; the newer of the two pages counts
 * ```
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync } from 'node:fs';

const META_BYTES = 160;
const MAGIC = 0xbeefc0de;
const LMDB_FORMAT = 2;
const PAGE_BYTES_MAX = 65_536;

interface Meta {
  readonly pageBytes: number;
  readonly lastPage: number;
  readonly transaction: bigint;
}

/**
 * Checks that a file is an LMDB database, and makes one that was cut short as long as it says it is: LMDB then finds
 * empty pages where it would have fallen off the end, and those do not decode.
 *
 * @returns why the file is unusable; undefined when it is fine, also when it is missing or empty
 */
export function inspectDataFile(file: string): string | undefined {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const { size } = fstatSync(descriptor);
    if (size === 0) return undefined;
    const first = readMeta(descriptor, 0);
    const second = first && readMeta(descriptor, first.pageBytes);
    if (first === undefined || second === undefined) return 'it is not an LMDB database';
    const { lastPage, pageBytes } = first.transaction > second.transaction ? first : second;
    const bytes = (lastPage + 1) * pageBytes;
    if (size < bytes) ftruncateSync(descriptor, bytes);
    return undefined;
  } finally {
    closeSync(descriptor);
  }
}

function readMeta(descriptor: number, position: number): Meta | undefined {
  const meta = Buffer.alloc(META_BYTES);
  if (readSync(descriptor, meta, 0, META_BYTES, position) < META_BYTES) return undefined;
  const pageBytes = meta.readUInt32LE(48);
  if (meta.readUInt32LE(24) !== MAGIC || meta.readUInt16LE(28) !== LMDB_FORMAT) return undefined;
  if (pageBytes < META_BYTES || pageBytes > PAGE_BYTES_MAX) return undefined;
  const lastPage = Number(meta.readBigUInt64LE(144));
  return { pageBytes, lastPage, transaction: meta.readBigUInt64LE(152) };
}
