/** What only millrace is asked: what an endless loop costs its batch-mates, and what a producer that is too fast does to memory. */
import assert from 'node:assert/strict';
import { BatchPool } from '../../src/pool/index.js';
import { sleep } from './load.js';
import { BATCH } from './targets.js';
import { type Input, type Job, makeJobs } from './tasks.js';

const TASKS = new URL('./tasks.js', import.meta.url);

/**
 * Milliseconds that one endless loop among 64 tasks delays the last of the other 63.
 *
 * @throws when not exactly that one ends with a timeout
 */
export async function blameDelayMs(
  threads: number,
  { timeoutMs, graceMs }: { readonly timeoutMs: number; readonly graceMs: number },
): Promise<number> {
  const pool = new BatchPool<Input, number>({
    filename: TASKS,
    threads,
    timeout: { adaptive: false, max: timeoutMs, grace: graceMs },
  });
  const jobs = makeJobs(0).slice(0, BATCH);
  const endless = BATCH / 2;
  const round = async (inputs: readonly Job[]): Promise<{ lastMs: number; failed: string[] }> => {
    const startedAtMs = performance.now();
    let lastMs = 0;
    const failed: string[] = [];
    const one = async (input: Job): Promise<void> => {
      try {
        assert.equal(await pool.run(input), input.id);
        lastMs = performance.now() - startedAtMs;
      } catch (error) {
        failed.push(`${input.id} ${(error as { code?: string }).code}`);
      }
    };
    await Promise.all(inputs.map(one));
    return { lastMs, failed };
  };
  await round(jobs);
  const without = await round(jobs);
  const withOne = await round(
    jobs.map((job) => (job.id === endless ? { ...job, turns: -1 } : job)),
  );
  await pool.close();
  assert.deepEqual(withOne.failed, [`${endless} ERR_MILLRACE_TASK_TIMEOUT`]);
  return withOne.lastMs - without.lastMs;
}

/** A producer offers so many times what the threads can do. */
const OVERLOAD = 10;
const SAMPLE_MS = 250;
/** Share of the time, and at most this long, until memory has to be flat. */
const SETTLE_MS_MAX = 10_000;

/**
 * How fast the process grows in MiB per minute, once settled, while a producer that waits for its permits offers ten
 * times what the threads can do.
 *
 * @param turns - of a task that takes `taskMs`
 */
export async function overloadSlope(
  threads: number,
  { turns, taskMs, ms }: { readonly turns: number; readonly taskMs: number; readonly ms: number },
): Promise<{ readonly slopeMiBPerMin: number; readonly tasks: number; readonly rssMiB: number }> {
  const pool = new BatchPool<Input, number>({ filename: TASKS, threads, timeout: '30s' });
  const jobs = makeJobs(turns);
  let ended = 0;
  const writer = pool
    .writable({
      onResult: (outcome) => {
        assert.equal(outcome.status, 'fulfilled');
        ended++;
      },
    })
    .getWriter();
  const startedAtMs = performance.now();
  const settledAtMs = startedAtMs + Math.min(SETTLE_MS_MAX, ms / 3);
  const minutes: number[] = [];
  const mib: number[] = [];
  const sampler = setInterval(() => {
    const nowMs = performance.now();
    if (nowMs < settledAtMs) return;
    minutes.push(nowMs / 60_000);
    mib.push(process.memoryUsage.rss() / 2 ** 20);
  }, SAMPLE_MS);
  const perMs = (OVERLOAD * threads) / taskMs;
  let written = 0;
  while (performance.now() - startedAtMs < ms) {
    // What came due while it was made to wait is offered at once.
    const due = Math.ceil((performance.now() - startedAtMs) * perMs);
    while (written < due && performance.now() - startedAtMs < ms) {
      await writer.write(jobs[written++ % jobs.length]!);
    }
    await sleep(1);
  }
  clearInterval(sampler);
  await writer.close();
  await pool.close();
  assert.equal(ended, written);
  return { slopeMiBPerMin: slope(minutes, mib), tasks: ended, rssMiB: mib.at(-1) ?? Number.NaN };
}

/** Of the straight line through the points, by least squares. */
function slope(xs: readonly number[], ys: readonly number[]): number {
  const mean = (values: readonly number[]): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  const meanX = mean(xs);
  const meanY = mean(ys);
  let above = 0;
  let below = 0;
  for (const [index, x] of xs.entries()) {
    above += (x - meanX) * (ys[index]! - meanY);
    below += (x - meanX) ** 2;
  }
  return above / below;
}
