/**
 * Cutter: between the commit lane and the parts whose work it writes. It has a commit cut (cut.ts) when the lane is free, and tells
 * the parts what became of it.
 */
import type { MillraceError } from '../core/errors.js';
import type { Incarnation, SegmentRef } from '../core/ids.js';
import { TaskState } from '../core/states.js';
import type { SegmentHandle, Settled, TaskTable } from '../timing/task-table.js';
import type { Amendments } from './amendments.js';
import type { Cluster } from './cluster.js';
import type { Commit, CommitBudget, CommitSource } from './commit-lane.js';
import { Cut, type CutContext } from './cut.js';
import type { Dispatcher } from './dispatcher.js';
import type { Door } from './door.js';
import type { Drain } from './drain.js';
import type { EndWaiters } from './end-waiters.js';
import type { Executions } from './executions.js';
import type { Horizon } from './horizon.js';
import type { Janitor, RetentionMs } from './janitor.js';
import type { Pauses } from './pauses.js';
import type { RateLimits } from './rates/rate-limits.js';
import type { Room } from './room.js';
import type { SegmentAdditions } from './segment-additions.js';
import { SharedCuts } from './shared-cuts.js';
import type { Submissions } from './submissions.js';
import type { TimeKeeper } from './time-keeper.js';

/** Whose work is written, and who hears of it. */
export interface CutterParts {
  readonly table: TaskTable;
  readonly horizon: Horizon;
  readonly time: TimeKeeper;
  readonly door: Door;
  readonly room: Room;
  readonly submissions: Submissions;
  readonly executions: Executions;
  readonly amendments: Amendments;
  /** Undefined: nothing has a rate. */
  readonly rates: RateLimits | undefined;
  readonly janitor: Janitor;
  readonly pauses: Pauses;
  readonly waiters: EndWaiters;
  readonly drain: Drain;
  /** Undefined: nobody shares the store. */
  readonly cluster: Cluster | undefined;
  /** Of the engine; what is filed is named by it. */
  readonly incarnation: Incarnation;
  /** There is something to write. */
  requestCommit(): void;
}

export class Cutter implements CommitSource, CutContext {
  readonly table: TaskTable;
  readonly dispatchers: readonly Dispatcher[];
  readonly submitted: Submissions;
  readonly additions: SegmentAdditions;
  readonly shared: SharedCuts | undefined;
  readonly keep: readonly TaskState[];
  readonly #parts: CutterParts;
  #count = 0;
  #endedCount = 0;

  constructor(parts: CutterParts, retention: RetentionMs) {
    const { cluster, submissions, pauses } = parts;
    this.#parts = parts;
    this.table = parts.table;
    this.dispatchers = parts.executions.dispatchers;
    this.submitted = submissions;
    this.additions = parts.amendments.additions;
    this.shared = cluster && new SharedCuts({ cluster, pauses, table: parts.table });
    this.keep = keptStates(retention);
  }

  /** How many ends have become durable here. */
  get endedCount(): number {
    return this.#endedCount;
  }

  // --- CommitSource -----------------------------------------------------------------------------------------------

  cut(budget: CommitBudget): Commit | undefined {
    const { door, cluster, executions, amendments, horizon, rates, time, incarnation } =
      this.#parts;
    door.endStall();
    cluster?.beforeCut();
    executions.putBackStale();
    amendments.beforeCut(budget.operationsMax);
    horizon.settle();
    const part = `${incarnation}${(this.#count++).toString(36).padStart(8, '0')}`;
    const commit = Cut.make(this, budget, part);
    rates?.look();
    // The cut has taken submissions in: some may wait for a time, or be late already.
    time.update();
    time.look();
    return commit;
  }

  onStalled(cause: MillraceError): void {
    const { door, submissions } = this.#parts;
    submissions.rejectUnsent(door.stall(cause));
  }

  onFenced(cause: MillraceError): void {
    const { door, submissions, executions, waiters, cluster } = this.#parts;
    door.shut(cause);
    submissions.rejectUnsent(cause);
    executions.stopClaiming();
    waiters.close(cause);
    cluster?.giveUp(cause);
  }

  // --- CutContext -------------------------------------------------------------------------------------------------

  onFiled(segment: SegmentRef, bytes: number): void {
    this.#parts.janitor.noteFiled(segment, bytes);
  }

  onDeadLetter(bytes: number): void {
    this.#parts.janitor.noteDeadLetter(bytes);
  }

  onSettled(settled: Settled): void {
    const { room, waiters, cluster, drain } = this.#parts;
    this.#endedCount += settled.tasks;
    if (settled.tasks > 0) room.release(settled.bytes, settled.tasks);
    waiters.settle(settled.watched);
    cluster?.onSettled(settled);
    if (cluster?.hasLetters) this.#parts.requestCommit();
    drain.look();
  }

  onDropped(segment: SegmentHandle): void {
    const { table, time, horizon } = this.#parts;
    time.wallTimes.delete(segment);
    horizon.dropped(table.segmentRef(segment) as SegmentRef);
  }
}

function keptStates(retention: RetentionMs): TaskState[] {
  const ended = [TaskState.COMPLETED, TaskState.CANCELLED, TaskState.EXPIRED];
  return [
    ...(retention.completedMs > 0 ? ended : []),
    ...(retention.failedMs > 0 ? [TaskState.FAILED] : []),
  ];
}
