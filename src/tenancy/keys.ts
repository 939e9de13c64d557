/**
 * Where tenant metadata lies in the store:
 *
 *   ns:{tenant}:{type}:{id}     an entry
 *   ns:{tenant}:revision        what counts the tenant's writes; see tenant-counter.ts
 *
 * Each part is percent-encoded (RFC 3986, as `encodeURIComponent` does it), so that it holds no ':': two colons or
 * three tell the two kinds apart, and a range that ends with ':' holds one tenant's, or one type's, keys and no other's.
 * The encoding has an inverse, so different names never meet in one key.
 *
 * The empty tenant stands for everybody: global configuration lies there. Users cannot name it.
 */
import { invalidOption } from '../core/options.js';
import { type Key, type KeyRange, prefixRange } from '../core/store.js';

/** In front of all keys of tenant metadata. */
export const METADATA_PREFIX = 'ns:';
/** All of them. */
export const METADATA_RANGE: KeyRange = prefixRange(METADATA_PREFIX);
/** The tenant of what belongs to all tenants. */
export const EVERYBODY = '';

/** The longest key, encoded; leaves room for a namespace in what a store allows. */
const METADATA_KEY_BYTES_MAX = 800;

/** The names of an entry, as the user wrote them. */
export interface EntryName {
  readonly tenant: string;
  readonly type: string;
  readonly id: string;
}

/**
 * An entry's key.
 *
 * @throws ERR_MILLRACE_INVALID_OPTION for a part that is empty, no string, no well-formed text, or too long
 */
export function entryKey(tenant: string, type: string, id: string): Key {
  return fitting(`${tenantPrefix(tenant)}${part(type, 'type')}:${part(id, 'id')}`);
}

/** The key that counts the tenant's writes. @throws as {@link entryKey} */
export function counterKey(tenant: string): Key {
  return fitting(`${tenantPrefix(tenant)}revision`);
}

/** All entries of a type, and nothing else. @throws as {@link entryKey} */
export function typeRange(tenant: string, type: string): KeyRange {
  return prefixRange(fitting(`${tenantPrefix(tenant)}${part(type, 'type')}:`));
}

/** What a key names; undefined for keys that are neither an entry's nor a counter's. */
export function parseKey(key: Key): (Partial<EntryName> & { readonly tenant: string }) | undefined {
  if (!key.startsWith(METADATA_PREFIX)) return undefined;
  const parts = key.slice(METADATA_PREFIX.length).split(':');
  try {
    const [tenant, type, id, ...more] = parts.map(decodeURIComponent);
    if (tenant === undefined || type === undefined || more.length > 0) return undefined;
    if (id !== undefined) return { tenant, type, id };
    return type === 'revision' ? { tenant } : undefined;
  } catch {
    // Somebody else's key: a percent sign that encodes nothing.
    return undefined;
  }
}

/** The counter of the tenant that an entry's key belongs to. */
export function counterKeyOf(key: Key): Key {
  return `${key.slice(0, key.indexOf(':', METADATA_PREFIX.length) + 1)}revision`;
}

/** Whether a metadata key is an entry's, and no counter's. */
export function isEntryKey(key: Key): boolean {
  const first = key.indexOf(':', METADATA_PREFIX.length);
  return first >= 0 && key.indexOf(':', first + 1) >= 0;
}

/** Checks a tenant's name as users give it. @throws ERR_MILLRACE_INVALID_OPTION */
export function checkTenant(tenant: unknown): string {
  part(tenant, 'tenant');
  return tenant as string;
}

function tenantPrefix(tenant: string): string {
  return `${METADATA_PREFIX}${tenant === EVERYBODY ? '' : part(tenant, 'tenant')}:`;
}

function part(value: unknown, name: string): string {
  if (typeof value === 'string' && value !== '' && value.length <= METADATA_KEY_BYTES_MAX) {
    try {
      return encodeURIComponent(value);
    } catch {
      // A lone surrogate has no UTF-8 form.
    }
  }
  throw invalidOption(
    name,
    value,
    `text of 1 to ${METADATA_KEY_BYTES_MAX} characters, well-formed`,
  );
}

function fitting(key: Key): Key {
  if (key.length <= METADATA_KEY_BYTES_MAX) return key;
  throw invalidOption(
    'tenant, type and id together',
    `${key.slice(0, 40)}...`,
    `names that are at most ${METADATA_KEY_BYTES_MAX} bytes in a key (this is ${key.length})`,
  );
}
