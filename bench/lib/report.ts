/** The JSON of a bench: its shape is fixed, other programs read it. */
import type { Bench, Json, JsonObject } from './bench.js';
import { metricsOf } from './bench.js';
import { commit, machine } from './places.js';
import type { Outcome } from './rounds.js';
import { type Summary, summarize } from './stats.js';

export interface MetricReport extends Summary {
  readonly unit: string;
}

export interface ContenderReport {
  readonly name: string;
  readonly version: string;
  readonly node: string;
  readonly durability: string;
  readonly settings: JsonObject;
  /** null: not measured; `reasons` says why. */
  readonly metrics: Readonly<Record<string, MetricReport | null>>;
  readonly reasons?: Readonly<Record<string, string>>;
  /** Rounds that gave no figures, and why. */
  readonly failures?: readonly string[];
  readonly notes?: JsonObject;
}

export interface BenchReport {
  readonly name: string;
  readonly date: string;
  readonly machine: JsonObject;
  readonly node: string;
  readonly commit: string | null;
  readonly settings: JsonObject;
  readonly contenders: readonly ContenderReport[];
  /** `<metric>: <ours>/<peer>`: the medians divided. */
  readonly ratios: Readonly<Record<string, number>>;
}

/** What is known before the first round. */
export function reportHead(
  bench: Bench,
  settings: JsonObject & { readonly scale: Json },
  runs: number,
): Omit<BenchReport, 'contenders' | 'ratios'> {
  return {
    name: bench.name,
    date: new Date().toISOString(),
    machine: machine(),
    node: process.version,
    commit: commit(),
    settings: { ...settings, runs },
  };
}

export function buildReport(
  bench: Bench,
  head: Omit<BenchReport, 'contenders' | 'ratios'>,
  outcomes: readonly Outcome[],
): BenchReport {
  const contenders = outcomes.map((outcome) => contenderReport(bench, outcome));
  return { ...head, contenders, ratios: ratiosOf(bench, contenders) };
}

function contenderReport(bench: Bench, outcome: Outcome): ContenderReport {
  const { contender, values, reasons } = outcome;
  const metrics: Record<string, MetricReport | null> = {};
  const nulls: Record<string, string> = {};
  for (const metric of metricsOf(bench, contender)) {
    const unit = bench.metrics[metric]?.unit ?? '';
    const measured = values.get(metric);
    metrics[metric] = measured === undefined ? null : { ...rounded(summarize(measured)), unit };
    if (measured === undefined) nulls[metric] = reasons.get(metric) ?? 'not measured in this run';
  }
  return {
    name: contender.name,
    version: contender.version,
    node: outcome.node,
    durability: contender.durability,
    settings: contender.settings ?? {},
    metrics,
    ...(Object.keys(nulls).length > 0 ? { reasons: nulls } : {}),
    ...(outcome.failures.length > 0 ? { failures: outcome.failures } : {}),
    ...(Object.keys(outcome.notes).length > 0 ? { notes: outcome.notes } : {}),
  };
}

function ratiosOf(bench: Bench, contenders: readonly ContenderReport[]): Record<string, number> {
  const median = (contender: string, metric: string): number | null =>
    contenders.find(({ name }) => name === contender)?.metrics[metric]?.median ?? null;
  const ratios: Record<string, number> = {};
  for (const metric of Object.keys(bench.metrics)) {
    for (const own of bench.ours) {
      for (const { name: peer } of contenders) {
        if (bench.ours.includes(peer)) continue;
        const ratio = quotient(median(own, metric), median(peer, metric));
        if (ratio !== null) ratios[`${metric}: ${own}/${peer}`] = ratio;
      }
    }
  }
  for (const [name, ratio] of Object.entries(bench.moreRatios?.(median) ?? {})) {
    if (Number.isFinite(ratio)) ratios[name] = significant(ratio);
  }
  return ratios;
}

function quotient(own: number | null, peer: number | null): number | null {
  if (own === null || peer === null || peer === 0) return null;
  return significant(own / peer);
}

function rounded({ median, min, max }: Summary): Summary {
  return { median: significant(median), min: significant(min), max: significant(max) };
}

/** More digits than these are noise. */
function significant(value: number): number {
  return Number(value.toPrecision(5));
}
