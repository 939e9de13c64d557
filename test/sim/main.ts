/**
 * `npm run sim -- --seeds 200 [--from 1]`, `--seed 8123 --trace`, `--world cluster`, `--only kill,late`,
 * `--surely leaseLost`, `--mutant <name>`. `--mutants [part of a name]` shows for each of them how many seeds it takes to see it.
 *
 * Prints a line per violation and the totals; exits with 1 when a seed violated something.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { huntMutant } from './mutant-hunt.js';
import { applyMutant, MUTANTS } from './mutants.js';
import { FAULT_CLASSES, type FaultClass } from './plan.js';
import type { SimResult, WorldName } from './run.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
    world: { type: 'string' },
    only: { type: 'string' },
    surely: { type: 'string' },
    mutant: { type: 'string' },
    mutants: { type: 'boolean', default: false },
    'first-only': { type: 'boolean', default: false },
  },
});

if (values.mutants) {
  await showMutants(positionals[0] ?? '');
  process.exit();
}
if (values.mutant !== undefined) applyMutant(values.mutant);
// Loaded after the mutant is in place.
const { simulate } = await import('./simulation.js');

const first = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.seeds) : 1;
const only = classesOf(values.only);
const surely = classesOf(values.surely);
if (values.world !== undefined && !['lone', 'cluster'].includes(values.world)) {
  throw new Error(`no world is called ${values.world}; there are lone and cluster`);
}

const startedAtMs = performance.now();
const results: SimResult[] = [];
const seen = new Map<string, number>();
for (let seed = first; seed < first + count; seed++) {
  const result = await simulate(seed, {
    only,
    surely,
    ...(values.world && { world: values.world as WorldName }),
    keepsTrace: values.trace,
  });
  for (const line of result.lines) console.log(line);
  for (const violation of result.violations)
    console.log(`seed ${seed}: ${result.world}: ${violation}`);
  for (const [what, times] of result.seen) seen.set(what, (seen.get(what) ?? 0) + times);
  results.push(result);
  if (values['first-only'] && result.violations.length > 0) break;
}

const sum = (of: (result: SimResult) => number): number =>
  results.reduce((total, result) => total + of(result), 0);
const seconds = (performance.now() - startedAtMs) / 1_000;
const failed = results.filter((result) => result.violations.length > 0);
for (const [what, times] of [...seen].sort()) console.log(`  ${what}: ${times}`);
console.log(
  `${results.length} seeds, ${sum(({ counts }) => Number(counts))} of them count; ` +
    `${sum(({ accepted }) => accepted)} tasks accepted in ${(sum(({ virtualMs }) => virtualMs) / 3_600_000).toFixed(1)} virtual hours, ` +
    `${sum(({ events }) => events)} events, ${seconds.toFixed(1)} s; ` +
    `${failed.length} seeds with violations${failed.length > 0 ? `: ${failed.map(({ seed }) => seed).join(' ')}` : ''}`,
);
if (count === 1) console.log(`classes ${results[0]!.classes.join(' ')}; hash ${results[0]!.hash}`);
process.exitCode = failed.length > 0 ? 1 : 0;

function classesOf(list: string | undefined): ReadonlySet<FaultClass> | undefined {
  const names = list?.split(',') as FaultClass[] | undefined;
  const unknown = names?.find((name) => !FAULT_CLASSES.includes(name));
  if (unknown === undefined) return names && new Set(names);
  throw new Error(`no faults are called ${unknown}; there are ${FAULT_CLASSES.join(', ')}`);
}

/** A row per mutant, as docs/internals/simulation.md has them. */
async function showMutants(part: string): Promise<void> {
  const waiting = MUTANTS.filter(({ name }) => name.includes(part));
  const hunt = async (): Promise<void> => {
    for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
      const { name, world = 'lone' } = mutant;
      const { seeds, rule, text } = await huntMutant(mutant);
      if (seeds === undefined) process.exitCode = 1;
      console.log(`| ${name} | ${world} | ${seeds ?? 'not seen'} | ${rule} |`);
      console.error(seeds === undefined ? text : `  ${text}`);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, hunt));
}
