/**
 * Executions: what runs on this node, and what that comes to.
 *
 *   Dispatcher   one per pool: claims, batches, results     dispatcher.ts
 *   Settler      what an outcome or a loss means            settler.ts
 *   ProgressBoard   how far what runs says it is            progress.ts
 *
 * Tasks of this node may run on other nodes as well, and tasks of theirs here (cluster.ts): what comes of those goes the same way.
 */
import { type Clock, instantOf } from '../core/clock.js';
import type { Incarnation, TaskId } from '../core/ids.js';
import type { Pool } from '../core/pool.js';
import type { Random } from '../core/random.js';
import type { Timers } from '../pool/deadlines.js';
import { type BatchHandle, Place, type TaskHandle, type TaskTable } from '../timing/task-table.js';
import type { Cluster } from './cluster.js';
import { type AloneTurn, Dispatcher } from './dispatcher.js';
import { cancelledBytes } from './ends.js';
import type { CancelAnswer, Report } from './letters.js';
import { ProgressBoard } from './progress.js';
import { Settler } from './settler.js';
import type { TaskTypes } from './task-types.js';
import type { TimeKeeper } from './time-keeper.js';

export interface Pools {
  readonly thread?: Pool;
  readonly inline?: Pool;
}

/** What the engine knows and does for them. */
export interface ExecutionPorts {
  readonly clock: Clock;
  /** For deadlines of tasks; same time as the clock's. */
  readonly timers: Timers;
  readonly random: Random;
  readonly table: TaskTable;
  readonly types: TaskTypes;
  readonly time: TimeKeeper;
  readonly incarnation: Incarnation;
  /** Undefined: nobody shares the store. */
  readonly cluster: Cluster | undefined;
  /** There is something to write. */
  requestCommit(): void;
}

export class Executions {
  readonly dispatchers: readonly Dispatcher[];
  readonly pools: readonly Pool[];
  readonly progress: ProgressBoard = new ProgressBoard();
  readonly #ports: ExecutionPorts;
  readonly #settler: Settler;

  constructor(ports: ExecutionPorts, { thread, inline }: Pools) {
    this.#ports = ports;
    this.#settler = new Settler(ports);
    const turn = { holder: undefined };
    this.dispatchers = [
      ...(thread ? [this.#dispatcher(thread, Place.THREAD, turn)] : []),
      ...(inline ? [this.#dispatcher(inline, Place.INLINE, turn)] : []),
    ];
    this.pools = [thread, inline].filter((pool) => pool !== undefined);
  }

  /** Worker threads that are ready; also after the engine has stopped. */
  get threadCount(): number {
    return this.pools.reduce((total, pool) => total + pool.threadCount, 0);
  }

  /** Batches that could start at once; also after the engine has stopped. */
  get freePlaces(): number {
    return this.pools.reduce((total, pool) => total + pool.freePlaces, 0);
  }

  /** The longest time that there has been work and a place for it, and nothing was claimed; ms. */
  get stalledMs(): number {
    return Math.max(0, ...this.dispatchers.map((dispatcher) => dispatcher.stalledMs()));
  }

  /** Asks for a commit if there is something to claim, and a place for it. */
  requestClaim(): void {
    if (this.dispatchers.some((dispatcher) => dispatcher.canClaim)) this.#ports.requestCommit();
  }

  /** Whether a batch of ours is in a pool. */
  isRunning(batch: BatchHandle): boolean {
    return this.dispatchers.some((dispatcher) => dispatcher.isRunning(batch));
  }

  /** Asks a task in the table to end, wherever it runs. */
  cancel(task: TaskHandle, id: TaskId, reason: string | undefined): CancelAnswer {
    const { table, clock, cluster } = this.#ports;
    const answer = table.cancel(task, cancelledBytes(id, reason), instantOf(clock));
    if (answer !== 'running') return answer;
    if (cluster?.abortElsewhere(task, id, reason ?? '')) {
      this.#settler.cancelReasons.set(task, reason ?? '');
    } else this.abort(task, reason ?? '');
    return 'signalled';
  }

  /** Aborts the signal of an execution here. */
  abort(task: TaskHandle, reason: string): void {
    for (const dispatcher of this.dispatchers) dispatcher.cancel(task, reason);
  }

  /** What an execution came to that ran on another node, or under a process that is gone. */
  settle(task: TaskHandle, report: Report): void {
    this.#ports.time.noteDrift();
    const { overranMs } = report;
    if (report.kind === 'lost') return this.#settler.lose(task, report.death, { overranMs });
    this.#settler.settle(task, report.outcome, Buffer.from(report.json), overranMs);
  }

  /** These ran in a process that died. */
  lose(tasks: readonly TaskHandle[]): void {
    const death = { reason: 'exit', begun: tasks.length } as const;
    for (const task of tasks) this.#settler.lose(task, death, {});
  }

  /** Whether batches may be claimed before there is a place for them. */
  allowClaimsAhead(isAllowed: boolean): void {
    for (const dispatcher of this.dispatchers) dispatcher.allowClaimsAhead(isAllowed);
  }

  /** Whether nothing new begins: tasks wait, what runs goes on. */
  hold(isHeld: boolean): void {
    for (const dispatcher of this.dispatchers) dispatcher.hold(isHeld);
  }

  /** Things may be started again. */
  resume(): void {
    for (const dispatcher of this.dispatchers) dispatcher.resume();
  }

  /** Starts nothing of what was claimed under a lease that has ended. REQUIRES: its shards have been let go of. */
  putBackStale(): void {
    for (const dispatcher of this.dispatchers) dispatcher.putBackStale();
  }

  /** Claims nothing from here on. */
  stopClaiming(): void {
    this.#settler.isClosing = true;
    for (const dispatcher of this.dispatchers) dispatcher.stopClaiming();
  }

  #dispatcher(pool: Pool, place: Place, turn: AloneTurn): Dispatcher {
    const { clock, timers, table, types, time, incarnation, cluster } = this.#ports;
    return new Dispatcher({
      place,
      pool,
      table,
      types,
      settler: this.#settler,
      clock,
      timers,
      turn,
      incarnation,
      events: {
        mayStart: () => cluster?.mayStart ?? true,
        leaseId: () => cluster?.leaseId,
        beforeReport: () => time.noteDrift(),
        onOrphan: (task, report) => cluster?.report(task, this.#settler.toldOf(task, report)),
        onChanged: () => {
          time.update();
          this.#ports.requestCommit();
        },
        onFree: () => this.requestClaim(),
        onProgress: (task, json) => this.progress.note(task, json),
        onProgressOver: (tasks) => {
          for (const task of tasks) this.progress.forget(task);
        },
      },
    });
  }
}
