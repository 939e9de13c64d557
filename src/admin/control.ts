/**
 * Control: what operators ask of a store's tasks and do to them, the same wherever they are.
 *
 *   OperatorDesk     a runtime, which holds tasks and may change them            (../operator-desk.ts)
 *   StoreControl     a store by itself: reads                                    (store-control.ts)
 *   ControlClient    a runtime in another process, over its socket               (control-client.ts)
 *
 * Requests come from outside: `control-api.ts` checks them once, for all three.
 */
import type { Explanation } from '../engine/explanation.js';
import type { TaskInspection } from '../engine/inspection.js';
import type { CancelAnswer } from '../engine/letters.js';
import type { TaskFilter, TaskPage } from '../engine/task-list.js';

export interface ListRequest extends TaskFilter {
  /** Tasks per page, 1 to 1000. */
  readonly limit: number;
  /** `next` of the page before. */
  readonly after?: string;
}

/** One process that shares the store. */
export interface NodeOverview {
  readonly node: string;
  /** `host:pid`, as it says itself. */
  readonly host: string | undefined;
  readonly queues: readonly string[];
  /** Undefined of a process that runs no tasks. */
  readonly open: number | undefined;
  readonly ready: number | undefined;
  readonly running: number | undefined;
  readonly threads: number | undefined;
  readonly freePlaces: number | undefined;
  /** Of its task table, outside the JavaScript heap. */
  readonly bytes: number | undefined;
  /** How many shards it owns. */
  readonly shards: number;
}

/** How a store's tasks and processes are, as of now. */
export interface Overview {
  /** Epoch ms. */
  readonly atMs: number;
  readonly nodes: readonly NodeOverview[];
  /** Tasks that failed for good and are kept; counted up to {@link DEAD_LETTERS_COUNTED_MAX}. */
  readonly deadLetters: number;
  /** Of the process that answers; undefined when nobody runs tasks in it. */
  readonly self:
    | {
        readonly delayed: number;
        /** Ends since it started. */
        readonly ended: number;
        /** Submitters that wait for room. */
        readonly waiting: number;
        /** What is not well, in words. */
        readonly reasons: readonly string[];
      }
    | undefined;
}

export const DEAD_LETTERS_COUNTED_MAX = 10_000;

/** What can be read. All of it throws ERR_MILLRACE_STORE_UNAVAILABLE. */
export interface Reading {
  list(request: ListRequest): Promise<TaskPage>;
  /** @throws ERR_MILLRACE_TASK_GONE, ERR_MILLRACE_INVALID_OPTION for what is no task id */
  inspect(id: string): Promise<TaskInspection>;
  /** @throws as `inspect` */
  explain(id: string): Promise<Explanation>;
  overview(): Promise<Overview>;
}

/**
 * What became of a dead letter that was to run again: it does; it was `open` already, waiting or running; it has `ended` in
 * another way than by failing for good; nothing is known of it (any more).
 */
export type RedriveOutcome = 'redriven' | 'open' | 'ended' | 'gone';

/** Ids in one request at most. */
export const REDRIVE_IDS_MAX = 500;

export interface Control extends Reading {
  /** @throws as `inspect` */
  cancel(id: string, reason: string | undefined): Promise<Exclude<CancelAnswer, 'gone'>>;
  /**
   * Lets tasks that failed for good run again, under their ids.
   *
   * @param ids - at most {@link REDRIVE_IDS_MAX}
   * @returns what became of each, durably; in the order of the ids
   * @throws ERR_MILLRACE_INVALID_OPTION for what is no task id
   */
  redrive(ids: readonly string[]): Promise<readonly RedriveOutcome[]>;
}
