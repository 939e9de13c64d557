/**
 * The cache of one process, filled as reads that missed fill it, and read in random order through a cursor: one after another
 * (`find`), and as many together as a batch of requests or events names (`findMany`).
 */
import { seededRandom } from '../../src/core/random.js';
import type { Entry, Revision } from '../../src/core/store.js';
import { CacheCursor, type Found } from '../../src/tenancy/cache-cursor.js';
import { counterKeyOf, type EntryName, entryKey } from '../../src/tenancy/keys.js';
import { RevisionCache } from '../../src/tenancy/revision-cache.js';
import { Ulids } from '../../src/tenancy/ulid.js';
import { encodeValue } from '../../src/tenancy/values.js';
import { systemClock } from '../../src/timing/system-clock.js';
import { CollectorWatch } from '../gc/watch.js';
import type { RunContext, Sample } from '../lib/bench.js';
import type { MetadataSettings } from './settings.js';

const CACHE_BYTES = 1024 ** 3;
/** Names that are read; more would measure the memory of the bench's own strings. */
const NAMES = 100_000;
const WARM_UP_READS = 1_000_000;
/** Reads that are asked for together. */
const BATCH = 64;

interface Names {
  readonly tenants: string[];
  readonly ids: string[];
}

export async function measureCache(
  settings: MetadataSettings,
  context: RunContext,
): Promise<Sample> {
  const { entries, valueBytes, reads } = settings;
  const value = encodeValue(new Uint8Array(valueBytes).fill(7), 'value');
  const before = memoryBytes();
  const cache = new RevisionCache(seededRandom(1), CACHE_BYTES);
  const names = fill(cache, settings, value);
  const bytes = memoryBytes() - before - stringBytes(names);
  const { counts } = cache;
  if (counts.entries !== entries || counts.evicted > 0) {
    throw new Error(`${counts.entries} of ${entries} entries are in the cache`);
  }
  const cursor = new CacheCursor(cache);
  const batches = batchesOf(names);
  const readMany = batchReader(cursor, batches);
  memoryBytes();
  read(cursor, names, WARM_UP_READS);
  readMany(WARM_UP_READS);
  const collector = new CollectorWatch();
  collector.start();
  const startAt = performance.now();
  const sum = await context.section(
    'cached reads',
    () => read(cursor, names, reads),
    () => reads,
  );
  const batchStartAt = performance.now();
  const batchSum = await context.section(
    'cached reads, many together',
    () => readMany(reads),
    () => reads,
  );
  const endAt = performance.now();
  const { allocatedBytes, youngGcs } = await collector.stop();
  const expected = reads * (valueBytes + 7);
  if (sum !== expected || batchSum !== expected) throw new Error('a read was answered wrongly');
  return {
    metrics: {
      cachedReadsPerSecond: reads / ((batchStartAt - startAt) / 1000),
      'cachedReadsPerSecond@batch': reads / ((endAt - batchStartAt) / 1000),
      // The collector's watch and the sections allocate some kilobytes themselves.
      allocBytesPerRead: Math.round((allocatedBytes / (2 * reads)) * 100) / 100,
      bytesPerEntry: bytes / entries - value.length,
    },
    notes: {
      cacheBytes: counts.bytes,
      tenants: counts.tenants,
      readsTogether: BATCH,
      keyBytes: names.keyBytes,
      allocatedBytes,
      youngGcs,
    },
  };
}

/** @returns the names of some entries, in random order */
function fill(
  cache: RevisionCache,
  { entries, entriesPerTenant }: MetadataSettings,
  value: Uint8Array,
): Names & { readonly keyBytes: number } {
  const random = seededRandom(2);
  const ulids = new Ulids(systemClock, random);
  const names: Names = { tenants: [], ids: [] };
  const every = Math.max(1, Math.floor(entries / NAMES));
  let keyBytes = 0;
  for (let i = 0; i < entries; i++) {
    const tenant = `tenant-${i % Math.ceil(entries / entriesPerTenant)}`;
    const id = ulids.next();
    const key = entryKey(tenant, 'user', id);
    keyBytes += key.length;
    cache.begin(key, counterKeyOf(key));
    cache.apply(entryOf(key, value, i + 1));
    cache.end(key);
    if (i % every === 0) {
      names.tenants.push(tenant);
      names.ids.push(id);
    }
  }
  for (let i = names.ids.length - 1; i > 0; i--) {
    const j = Math.floor(random.float() * (i + 1));
    for (const list of [names.ids, names.tenants]) [list[i], list[j]] = [list[j]!, list[i]!];
  }
  // As names are that a service has just parsed: flat, and side by side in the order of their use.
  const fresh = (list: readonly string[]): string[] =>
    list.map((text) => Buffer.from(text).toString());
  return {
    tenants: fresh(names.tenants),
    ids: fresh(names.ids),
    keyBytes: keyBytes / entries,
  };
}

function entryOf(key: string, value: Uint8Array, revision: number): Entry {
  const at = revision as Revision;
  return { key, value, version: 1, createRevision: at, modRevision: at, leaseId: undefined };
}

/** @returns lengths and first bytes of what was found, added up */
function read(cursor: CacheCursor, { tenants, ids }: Names, reads: number): number {
  let sum = 0;
  for (let done = 0, at = 0; done < reads; done++) {
    if (cursor.find(tenants[at]!, 'user', ids[at]!) !== 'found') return Number.NaN;
    sum += cursor.length + cursor.buffer[cursor.offset]!;
    if (++at === ids.length) at = 0;
  }
  return sum;
}

function batchesOf({ tenants, ids }: Names): EntryName[][] {
  const batches: EntryName[][] = [];
  for (let from = 0; from + BATCH <= ids.length; from += BATCH) {
    batches.push(
      Array.from({ length: BATCH }, (_, i) => ({
        tenant: tenants[from + i]!,
        type: 'user',
        id: ids[from + i]!,
      })),
    );
  }
  return batches;
}

/** As {@link read}, a batch at a time; `reads` in whole batches. */
function batchReader(
  cursor: CacheCursor,
  batches: readonly (readonly EntryName[])[],
): (reads: number) => number {
  let sum = 0;
  const visit = (_: number, found: Found): void => {
    if (found === 'found') sum += cursor.length + cursor.buffer[cursor.offset]!;
    else sum = Number.NaN;
  };
  return (reads) => {
    sum = 0;
    for (let done = 0, at = 0; done < reads; done += BATCH) {
      cursor.findMany(batches[at]!, visit);
      if (++at === batches.length) at = 0;
    }
    return sum;
  };
}

/** After full collections: heap and what lies outside. */
function memoryBytes(): number {
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** What the bench's own names take, roughly: a header and the characters of each. */
function stringBytes({ tenants, ids }: Names): number {
  let bytes = 16 * tenants.length;
  for (const list of [tenants, ids]) for (const text of list) bytes += 12 + text.length;
  return bytes;
}
