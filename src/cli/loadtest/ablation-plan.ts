/**
 * What the ablation runs: the same workload with all seven optimisations on, with all off, and with each one off by itself.
 *
 * "Off" is what a plain service with the same libraries does (`experimental.off`):
 *
 *   client       a connection to etcd for each call
 *   leakchecks   nobody looks for leaks
 *   batching     a key in the store and a message to a thread for each task; no bound in front of the threads
 *   tls          a whole handshake for each connection, certificates read once
 *   locks        one polled key for all shards of a lock
 *   logs         every line, written before the call returns
 *   breaker      nothing is shed while the store is slow
 */
import type { Switch } from '../../runtime-options.js';

export interface AblationContender {
  readonly name: string;
  readonly off: readonly Switch[];
}

const SWITCHES: readonly Switch[] = [
  'client',
  'leakchecks',
  'batching',
  'tls',
  'locks',
  'logs',
  'breaker',
];

export const CONTENDERS: readonly AblationContender[] = [
  { name: 'all-on', off: [] },
  { name: 'all-off', off: SWITCHES },
  ...SWITCHES.map((name) => ({ name: `no-${name}`, off: [name] })),
];

/** The four figures that others read, by their names in the report. */
export const METRICS: Readonly<Record<string, { readonly unit: string; readonly about: string }>> =
  {
    tasksPerSecond: { unit: 'tasks/s', about: 'submit to result, a fixed number in flight' },
    latencyP50Ms: { unit: 'ms', about: 'moment meant to result, at a fixed rate' },
    latencyP95Ms: { unit: 'ms', about: 'the same, 95th percentile' },
    latencyP99Ms: { unit: 'ms', about: 'the same, 99th percentile' },
  };

/** One row's workload: a closed loop, an open loop, and an open loop while the store is slow. */
export interface AblationSettings {
  /** 1 in a full run. */
  readonly scale: number;
  readonly runs: number;
  readonly threads: number;
  readonly payloadBytes: number;
  readonly inFlight: number;
  readonly warmUpMs: number;
  readonly throughputMs: number;
  /** Of the open loops. */
  readonly ratePerSecond: number;
  readonly latencyMs: number;
  /** One submit in so many is made under a lock. */
  readonly lockEvery: number;
  readonly lockShards: number;
  /** How long the store is slow, and what each write takes longer then. */
  readonly slowMs: number;
  readonly slowByMs: number;
  /** Degrades while watches are later than 2 s for so long. */
  readonly breakerWindowMs: number;
}

/** @param threads - of each row's runtime */
export function ablationSettings(isQuick: boolean, threads: number): AblationSettings {
  return {
    scale: isQuick ? 0.2 : 1,
    runs: isQuick ? 1 : 3,
    threads,
    payloadBytes: 200,
    inFlight: 1_000,
    warmUpMs: isQuick ? 500 : 3_000,
    throughputMs: isQuick ? 2_500 : 10_000,
    ratePerSecond: 250,
    latencyMs: isQuick ? 2_500 : 15_000,
    lockEvery: 100,
    lockShards: 64,
    slowMs: isQuick ? 8_000 : 45_000,
    slowByMs: 2_500,
    breakerWindowMs: isQuick ? 3_000 : 30_000,
  };
}

/** About how long one row takes. */
export function rowMs(settings: AblationSettings): number {
  const { warmUpMs, throughputMs, latencyMs, slowMs, slowByMs } = settings;
  return 1_500 + warmUpMs + throughputMs + latencyMs + slowMs + slowByMs;
}
