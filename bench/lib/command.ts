/**
 * `npm run bench -- <name> [options]`: finds benches by their place in the tree, runs one, shows and writes its report.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, extname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type { Bench, Contender, JsonObject, Scale } from './bench.js';
import { drawReport } from './chart.js';
import { installPeers } from './peers.js';
import { BENCHES } from './places.js';
import { describeProfile } from './profile.js';
import { buildReport, reportHead } from './report.js';
import { runRounds } from './rounds.js';
import { describeReport } from './table.js';

export const EXIT_OK = 0;
const EXIT_NOTHING_MEASURED = 1;
const EXIT_USAGE = 2;

const USAGE = `usage: npm run bench -- <name> [options]

  --quick           sizes scaled down, few runs: is everything still in place?
  --only <name>     only this contender; may be given more than once
  --runs <n>        how many rounds; figures are medians over them
  --json <file>     write the report there, and its chart next to it (.svg)
  --profile         one round under the profiler: where the main thread's time goes

benches:`;

/** A mistake in the command line: shown without a stack. */
class UsageError extends Error {}

interface Found {
  readonly name: string;
  readonly module: string;
}

/** Runs the command line. @returns the exit code */
export async function benchCommand(args: readonly string[]): Promise<number> {
  try {
    return await run(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(error.message);
    return EXIT_USAGE;
  }
}

async function run(args: readonly string[]): Promise<number> {
  const found = findBenches();
  // Options may come first, and some have values, so a bench's name is looked for before any other word.
  const name =
    args.find((arg) => found.some((candidate) => candidate.name === arg)) ??
    args.find((arg) => !arg.startsWith('-'));
  if (name === undefined || args.includes('--help')) {
    console.log(await usage(found));
    return EXIT_OK;
  }
  const entry = found.find((candidate) => candidate.name === name);
  if (entry === undefined) {
    const names = found.map((candidate) => candidate.name).join(', ');
    throw new UsageError(`no bench is called '${name}'; there are ${names}`);
  }
  const bench = await load(entry);
  const options = parse(bench, args);
  const scale: Scale = { isQuick: options.isQuick, options: options.own };
  const contenders = chosen(bench, options.only);
  const settings = bench.settings(scale);
  const runs = options.isProfiled ? 1 : (options.runs ?? bench.runs(scale));

  const seconds = runs * estimate(bench, contenders, settings);
  console.error(
    `${bench.name}: ${contenders.length} contenders, ${runs} ${runs === 1 ? 'round' : 'rounds'}, about ${duration(seconds)}`,
  );
  await installPeers(
    contenders.flatMap(({ peers = [] }) => peers),
    (line) => console.error(line),
  );
  const head = reportHead(bench, settings, runs);
  const outcomes = await runRounds(bench, {
    module: entry.module,
    contenders,
    settings,
    runs,
    isProfiled: options.isProfiled,
    onProgress: (line) => console.error(line),
  });
  const report = buildReport(bench, head, outcomes);
  console.log(`\n${describeReport(bench, report)}`);
  for (const { contender, profiles } of outcomes) {
    for (const profile of profiles) console.log(`\n${describeProfile(contender.name, profile)}`);
  }
  if (options.json !== undefined) {
    const chart = `${options.json.slice(0, options.json.length - extname(options.json).length)}.svg`;
    write(options.json, `${JSON.stringify(report, null, 2)}\n`);
    write(chart, drawReport(bench, report));
    console.error(`\nwrote ${options.json} and ${chart}`);
  }
  return outcomes.some(({ values }) => values.size > 0) ? EXIT_OK : EXIT_NOTHING_MEASURED;
}

/** The names of all benches. */
export function benchNames(): readonly string[] {
  return findBenches().map(({ name }) => name);
}

function findBenches(): readonly Found[] {
  return readdirSync(BENCHES, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => ({ name, file: join(BENCHES, name, `${name}.bench.js`) }))
    .filter(({ file }) => existsSync(file))
    .map(({ name, file }) => ({ name, module: pathToFileURL(file).href }))
    .sort((a, b) => a.name.localeCompare(b.name, 'en'));
}

async function load({ module }: Found): Promise<Bench> {
  return ((await import(module)) as { default: Bench }).default;
}

async function usage(found: readonly Found[]): Promise<string> {
  const lines = [USAGE];
  for (const entry of found) {
    const bench = await load(entry);
    lines.push(`  ${bench.name.padEnd(12)}${bench.question}`);
    lines.push(`  ${''.padEnd(12)}contenders: ${bench.contenders.map((c) => c.name).join(', ')}`);
    for (const [option, meaning] of Object.entries(bench.options ?? {})) {
      lines.push(`  ${''.padEnd(12)}--${option} <n>: ${meaning}`);
    }
  }
  return lines.join('\n');
}

interface Options {
  readonly isQuick: boolean;
  readonly isProfiled: boolean;
  readonly only: readonly string[];
  readonly runs: number | undefined;
  readonly json: string | undefined;
  readonly own: Readonly<Record<string, number>>;
}

function parse(bench: Bench, args: readonly string[]): Options {
  const ownNames = Object.keys(bench.options ?? {});
  const { values, positionals } = parsed(args, ownNames);
  if (positionals.length > 1) {
    throw new UsageError(`one bench at a time; '${positionals[1]}' is too much`);
  }
  const own: Record<string, number> = {};
  for (const option of ownNames) {
    const text = values[option];
    if (typeof text === 'string') own[option] = positive(option, text);
  }
  return {
    isQuick: values.quick === true,
    isProfiled: values.profile === true,
    only: (values.only as string[] | undefined) ?? [],
    runs: typeof values.runs === 'string' ? positive('runs', values.runs) : undefined,
    json: typeof values.json === 'string' ? resolve(values.json) : undefined,
    own,
  };
}

function parsed(
  args: readonly string[],
  ownNames: readonly string[],
): { readonly values: Record<string, unknown>; readonly positionals: readonly string[] } {
  const own = ownNames.map((name) => [name, { type: 'string' }] as const);
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        quick: { type: 'boolean' },
        profile: { type: 'boolean' },
        only: { type: 'string', multiple: true },
        runs: { type: 'string' },
        json: { type: 'string' },
        ...Object.fromEntries(own),
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function positive(option: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new UsageError(`--${option} ${text}: give a whole number from 1`);
}

function chosen(bench: Bench, only: readonly string[]): readonly Contender<JsonObject>[] {
  for (const name of only) {
    if (!bench.contenders.some((contender) => contender.name === name)) {
      const names = bench.contenders.map((contender) => contender.name).join(', ');
      throw new UsageError(`${bench.name} has no contender '${name}'; there are ${names}`);
    }
  }
  return only.length === 0
    ? bench.contenders
    : bench.contenders.filter(({ name }) => only.includes(name));
}

/** Seconds of one round. */
function estimate(
  bench: Bench,
  contenders: readonly Contender<JsonObject>[],
  settings: JsonObject,
): number {
  let seconds = 0;
  for (const { name, parts = [{ name: '' }] } of contenders) {
    for (const part of parts) seconds += bench.seconds(settings, name, part.name);
  }
  return seconds;
}

function duration(seconds: number): string {
  return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

function write(file: string, content: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
}
