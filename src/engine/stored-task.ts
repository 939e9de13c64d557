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
import { readState } from '../core/records.js';
import { TaskState } from '../core/states.js';
import type { Store } from '../core/store.js';
import { goneError } from './ends.js';
import { findFinished } from './finished.js';
import { inboxKey, overlayKey, segmentKey } from './keys.js';

/** @throws ERR_MILLRACE_TASK_GONE */
export async function storedState(
  store: Store,
  ref: SegmentRef,
  index: number,
): Promise<TaskState> {
  const id = taskId(ref, index);
  const overlay = await store.get(overlayKey(ref));
  if (overlay !== undefined) {
    const frame = openFrame(overlay.value, FrameKind.STATES);
    for (let i = 0; i < frame.count; i++) {
      const { index: at, state } = readState(frame, i);
      if (at === index && state <= TaskState.RUNNING) return state;
    }
  }
  const segment = (await store.get(segmentKey(ref))) ?? (await store.get(inboxKey(ref)));
  const filed = await findFinished(store, id);
  if (filed !== undefined) return filed.state;
  if (segment !== undefined && index < openFrame(segment.value, FrameKind.TASKS).count) {
    return TaskState.PENDING;
  }
  throw goneError(id);
}
