/**
 * Where the main thread's time goes, per operation: `--profile`.
 *
 * V8's sampling profiler runs around the measured section only, so warm-up and start-up do not blur it. It sees the
 * thread it was started in; work of worker threads and of native threads appears as idle time here.
 */
import { Session } from 'node:inspector/promises';
import { fileURLToPath } from 'node:url';

export interface ProfiledFunction {
  readonly name: string;
  /** Share of the section's time that was spent in the function itself. */
  readonly share: number;
  readonly usPerOperation: number;
}

export interface Profile {
  readonly section: string;
  readonly operations: number;
  readonly seconds: number;
  readonly idleShare: number;
  readonly garbageShare: number;
  /** By self time, largest first. */
  readonly functions: readonly ProfiledFunction[];
}

const SAMPLE_US = 200;
const FUNCTIONS_MAX = 25;

/** Does the work under the profiler. */
export async function profiled<T>(
  section: string,
  work: () => Promise<T> | T,
  operations: (result: T) => number,
): Promise<{ readonly result: T; readonly profile: Profile }> {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: SAMPLE_US });
  await session.post('Profiler.start');
  const result = await work();
  const { profile } = await session.post('Profiler.stop');
  session.disconnect();

  const usById = new Map<number, number>();
  const { samples = [], timeDeltas = [] } = profile;
  for (const [index, id] of samples.entries()) {
    usById.set(id, (usById.get(id) ?? 0) + Math.max(0, timeDeltas[index] ?? 0));
  }
  const usByName = new Map<string, number>();
  let totalUs = 0;
  for (const { id, callFrame } of profile.nodes) {
    const us = usById.get(id) ?? 0;
    totalUs += us;
    const name = nameOf(callFrame);
    usByName.set(name, (usByName.get(name) ?? 0) + us);
  }
  const count = operations(result);
  const shareOf = (name: string): number => (usByName.get(name) ?? 0) / totalUs;
  const functions = [...usByName]
    .filter(([name, us]) => us > 0 && name !== '(idle)')
    .sort(([, a], [, b]) => b - a)
    .slice(0, FUNCTIONS_MAX)
    .map(([name, us]) => ({ name, share: us / totalUs, usPerOperation: us / count }));
  return {
    result,
    profile: {
      section,
      operations: count,
      seconds: totalUs / 1e6,
      idleShare: shareOf('(idle)'),
      garbageShare: shareOf('(garbage collector)'),
      functions,
    },
  };
}

/** Self time by function, as text. */
export function describeProfile(contender: string, profile: Profile): string {
  const { section, operations, seconds, idleShare, garbageShare, functions } = profile;
  const busyUs = (seconds * 1e6 * (1 - idleShare)) / operations;
  const lines = functions.map(
    ({ name, share, usPerOperation }) =>
      `  ${(share * 100).toFixed(1).padStart(5)} %  ${usPerOperation.toFixed(2).padStart(7)} us  ${name}`,
  );
  return [
    `${contender}, ${section}: main thread, ${operations} operations in ${seconds.toFixed(2)} s;`,
    `  ${busyUs.toFixed(2)} us of work per operation, idle ${(idleShare * 100).toFixed(1)} %, ` +
      `garbage collection ${(garbageShare * 100).toFixed(1)} %`,
    ...lines,
  ].join('\n');
}

interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
}

function nameOf({ functionName, url, lineNumber }: CallFrame): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  if (url === '') return name;
  const path = url.startsWith('file:') ? fileURLToPath(url) : url;
  const short = path.split('/').slice(-3).join('/');
  return `${name}  ${short}:${lineNumber + 1}`;
}
