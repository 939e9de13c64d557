/**
 * Every metric there is: its name, what it counts, its labels. Nothing else names a metric; docs/reference/metrics.md and
 * the Grafana dashboard are generated from this table, and a test compares what a runtime exposes with it.
 *
 * Names follow Prometheus: the prefix of the program, base units, `_total` for counters. Labels are few and bounded:
 * queues, states, reasons; never tenants or task ids.
 */

/** Sections of the reference and rows of the dashboard. */
export const METRIC_GROUPS = {
  tasks: 'Tasks',
  threads: 'Threads',
  store: 'Store and agreement',
  healing: 'Healing',
  process: 'The process',
} as const;

interface MetricFact {
  readonly name: `millrace_${string}`;
  readonly group: keyof typeof METRIC_GROUPS;
  readonly labels: readonly string[];
  /** One sentence; the HELP line. */
  readonly help: string;
}

/** What only rises. */
export interface CounterFact extends MetricFact {
  readonly type: 'counter';
}

/** What goes up and down. */
export interface GaugeFact extends MetricFact {
  readonly type: 'gauge';
}

/** How what is measured is spread. Buckets are powers of two, so that they become exponential histograms without loss. */
export interface HistogramFact extends MetricFact {
  readonly type: 'histogram';
  readonly scale: keyof typeof SCALES;
}

/** Upper bounds of buckets: 2^lowest ... 2^highest, and infinity; shown is every `shown`-th, counted from the highest. */
export interface HistogramScale {
  readonly lowest: number;
  readonly highest: number;
  readonly shown: number;
}

export type AnyMetricFact = CounterFact | GaugeFact | HistogramFact;

export const SCALES: Readonly<Record<'seconds' | 'tasks', HistogramScale>> = {
  /** 0.12 ms to 64 s, shown in steps of four. */
  seconds: { lowest: -13, highest: 6, shown: 2 },
  /** 1 to 64. */
  tasks: { lowest: 0, highest: 6, shown: 1 },
};

