/**
 * How long the tasks of one pool may run: a limit for each type, and the watch that holds their batches to it.
 *
 * The machinery is the pool's (pool/deadlines.ts): one wake-up, marks read from memory that both threads see, abort,
 * grace, kill. Here are the limits. Each type has run times of its own, in memory only, so after a start a limit is
 * what its `max` says until enough has been measured. A task keeps the limit that held when its batch was sent.
 *
 * A type without a `timeout` has a net instead: nobody wants a thread that hangs for ever, and nobody wants a task
 * killed that is merely the first slow one of its kind. On the main thread nothing can be killed: there a limit
 * aborts the signal, and what comes of that is the handler's affair.
 *
 * Cost: a native call and an array for each batch, a few nanoseconds for each result.
 */
import type { ChannelPayloads } from '../core/channels.js';
import { FrameKind, openFrame } from '../core/frame.js';
import type { RunningBatch } from '../core/pool.js';
import { Outcome } from '../core/states.js';
import type { TaskSpec } from '../core/task.js';
import { type TimeoutSpec, timeoutSpec } from '../core/timeouts.js';
import {
  DeadlineWatch,
  Limits,
  type Timers,
  type Watched,
  type WatchedItem,
} from '../pool/deadlines.js';
import { RunTimes } from '../pool/run-times.js';
import type { TypeId } from '../timing/task-table.js';
import type { AdaptiveLimit } from './adaptive-limit.js';

/** For types without a `timeout` of their own. */
const NET: TimeoutSpec = timeoutSpec({ min: '5m', max: '24h' });

/** What of a type's contract is needed here. */
type TypeFacts = Pick<TaskSpec, 'name' | 'queue' | 'timeout' | 'exec' | 'isBatched'>;

/** How long tasks of one type may run, and have run. */
export class TypeTimes {
  readonly times: RunTimes = new RunTimes();
  /** Learns from the same executions how many may run at once; undefined: that is fixed. */
  adaptive: AdaptiveLimit | undefined;
  readonly #spec: TypeFacts;
  readonly #limits: Limits;
  readonly #graceMs: number;
  /** No limit is longer. */
  readonly #limitMsMax: number;

  constructor(spec: TypeFacts) {
    const { timeout = NET, exec } = spec;
    this.#spec = spec;
    this.#limits = new Limits(timeout);
    this.#limitMsMax = timeout.maxMs;
    this.#graceMs = exec === 'inline' ? Number.POSITIVE_INFINITY : timeout.graceMs;
  }

  /** Whether one call takes several. */
  get isBatched(): boolean {
    return this.#spec.isBatched;
  }

  /**
   * What holds for tasks that are sent now.
   *
   * @param perCall - so many are handled in one call: each has its part of the call's time, and the limit is the call's
   */
  now(perCall = 1): TimedTask {
    return {
      timeoutMs: Math.min(this.#limitMsMax, this.#limits.limitMs(this.times) * perCall),
      graceMs: this.#graceMs,
      times: this.times,
      adaptive: this.adaptive,
      spec: this.#spec,
    };
  }
}

/** How long one task may run, and where its run time is noted. */
export interface TimedTask extends WatchedItem {
  readonly times: RunTimes;
  readonly adaptive: AdaptiveLimit | undefined;
  readonly spec: TypeFacts;
}

/** A batch that runs, and what its tasks may take. */
export class Flight implements Watched {
  readonly batch: RunningBatch;
  readonly items: readonly TimedTask[];
  readonly limitMs: number = Number.POSITIVE_INFINITY;
  overdue: Map<number, number> | undefined;

  constructor(batch: RunningBatch, items: readonly TimedTask[]) {
    this.batch = batch;
    this.items = items;
  }

  /** The limit of a task whose time was over, else undefined. */
  overranMs(slot: number): number | undefined {
    return this.overdue?.has(slot) ? this.items[slot]?.timeoutMs : undefined;
  }

  /**
   * Takes the run times out of results, read in place: the frame has been checked, and this is done for each.
   *
   * @returns their mean; undefined for a frame without results
   */
  note(results: Uint8Array): number | undefined {
    const frame = openFrame(results, FrameKind.RESULTS);
    const { view, count } = frame;
    let sumMs = 0;
    for (let i = 0; i < count; i++) {
      const at = frame.recordAt(i);
      const runMs = view.getFloat64(at + 8, true);
      sumMs += runMs;
      const outcome = view.getUint16(at + 4, true);
      if (outcome === Outcome.NOT_STARTED) continue;
      const item = this.items[view.getUint32(at, true)];
      item?.times.add(runMs);
      if (outcome === Outcome.COMPLETED) item?.adaptive?.noteCompleted(runMs);
    }
    return count === 0 ? undefined : sumMs / count;
  }

  /** The same results as columns, for those who watch. REQUIRES: `note` has taken them. */
  columns(
    results: Uint8Array,
  ): Omit<ChannelPayloads['millrace:batch:reported'], 'incarnation' | 'pool'> {
    const frame = openFrame(results, FrameKind.RESULTS);
    const { view, count } = frame;
    const types = new Array<string>(count);
    const queues = new Array<string>(count);
    const outcomes = new Array<Outcome>(count);
    const runMs = new Array<number>(count);
    const isOverdue = new Array<boolean>(count);
    for (let i = 0; i < count; i++) {
      const at = frame.recordAt(i);
      const slot = view.getUint32(at, true);
      const { name, queue } = this.items[slot]!.spec;
      types[i] = name;
      queues[i] = queue;
      outcomes[i] = view.getUint16(at + 4, true) as Outcome;
      runMs[i] = view.getFloat64(at + 8, true);
      isOverdue[i] = this.overdue?.has(slot) ?? false;
    }
    return { types, queues, outcomes, runMs, isOverdue };
  }
}

export class TaskDeadlines {
  readonly #watch: DeadlineWatch;
  readonly #timesOf: (type: TypeId) => TypeTimes;

  constructor(timers: Timers, timesOf: (type: TypeId) => TypeTimes) {
    this.#watch = new DeadlineWatch(timers, NET.graceMs, 'task');
    this.#timesOf = timesOf;
  }

  /**
   * What tasks that are sent now may take.
   *
   * @param types - of the tasks, by slot
   */
  limits(types: Uint32Array): TimedTask[] {
    const items = new Array<TimedTask>(types.length);
    let item: TimedTask | undefined;
    for (let slot = 0; slot < types.length; slot++) {
      // Mostly a batch is of one type, and else its types come in runs.
      if (item === undefined || types[slot] !== types[slot - 1]) {
        const times = this.#timesOf(types[slot] as TypeId);
        item = times.now(times.isBatched ? countOf(types, types[slot]!) : 1);
      }
      items[slot] = item;
    }
    return items;
  }

  /** Watches a batch from now on. */
  watch(batch: RunningBatch, limits: readonly TimedTask[]): Flight {
    const flight = new Flight(batch, limits);
    let shortestMs = Number.POSITIVE_INFINITY;
    for (const { timeoutMs } of limits) shortestMs = Math.min(shortestMs, timeoutMs);
    this.#watch.add(flight, shortestMs);
    return flight;
  }

  /** The batch is over. */
  end(flight: Flight): void {
    this.#watch.remove(flight);
  }

  /** Watches no more. */
  close(): void {
    this.#watch.close();
  }
}

function countOf(types: Uint32Array, type: number): number {
  return types.reduce((count, other) => count + (other === type ? 1 : 0), 0);
}
