/**
 * What `millrace loadtest` says of itself.
 */
import { type CommandFact, RUNTIME_OPTIONS, STORE_OPTIONS } from './command.js';

const STORES = STORE_OPTIONS.map(({ name }) => name);
const COMMON = [...STORES, 'rate', 'seconds', 'json', 'verbose'];

export type Scenario = 'tasks' | 'timers' | 'locks' | 'ablation' | 'soak';

/** Scenarios, with the options that each takes. */
export const SCENARIOS: readonly {
  readonly name: Scenario;
  readonly options: readonly string[];
}[] = [
  {
    name: 'tasks',
    options: [
      ...COMMON,
      ...['threads', 'html', 'payload', 'work', 'delay', 'tenants', 'nodes', 'faults'],
      'fault-every',
    ],
  },
  { name: 'timers', options: ['rate', 'seconds', 'delay', 'json', 'html', 'verbose'] },
  { name: 'locks', options: [...COMMON, 'shards', 'sessions', 'hold'] },
  {
    name: 'soak',
    options: [
      ...STORES,
      ...['seconds', 'json', 'verbose', 'threads', 'html', 'payload', 'work', 'delay', 'tenants'],
      'nodes',
    ],
  },
  {
    name: 'ablation',
    options: [...STORES, 'rate', 'threads', 'quick', 'runs', 'json', 'html', 'verbose'],
  },
];

export const LOADTEST: CommandFact = {
  name: 'loadtest',
  summary: 'Load a store: tasks, timers, locks, soak or ablation.',
  usage: '[kind]',
  positionalsMin: 0,
  positionalsMax: 1,
  options: [
    ...RUNTIME_OPTIONS,
    {
      name: 'rate',
      value: 'N',
      doc: 'Arrivals per second; default 1000 tasks, 100000 timers, 500 locks,\n      250 in the ablation.',
    },
    { name: 'seconds', value: 'N', doc: 'How long they arrive; default 60, soak 600.' },
    {
      name: 'json',
      value: 'file',
      isValueOptional: true,
      doc: 'Write the report as JSON; without a file, print it instead of tables.',
    },
    { name: 'html', value: 'file', doc: 'Write a page with charts (not locks).' },
    { name: 'payload', value: 'bytes', doc: 'tasks: size of an input; default 200.' },
    {
      name: 'work',
      value: 'noop | cpu:us | io:ms | mix',
      doc: 'tasks: what a handler does; default noop.',
    },
    {
      name: 'delay',
      value: 'span',
      doc: 'Each is due after a random time up to this; default 0, timers 10s.',
    },
    { name: 'tenants', value: 'N', doc: 'tasks: for so many tenants in turn; default none.' },
    { name: 'nodes', value: 'N', doc: 'tasks: processes that run them, on etcd; default 1.' },
    {
      name: 'faults',
      value: 'kill,pause,leader-kill',
      doc: 'tasks: what goes wrong, in turn, on etcd; default nothing.',
    },
    { name: 'fault-every', value: 'span', doc: 'tasks: time between faults; default 30s.' },
    { name: 'shards', value: 'N', doc: 'locks: over how many shards; default 64.' },
    { name: 'sessions', value: 'N', doc: 'locks: processes to play; default 4.' },
    { name: 'hold', value: 'ms', doc: 'locks: how long each is held; default 2.' },
    { name: 'quick', doc: 'ablation: one round of shorter rows, under 3 minutes.' },
    { name: 'runs', value: 'N', doc: 'ablation: rounds; figures are medians. Default 3.' },
  ],
  notes: `
Everything arrives at moments fixed beforehand, whatever became of what came
before, and time counts from there: a stall is not hidden.

tasks   submits tasks and waits for each. On etcd this process is a client and
        --nodes processes run them; otherwise it does both. Phases:

          submit       moment meant to acknowledgement
          wait         due to the call of the handler
          run          in the handler
          end to end   due to the result

        At the end it says whether every accepted task has exactly one result;
        the exit code is 1 when not. mix: of 20 tasks 16 do nothing, 3 compute
        for 0.2 ms, one waits 20 ms.

        kill         ends a node with kill -9 and starts another
        pause        stops a node for 20 s, longer than its session lives
        leader-kill  ends the etcd server that leads, and starts it again 5 s
                     later; for servers on this machine (Linux)

timers  schedules timers of millrace/timing in this process; they fire into a
        function that does nothing.

locks   asks for locks over random shards of one name. Two contenders, one after
        the other:

          millrace     session with renewal, a line per shard, hand-off
          naive        one polled key for all shards, on a lease nobody renews

          acquire      from asking to holding, of the locks that were granted
          timeouts     not granted within 3 s
          deadlocks    of these, locks that nobody held during the whole wait
          leaked       keys left 5 s after everybody had released

soak    finds out what the system can do, then has half of it for --seconds; the
        exit code is 1 when a task was lost, when the memory of a process grew
        by 1 MiB a minute, or its handles by one. Options of tasks, but --rate
        and --faults.

ablation  the same workload with all seven optimisations on, with all off, and
        with each one off by itself: throughput, latency, CPU and GC, each row in
        relation to all-on. What off means: docs/reference/options.md,
        experimental.off.`,
};
