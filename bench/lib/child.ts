/**
 * The process of one contender's run: told what to do by its only argument, answers over the IPC channel and ends.
 *
 *   parent --argv: Assignment--> child --message: Answer--> parent
 */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { type Bench, type JsonObject, type RunContext, type Sample, Unavailable } from './bench.js';
import { type Profile, profiled } from './profile.js';

export interface Assignment {
  /** URL of the compiled bench. */
  readonly module: string;
  readonly contender: string;
  readonly part: string;
  readonly settings: JsonObject;
  /** A directory for what the contender keeps on disk; the parent removes it, also when this process dies. */
  readonly scratch: string;
  readonly isProfiled: boolean;
}

export interface Answer {
  readonly sample?: Sample;
  /** Why there is no sample. */
  readonly reason?: string;
  /** The contender says so itself; otherwise it failed. */
  readonly isUnavailable?: boolean;
  readonly profiles: readonly Profile[];
  readonly node: string;
}

const assignment = JSON.parse(process.argv[2] ?? '{}') as Assignment;
const profiles: Profile[] = [];

const context: RunContext = {
  part: assignment.part,
  directory: () => mkdtempSync(join(assignment.scratch, 'data-')),
  async section(name, work, operations) {
    if (!assignment.isProfiled) return await work();
    const { result, profile } = await profiled(name, work, operations);
    profiles.push(profile);
    return result;
  },
};

const answer = await measure();
process.send?.({ ...answer, profiles, node: process.version }, () => {
  // A contender that leaves a thread or a timer behind must not keep the bench waiting.
  process.exit();
});

async function measure(): Promise<Pick<Answer, 'sample' | 'reason' | 'isUnavailable'>> {
  try {
    const { default: bench } = (await import(assignment.module)) as { default: Bench };
    const contender = bench.contenders.find(({ name }) => name === assignment.contender);
    if (contender === undefined) throw new Error(`there is no contender ${assignment.contender}`);
    return { sample: await contender.run(assignment.settings, context) };
  } catch (error) {
    if (error instanceof Unavailable) return { reason: error.message, isUnavailable: true };
    const isMissing = (error as NodeJS.ErrnoException)?.code === 'ERR_MODULE_NOT_FOUND';
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return isMissing ? { reason: (error as Error).message, isUnavailable: true } : { reason };
  }
}
