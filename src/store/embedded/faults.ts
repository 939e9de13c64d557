/**
 * What the file system and LMDB report, in millrace's terms.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { isMillraceError, MillraceError } from '../../core/errors.js';

/** No space in the file system, over the user's quota, over the process's limit of file sizes, or LMDB's map is full. */
const FULL_CODES: ReadonlySet<unknown> = new Set([
  'ENOSPC',
  'EDQUOT',
  'EFBIG',
  constants.errno.ENOSPC,
  constants.errno.EDQUOT,
  constants.errno.EFBIG,
  -30792, // MDB_MAP_FULL
]);

const { EIO } = constants.errno;

/** MDB_INVALID, MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_VERSION_MISMATCH */
const CORRUPT_CODES: ReadonlySet<unknown> = new Set([-30793, -30796, -30797, -30794]);

export function notWritable(directory: string, cause: unknown): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_NOT_WRITABLE',
    `store directory ${directory} cannot be created or written: ${reasonOf(cause)}; choose another directory, or fix its permissions`,
    { details: { directory, reason: reasonOf(cause) }, cause },
  );
}

export function full(directory: string, cause: unknown): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_FULL',
    `store directory ${directory} has no space left (${reasonOf(cause)}); nothing was written: free some space and try again`,
    { details: { directory, reason: reasonOf(cause) }, cause },
  );
}

/** @param reason - an error, or the fact itself */
export function unreadable(directory: string, reason: unknown): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_CORRUPT',
    `store directory ${directory} holds no readable database: ${reasonOf(reason)}; restore it from a copy, or start with an empty directory`,
    { details: { directory, key: 'data.mdb', reason: reasonOf(reason) }, cause: reason },
  );
}

/** The error of a read that LMDB could not do. */
export function readFault(directory: string, cause: unknown): MillraceError {
  if (isMillraceError(cause)) return cause;
  if (isCorrupt(cause)) return unreadable(directory, cause);
  return new MillraceError(
    'ERR_MILLRACE_STORE_UNAVAILABLE',
    `store directory ${directory} cannot be read: ${reasonOf(cause)}; close the store and open it again`,
    { details: { directory, reason: reasonOf(cause) }, cause },
  );
}

/**
 * Whether a write failed for want of space.
 *
 * @param bytes - what was to be written
 */
export function isFull(error: unknown, directory: string, bytes: number): boolean {
  const code = codeOf(error);
  if (FULL_CODES.has(code)) return true;
  // LMDB calls a write that came out short an I/O error, and that is how a disk becomes full in the middle of one.
  // Whether it did shows when we try to write as much ourselves; this also finds quotas.
  return code === EIO && !hasRoom(directory, bytes);
}

function hasRoom(directory: string, bytes: number): boolean {
  const file = path.join(directory, '.room');
  try {
    writeFileSync(file, Buffer.alloc(bytes));
    return true;
  } catch (error) {
    return !FULL_CODES.has(codeOf(error));
  } finally {
    rmSync(file, { force: true });
  }
}

export function isCorrupt(error: unknown): boolean {
  return CORRUPT_CODES.has(codeOf(error));
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
