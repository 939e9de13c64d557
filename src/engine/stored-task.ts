/**
 * Where a task stands by what the store says, for tasks that this node does not hold.
 *
 *   overlay names it          its state there; an end that is not filed stands as running
 *   filed as ended            that
 *   its segment is stored     pending
 *   none of these             gone
 *
 * Read one after another, with the filed ends last: whoever ends meanwhile is filed by then, in the transaction that
 * deletes overlay and segment at the latest.
 */
import { FrameKind, openFrame } from '../core/frame.js';
import { type SegmentRef, taskId } from '../core/ids.js';
import { readState, readTask, type StateRecord, type TaskRecord } from '../core/records.js';
import { TaskState } from '../core/states.js';
import type { Entry, Store } from '../core/store.js';
import { goneError } from './ends.js';
import { findFinished, readDeadLetter } from './finished.js';
import { deadLetterKey, inboxKey, overlayKey, segmentKey } from './keys.js';

/** Everything that the store has of one task. */
export interface StoredTask {
  readonly state: TaskState;
  /** As it was submitted; undefined when only its end is kept. */
  readonly task: TaskRecord | undefined;
  /** What is known of it since; undefined: nothing happened to it yet. */
  readonly since: StateRecord | undefined;
  readonly isDeadLetter: boolean;
}

/** A segment as it is stored: put by its owner, or by somebody else. */
export async function storedSegment(
  store: Pick<Store, 'get'>,
  ref: SegmentRef,
): Promise<Entry | undefined> {
  return (await store.get(segmentKey(ref))) ?? (await store.get(inboxKey(ref)));
}

/** @returns undefined when the store does not know the task (any more) */
export function readStoredTask(
  store: Store,
  ref: SegmentRef,
  index: number,
): Promise<StoredTask | undefined> {
  return lookTwice(() => findStoredTask(store, ref, index));
}

/** A dead letter that comes back between two reads of one look is in neither place: the next look finds it open. */
async function lookTwice<Found>(
  look: () => Promise<Found | undefined>,
): Promise<Found | undefined> {
  return (await look()) ?? look();
}

async function findStoredTask(
  store: Store,
  ref: SegmentRef,
  index: number,
): Promise<StoredTask | undefined> {
  const id = taskId(ref, index);
  const overlay = await store.get(overlayKey(ref));
  const segment = await storedSegment(store, ref);
  const dead = await store.get(deadLetterKey(id));
  if (dead !== undefined) {
    const { state: since, task } = readDeadLetter(dead.value);
    return { state: since.state, task, since, isDeadLetter: true };
  }
  const task = segment && taskOf(segment.value, index);
  const filed = await findFinished(store, id);
  if (filed !== undefined) return { state: filed.state, task, since: filed, isDeadLetter: false };
  if (task === undefined) return undefined;
  const since = overlay && statesOf(overlay.value).get(index);
  return { state: since?.state ?? TaskState.PENDING, task, since, isDeadLetter: false };
}

/** What an overlay says, by the task's index. */
export function statesOf(overlay: Uint8Array): ReadonlyMap<number, StateRecord> {
  const frame = openFrame(overlay, FrameKind.STATES);
  const states = new Map<number, StateRecord>();
  for (let i = 0; i < frame.count; i++) {
    const state = readState(frame, i);
    states.set(state.index, state);
  }
  return states;
}

function taskOf(segment: Uint8Array, index: number): TaskRecord | undefined {
  const frame = openFrame(segment, FrameKind.TASKS);
  return index < frame.count ? readTask(frame, index) : undefined;
}

/** @throws ERR_MILLRACE_TASK_GONE */
export async function storedState(
  store: Store,
  ref: SegmentRef,
  index: number,
): Promise<TaskState> {
  const state = await lookTwice(() => findState(store, ref, index));
  if (state === undefined) throw goneError(taskId(ref, index));
  return state;
}

async function findState(
  store: Store,
  ref: SegmentRef,
  index: number,
): Promise<TaskState | undefined> {
  const id = taskId(ref, index);
  const overlay = await store.get(overlayKey(ref));
  const since = overlay && statesOf(overlay.value).get(index);
  if (since !== undefined && since.state <= TaskState.RUNNING) return since.state;
  const segment = await storedSegment(store, ref);
  const filed = await findFinished(store, id);
  if (filed !== undefined) return filed.state;
  if (segment !== undefined && index < openFrame(segment.value, FrameKind.TASKS).count) {
    return TaskState.PENDING;
  }
  return undefined;
}
