/**
 * One seed, from beginning to end, in one of two worlds: see lone-run.ts and cluster-run.ts.
 */
import { ClusterRun } from './cluster-run.js';
import { forbidGlobals } from './guard.js';
import { LoneRun } from './lone-run.js';
import type { SimOptions, SimResult, WorldName } from './run.js';

export async function simulate(seed: number, options: SimOptions = {}): Promise<SimResult> {
  const allow = forbidGlobals();
  const name = options.world ?? (seed % 3 === 0 ? 'cluster' : 'lone');
  // Stacks of errors that are expected take a fiftieth of the time; with a trace everything is to be seen.
  const { stackTraceLimit } = Error;
  if (!options.keepsTrace) Error.stackTraceLimit = 0;
  const run = name === 'lone' ? new LoneRun(seed, options) : new ClusterRun(seed, options);
  const onRejection = (reason: unknown): void => run.onUnhandled(reason);
  process.on('unhandledRejection', onRejection);
  process.on('uncaughtException', onRejection);
  try {
    return await run.run();
  } finally {
    allow();
    Error.stackTraceLimit = stackTraceLimit;
    process.off('unhandledRejection', onRejection);
    process.off('uncaughtException', onRejection);
  }
}

/** Seeds of one world, one after the other. */
export async function simulateAll(
  world: WorldName,
  seeds: readonly number[],
): Promise<SimResult[]> {
  const results: SimResult[] = [];
  for (const seed of seeds) results.push(await simulate(seed, { world }));
  return results;
}
