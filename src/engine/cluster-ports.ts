/**
 * What it takes to share queues with other nodes, and what the engine knows and does for that.
 */
import type { Load } from '../coordination/load.js';
import type { Members } from '../coordination/members.js';
import type { Session } from '../coordination/session.js';
import type { QueueShards } from '../coordination/shard-map.js';
import type { Supervisor } from '../coordination/supervisor.js';
import type { Clock } from '../core/clock.js';
import type { Incarnation, TaskId } from '../core/ids.js';
import type { Random } from '../core/random.js';
import type { Store } from '../core/store.js';
import type { TaskHandle, TaskTable } from '../timing/task-table.js';
import type { Horizon } from './horizon.js';
import type { CancelAnswer, Report } from './letters.js';
import type { RedriveAnswer } from './redrives.js';
import type { NewDue, RescheduleAnswer } from './reschedules.js';
import type { Room } from './room.js';
import type { WallTimes } from './wall-times.js';

export interface ClusterOptions {
  readonly session: Session;
  readonly members: Members;
  /** Those that this node has handlers for. */
  readonly queues: readonly QueueShards[];
  /** Of every queue; the same on all nodes, for ever. */
  readonly shardCount: number;
  /** Of this process; absent: nobody looks after members. */
  readonly supervisor?: Supervisor;
}

/** What the engine does for it. */
export interface ClusterPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  readonly table: TaskTable;
  readonly incarnation: Incarnation;
  /** Types of tasks that run here. */
  readonly handled: ReadonlySet<string>;
  readonly horizon: Horizon;
  readonly wallTimes: WallTimes;
  readonly room: Room;
  /** How much there is to do here. */
  load(): Load;
  /** Settles a task that is RUNNING and in no batch. */
  settle(task: TaskHandle, report: Report): void;
  /** Asks a task in the table to end, wherever it runs. */
  cancel(task: TaskHandle, id: TaskId, reason: string | undefined): CancelAnswer;
  /** Lets a task of one of our shards be due at another time. */
  reschedule(task: TaskId, due: NewDue): Promise<RescheduleAnswer>;
  /** Lets a dead letter of one of our shards run again. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  redrive(task: TaskId): Promise<RedriveAnswer>;
  /** Aborts the signal of an execution here. */
  abort(task: TaskHandle, reason: string): void;
  /** Whoever waits here for this task is to hear of its end from its new owner. */
  moveWaiters(task: TaskHandle, id: TaskId): void;
  /** There may be something to write, or to claim. */
  onChanged(): void;
}
