/** What a task costs while so many others wait beside it. */

import { GcObserver } from '../../src/cli/gc-observer.js';
import { work } from '../../src/cli/loadtest/load-tasks.js';
import { createRuntime, fileStore, memoryStore } from '../../src/index.js';
import type { Sample } from '../lib/bench.js';
import { noopInput, noopLoop } from './loop.js';
import type { ScaleSettings } from './settings.js';

/** Near enough to be held in memory, and after the bench. */
const DELAY = '10m';

/**
 * @param directory - where the store is; undefined for one in memory
 * @param place - how the figures are named, as in `10k`
 */
export async function amongPending(
  directory: string | undefined,
  count: number,
  place: string,
  settings: ScaleSettings,
): Promise<Sample> {
  const runtime = await createRuntime({
    tasks: new URL('../../src/cli/loadtest/load-tasks.js', import.meta.url),
    store: directory === undefined ? memoryStore() : fileStore(directory),
    threads: { max: 1 },
    queue: { maxTasks: 10_000_000, maxBytes: '8GB' },
    shutdown: { soft: '1s', hard: '2s' },
  });
  const input = noopInput(settings.payloadBytes);
  globalThis.gc?.();
  const before = process.memoryUsage();
  const cpuBefore = process.cpuUsage();
  await runtime.submitMany(work, repeated(input, count), { delay: DELAY });
  const { user, system } = process.cpuUsage(cpuBefore);
  globalThis.gc?.();
  const after = process.memoryUsage();
  const gc = new GcObserver();
  const loop = await noopLoop(runtime, settings);
  const { totalMs } = gc.totals();
  gc.stop();
  await runtime.close();
  return {
    metrics: {
      [`submitCpuUs@${place}`]: (user + system) / count,
      [`rssBytes@${place}`]: (after.rss - before.rss) / count,
      [`heapBytes@${place}`]: (after.heapUsed - before.heapUsed) / count,
      [`runCpuUs@${place}`]: loop.cpuUs / loop.tasks,
      [`gcMsPerSecond@${place}`]: (totalMs / (settings.warmUpMs + settings.measureMs)) * 1_000,
    },
  };
}

function* repeated<T>(item: T, count: number): Generator<T> {
  for (let i = 0; i < count; i++) yield item;
}
