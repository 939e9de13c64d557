/**
 * How many seeds it takes to see a mutant, in a process of its own: `npm run sim -- --mutants`, and test/long.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Mutant } from './mutants.js';

/** Within so many seeds of its world each has to be seen. */
export const HUNT_SEEDS = 200;
const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const OUTPUT_BYTES_MAX = 64 * 1024 ** 2;

export interface Hunt {
  /** Seeds until then, from 1 on; undefined: it was not seen. */
  readonly seeds: number | undefined;
  /** The first rule that was violated: S1 to S16. */
  readonly rule: string;
  /** The first violation, or all that the process said. */
  readonly text: string;
}

export async function huntMutant({ name, world, faults = [] }: Mutant): Promise<Hunt> {
  const args = [
    '--seeds',
    `${HUNT_SEEDS}`,
    '--first-only',
    '--world',
    world ?? 'lone',
    '--mutant',
    name,
    ...(faults.length > 0 ? ['--surely', faults.join()] : []),
  ];
  const output = await new Promise<string>((resolve) => {
    execFile(
      process.execPath,
      [MAIN, ...args],
      { maxBuffer: OUTPUT_BYTES_MAX },
      (_, stdout, stderr) => resolve(stdout + stderr),
    );
  });
  const found = /^seed (\d+): \w+: (S\d+): .*$/m.exec(output);
  if (found === null) return { seeds: undefined, rule: '', text: output };
  return { seeds: Number(found[1]), rule: found[2]!, text: found[0] };
}
