/**
 * Which shards of the store are this node's, as far as the other parts of the engine ask: all of them where nobody shares the
 * store (`LoneShards`), else those that it owns by agreement with the other nodes (`Cluster`).
 */
import type { SegmentRef } from '../core/ids.js';
import type { SegmentHandle } from '../timing/task-table.js';
import type { Home } from './closed-frame.js';
import type { NewSegment } from './intake.js';
import type { ShardPlace } from './keys.js';

export interface ShardHolder {
  /** Whether anything may be started now. */
  readonly mayStart: boolean;
  /** Where the next new segment goes. */
  home(segment: NewSegment): Home;
  /** Whether anything new may be done in the shard that a segment is in. */
  isOurs(segment: SegmentRef): boolean;
  /** Whether what changes in a segment of the table is written by this node: also while it lets go of its shard. */
  writes(segment: SegmentHandle): boolean;
  /** Whether tasks of a shard are this node's to start now. */
  startsIn(shard: ShardPlace): boolean;
  /** A segment beyond the horizon has been put into a shard of ours. */
  know(segment: SegmentRef, home: Home): void;
  /** A segment that is put next is in the table. */
  adopted(segment: SegmentHandle, home: Home): void;
  /** Starts a segment that is put once more, and is in the table, held. REQUIRES: it is ours. */
  takeBack(segment: SegmentHandle, ref: SegmentRef): void;
  /** Whether somebody runs tasks of a type, as far as is known. */
  isRun(queue: string, type: string): boolean;
}
