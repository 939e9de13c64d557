/**
 * What a starting node finds in the store: every segment, brought up to date by its overlay.
 *
 * Segments come into the table held: nothing of them is ready before the engine resumes them. Overlays say RUNNING
 * for tasks that a dead process had claimed; the engine counts those as lost. A segment that does not decode is set
 * aside with a loud event and the rest goes on: one bad record must not keep a service from starting.
 */
import { publish } from '../core/channels.js';
import { hasCode } from '../core/errors.js';
import type { SegmentRef } from '../core/ids.js';
import { type Entry, type KeyRange, keyAfter, type Revision, type Store } from '../core/store.js';
import type { Instant, SegmentHandle, TaskTable } from '../timing/task-table.js';
import { ALL_OVERLAYS, ALL_SEGMENTS, refOfKey } from './keys.js';

const PAGE_ENTRIES = 256;

/**
 * Reads all segments of the store into the table.
 *
 * @returns them, held
 * @throws ERR_MILLRACE_STORE_FORMAT when one is from a newer version
 */
export async function recover(
  store: Store,
  table: TaskTable,
  now: Instant,
): Promise<SegmentHandle[]> {
  const overlays = new Map<SegmentRef, Uint8Array>();
  for await (const entry of entriesOf(store, ALL_OVERLAYS)) {
    overlays.set(refOfKey(entry.key), entry.value);
  }
  const segments: SegmentHandle[] = [];
  for await (const { key, value } of entriesOf(store, ALL_SEGMENTS)) {
    const ref = refOfKey(key);
    let segment = 0 as SegmentHandle;
    try {
      segment = table.ingest(value, ref, now, { hold: true });
      const overlay = overlays.get(ref);
      if (overlay !== undefined) table.applyOverlay(segment, overlay);
      segments.push(segment);
    } catch (cause) {
      // Never half-read what a newer version wrote; but a damaged record concerns only itself.
      if (!hasCode(cause, 'ERR_MILLRACE_STORE_CORRUPT')) throw cause;
      if (segment !== 0) table.drop(segment);
      publish('millrace:store:corrupt', () => ({ key, cause }));
    }
  }
  return segments;
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
