/**
 * `millrace loadtest locks`: the same load on millrace's locks and on the naive ones, in one report.
 */
import { getRandomValues } from 'node:crypto';
import { seededRandom } from '../../core/random.js';
import type { StoreFactory } from '../../store/index.js';
import { systemClock } from '../../timing/system-clock.js';
import { wholeOption } from '../arguments.js';
import { type Arguments, ExitCode } from '../command.js';
import { Interruption } from '../interruption.js';
import { Progress } from '../progress.js';
import { storeOf } from '../store-option.js';
import { table } from '../table.js';
import { count, millis } from '../units.js';
import { type LockFacts, type LockLoad, LockRun } from './lock-load.js';
import { Output } from './output.js';

const CONTENDERS = [
  { name: 'millrace', locking: 'queueing' },
  { name: 'naive', locking: 'single-key' },
] as const;

interface Report {
  readonly scenario: 'locks';
  readonly store: string;
  readonly load: LockLoad;
  readonly contenders: readonly ({ readonly name: string } & LockFacts)[];
  readonly interrupted: boolean;
}

export async function run(args: Arguments): Promise<ExitCode> {
  const number = (name: string, max: number, otherwise: number): number =>
    wholeOption(args, name, { min: 1, max }) ?? otherwise;
  const load: LockLoad = {
    rate: number('rate', 100_000, 500),
    seconds: number('seconds', 86_400, 60),
    shards: number('shards', 100_000, 64),
    sessions: number('sessions', 100, 4),
    holdMs: number('hold', 60_000, 2),
  };
  const store = storeOf(args);
  const output = new Output(args);
  const interruption = new Interruption();
  const contenders: Report['contenders'][number][] = [];
  try {
    for (const { name, locking } of CONTENDERS) {
      if (interruption.signal.aborted) break;
      contenders.push({ name, ...(await contend(store, load, locking, output, interruption)) });
    }
  } finally {
    interruption.dispose();
  }
  const interrupted = interruption.signal.aborted;
  const report: Report = {
    scenario: 'locks',
    store: store.location,
    load,
    contenders,
    interrupted,
  };
  output.write(report, { text: () => reportText(report) });
  if (interrupted) return ExitCode.INTERRUPTED;
  const ours = contenders[0];
  const isSound = ours && ours.deadlocks + ours.leakedKeys + ours.overlaps + ours.failures === 0;
  return isSound ? ExitCode.DONE : ExitCode.FAILED;
}

async function contend(
  factory: StoreFactory,
  load: LockLoad,
  locking: (typeof CONTENDERS)[number]['locking'],
  { progressForm }: Output,
  { signal }: Interruption,
): Promise<LockFacts> {
  // A store in a directory is one process's own: its sessions share what is open.
  const one = await factory.open({ clock: systemClock });
  const stores = Array.from({ length: load.sessions }, () => one);
  const random = seededRandom(getRandomValues(new Uint32Array(4)));
  const lockRun = new LockRun(load, stores, random, locking);
  const progress = new Progress(
    { stream: process.stderr, noun: 'locks', form: progressForm },
    () => ({ done: lockRun.asked, total: load.rate * load.seconds, retries: 0 }),
  );
  progress.start();
  try {
    return await lockRun.run(signal);
  } finally {
    progress.stop();
    await one.close();
  }
}

function reportText({ load, contenders, store }: Report): string {
  const { rate, seconds, shards, sessions, holdMs } = load;
  const head = `${count(rate)} locks/s for ${seconds} s over ${shards} shards, ${sessions} sessions, held ${holdMs} ms, store ${store}\n\n`;
  const row = (label: string, value: (facts: LockFacts) => string): string[] => [
    label,
    ...contenders.map(value),
  ];
  return (
    head +
    table([
      ['', ...contenders.map(({ name }) => name)],
      row('asked', (facts) => count(facts.asked)),
      row('granted', (facts) => count(facts.granted)),
      row('acquire mean, ms', (facts) => millis(facts.acquireMeanMs)),
      row('acquire p50, ms', (facts) => millis(facts.acquireP50Ms)),
      row('acquire p99, ms', (facts) => millis(facts.acquireP99Ms)),
      row('acquire max, ms', (facts) => millis(facts.acquireMaxMs)),
      row('timeouts', (facts) => count(facts.timeouts)),
      row('deadlocks', (facts) => count(facts.deadlocks)),
      row('overlaps', (facts) => count(facts.overlaps)),
      row('other failures', (facts) => count(facts.failures)),
      row('leaked keys', (facts) => count(facts.leakedKeys)),
    ])
  );
}