export const METRICS = {
  tasksSubmitted: {
    name: 'millrace_tasks_submitted_total',
    type: 'counter',
    group: 'tasks',
    labels: ['queue'],
    help: 'Tasks accepted: durable, and not there before.',
  },
  tasksDeduplicated: {
    name: 'millrace_tasks_deduplicated_total',
    type: 'counter',
    group: 'tasks',
    labels: ['queue'],
    help: 'Submits that met an earlier task with their idempotency key.',
  },
  tasksRejected: {
    name: 'millrace_tasks_rejected_total',
    type: 'counter',
    group: 'tasks',
    labels: ['queue', 'reason'],
    help: 'Submits that were refused: backpressure, store, draining or shed.',
  },
  tasksExecuted: {
    name: 'millrace_tasks_executed_total',
    type: 'counter',
    group: 'tasks',
    labels: ['queue', 'outcome'],
    help: 'Executions that ended: ok, failed, timeout, cancelled, snoozed or lost.',
  },
  tasksRetried: {
    name: 'millrace_tasks_retried_total',
    type: 'counter',
    group: 'tasks',
    labels: ['queue', 'reason'],
    help: 'Executions that failed and will be repeated: failed or timeout.',
  },
  typeUnavailable: {
    name: 'millrace_type_unavailable_total',
    type: 'counter',
    group: 'tasks',
    labels: ['type'],
    help: 'Executions of a task type that failed since somebody did not answer: timeouts, broken connections, 503.',
  },
  concurrencyLimit: {
    name: 'millrace_concurrency_limit',
    type: 'gauge',
    group: 'tasks',
    labels: ['type'],
    help: 'How many of a task type may run at once on this node, where that is limited: fixed, adaptive, or 0 by a breaker.',
  },
  tasksDead: {
    name: 'millrace_tasks_dead_total',
    type: 'counter',
    group: 'tasks',
    labels: ['queue'],
    help: 'Tasks that failed for good.',
  },
  tasksRedriven: {
    name: 'millrace_tasks_redriven_total',
    type: 'counter',
    group: 'tasks',
    labels: ['queue'],
    help: 'Dead letters that were made to run again.',
  },
  tasks: {
    name: 'millrace_tasks',
    type: 'gauge',
    group: 'tasks',
    labels: ['state'],
    help: 'Tasks that have not ended: delayed, ready or running.',
  },
  paused: {
    name: 'millrace_paused',
    type: 'gauge',
    group: 'tasks',
    labels: ['kind'],
    help: 'What rests until somebody resumes it: task types, queues or tenants.',
  },
  openBytes: {
    name: 'millrace_open_bytes',
    type: 'gauge',
    group: 'tasks',
    labels: [],
    help: 'Encoded inputs of tasks that have not ended.',
  },
  submittersWaiting: {
    name: 'millrace_submitters_waiting',
    type: 'gauge',
    group: 'tasks',
    labels: [],
    help: 'Submits that wait for room in the queue.',
  },
  queueWait: {
    name: 'millrace_task_queue_wait_seconds',
    type: 'histogram',
    group: 'tasks',
    scale: 'seconds',
    labels: ['queue'],
    help: 'From when a task is due to when it is handed to a thread, the delay asked for excluded; one task of each batch.',
  },
  execution: {
    name: 'millrace_task_execution_seconds',
    type: 'histogram',
    group: 'tasks',
    scale: 'seconds',
    labels: ['queue'],
    help: 'How long handlers ran.',
  },
  tasksUnhandled: {
    name: 'millrace_tasks_unhandled_total',
    type: 'counter',
    group: 'tasks',
    labels: ['queue'],
    help: 'Tasks that wait since nobody here has their handler; counted where they are due, and where they were submitted if no node has it.',
  },
  cronFires: {
    name: 'millrace_cron_fires_total',
    type: 'counter',
    group: 'tasks',
    labels: ['queue'],
    help: 'Fires of cron entries whose tasks this process stored.',
  },
  cronSkipped: {
    name: 'millrace_cron_skipped_total',
    type: 'counter',
    group: 'tasks',
    labels: ['queue', 'reason'],
    help: 'Fires of cron entries that are over without a task: nobody could fire in time (missed), or the task before had not ended (overlapping).',
  },
  cronFailures: {
    name: 'millrace_cron_failures_total',
    type: 'counter',
    group: 'tasks',
    labels: ['queue'],
    help: 'Fires of cron entries that could not be stored at once and are tried again.',
  },
  staleResults: {
    name: 'millrace_results_stale_total',
    type: 'counter',
    group: 'tasks',
    labels: [],
    help: 'Results of executions that were not the current one; they were refused.',
  },
  poolThreads: {
    name: 'millrace_pool_threads',
    type: 'gauge',
    group: 'threads',
    labels: [],
    help: 'Worker threads that are ready.',
  },
  poolBusySeconds: {
    name: 'millrace_pool_busy_seconds_total',
    type: 'counter',
    group: 'threads',
    labels: ['pool'],
    help: 'Time that handlers ran, summed up over those that ran at once: thread or inline.',
  },
  batchTasks: {
    name: 'millrace_batch_tasks',
    type: 'histogram',
    group: 'threads',
    scale: 'tasks',
    labels: ['pool'],
    help: 'Tasks in one batch.',
  },
  workerRestarts: {
    name: 'millrace_worker_restarts_total',
    type: 'counter',
    group: 'threads',
    labels: ['reason'],
    help: 'Worker threads that ended unasked and were replaced.',
  },
  commits: {
    name: 'millrace_commits_total',
    type: 'counter',
    group: 'store',
    labels: ['outcome'],
    help: 'Commits by what the store answered: done, failed, broken, or unknown (sent again).',
  },
  commitSeconds: {
    name: 'millrace_commit_seconds',
    type: 'histogram',
    group: 'store',
    scale: 'seconds',
    labels: [],
    help: 'From sending a commit to its acknowledgement, repeats included.',
  },
  commitBytes: {
    name: 'millrace_commit_written_bytes_total',
    type: 'counter',
    group: 'store',
    labels: [],
    help: 'Bytes written by commits.',
  },
  storePressure: {
    name: 'millrace_store_pressure',
    type: 'gauge',
    group: 'store',
    labels: [],
    help: 'How full the store is: 0 fine, 1 submits are slowed down, 2 submits are refused.',
  },
  storeCorrupt: {
    name: 'millrace_store_corrupt_records_total',
    type: 'counter',
    group: 'store',
    labels: [],
    help: 'Stored records that did not decode and were set aside.',
  },
  watchDelay: {
    name: 'millrace_watch_delay_seconds',
    type: 'gauge',
    group: 'store',
    labels: ['class'],
    help: 'How long the last canary took to come back through a watch: control, data or cache.',
  },
  watchCuts: {
    name: 'millrace_watch_cuts_total',
    type: 'counter',
    group: 'store',
    labels: ['class'],
    help: 'Streams of watches that were cut.',
  },
  watchCompacted: {
    name: 'millrace_watch_compacted_total',
    type: 'counter',
    group: 'store',
    labels: ['class'],
    help: 'Times that history was compacted under a follower, which then listed its range again.',
  },
  sessionEvents: {
    name: 'millrace_session_events_total',
    type: 'counter',
    group: 'store',
    labels: ['event'],
    help: 'What happened to the lease of this process: granted, fenced, lifted or lost.',
  },
  lockWait: {
    name: 'millrace_lock_wait_seconds',
    type: 'histogram',
    group: 'store',
    scale: 'seconds',
    labels: [],
    help: 'How long callers waited for locks that they got.',
  },
  locksLost: {
    name: 'millrace_locks_lost_total',
    type: 'counter',
    group: 'store',
    labels: [],
    help: 'Locks that were lost while they were held.',
  },
  breakerState: {
    name: 'millrace_breaker_state',
    type: 'gauge',
    group: 'healing',
    labels: ['name', 'state'],
    help: '1 for the state that the breaker of a task type is in: closed, open or half-open.',
  },
  breakerOpened: {
    name: 'millrace_breaker_opened_total',
    type: 'counter',
    group: 'healing',
    labels: ['name'],
    help: 'Times that the breaker of a task type has opened.',
  },
  degraded: {
    name: 'millrace_degraded',
    type: 'gauge',
    group: 'healing',
    labels: [],
    help: '1 while the runtime does less on purpose.',
  },
  healActions: {
    name: 'millrace_heal_actions_total',
    type: 'counter',
    group: 'healing',
    labels: ['action', 'result'],
    help: 'Actions that rules and alerts asked for, by what came of them.',
  },
  leakResources: {
    name: 'millrace_leak_resources',
    type: 'gauge',
    group: 'healing',
    labels: ['kind'],
    help: 'What is open, by kind: owned handles, those of worker threads and of the main one, descriptors, threads.',
  },
  leakSuspected: {
    name: 'millrace_leak_suspected',
    type: 'gauge',
    group: 'healing',
    labels: ['kind'],
    help: '1 while a count that grows with time is looked into.',
  },
  leaksConfirmed: {
    name: 'millrace_leaks_confirmed_total',
    type: 'counter',
    group: 'healing',
    labels: ['kind'],
    help: 'Leaks that were confirmed: still open once nothing ran.',
  },
  handlesLeft: {
    name: 'millrace_handles_left_total',
    type: 'counter',
    group: 'healing',
    labels: ['type', 'kind'],
    help: 'Handles that were open when the task that opened them had ended, where that was seen.',
  },
  handlesDropped: {
    name: 'millrace_handles_dropped_total',
    type: 'counter',
    group: 'healing',
    labels: ['kind'],
    help: 'Locks, leaderships and watchers that ended without having been closed.',
  },
  eventLoopDelay: {
    name: 'millrace_event_loop_delay_seconds',
    type: 'gauge',
    group: 'process',
    labels: ['percentile'],
    help: 'How late the main thread was since the last scrape, by percentile: 50, 99 and 100.',
  },
  cpus: {
    name: 'millrace_process_cpus',
    type: 'gauge',
    group: 'process',
    labels: [],
    help: 'Cores that the process may use at once.',
  },
  cpuSeconds: {
    name: 'millrace_process_cpu_seconds_total',
    type: 'counter',
    group: 'process',
    labels: ['mode'],
    help: 'CPU time of the process, all threads: user or system.',
  },
  gcSeconds: {
    name: 'millrace_gc_seconds_total',
    type: 'counter',
    group: 'process',
    labels: ['kind'],
    help: 'Garbage collection on the main thread: minor, major, incremental or weak.',
  },
  gcEvents: {
    name: 'millrace_gc_events_total',
    type: 'counter',
    group: 'process',
    labels: ['kind'],
    help: 'Garbage collections on the main thread.',
  },
  heapFloor: {
    name: 'millrace_heap_floor_bytes',
    type: 'gauge',
    group: 'process',
    labels: [],
    help: 'What the heap of the main thread held after its last major collection.',
  },
  heapLimit: {
    name: 'millrace_heap_limit_bytes',
    type: 'gauge',
    group: 'process',
    labels: [],
    help: 'What the heap of the main thread may hold.',
  },
  residentBytes: {
    name: 'millrace_process_resident_bytes',
    type: 'gauge',
    group: 'process',
    labels: [],
    help: 'Memory of the process that is in RAM.',
  },
  logsSuppressed: {
    name: 'millrace_logs_suppressed_total',
    type: 'counter',
    group: 'process',
    labels: ['level'],
    help: 'Log lines held back by sampling.',
  },
  buildInfo: {
    name: 'millrace_build_info',
    type: 'gauge',
    group: 'process',
    labels: ['version', 'node'],
    help: '1, with the versions of millrace and Node.',
  },
} as const;

/** How code calls a metric. */
export type MetricKey = keyof typeof METRICS;

/** The entry of a metric, by what all entries have. */
export function metricFact(metric: MetricKey): AnyMetricFact {
  return METRICS[metric];
}
