/**
 * What a tenant's counter says: `ns:{tenant}:revision`, put in the transaction of every write to the tenant.
 *
 *   17 4711 x4k2m9pq 7c1w0d3f ...
 *   |  |    |        '-- the writes before it, newest first, up to eight in all
 *   |  |    '-- the write that put this: drawn anew for each
 *   |  '-- revision of the counter that it was compared with, so of the tenant's last write before; 0: there was none
 *   '-- writes to the tenant so far
 *
 * Two things follow. Each write names the one before it, so whoever is told of writes sees at once when one is missing.
 * And a writer that got no answer finds out what became of its write by reading: it is among the last eight, or it is
 * not there and, since the counter has moved on, never will be.
 */
import { utf8 } from '../core/frame.js';
import type { Entry, Revision } from '../core/store.js';

/** Identity of one write: 8 characters, drawn at random. */
export type WriteId = string & { readonly __brand: 'WriteId' };

/** How many writes a counter remembers. */
export const WRITES_KEPT = 8;

export interface TenantCounter {
  /** Writes to the tenant since its first. */
  readonly count: number;
  /** Store revision of the tenant's last write; 0 before the first. */
  readonly revision: Revision;
  /** Store revision of the write before that; 0 when there was none. */
  readonly previous: Revision;
  /** The last writes, newest first. */
  readonly writes: readonly WriteId[];
}

/** Of a tenant that nobody has written to. */
export const NO_WRITES: TenantCounter = {
  count: 0,
  revision: 0 as Revision,
  previous: 0 as Revision,
  writes: [],
};

const FORM = /^(\d{1,15}) (\d{1,15})((?: [0-9a-z]{8}){1,8})$/;

/** What a write puts that follows on `counter`. */
export function nextCounterValue(counter: TenantCounter, write: WriteId): Uint8Array {
  const writes = [write, ...counter.writes].slice(0, WRITES_KEPT);
  return Buffer.from(`${counter.count + 1} ${counter.revision} ${writes.join(' ')}`, 'latin1');
}

/**
 * Reads a counter. One that another program has written counts as one without memory: its revision is what compares
 * stand on, and the next write mends it.
 */
export function readCounter(entry: Entry | undefined): TenantCounter {
  if (entry === undefined) return NO_WRITES;
  const revision = entry.modRevision;
  const parts = FORM.exec(utf8(entry.value));
  if (parts === null) return { ...NO_WRITES, count: entry.version, revision };
  return {
    count: Number(parts[1]),
    revision,
    previous: Number(parts[2]) as Revision,
    writes: parts[3]!.trim().split(' ') as WriteId[],
  };
}
