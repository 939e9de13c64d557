/**
 * One ownership of a shard: its epoch, its stage, its segments. What a write to it stands on follows from these.
 */
import type { OwnedShard } from '../coordination/shard-keeper.js';
import type { Revision } from '../core/store.js';
import type { SegmentHandle } from '../timing/task-table.js';
import type { Guard } from './commit-lane.js';
import type { FarSegments } from './far-segments.js';

export class Shard {
  readonly owned: OwnedShard;
  /** The owner key by its epoch: who owned the shard before cannot write to it, however late. */
  readonly guard: Guard;
  /**
   * `loading`: what is stored comes into the table; nothing is written yet.
   * `active`: tasks run, and new ones are put.
   * `leaving`: nothing new; what is known is written, then it is let go of.
   * `over`: somebody else's, or nobody's.
   */
  stage: 'loading' | 'active' | 'leaving' | 'over' = 'loading';
  /** Whether its tasks count as open here: they do from the moment on that it is `active`. */
  isResumed = false;
  /** What is in the table, and the create revision of what came through the inbox. */
  readonly segments: Map<SegmentHandle, Guard | undefined> = new Map();
  /** Types of tasks that turned due in it and have no handler here. */
  readonly waiting: Set<string> = new Set();
  /** What waits is being told, or taken back. */
  isTelling = false;
  /** What of it is in the store only. */
  far: FarSegments | undefined;
  /** From when on the inbox is to be watched. */
  inboxFrom: Revision = 0 as Revision;
  /** Ends the reading of inbox and commands. */
  readonly reading: AbortController = new AbortController();
  /** Called when it is over. */
  readonly onOver: (() => void)[] = [];

  constructor(owned: OwnedShard) {
    this.owned = owned;
    this.guard = { key: owned.key, createRevision: owned.epoch };
  }

  get queue(): string {
    return this.owned.queue;
  }

  get shard(): number {
    return this.owned.shard;
  }

  get epoch(): Revision {
    return this.owned.epoch;
  }
}
