/**
 * What a starting node finds in the store: every segment, brought up to date by its overlay.
 *
 * Overlays say RUNNING for tasks that a dead process had claimed; those keep that state here and the engine counts
 * them as lost. A segment that does not decode is set aside with a loud event and the rest goes on: one bad record
 * must not keep a service from starting.
 */
import { publish } from '../core/channels.js';
import { hasCode, isMillraceError } from '../core/errors.js';
import { badFrame, FrameKind, openFrame } from '../core/frame.js';
import type { SegmentRef } from '../core/ids.js';
import { readState, readTask } from '../core/records.js';
import { isEnded } from '../core/states.js';
import { type Entry, type KeyRange, keyAfter, type Revision, type Store } from '../core/store.js';
import { ALL_OVERLAYS, ALL_SEGMENTS, refOfKey } from './keys.js';
import { LiveTask, Segment } from './live-task.js';
import type { TypeQueue } from './ready-queue.js';

const PAGE_ENTRIES = 256;

/** Reads all segments of the store. @throws ERR_MILLRACE_STORE_FORMAT when one is from a newer version */
export async function recover(
  store: Store,
  typeOf: (name: string) => TypeQueue<LiveTask>,
): Promise<Segment[]> {
  const overlays = new Map<SegmentRef, Uint8Array>();
  for await (const entry of entriesOf(store, ALL_OVERLAYS)) {
    overlays.set(refOfKey(entry.key), entry.value);
  }
  const segments: Segment[] = [];
  for await (const entry of entriesOf(store, ALL_SEGMENTS)) {
    try {
      const ref = refOfKey(entry.key);
      const segment = segmentOf(ref, entry.value, typeOf);
      const overlay = overlays.get(ref);
      if (overlay !== undefined) applyOverlay(segment, overlay);
      segments.push(segment);
    } catch (cause) {
      // Never half-read what a newer version wrote; but a damaged record concerns only itself.
      if (!isMillraceError(cause) || !hasCode(cause, 'ERR_MILLRACE_STORE_CORRUPT')) throw cause;
      publish('millrace:store:corrupt', () => ({ key: entry.key, cause }));
    }
  }
  return segments;
}

function segmentOf(
  ref: SegmentRef,
  value: Uint8Array,
  typeOf: (name: string) => TypeQueue<LiveTask>,
): Segment {
  const segment = new Segment(ref, openFrame(value, FrameKind.TASKS));
  for (let index = 0; index < segment.frame.count; index++) {
    const record = readTask(segment.frame, index);
    const source = { ...record, payloadBytes: record.payload.length };
    segment.tasks.push(new LiveTask(segment, index, source, typeOf(record.type)));
  }
  segment.openCount = segment.tasks.length;
  return segment;
}

function applyOverlay(segment: Segment, value: Uint8Array): void {
  const frame = openFrame(value, FrameKind.STATES);
  segment.hasOverlay = true;
  for (let i = 0; i < frame.count; i++) {
    const state = readState(frame, i);
    const task = segment.tasks[state.index];
    if (task === undefined)
      throw badFrame(`an overlay names task ${state.index} of ${segment.tasks.length}`);
    task.state = state.state;
    task.attempt = state.attempt;
    task.losses = state.losses;
    task.dueAtMs = state.dueAtMs;
    task.atMs = state.atMs;
    task.executor = state.executor;
    if (isEnded(state.state)) {
      task.isFiled = true;
      task.isSettled = true;
      segment.openCount--;
    }
  }
}

/** All entries of a range as of one revision, page by page. */
async function* entriesOf(store: Store, range: KeyRange): AsyncGenerator<Entry> {
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
