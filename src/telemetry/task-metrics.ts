/**
 * Counts what the engine says of its tasks. The busy channels carry a batch each, so what is done per task is a look
 * into a map and a few additions to typed arrays.
 */
import { Outcome } from '../core/states.js';
import type { Subscriptions } from '../core/subscriptions.js';
import { isUnavailable } from '../core/unavailable.js';
import type { CounterCell, HistogramCell } from './metric-cells.js';
import type { MetricRegistry } from './metric-registry.js';

/** What is counted for each task that reports, by queue. */
interface QueueCells {
  readonly execution: HistogramCell;
  readonly ok: CounterCell;
  readonly failed: CounterCell;
  readonly snoozed: CounterCell;
  readonly cancelled: CounterCell;
}

export function countTasks(metrics: MetricRegistry, events: Subscriptions): void {
  const byQueue = new Map<string, QueueCells>();
  const cellsOf = (queue: string): QueueCells => {
    let cells = byQueue.get(queue);
    if (cells === undefined) {
      cells = {
        execution: metrics.cell('execution', queue),
        ok: metrics.cell('tasksExecuted', queue, 'ok'),
        failed: metrics.cell('tasksExecuted', queue, 'failed'),
        snoozed: metrics.cell('tasksExecuted', queue, 'snoozed'),
        cancelled: metrics.cell('tasksExecuted', queue, 'cancelled'),
      };
      byQueue.set(queue, cells);
    }
    return cells;
  };

  events.on('millrace:tasks:submitted', ({ queue, tasks, deduplicated }) => {
    metrics.cell('tasksSubmitted', queue).add(tasks);
    if (deduplicated > 0) metrics.cell('tasksDeduplicated', queue).add(deduplicated);
  });
  events.on('millrace:tasks:rejected', ({ queue, reason }) => {
    metrics.cell('tasksRejected', queue, reason).add();
  });
  events.on('millrace:tasks:redriven', ({ queue, tasks }) => {
    metrics.cell('tasksRedriven', queue).add(tasks);
  });
  for (const kind of ['task', 'queue', 'tenant']) metrics.cell('paused', kind).set(0);
  events.on('millrace:tasks:paused', ({ kind, count }) => metrics.cell('paused', kind).set(count));
  events.on('millrace:batch:launched', ({ pool, tasks, queue, waitMs }) => {
    metrics.cell('batchTasks', pool).observe(tasks);
    metrics.cell('queueWait', queue).observe(waitMs / 1_000);
  });
  events.on('millrace:batch:reported', ({ pool, queues, outcomes, runMs, isOverdue }) => {
    let busyMs = 0;
    let queue: string | undefined;
    let cells: QueueCells | undefined;
    for (let i = 0; i < outcomes.length; i++) {
      if (outcomes[i] === Outcome.NOT_STARTED) continue;
      busyMs += runMs[i]!;
      // Mostly all tasks of a report are of one queue.
      if (cells === undefined || queues[i] !== queue) {
        queue = queues[i]!;
        cells = cellsOf(queue);
      }
      cells.execution.observe(runMs[i]! / 1_000);
      switch (outcomes[i]) {
        case Outcome.COMPLETED:
          cells.ok.add();
          break;
        case Outcome.SNOOZED:
          cells.snoozed.add();
          break;
        case Outcome.CANCELLED:
          // Counted as a timeout, by the event for it.
          if (!isOverdue[i]) cells.cancelled.add();
          break;
        default:
          cells.failed.add();
      }
    }
    metrics.cell('poolBusySeconds', pool).add(busyMs / 1_000);
  });
  events.on('millrace:task:timeout', ({ queue }) => {
    metrics.cell('tasksExecuted', queue, 'timeout').add();
  });
  events.on('millrace:task:lost', ({ queue }) => {
    metrics.cell('tasksExecuted', queue, 'lost').add();
  });
  events.on('millrace:task:retry', ({ queue, type, error }) => {
    if (isUnavailable(error)) metrics.cell('typeUnavailable', type).add();
    metrics.cell('tasksRetried', queue, isTimeout(error) ? 'timeout' : 'failed').add();
  });
  events.on('millrace:task:failed', ({ queue, type, error }) => {
    if (isUnavailable(error)) metrics.cell('typeUnavailable', type).add();
    metrics.cell('tasksDead', queue).add();
  });
  events.on('millrace:task:unhandled', ({ taskId }) => {
    metrics.cell('tasksUnhandled', taskId.slice(0, taskId.indexOf('.'))).add();
  });
  events.on('millrace:cron:fired', ({ queue }) => metrics.cell('cronFires', queue).add());
  events.on('millrace:cron:skipped', ({ queue, reason, fires }) => {
    metrics.cell('cronSkipped', queue, reason).add(fires);
  });
  events.on('millrace:cron:failed', ({ queue }) => metrics.cell('cronFailures', queue).add());
  events.on('millrace:result:stale', () => metrics.cell('staleResults').add());
}

function isTimeout(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'ERR_MILLRACE_TASK_TIMEOUT';
}
