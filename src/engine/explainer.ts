/**
 * Explainer: why a task is not running, by what this node knows of it; where it holds the task not, the store is asked.
 */

import type { Load } from '../coordination/load.js';
import type { Clock } from '../core/clock.js';
import { parseTaskId } from '../core/ids.js';
import { isEnded, TaskState } from '../core/states.js';
import type { Store } from '../core/store.js';
import type { TaskHandle, TaskInfo, TaskTable } from '../timing/task-table.js';
import type { Cluster } from './cluster.js';
import type { Door } from './door.js';
import type { Executions } from './executions.js';
import {
  delayed,
  explainStored,
  moving,
  noCapableNode,
  paused,
  rateLimited,
  running,
} from './explain-stored.js';
import type { Explanation } from './explanation.js';
import type { Horizon } from './horizon.js';
import type { TaskInspection } from './inspection.js';
import { type Pauses, pauseOf } from './pauses.js';
import type { RateLimits } from './rates/rate-limits.js';
import type { TaskTypes } from './task-types.js';

/** What the engine knows. */
export interface ExplainerPorts {
  readonly clock: Clock;
  readonly store: Store;
  readonly table: TaskTable;
  readonly types: TaskTypes;
  /** Undefined: nothing has a rate. */
  readonly rates: Pick<RateLimits, 'waitOf'> | undefined;
  readonly executions: Pick<Executions, 'isRunning'>;
  readonly horizon: Horizon;
  /** Undefined: nobody shares the store. */
  readonly cluster: Cluster | undefined;
  readonly pauses: Pick<Pauses, 'all'>;
  readonly door: Pick<Door, 'notTaking'>;
  load(): Load;
  /** The task when this node holds it, else 0. */
  held(task: TaskInspection): TaskHandle;
}

export class Explainer {
  readonly #ports: ExplainerPorts;

  constructor(ports: ExplainerPorts) {
    this.#ports = ports;
  }

  /** @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  async explain(task: TaskInspection): Promise<Explanation> {
    const { clock, store, table } = this.#ports;
    const info = table.inspect(this.#ports.held(task));
    const nowMs = clock.wallMs();
    if (info === undefined || info.isSettled) {
      const isOpen = task.status === 'pending';
      if (isOpen && this.#isFar(task)) {
        return delayed('far', task.dueAtMs ?? 0, task.attempt, nowMs);
      }
      // Where nobody shares the store, whatever is open in it is ours.
      const isDue = isOpen && (task.dueAtMs ?? 0) <= nowMs;
      if (isDue && this.#ports.cluster === undefined) return moving(task.task ?? '');
      return explainStored(store, task, nowMs);
    }
    if (isEnded(info.state)) {
      return {
        reason: 'ending',
        message: 'it has ended, and the commit that says so is under way',
      };
    }
    if (info.state === TaskState.RUNNING) return this.#explainRunning(task, info);
    return this.#explainPending(task, info);
  }

  #isFar(task: TaskInspection): boolean {
    const place = parseTaskId(task.id);
    return place !== undefined && this.#ports.horizon.beyond(place.segment) !== undefined;
  }

  #explainRunning(task: TaskInspection, info: TaskInfo): Explanation {
    const { clock, table, executions } = this.#ports;
    const handle = this.#ports.held(task);
    const batch = table.placeOf(handle)?.batch;
    if (batch !== undefined && !executions.isRunning(batch)) {
      return {
        reason: 'claimed',
        message:
          'it is claimed, and begins when the commit is durable and a thread takes its batch',
      };
    }
    return running(table.executorOf(handle) ?? '', info.changedAtMs, clock.wallMs());
  }

  #explainPending(task: TaskInspection, info: TaskInfo): Explanation {
    const { clock, table, types } = this.#ports;
    const nowMs = clock.wallMs();
    const type = table.typeName(info.type) ?? '';
    if (info.dueAtMs > nowMs) return delayed('delayed', info.dueAtMs, info.attempt, nowMs);
    const spec = types.specOf(info.type);
    if (spec === undefined) {
      return this.#ports.cluster?.isRun(task.queue, type) ? moving(type) : noCapableNode(type);
    }
    const pause = this.#pauseOf(task);
    if (pause !== undefined) return pause;
    const away = this.#storeAway();
    if (away !== undefined) return away;
    const wait = this.#ports.rates?.waitOf(info.type, task.tenant ?? '');
    const { running: runningCount = 0, ready = 0 } = table.typeState(info.type) ?? {};
    if (wait !== undefined)
      return rateLimited(wait, { task: type, tenant: task.tenant, ready }, nowMs);
    const limit = types.limitOf(info.type);
    if (limit === 0) {
      return {
        reason: 'breaker-open',
        task: type,
        message: `nothing of '${type}' may begin here at the moment: its breaker is open`,
      };
    }
    if (runningCount >= limit) {
      const range = types.rangeOf(info.type);
      const allowed =
        range === undefined
          ? `its concurrency of ${limit} allows`
          : `its adaptive concurrency allows at the moment: ${limit}, within ${range.min} and ${range.max}`;
      return {
        reason: 'concurrency',
        limit,
        running: runningCount,
        ...(range && { adaptive: range }),
        message: `${runningCount} of '${type}' run here, which is all that ${allowed}`,
      };
    }
    if (info.isParked) {
      const limit = spec.concurrencyPerKey;
      return {
        reason: 'concurrency-key',
        limit,
        message: `others with its concurrencyKey run or were ready before it, and ${limit} of '${type}' may at a time`,
      };
    }
    if (info.mustBeAlone) {
      const { losses } = info;
      return {
        reason: 'alone',
        losses,
        message: 'it may have killed or hung a thread, and waits for one to itself',
      };
    }
    // Before the next look at the clock it is due and not ready.
    if (!info.isReady) return moving(type);
    return this.#explainReady();
  }

  #pauseOf({ task, queue, tenant }: TaskInspection): Explanation | undefined {
    const pause = pauseOf(this.#ports.pauses.all, { task, queue, tenant });
    return pause && paused(pause, this.#ports.clock.wallMs());
  }

  #storeAway(): Explanation | undefined {
    const notTaking = this.#ports.door.notTaking;
    if (notTaking?.isFinal) return { reason: 'closing', message: notTaking.cause.message };
    if (notTaking) return { reason: 'store-away', message: notTaking.cause.message };
    if (this.#ports.cluster?.mayStart === false) {
      return {
        reason: 'store-away',
        message:
          "this node's lease is in doubt, or new: nothing begins until the store has answered",
      };
    }
    return undefined;
  }

  #explainReady(): Explanation {
    const { ready, running: runningCount, threads, freePlaces } = this.#ports.load();
    if (freePlaces > 0) {
      return { reason: 'next', message: 'it is about to begin: the next commit claims it' };
    }
    return {
      reason: 'capacity',
      ready,
      running: runningCount,
      threads,
      message: `all ${threads} threads are busy: ${runningCount} tasks run or are claimed, and ${ready} are due and wait, in the order of priority, tenant and time`,
    };
  }
}
