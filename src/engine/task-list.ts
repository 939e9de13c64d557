/**
 * Lists tasks out of the store, a page at a time and without an index: the keys are the order.
 *
 *   t/, i/   pending and running tasks, segment by segment, brought up to date by their overlays
 *   d/       failed for good
 *   z/       completed, cancelled and expired
 *
 * A page ends when it is full, or when so many keys were read for it: a filter that nothing passes must not hold up the
 * store. So a page may be empty and still name the next one. Each page is read anew: what changes between two pages may be
 * seen twice, or not at all.
 *
 * Of what has completed only the end is kept once the last task of its segment has ended: its task and tenant are known
 * no more then, and a filter by these passes it over.
 */
import { FrameKind, openFrame } from '../core/frame.js';
import { parseTaskId, type SegmentRef } from '../core/ids.js';
import { invalidOption } from '../core/options.js';
import { readState, readTask, type TaskRecord } from '../core/records.js';
import { isEnded, statusOf, TaskState, type TaskStatus } from '../core/states.js';
import { type Entry, type Key, keyAfter, prefixRange, type Store } from '../core/store.js';
import { readDeadLetter } from './finished.js';
import { inspectionOf, type TaskInspection } from './inspection.js';
import { overlayKey, refOfFinishedKey, refOfKey } from './keys.js';
import { type StoredTask, statesOf, storedSegment } from './stored-task.js';

/** Which tasks; what is absent does not matter. */
export interface TaskFilter {
  readonly status?: TaskStatus;
  /** Name of the task. */
  readonly task?: string;
  readonly tenant?: string;
  readonly queue?: string;
}

export interface TaskPage {
  readonly tasks: readonly TaskInspection[];
  /** Where the next page begins; undefined: this was the last. */
  readonly next: string | undefined;
}

const SECTIONS = ['t', 'i', 'd', 'z'] as const;
type Section = (typeof SECTIONS)[number];
/** Segments are up to a quarter of a megabyte: so many at once are no burden. */
const ENTRIES_PER_READ = 16;
const ENTRIES_PER_PAGE_MAX = 1_024;
const CURSOR_FORM = /^([tidz]\/[!-"$-~]{1,1000})#(\d{1,4})$/;

/**
 * @param page.limit - tasks per page, from 1
 * @param page.after - `next` of the page before; absent: from the beginning
 * @throws ERR_MILLRACE_INVALID_OPTION for an `after` that no page gave
 * @throws ERR_MILLRACE_STORE_UNAVAILABLE, ERR_MILLRACE_STORE_CORRUPT
 */
export async function listTasks(
  store: Store,
  filter: TaskFilter,
  page: { readonly limit: number; readonly after?: string | undefined },
): Promise<TaskPage> {
  const from = page.after === undefined ? undefined : placeOf(page.after);
  const tasks: TaskInspection[] = [];
  let entriesLeft = ENTRIES_PER_PAGE_MAX;
  for (const section of SECTIONS) {
    if (!mayHold(section, filter.status)) continue;
    const prefix = filter.queue === undefined ? `${section}/` : `${section}/${filter.queue}/`;
    const range = prefixRange(prefix);
    for (let start = startOf(section, range.from, from?.key); start !== undefined; ) {
      const { entries, more } = await store.range(
        { from: start, to: range.to },
        { limit: ENTRIES_PER_READ },
      );
      for (const entry of entries) {
        const found = await tasksOf(store, section, entry);
        for (const [i, { segment, index, stored }] of found.entries()) {
          if (entry.key === from?.key && i < from.skip) continue;
          if (tasks.length === page.limit) return { tasks, next: `${entry.key}#${i}` };
          if (passes(stored, filter)) tasks.push(inspectionOf(segment, index, stored));
        }
        if (--entriesLeft === 0) return { tasks, next: `${keyAfter(entry.key)}#0` };
      }
      const last = entries.at(-1);
      start = more && last !== undefined ? keyAfter(last.key) : undefined;
    }
  }
  return { tasks, next: undefined };
}

interface Found {
  readonly segment: SegmentRef;
  readonly index: number;
  readonly stored: StoredTask;
}

function placeOf(cursor: string): { readonly key: Key; readonly skip: number } {
  const [, key, skip] = CURSOR_FORM.exec(cursor) ?? [];
  if (key === undefined) throw invalidOption('after', cursor, 'the `next` of the page before');
  return { key, skip: Number(skip) };
}

/** Where to begin in a section that starts at `first`, when all before `from` has been told; undefined: it has been. */
function startOf(section: Section, first: Key, from: Key | undefined): Key | undefined {
  if (from === undefined) return first;
  const isBehind = SECTIONS.indexOf(section) - SECTIONS.indexOf(from[0] as Section);
  if (isBehind < 0) return undefined;
  return isBehind === 0 && from > first ? from : first;
}

function mayHold(section: Section, status: TaskStatus | undefined): boolean {
  if (status === undefined) return true;
  const isOpen = status === 'pending' || status === 'running';
  if (section === 'd') return status === 'failed';
  if (section === 'z') return !isOpen && status !== 'failed';
  return isOpen;
}

function passes({ state, task }: StoredTask, filter: TaskFilter): boolean {
  if (filter.status !== undefined && statusOf(state) !== filter.status) return false;
  if (filter.task !== undefined && task?.type !== filter.task) return false;
  return filter.tenant === undefined || task?.tenant === filter.tenant;
}

function tasksOf(store: Store, section: Section, entry: Entry): Found[] | Promise<Found[]> {
  if (section === 'd') return deadLetterOf(entry);
  return section === 'z' ? filedOf(store, entry) : openOf(store, entry);
}

async function openOf(store: Store, { key, value }: Entry): Promise<Found[]> {
  const segment = refOfKey(key);
  const overlay = await store.get(overlayKey(segment));
  const states = overlay && statesOf(overlay.value);
  const frame = openFrame(value, FrameKind.TASKS);
  const found: Found[] = [];
  for (let index = 0; index < frame.count; index++) {
    const since = states?.get(index);
    const state = since?.state ?? TaskState.PENDING;
    // It is filed, and listed there.
    if (isEnded(state)) continue;
    const task = readTask(frame, index);
    found.push({ segment, index, stored: { state, task, since, isDeadLetter: false } });
  }
  return found;
}

function deadLetterOf({ key, value }: Entry): Found[] {
  const place = parseTaskId(key.slice(key.lastIndexOf('/') + 1));
  if (place === undefined) return [];
  const { state: since, task } = readDeadLetter(value);
  return [{ ...place, stored: { state: since.state, task, since, isDeadLetter: true } }];
}

async function filedOf(store: Store, { key, value }: Entry): Promise<Found[]> {
  const segment = refOfFinishedKey(key);
  const stored = await storedSegment(store, segment);
  const tasks = stored && openFrame(stored.value, FrameKind.TASKS);
  const frame = openFrame(value, FrameKind.STATES);
  return Array.from({ length: frame.count }, (_, i) => {
    const since = readState(frame, i);
    const { index, state } = since;
    const task: TaskRecord | undefined =
      tasks !== undefined && index < tasks.count ? readTask(tasks, index) : undefined;
    return { segment, index, stored: { state, task, since, isDeadLetter: false } };
  });
}
