/**
 * What the file system and LMDB report, in millrace's terms.
 */
import { MillraceError } from '../../core/errors.js';

/** No space in the file system, over the user's quota, over the process's limit of file sizes, or LMDB's map is full. */
const FULL_CODES: ReadonlySet<unknown> = new Set([
  'ENOSPC',
  'EDQUOT',
  'EFBIG',
  28, // ENOSPC
  122, // EDQUOT
  27, // EFBIG
  -30792, // MDB_MAP_FULL
]);

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

export function unreadable(directory: string, cause: unknown): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_STORE_CORRUPT',
    `store directory ${directory} holds no readable database: ${reasonOf(cause)}; restore it from a copy, or start with an empty directory`,
    { details: { directory, key: 'data.mdb', reason: reasonOf(cause) }, cause },
  );
}

export function isFull(error: unknown): boolean {
  return FULL_CODES.has(codeOf(error));
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
