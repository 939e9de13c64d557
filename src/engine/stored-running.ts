/**
 * How many tasks the overlays of some shards show as running in a node's name: what the store has of a node whose
 * heartbeats are missing. Overlays show a little more than runs, since an end that is not filed stands as running.
 */
import type { StoredRunning } from '../coordination/supervisor.js';
import type { OwnedByNode } from '../core/channels.js';
import { FrameKind, openFrame } from '../core/frame.js';
import { readState } from '../core/records.js';
import { TaskState } from '../core/states.js';
import type { Store } from '../core/store.js';
import { shardRange } from './keys.js';
import { entriesOf } from './recovery.js';

/** It runs beside everything else, and a backlog can be of any size. */
const OVERLAYS_MAX = 4_096;

/** @throws ERR_MILLRACE_STORE_UNAVAILABLE; ERR_MILLRACE_STORE_CORRUPT, _FORMAT for an overlay that does not decode */
export async function countStoredRunning(
  store: Store,
  node: string,
  shards: readonly OwnedByNode[],
  signal: AbortSignal,
): Promise<StoredRunning> {
  let tasks = 0;
  let overlays = 0;
  for (const shard of shards) {
    for await (const { value } of entriesOf(store, shardRange('s', shard))) {
      if (signal.aborted || overlays === OVERLAYS_MAX) return { tasks, isComplete: false };
      overlays++;
      const frame = openFrame(value, FrameKind.STATES);
      for (let i = 0; i < frame.count; i++) {
        const { state, executor } = readState(frame, i);
        if (state === TaskState.RUNNING && executor === node) tasks++;
      }
    }
  }
  return { tasks, isComplete: true };
}
