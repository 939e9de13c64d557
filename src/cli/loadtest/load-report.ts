/** The report of an open load, as `--json` writes it and the page draws it. */
import { availableParallelism, cpus, release, totalmem, type } from 'node:os';
import type { PercentileFacts, PercentilePoint, Percentiles } from '../percentiles.js';
import type { DeliveryFacts } from './delivery.js';
import type { FaultRecord } from './faults.js';
import type { ProcessReport } from './process-report.js';
import type { TimelineSecond } from './timeline.js';

export interface PhaseReport {
  readonly name: string;
  /** What it is, in a line. */
  readonly about: string;
  readonly facts: PercentileFacts;
  readonly curve: readonly PercentilePoint[];
}

/** The machine that a load ran on. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
}

export interface LoadReport {
  readonly scenario: 'tasks' | 'timers';
  /** ISO 8601. */
  readonly date: string;
  readonly machine: Machine;
  readonly node: string;
  readonly version: string;
  /** Undefined where there is none. */
  readonly store?: string;
  readonly load: Readonly<Record<string, unknown>>;
  readonly elapsedMs: number;
  /** Per second, from the first arrival to the last end. */
  readonly endedPerSecond: number;
  readonly phases: readonly PhaseReport[];
  readonly timeline: readonly TimelineSecond[];
  readonly processes: readonly ProcessReport[];
  readonly delivery: DeliveryFacts;
  readonly isExact: boolean;
  readonly faults: readonly FaultRecord[];
  readonly interrupted: boolean;
}

const PHASE_ABOUT: Readonly<Record<string, string>> = {
  submit: 'from the moment meant to the acknowledgement',
  wait: 'from when it was due to the call of its handler',
  run: 'in the handler',
  endToEnd: 'from when it was due to its result, heard by who submitted it',
  lateness: 'from when it was due to its firing',
};

export function phaseReport(name: string, percentiles: Percentiles): PhaseReport {
  const about = PHASE_ABOUT[name] ?? name;
  return { name, about, facts: percentiles.facts(), curve: percentiles.curve() };
}

export function machine(): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: `${type()} ${release()}`,
  };
}
