/** The report of the ablation, in the form that benches have: what one program reads of them, it reads of this. */
import type { AblationContender, AblationSettings } from './ablation-plan.js';
import { METRICS } from './ablation-plan.js';
import type { RowResult } from './ablation-row.js';
import { machine } from './load-report.js';

export interface MetricSummary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly unit: string;
}

export interface ContenderSummary {
  readonly name: string;
  readonly version: string;
  readonly node: string;
  readonly durability: string;
  readonly settings: { readonly off: readonly string[] };
  /** null: it could not be measured; `failures` says why. */
  readonly metrics: Readonly<Record<string, MetricSummary | null>>;
  readonly failures?: readonly string[];
  /** Medians of what else was seen. */
  readonly notes: Readonly<Record<string, number | string>>;
}

export interface AblationReport {
  readonly name: 'ablation';
  readonly date: string;
  readonly machine: ReturnType<typeof machine>;
  readonly node: string;
  readonly commit: string | null;
  readonly settings: AblationSettings & { readonly store: string };
  readonly contenders: readonly ContenderSummary[];
  /** `<metric>: all-on/<other>`: the medians divided. */
  readonly ratios: Readonly<Record<string, number>>;
  readonly interrupted: boolean;
}

/** What each contender's rounds came to. */
export interface RowOutcome {
  readonly contender: AblationContender;
  readonly results: readonly RowResult[];
  readonly failures: readonly string[];
}

export const BASE = 'all-on';

export function ablationReport(
  outcomes: readonly RowOutcome[],
  facts: {
    readonly date: string;
    readonly version: string;
    readonly durability: string;
    readonly settings: AblationReport['settings'];
    readonly interrupted: boolean;
  },
): AblationReport {
  const { date, version, durability, settings, interrupted } = facts;
  const contenders = outcomes.map(({ contender, results, failures }) => ({
    name: contender.name,
    version,
    node: process.version,
    durability,
    settings: { off: contender.off },
    metrics: Object.fromEntries(
      Object.entries(METRICS).map(([name, { unit }]) => [
        name,
        summaryOf(
          results.map(({ metrics }) => metrics[name] ?? Number.NaN),
          unit,
        ),
      ]),
    ),
    ...(failures.length > 0 && { failures }),
    notes: notesOf(results),
  }));
  return {
    name: 'ablation',
    date,
    machine: machine(),
    node: process.version,
    commit: null,
    settings,
    contenders,
    ratios: ratiosOf(contenders),
    interrupted,
  };
}

/** A figure of a contender in relation to all-on: 0.5 is half of it. Undefined where one of them is missing. */
export function relative(
  report: AblationReport,
  { metrics, notes }: ContenderSummary,
  name: string,
): number | undefined {
  const base = report.contenders.find((contender) => contender.name === BASE);
  const read = (from: Pick<ContenderSummary, 'metrics' | 'notes'>): number | undefined => {
    const value = from.metrics[name]?.median ?? from.notes[name];
    return typeof value === 'number' ? value : undefined;
  };
  const own = read({ metrics, notes });
  const of = base && read(base);
  return own === undefined || of === undefined || of === 0 ? undefined : own / of;
}

function summaryOf(values: readonly number[], unit: string): MetricSummary | null {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (sorted.length === 0) return null;
  return { median: median(sorted), min: sorted[0]!, max: sorted.at(-1)!, unit };
}

/** REQUIRES: ascending, at least one. */
function median(sorted: readonly number[]): number {
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function notesOf(results: readonly RowResult[]): ContenderSummary['notes'] {
  const names = Object.keys(results[0]?.notes ?? {});
  return Object.fromEntries(
    names.map((name) => {
      const values = results.map(({ notes }) => notes[name]!);
      const numbers = values.filter((value) => typeof value === 'number').sort((a, b) => a - b);
      return [name, numbers.length === values.length ? median(numbers) : values[0]!];
    }),
  );
}

function ratiosOf(contenders: readonly ContenderSummary[]): Record<string, number> {
  const base = contenders.find(({ name }) => name === BASE);
  const ratios: Record<string, number> = {};
  for (const name of Object.keys(METRICS)) {
    for (const { name: peer, metrics } of contenders) {
      const own = base?.metrics[name]?.median;
      const other = metrics[name]?.median;
      if (peer === BASE || own === undefined || !other) continue;
      ratios[`${name}: ${BASE}/${peer}`] = Number((own / other).toPrecision(5));
    }
  }
  return ratios;
}
