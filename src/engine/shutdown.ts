/**
 * The gentle end of an engine, in the order in which its parts may stop:
 *
 *   1. nothing new is claimed; shards go to other nodes; what runs has until `softMs`
 *   2. signals are aborted; what is left at `hardMs` is killed, and runs again elsewhere
 *   3. what ended is written, unless the store does not let us
 *   4. nobody is told anything any more
 *
 * What was interrupted stays stored and spends no attempt.
 */
import { type Clock, sleep } from '../core/clock.js';
import { MillraceError } from '../core/errors.js';
import type { TaskTable } from '../timing/task-table.js';
import type { Cluster } from './cluster.js';
import type { CommitLane } from './commit-lane.js';
import type { Executions } from './executions.js';
import type { Horizon } from './horizon.js';
import type { Janitor } from './janitor.js';
import { mailRange } from './keys.js';

/** What closing allows for the last commits after everything has stopped. */
const LAST_COMMITS_MS = 5_000;
/** How often it looks whether something still runs. */
const IDLE_LOOK_MS = 20;

export interface ShutdownBudget {
  readonly softMs: number;
  readonly hardMs: number;
}

export interface ShutdownParts {
  readonly table: Pick<TaskTable, 'busyCount'>;
  readonly lane: CommitLane;
  readonly executions: Executions;
  readonly janitor: Janitor;
  readonly horizon: Horizon;
  readonly cluster: Cluster | undefined;
}

/**
 * @param engine.refusal - why nothing is taken any more
 * @returns when no commit comes any more and no thread runs. REQUIRES: nothing is claimed any more
 */
export async function shutDown(
  parts: ShutdownParts,
  { softMs, hardMs }: ShutdownBudget,
  engine: { readonly clock: Clock; readonly node: string; readonly refusal: MillraceError },
): Promise<void> {
  const { clock, node, refusal } = engine;
  const { table, lane, executions, janitor, horizon, cluster } = parts;
  const { dispatchers, pools } = executions;
  const deadlineMs = clock.monoMs() + hardMs + LAST_COMMITS_MS;
  // What waits goes to other nodes at once; what runs reports to them.
  const leaving = cluster?.leave();
  await untilIdle(clock, table, softMs);
  for (const dispatcher of dispatchers) dispatcher.interruptAll('the runtime shuts down');
  const graceMs = Math.max(0, hardMs - softMs);
  await Promise.all(pools.map((pool) => pool.drain(graceMs)));
  await janitor.stop();
  // What was submitted gets its answer, and what ended is written: unless the store does not let us.
  lane.request();
  if (!(await isOverBy(clock, deadlineMs, lane.idle()))) {
    lane.abandon(
      new MillraceError(
        'ERR_MILLRACE_STORE_UNAVAILABLE',
        'the store did not answer before the runtime had to close; what was not acknowledged may be stored all the same',
        { details: { mayBeStored: true } },
      ),
    );
  }
  await cluster?.close(refusal);
  await horizon.close();
  await leaving;
  // Nobody will read mail to this node, and nobody needs its head.
  if (cluster !== undefined) {
    const retired = lane.retire([{ type: 'deleteRange', range: mailRange(node) }]);
    await isOverBy(clock, deadlineMs, retired);
  }
  await Promise.all(pools.map((pool) => pool.stop()));
  for (const dispatcher of dispatchers) dispatcher.close();
}

async function isOverBy(clock: Clock, deadlineMs: number, work: Promise<void>): Promise<boolean> {
  const patience = new AbortController();
  const limit = sleep(clock, deadlineMs - clock.monoMs(), patience.signal);
  const isOver = await Promise.race([work.then(() => true), limit.then(() => false)]);
  patience.abort();
  limit.catch(() => {});
  return isOver;
}

/** Resolves when nothing runs, or after `limitMs`. */
async function untilIdle(
  clock: Clock,
  table: Pick<TaskTable, 'busyCount'>,
  limitMs: number,
): Promise<void> {
  const untilMs = clock.monoMs() + limitMs;
  while (table.busyCount > 0 && clock.monoMs() < untilMs) {
    await sleep(clock, Math.min(IDLE_LOOK_MS, untilMs - clock.monoMs()));
  }
}
