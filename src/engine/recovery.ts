/**
 * What a starting node finds in the store: segments, brought up to date by their overlays, as far as its horizon.
 *
 * Segments come into the table held: nothing of them is ready before the engine resumes them. Overlays say RUNNING
 * for tasks that a dead process had claimed; the engine counts those as lost. A segment that does not decode is set
 * aside with a loud event and the rest goes on: one bad record must not keep a service from starting.
 */
import { publish } from '../core/channels.js';
import type { Instant } from '../core/clock.js';
import { hasCode } from '../core/errors.js';
import { type Entry, type KeyRange, keyAfter, type Revision, type Store } from '../core/store.js';
import type { SegmentHandle, TaskTable } from '../timing/task-table.js';
import { ALL_SEGMENTS, refOfKey, type ShardPlace, shardRange } from './keys.js';

const PAGE_ENTRIES = 256;

/** The shards that have segments, in a store with one writer. */
export async function storedShards(store: Store): Promise<ShardPlace[]> {
  const places: ShardPlace[] = [];
  for (let { from, to } = ALL_SEGMENTS; ; ) {
    const { entries } = await store.range({ from, to }, { limit: 1, keysOnly: true });
    const [, queue, shard] = entries[0]?.key.split('/') ?? [];
    if (queue === undefined || shard === undefined) return places;
    const place = { queue, shard: Number.parseInt(shard, 36) };
    places.push(place);
    from = shardRange('t', place).to;
  }
}

/**
 * Takes a stored segment into the table, held.
 *
 * @returns undefined when it is damaged; the rest goes on
 * @throws ERR_MILLRACE_STORE_FORMAT when it is from a newer version
 */
export function takeStored(
  table: TaskTable,
  { key, value }: Entry,
  overlay: Uint8Array | undefined,
  now: Instant,
): SegmentHandle | undefined {
  const ref = refOfKey(key);
  if (table.findSegment(ref) !== 0) return undefined;
  let segment = 0 as SegmentHandle;
  try {
    segment = table.ingest(value, ref, now, { hold: true });
    if (overlay !== undefined) table.applyOverlay(segment, overlay);
    return segment;
  } catch (cause) {
    if (segment !== 0) table.drop(segment);
    // Never half-read what a newer version wrote; but a damaged record concerns only itself.
    if (!hasCode(cause, 'ERR_MILLRACE_STORE_CORRUPT')) throw cause;
    publish('millrace:store:corrupt', () => ({ key, cause }));
    return undefined;
  }
}

/** All entries of a range as of one revision, page by page. */
export async function* entriesOf(store: Store, range: KeyRange): AsyncGenerator<Entry> {
  let from = range.from;
  let revision: Revision | undefined;
  for (;;) {
    const page = await store.range(
      { from, to: range.to },
      { limit: PAGE_ENTRIES, ...(revision !== undefined && { revision }) },
    );
    revision ??= page.revision;
    yield* page.entries;
    const last = page.entries.at(-1);
    if (!page.more || last === undefined) return;
    from = keyAfter(last.key);
  }
}
