/**
 * TaskDesk: what this process wants of single tasks, wherever they are.
 *
 *   held here                 the table answers
 *   ours, beyond the horizon  its segment is visited, or the store answers
 *   another node's            its owner is asked by a letter (remote-ends.ts)
 *   ended                     the store knows it, as long as its retention lasts
 *
 * What other nodes want of tasks that this one holds is at the `CommandDesk`.
 */
import { type Clock, sleep } from '../core/clock.js';
import { MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { requireTaskId, type SegmentRef, type TaskId, taskId } from '../core/ids.js';
import { isEnded, statusOf, TaskState, type TaskStatus } from '../core/states.js';
import type { Store } from '../core/store.js';
import type { TaskHandle, TaskTable } from '../timing/task-table.js';
import type { Amendments } from './amendments.js';
import type { Cluster } from './cluster.js';
import type { Door } from './door.js';
import { EndWaiters } from './end-waiters.js';
import { goneError, replacedBy, type TaskEnd } from './ends.js';
import type { Executions } from './executions.js';
import type { FarSegments } from './far-segments.js';
import { findFinished } from './finished.js';
import type { Horizon } from './horizon.js';
import type { CancelAnswer as AnswerOfOwner } from './letters.js';
import { ProgressStream } from './progress.js';
import type { RedriveAnswer } from './redrives.js';
import type { NewDue, RescheduleAnswer } from './reschedules.js';
import { storedState } from './stored-task.js';
import type { Accepted } from './submission.js';

/** Where a task is; `task` is 0 when that is not known. */
export type TaskPlace = Pick<Accepted, 'segment' | 'index' | 'task'>;

export type CancelAnswer = Exclude<AnswerOfOwner, 'gone'>;

export const NOT_HELD = 0 as TaskHandle;

/** A task that is on its way to another node is looked for again after so long. */
const MOVED_DELAY_MS = 200;

/** What the engine knows and does for it. */
export interface TaskDeskPorts {
  readonly clock: Clock;
  readonly store: Store;
  readonly table: TaskTable;
  readonly horizon: Horizon;
  readonly executions: Pick<Executions, 'cancel' | 'progress'>;
  readonly amendments: Pick<Amendments, 'reschedule' | 'redrive'>;
  /** Undefined: nobody shares the store. */
  readonly cluster: Cluster | undefined;
  /** Says why nothing is answered any more. */
  readonly door: Pick<Door, 'refusal'>;
  /** There is something to write. */
  requestCommit(): void;
}

export class TaskDesk {
  /** Who waits for tasks in the table. */
  readonly waiters: EndWaiters = new EndWaiters();
  readonly #ports: TaskDeskPorts;

  constructor(ports: TaskDeskPorts) {
    this.#ports = ports;
  }

  /** The task when the table holds it, else 0. */
  find(segment: SegmentRef, index: number): TaskHandle {
    const { table } = this.#ports;
    return table.taskAt(table.findSegment(segment), index);
  }

  /** See `Engine.ended`. */
  ended(task: TaskPlace): Promise<TaskEnd> {
    if (this.waiters.refusal) return Promise.reject(this.waiters.refusal);
    const held = this.held(task);
    // What runs may end, and be told, until the engine has closed.
    if (this.#ports.table.watch(held) === 'watching') return this.waiters.wait(held);
    const refusal = this.#ports.door.refusal;
    if (refusal) return Promise.reject(refusal);
    const beyond = this.#beyond(task.segment);
    if (beyond !== undefined) return this.#endedBeyond(beyond, task);
    const id = taskId(task.segment, task.index);
    const cluster = this.#ports.cluster;
    // Who held it here knows that it has ended; else its owner is asked.
    if (cluster === undefined || held !== 0) return this.#storedEnd(id);
    return this.#remoteEnd(cluster, id);
  }

  /** See `Engine.progress`. */
  progress(task: TaskPlace, signal?: AbortSignal): AsyncIterableIterator<unknown> {
    const id = taskId(task.segment, task.index);
    const { progress } = this.#ports.executions;
    const listen = (listener: (json: string) => void) => progress.listen(id, listener);
    return new ProgressStream(listen, this.ended(task), signal);
  }

  /** See `Engine.status`. */
  async status(task: TaskPlace): Promise<TaskStatus> {
    const refusal = this.#ports.door.refusal;
    if (refusal) throw refusal;
    const info = this.#ports.table.inspect(this.held(task));
    if (info === undefined) {
      return statusOf(await storedState(this.#ports.store, task.segment, task.index));
    }
    return info.isSettled || !isEnded(info.state) ? statusOf(info.state) : 'running';
  }

  /** See `Engine.cancel`. */
  async cancel(task: TaskPlace, reason: string | undefined): Promise<CancelAnswer> {
    const refusal = this.#ports.door.refusal;
    if (refusal) throw refusal;
    const id = taskId(task.segment, task.index);
    const visitOver = await this.#beyond(task.segment)?.visit(task.segment);
    if (visitOver !== undefined) {
      return this.cancel({ ...task, task: NOT_HELD }, reason).finally(visitOver);
    }
    const held = this.held(task);
    const cluster = this.#ports.cluster;
    if (held === 0 && cluster !== undefined) {
      const answer = await this.#askCancel(cluster, id, reason);
      if (answer === 'gone') throw goneError(id);
      return answer;
    }
    const answer = this.#ports.executions.cancel(held, id, reason);
    if (answer === 'gone') {
      await this.#storedEnd(id);
      return 'ended';
    }
    if (answer === 'signalled' || this.#ports.table.watch(held) !== 'watching') return answer;
    this.#ports.requestCommit();
    return this.#untilDurable(answer, task, { held, reason });
  }

  /** An end counts when it is durable. If its shard is lost before, the next owner is asked. */
  #untilDurable(
    answer: CancelAnswer,
    task: TaskPlace,
    { held, reason }: { readonly held: TaskHandle; readonly reason: string | undefined },
  ): Promise<CancelAnswer> {
    return new Promise((resolve, reject) => {
      this.waiters.add(held, {
        resolve: () => resolve(answer),
        reject,
        onMoved: () => this.cancel({ ...task, task: NOT_HELD }, reason).then(resolve, reject),
      });
    });
  }

  /** Ends a task as replaced by another, if this node holds it and it waits. REQUIRES: nobody shares the store. */
  async supersede(id: TaskId, by: TaskId): Promise<void> {
    const { segment, index } = requireTaskId(id);
    const visitOver = await this.#beyond(segment)?.visit(segment);
    const held = this.find(segment, index);
    if (this.#ports.table.inspect(held)?.state === TaskState.PENDING) {
      this.#ports.executions.cancel(held, id, replacedBy(by));
      this.#ports.requestCommit();
    }
    visitOver?.();
  }

  /** See `Engine.reschedule`. */
  async reschedule({ segment, index }: TaskPlace, due: NewDue): Promise<void> {
    const id = taskId(segment, index);
    for (;;) {
      const answer = await this.#rescheduleOnce({ segment, index, task: NOT_HELD }, due);
      if (answer === 'rescheduled') return;
      if (answer === 'running' || answer === 'ended') throw begunError(id, answer);
      if (answer === 'gone') {
        const status = statusOf(await storedState(this.#ports.store, segment, index));
        if (status !== 'pending' && status !== 'running') throw begunError(id, status);
      }
      await sleep(this.#ports.clock, MOVED_DELAY_MS);
    }
  }

  async #rescheduleOnce(task: TaskPlace, due: NewDue): Promise<RescheduleAnswer> {
    const visitOver = await this.#beyond(task.segment)?.visit(task.segment);
    const refusal = this.#ports.door.refusal;
    if (refusal) throw refusal;
    try {
      const id = taskId(task.segment, task.index);
      const cluster = this.#ports.cluster;
      if (cluster === undefined || this.held(task) !== 0) {
        return await this.#ports.amendments.reschedule(id, due);
      }
      const answer = cluster.remote.reschedule(id, due);
      this.#ports.requestCommit();
      return await answer;
    } finally {
      visitOver?.();
    }
  }

  /** See `Engine.redrive`. */
  async redrive(ids: readonly TaskId[]): Promise<readonly TaskId[]> {
    const { clock, cluster, door } = this.#ports;
    for (;;) {
      if (door.refusal) throw door.refusal;
      if (cluster !== undefined && !cluster.mayBeginIn(requireTaskId(ids[0]).segment)) {
        const redriven = cluster.remote.redrive(ids);
        this.#ports.requestCommit();
        return redriven;
      }
      const answers = await Promise.all(ids.map((id) => this.#ports.amendments.redrive(id)));
      const isRedriven = (answer: RedriveAnswer) => answer === 'redriven' || answer === 'open';
      if (!answers.includes('moved')) return ids.filter((_, i) => isRedriven(answers[i]!));
      if (door.refusal) throw door.refusal;
      // The shard has gone to another node meanwhile; what was done is open there.
      await sleep(clock, MOVED_DELAY_MS);
    }
  }

  /** Who waits here for a task that this node holds no more waits where it is now. */
  moveWaiters(task: TaskHandle, id: TaskId): void {
    const place = { ...requireTaskId(id), task: NOT_HELD };
    for (const { resolve, reject, onMoved } of this.waiters.take(task)) {
      if (onMoved !== undefined) onMoved();
      else this.ended(place).then(resolve, reject);
    }
  }

  /** The table's handle of a task, if this node holds it: perhaps not the one it had when it was submitted. */
  held(task: TaskPlace): TaskHandle {
    const cluster = this.#ports.cluster;
    if (cluster === undefined) return this.find(task.segment, task.index) || task.task;
    if (cluster.holds(task.task)) return task.task;
    const found = this.find(task.segment, task.index);
    return cluster.holds(found) ? found : NOT_HELD;
  }

  /** Where a segment of one of our shards may be, if it is not in the table. */
  #beyond(segment: SegmentRef): FarSegments | undefined {
    const { table, horizon } = this.#ports;
    return table.findSegment(segment) === 0 ? horizon.beyond(segment) : undefined;
  }

  async #endedBeyond(far: FarSegments, { segment, index }: TaskPlace): Promise<TaskEnd> {
    if (await far.untilHeld(segment, index)) return this.ended({ segment, index, task: NOT_HELD });
    const refusal = this.#ports.door.refusal;
    if (refusal) throw refusal;
    const id = taskId(segment, index);
    const isOurs = this.#ports.horizon.of(segment) !== undefined;
    const cluster = isOurs ? undefined : this.#ports.cluster;
    return cluster === undefined ? this.#storedEnd(id) : this.#remoteEnd(cluster, id);
  }

  #askCancel(cluster: Cluster, id: TaskId, reason: string | undefined): Promise<AnswerOfOwner> {
    const answer = cluster.remote.cancel(id, reason);
    this.#ports.requestCommit();
    return answer;
  }

  #remoteEnd(cluster: Cluster, id: TaskId): Promise<TaskEnd> {
    const end = cluster.remote.wait(id);
    this.#ports.requestCommit();
    return end;
  }

  async #storedEnd(id: TaskId): Promise<TaskEnd> {
    const filed = await findFinished(this.#ports.store, id);
    if (filed !== undefined) return { state: filed.state, json: utf8(filed.bytes) };
    // A dead letter that was redriven meanwhile is open again.
    const { segment, index } = requireTaskId(id);
    const held = this.find(segment, index);
    if (this.#ports.table.watch(held) === 'watching') return this.waiters.wait(held);
    throw goneError(id);
  }
}

function begunError(id: TaskId, status: string): MillraceError {
  const what = status === 'running' ? 'runs already' : 'has ended';
  return new MillraceError(
    'ERR_MILLRACE_CLAIM_LOST',
    `task ${id} ${what}; only a task that waits can be rescheduled, so submit another`,
    { details: { taskId: id, status } },
  );
}
