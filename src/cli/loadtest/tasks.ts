/** `millrace loadtest tasks`: an open load of tasks on any store. */
import { getRandomValues } from 'node:crypto';
import { seededRandom } from '../../core/random.js';
import { packageVersion } from '../../package-version.js';
import type { StoreFactory } from '../../store/index.js';
import { type Arguments, ExitCode } from '../command.js';
import { Interruption } from '../interruption.js';
import { Progress } from '../progress.js';
import { storeOf } from '../store-option.js';
import { sharedNowMs } from './arrivals.js';
import { isExact } from './delivery.js';
import { readTaskLoad, type TaskLoad } from './load.js';
import { loadPage } from './load-page.js';
import { type LoadReport, machine, phaseReport } from './load-report.js';
import { loadText } from './load-text.js';
import { Output } from './output.js';
import { reportOfLives } from './process-report.js';
import { ProcessVitals } from './process-vitals.js';
import { openStage, type Stage } from './stage.js';
import { PHASES, TaskRun } from './task-run.js';

export async function run(args: Arguments): Promise<ExitCode> {
  const load = readTaskLoad(args);
  const store = storeOf(args);
  const output = new Output(args);
  const interruption = new Interruption();
  try {
    const stage = await openStage(load, { store, args });
    const report = await measureTasks(stage, load, {
      store,
      output,
      signal: interruption.signal,
    });
    output.write(report, { text: () => loadText(report), page: () => loadPage(report) });
    if (report.interrupted) return ExitCode.INTERRUPTED;
    return report.isExact ? ExitCode.DONE : ExitCode.FAILED;
  } finally {
    interruption.dispose();
  }
}

/** Runs the load to its end, and closes the stage. */
export async function measureTasks(
  stage: Stage,
  load: TaskLoad,
  context: {
    readonly store: StoreFactory;
    readonly output: Output;
    readonly signal: AbortSignal;
  },
): Promise<LoadReport> {
  const { store, signal } = context;
  const random = seededRandom(getRandomValues(new Uint32Array(4)));
  const date = new Date().toISOString();
  const taskRun = await TaskRun.start(stage.submitter, load, random);
  const { arrivals, delivery } = taskRun;
  const vitals = new ProcessVitals(arrivals.startMs);
  stage.begin(arrivals.startMs);
  const progress = new Progress(
    { stream: process.stderr, noun: 'tasks', form: context.output.progressForm },
    () => ({ done: delivery.ended, total: arrivals.total, retries: delivery.repeated }),
  );
  progress.start();
  const isOver = new AbortController();
  const harmed = stage.harm(arrivals.startMs, AbortSignal.any([signal, isOver.signal]));
  try {
    await taskRun.arrive(signal);
    isOver.abort();
    await taskRun.finish();
    const elapsedMs = sharedNowMs() - arrivals.startMs;
    const faults = await harmed;
    const own = reportOfLives('this process', [[vitals.stop()]]);
    const facts = delivery.facts();
    return {
      scenario: 'tasks',
      date,
      machine: machine(),
      node: process.version,
      version: packageVersion(),
      store: store.location,
      load: { ...load },
      elapsedMs,
      endedPerSecond: (facts.completed / elapsedMs) * 1_000,
      phases: PHASES.map((phase) => phaseReport(phase, taskRun.phases[phase])),
      timeline: taskRun.timeline.seconds(),
      processes: [own, ...(await stage.close())],
      delivery: facts,
      isExact: isExact(facts),
      faults,
      interrupted: signal.aborted,
    };
  } finally {
    progress.stop();
    isOver.abort();
    await stage.close();
  }
}
