/**
 * Which shards of the store are this node's, as far as the other parts of the engine ask: all of them where nobody shares the
 * store (`LoneShards`), else those that it owns by agreement with the other nodes (`Cluster`).
 */
import type { SegmentRef } from '../core/ids.js';
import type { Revision } from '../core/store.js';
import type { SegmentHandle } from '../timing/task-table.js';
import type { Home } from './closed-frame.js';
import type { NewSegment } from './intake.js';
import type { ShardPlace } from './keys.js';

export interface ShardHolder {
  /** Whether anything may be started now. */
  readonly mayStart: boolean;
  /** Where the next new segment goes. */
  home(segment: NewSegment): Home;
  /**
   * Whether something new may be begun in the shard that a segment is in: the shard is active here. Not in one that is being
   * left, although what was begun there is still written: see {@link stillWrites}.
   */
  mayBeginIn(segment: SegmentRef): boolean;
  /**
   * The ownership under which something may be begun there; undefined: nothing may. What was read under another one may have
   * been changed by whoever owned the shard in between.
   */
  epochOf(segment: SegmentRef): Revision | undefined;
  /** Whether what has changed in a segment of the table is this node's to write: until it lets go of the shard. */
  stillWrites(segment: SegmentHandle): boolean;
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
