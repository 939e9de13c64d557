/**
 * `millrace loadtest`: finds the scenario that was named; each is a file of `loadtest/`.
 *
 *   load.ts, arrivals.ts         what a load is; when each arrival comes (an open loop)
 *   tasks.ts, task-run.ts        tasks: submitted, waited for, every phase timed; load-tasks.ts is what they do
 *   stage.ts, fleet.ts, node-main.ts   processes that run them; faults.ts, etcd-leader.ts harm these
 *   delivery.ts                  whether of every task exactly one result came
 *   process-vitals.ts, timeline.ts     garbage collection, event loop; what happened in each second
 *   load-report.ts, load-text.ts, load-page.ts, page/    the report: JSON, tables, a page with charts
 *   soak.ts                      half of the capacity for a long time
 *   timers.ts, locks.ts, lock-load.ts        timers and locks by themselves
 *   ablation*.ts, slow-store.ts              what each optimisation is worth
 */
import { usage } from './arguments.js';
import type { Arguments, ExitCode } from './command.js';
import { LOADTEST, SCENARIOS, type Scenario } from './loadtest-fact.js';

const LOADERS: Readonly<
  Record<Scenario, () => Promise<{ readonly run: (args: Arguments) => Promise<ExitCode> }>>
> = {
  tasks: () => import('./loadtest/tasks.js'),
  timers: () => import('./loadtest/timers.js'),
  locks: () => import('./loadtest/locks.js'),
  soak: () => import('./loadtest/soak.js'),
  ablation: () => import('./loadtest/ablation.js'),
};

export async function run(args: Arguments): Promise<ExitCode> {
  const [name = 'tasks'] = args.positionals;
  const scenario = scenarioNamed(name);
  const stray = [...args.options.keys()].find((option) => !scenario.options.includes(option));
  if (stray !== undefined) throw usage(LOADTEST, `--${stray} is not for ${scenario.name}`);
  const { run: runScenario } = await LOADERS[scenario.name]();
  return runScenario(args);
}

function scenarioNamed(name: string): (typeof SCENARIOS)[number] {
  const scenario = SCENARIOS.find((candidate) => candidate.name === name);
  if (scenario !== undefined) return scenario;
  const names = SCENARIOS.map((candidate) => candidate.name).join(', ');
  throw usage(LOADTEST, `there is no scenario '${name.slice(0, 60)}'; there are ${names}`);
}
