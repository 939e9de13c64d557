/** What users choose about the cache. */
import { invalidOption, knownOptions } from '../core/options.js';
import { type Size, sizeBytes } from '../core/sizes.js';

export interface CacheOptions {
  /**
   * Memory for cached entries, outside the JavaScript heap; taken as it is needed. An entry costs its key, its value and
   * some 60 bytes. More: fewer reads of the store; the entries of tenants that were not read for longest go first.
   * @defaultValue '64MB'
   */
  readonly bytes?: Size;
}

export interface OwnCacheOptions extends CacheOptions {
  /**
   * A file that close() leaves what is cached in, and that the next process begins with: what has changed meanwhile is
   * found out before anything of it is served, by a small read for each tenant. A file for each process of a machine.
   * @defaultValue none
   */
  readonly snapshot?: string;
}

const BYTES = 64 * 1024 ** 2;
const BYTES_MIN = 64 * 1024;
const BYTES_MAX = 8 * 1024 ** 3;

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function cacheBytes(options: CacheOptions | undefined): number {
  const { bytes } = knownOptions<CacheOptions>(options, 'cache.', { bytes: true });
  return checkedBytes(bytes);
}

/** @throws ERR_MILLRACE_INVALID_OPTION */
export function ownCache(options: OwnCacheOptions | undefined): {
  readonly bytes: number;
  readonly snapshot: string | undefined;
} {
  const { bytes, snapshot } = knownOptions<OwnCacheOptions>(options, 'cache.', {
    bytes: true,
    snapshot: true,
  });
  if (snapshot !== undefined && (typeof snapshot !== 'string' || snapshot === '')) {
    throw invalidOption('cache.snapshot', snapshot, 'the path of a file');
  }
  return { bytes: checkedBytes(bytes), snapshot };
}

function checkedBytes(bytes: Size | undefined): number {
  if (bytes === undefined) return BYTES;
  const given = sizeBytes(bytes, 'cache.bytes');
  if (given >= BYTES_MIN && given <= BYTES_MAX) return given;
  throw invalidOption('cache.bytes', bytes, "'64KB' to '8GB'");
}
