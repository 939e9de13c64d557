/**
 * Ended tasks in the store: found again by id, and aged. The task table writes what is read here.
 *
 * What completed, was cancelled or expired is filed per segment and commit in a frame of states under `z/`; what
 * failed for good becomes a dead letter under `d/`, with the task itself beside its state so that it can run again:
 *
 *   dead letter:  [0] u32 length of the states frame (one record)   [4] states frame   [..] tasks frame (one record)
 */
import { badFrame, FrameKind, openFrame } from '../core/frame.js';
import { parseTaskId, type TaskId } from '../core/ids.js';
import { readState, readTask, type StateRecord, type TaskRecord } from '../core/records.js';
import { prefixRange, type Store } from '../core/store.js';
import { deadLetterKey, finishedPrefix } from './keys.js';

/** A finished task as it was filed, or undefined when the store does not have it (any more). */
export async function findFinished(store: Store, id: TaskId): Promise<StateRecord | undefined> {
  const dead = await store.get(deadLetterKey(id));
  if (dead !== undefined)
    return readState(openFrame(deadLetterState(dead.value), FrameKind.STATES), 0);
  const place = parseTaskId(id);
  if (place === undefined) return undefined;
  const filed = await store.range(prefixRange(finishedPrefix(place.segment)));
  for (const entry of filed.entries) {
    const frame = openFrame(entry.value, FrameKind.STATES);
    for (let i = 0; i < frame.count; i++) {
      const state = readState(frame, i);
      if (state.index === place.index) return state;
    }
  }
  return undefined;
}

/** A dead letter: the task as it was submitted, and how it failed. @throws ERR_MILLRACE_STORE_CORRUPT */
export function readDeadLetter(value: Uint8Array): {
  readonly state: StateRecord;
  readonly task: TaskRecord;
} {
  const state = deadLetterState(value);
  return {
    state: readState(openFrame(state, FrameKind.STATES), 0),
    task: readTask(openFrame(value.subarray(4 + state.length), FrameKind.TASKS), 0),
  };
}

/** When a dead letter was filed; epoch ms. */
export function deadLetterFiledAtMs(value: Uint8Array): number {
  return readState(openFrame(deadLetterState(value), FrameKind.STATES), 0).atMs;
}

/** The frame with the task of a dead letter. */
export function deadLetterTask(value: Uint8Array): Uint8Array {
  return value.subarray(4 + deadLetterState(value).length);
}

export function deadLetterState(value: Uint8Array): Uint8Array {
  if (value.length < 4) throw badFrame(`${value.length} bytes are no dead letter`);
  const length = new DataView(value.buffer, value.byteOffset, value.byteLength).getUint32(0, true);
  if (4 + length > value.length)
    throw badFrame(`a dead letter's state of ${length} bytes is cut off`);
  return value.subarray(4, 4 + length);
}
