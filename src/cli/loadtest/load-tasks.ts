/**
 * The task that `millrace loadtest` submits. It says when it began and ended, on the clock that all processes of a machine
 * share. Worker threads load this module too, so it imports nothing of the runtime but the vocabulary of tasks.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  defineTask,
  defineTasks,
  type ExecutionContext,
  type Task,
  type TaskModule,
} from '../../core/task.js';
import { sharedNowMs } from './arrivals.js';
import type { Work } from './load.js';

export interface LoadInput extends Work {
  /** Which arrival it is. */
  readonly n: number;
  /** Makes the payload as large as it is to be. */
  readonly pad: string;
}

export interface LoadResult {
  readonly n: number;
  /** When the handler was called. */
  readonly startMs: number;
  readonly endMs: number;
  readonly attempt: number;
}

export const work: Task<LoadInput, LoadResult> = defineTask({
  name: 'loadtest.work',
  queue: 'loadtest',
  concurrency: 256,
  // A run that is ended from outside is a loss, which is retried anyway; nothing here fails by itself.
  retry: { attempts: 3, min: '100ms' },
  timeout: '60s',
  async run({ n, cpuUs, ioMs }: LoadInput, ctx: ExecutionContext): Promise<LoadResult> {
    const startMs = sharedNowMs();
    if (cpuUs > 0) compute(startMs, cpuUs);
    if (ioMs > 0) await sleep(ioMs);
    return { n, startMs, endMs: sharedNowMs(), attempt: ctx.execution.attempt };
  },
});

const tasks: TaskModule = defineTasks({ work });
export default tasks;

/** By the clock: on a machine that is busier than it has cores, less is computed in the same time. */
function compute(startMs: number, us: number): void {
  const endMs = startMs + us / 1_000;
  while (sharedNowMs() < endMs);
}
