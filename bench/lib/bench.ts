/**
 * What a bench is. Each asks one question, and lets several contenders answer it under the same load.
 *
 * ```
 * round 1   A  B  C      every letter is one process: it is given the settings, measures, answers and ends,
 * round 2   B  C  A      so heaps, JIT and threads of contenders never meet
 * round 3   C  A  B      and what drifts on the machine (heat, neighbours) hits all of them alike
 * ```
 *
 * A figure is the median of its rounds, with the smallest and the largest next to it. A contender that cannot run, or
 * a figure that cannot be measured, is `null` with a reason; the other contenders go on.
 *
 * A bench lives in `bench/<name>/<name>.bench.ts` and exports one {@link Bench} by default. The process that counts
 * the rounds imports that file too, so it must not import contenders statically: `run` does that.
 */

export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json };
export type JsonObject = Readonly<Record<string, Json>>;

/** One figure. The names are fixed: others read them in the JSON. */
export interface MetricSpec {
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  /** One line, for the chart. */
  readonly about: string;
}

/** How much to measure. `quick` looks whether all is well in under a minute; `full` is for figures to be quoted. */
export interface Scale {
  readonly isQuick: boolean;
  /** What `--<option> n` on the command line says, for the bench's own `options`. */
  readonly options: Readonly<Record<string, number>>;
}

/** What a process answers with. */
export interface Sample {
  /** Figures by name. A missing one was not this process's to measure; null: it could not be. */
  readonly metrics: Readonly<Record<string, number | null>>;
  /** Why a figure is null, by name. */
  readonly reasons?: Readonly<Record<string, string>>;
  /** What else was seen; kept from the last round. */
  readonly notes?: JsonObject;
}

/** One process of a contender's round; most contenders need one only. */
export interface Part {
  readonly name: string;
  /** Flags for Node, such as the size of the young generation. */
  readonly nodeFlags?: readonly string[];
}

/** What a measuring process is given besides the settings. */
export interface RunContext {
  /** The {@link Part.name} this process is for; `''` when the contender has no parts. */
  readonly part: string;
  /** Makes an empty directory on the disk the project is on; it is removed when the process has ended. */
  directory(): string;
  /**
   * Does the work that the figures come from. With `--profile`, the CPU profile covers exactly this.
   *
   * @param operations - how many were done, so that the profile can be per operation
   */
  section<T>(
    name: string,
    work: () => Promise<T> | T,
    operations: (result: T) => number,
  ): Promise<T>;
}

/** A package in an exact version. */
export interface Peer {
  readonly name: string;
  readonly version: string;
  /** Packages it is used with, by name: exact versions. */
  readonly beside?: Readonly<Record<string, string>>;
}

export interface Contender<Settings> {
  readonly name: string;
  /** The version of what is measured, e.g. that of its package. */
  readonly version: string;
  /** What survives what, e.g. `none`, or `fsync before the acknowledgement`. */
  readonly durability: string;
  /** What was set for it and differs from other contenders. */
  readonly settings?: JsonObject;
  /** The figures it can have, if not all of the bench. */
  readonly metrics?: readonly string[];
  readonly parts?: readonly Part[];
  /** Packages it needs and the project does not: installed before the first round. */
  readonly peers?: readonly Peer[];
  /**
   * Measures, in a process of its own.
   *
   * @throws Unavailable for what cannot run here
   */
  run(settings: Settings, context: RunContext): Promise<Sample>;
}

export interface Bench<Settings extends JsonObject = JsonObject> {
  readonly name: string;
  /** What it asks, in a line. */
  readonly question: string;
  /** In the order they are shown. */
  readonly metrics: Readonly<Record<string, MetricSpec>>;
  /** The bench's own options of the command line, all numbers: what each means. */
  readonly options?: Readonly<Record<string, string>>;
  /** In the order they are shown. The first are millrace's. */
  readonly contenders: readonly Contender<Settings>[];
  /** Contenders that the others are compared with: `<metric>: <ours>/<peer>`. */
  readonly ours: readonly string[];
  /** How many rounds, unless `--runs` says it. At least 5 for a full run. */
  runs(scale: Scale): number;
  settings(scale: Scale): Settings & { readonly scale: Json };
  /** Seconds one process of a contender takes, roughly: for the estimate, and to give up on one that hangs. */
  seconds(settings: Settings, contender: string, part: string): number;
  /** Ratios of more than one figure, e.g. of sums, from the medians. */
  moreRatios?(median: (contender: string, metric: string) => number | null): Record<string, number>;
}

/** Thrown by a contender that cannot run here; the message becomes the reason. */
export class Unavailable extends Error {
  override readonly name = 'Unavailable';
}

/** Lets the compiler infer the settings. */
export function defineBench<Settings extends JsonObject>(bench: Bench<Settings>): Bench<Settings> {
  return bench;
}

/** The figures a contender can have. */
export function metricsOf<Settings extends JsonObject>(
  bench: Bench<Settings>,
  contender: Contender<Settings>,
): readonly string[] {
  return contender.metrics ?? Object.keys(bench.metrics);
}
