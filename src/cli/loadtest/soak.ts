/**
 * `millrace loadtest soak`: half of what the system can do, for a long time. It is sound when nothing grows and nothing is lost.
 *
 *   10 s closed loop  ->  capacity  ->  open loop at half of it for --seconds  ->  memory and handles of every process are flat
 */
import { wholeOption } from '../arguments.js';
import { type Arguments, ExitCode } from '../command.js';
import { Interruption } from '../interruption.js';
import { storeOf } from '../store-option.js';
import { table } from '../table.js';
import { count } from '../units.js';
import { ClosedLoop } from './closed-loop.js';
import { readTaskLoad, type TaskLoad, worksOf } from './load.js';
import { loadPage } from './load-page.js';
import type { LoadReport } from './load-report.js';
import { work } from './load-tasks.js';
import { loadText } from './load-text.js';
import { Output } from './output.js';
import { openStage } from './stage.js';
import type { Submitter } from './task-run.js';
import { measureTasks } from './tasks.js';

const SECONDS = 600;
const CAPACITY_MS = 10_000;
const IN_FLIGHT = 1_000;
const SHARE = 0.5;
/** What a process may grow by, in MiB and in handles a minute. */
const RSS_SLOPE_MAX = 1;
const HANDLES_MAX = 1;

export async function run(args: Arguments): Promise<ExitCode> {
  const load = readTaskLoad(args);
  const seconds = wholeOption(args, 'seconds', { min: 1, max: 604_800 }) ?? SECONDS;
  const store = storeOf(args);
  const output = new Output(args);
  const interruption = new Interruption();
  const { signal } = interruption;
  try {
    const stage = await openStage(load, { store, args });
    const perSecond = await capacity(stage.submitter, load, signal);
    const rate = Math.max(1, Math.floor(perSecond * SHARE));
    process.stderr.write(`capacity ${count(perSecond)}/s; soaking at ${count(rate)}/s\n`);
    const half = { ...load, rate, seconds };
    const report = await measureTasks(stage, half, { store, output, signal });
    const isSteady = report.processes.every(isFlat);
    const whole = { ...report, capacityPerSecond: perSecond, isSteady };
    output.write(whole, {
      text: () => `${loadText(report)}\n${steadyText(report)}`,
      page: () => loadPage(report),
    });
    if (report.interrupted) return ExitCode.INTERRUPTED;
    return report.isExact && isSteady ? ExitCode.DONE : ExitCode.FAILED;
  } finally {
    interruption.dispose();
  }
}

/** Tasks per second with so many in flight. */
async function capacity(
  submitter: Submitter,
  load: TaskLoad,
  signal: AbortSignal,
): Promise<number> {
  const works = worksOf(load.work);
  const pad = 'x'.repeat(load.payloadBytes);
  const loop = new ClosedLoop(IN_FLIGHT, async (n) => {
    const handle = await submitter.submit(work, { n, pad, ...works[n % works.length]! });
    await handle.settled();
  });
  await loop.goOn(CAPACITY_MS / 2, signal);
  const [before, startMs] = [loop.ended, performance.now()];
  await loop.goOn(CAPACITY_MS / 2, signal);
  const perSecond = ((loop.ended - before) / (performance.now() - startMs)) * 1_000;
  await loop.stop();
  return perSecond;
}

type Growth = Pick<LoadReport['processes'][number], 'rssSlopeMiBPerMin' | 'handlesPerMin'>;

/** Whether neither memory nor handles of a process grow. */
export function isFlat({ rssSlopeMiBPerMin, handlesPerMin }: Growth): boolean {
  return rssSlopeMiBPerMin < RSS_SLOPE_MAX && handlesPerMin < HANDLES_MAX;
}

function steadyText({ processes }: LoadReport): string {
  return table([
    ['after the first third', 'memory, MiB/min', 'handles/min', ''],
    ...processes.map((each) => [
      each.name,
      each.rssSlopeMiBPerMin.toFixed(2),
      each.handlesPerMin.toFixed(2),
      isFlat(each) ? 'flat' : 'GROWS',
    ]),
  ]);
}
