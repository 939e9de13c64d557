/** `millrace loadtest timers`: an open load on the native timer queue by itself, in this process. */
import { getRandomValues } from 'node:crypto';
import { seededRandom } from '../../core/random.js';
import { packageVersion } from '../../package-version.js';
import { type Arguments, ExitCode } from '../command.js';
import { Interruption } from '../interruption.js';
import { Progress } from '../progress.js';
import { sharedNowMs } from './arrivals.js';
import type { DeliveryFacts } from './delivery.js';
import { readTimerLoad } from './load.js';
import { loadPage } from './load-page.js';
import { type LoadReport, machine, phaseReport } from './load-report.js';
import { loadText } from './load-text.js';
import { Output } from './output.js';
import { reportOfLives } from './process-report.js';
import { ProcessVitals } from './process-vitals.js';
import { TimerRun } from './timer-load.js';

export async function run(args: Arguments): Promise<ExitCode> {
  const load = readTimerLoad(args);
  const output = new Output(args);
  const interruption = new Interruption();
  const { signal } = interruption;
  const date = new Date().toISOString();
  const timerRun = new TimerRun(load, seededRandom(getRandomValues(new Uint32Array(4))));
  const vitals = new ProcessVitals(timerRun.startMs);
  const progress = new Progress(
    { stream: process.stderr, noun: 'timers', form: output.progressForm },
    () => ({ done: timerRun.fired, total: timerRun.total, retries: 0 }),
  );
  progress.start();
  try {
    await timerRun.run(signal);
  } finally {
    progress.stop();
    interruption.dispose();
  }
  const elapsedMs = sharedNowMs() - timerRun.startMs;
  const delivery = deliveryOf(timerRun);
  const isExact = delivery.lost + delivery.twice + timerRun.early === 0;
  const report: LoadReport = {
    scenario: 'timers',
    date,
    machine: machine(),
    node: process.version,
    version: packageVersion(),
    load: { ...load },
    elapsedMs,
    endedPerSecond: (timerRun.fired / elapsedMs) * 1_000,
    phases: [phaseReport('lateness', timerRun.lateness)],
    timeline: timerRun.timeline.seconds(),
    processes: [reportOfLives('this process', [[vitals.stop()]])],
    delivery,
    isExact: isExact && !signal.aborted,
    faults: [],
    interrupted: signal.aborted,
  };
  output.write(report, { text: () => loadText(report), page: () => loadPage(report) });
  if (report.interrupted) return ExitCode.INTERRUPTED;
  return report.isExact ? ExitCode.DONE : ExitCode.FAILED;
}

function deliveryOf({ arrived, fired, twice }: TimerRun): DeliveryFacts {
  const completed = fired - twice;
  return {
    submitted: arrived,
    accepted: arrived,
    refused: {},
    completed,
    failed: {},
    open: 0,
    unheard: 0,
    lost: arrived - completed,
    foreign: 0,
    twice,
    repeated: 0,
  };
}
