/**
 * `millrace loadtest ablation`: what each of the seven optimisations is worth, on your store. Each row is a process of its own
 * in a place of its own, rounds are interleaved; see ablation-plan.ts and ablation-row.ts.
 */
import { fork } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { packageVersion } from '../../package-version.js';
import type { StoreFactory } from '../../store/index.js';
import { wholeOption } from '../arguments.js';
import { type Arguments, ExitCode } from '../command.js';
import { Interruption } from '../interruption.js';
import { storeOf } from '../store-option.js';
import { span } from '../units.js';
import type { RowAnswer, RowAssignment } from './ablation-main.js';
import { ablationPage } from './ablation-page.js';
import {
  type AblationContender,
  type AblationSettings,
  ablationSettings,
  CONTENDERS,
  rowMs,
} from './ablation-plan.js';
import { ablationReport, type RowOutcome } from './ablation-report.js';
import type { RowResult } from './ablation-row.js';
import { ablationText } from './ablation-text.js';
import { Output } from './output.js';

/** A row may take so many times longer than estimated before it counts as hung. */
const PATIENCE = 3;

interface Rows {
  readonly outcomes: readonly RowOutcome[];
  readonly interrupted: boolean;
}

export async function run(args: Arguments): Promise<ExitCode> {
  const threads = wholeOption(args, 'threads', { min: 1, max: 1_024 }) ?? availableParallelism();
  const byDefault = ablationSettings(args.options.has('quick'), threads);
  const settings: AblationSettings = {
    ...byDefault,
    runs: wholeOption(args, 'runs', { min: 1, max: 100 }) ?? byDefault.runs,
    ratePerSecond: wholeOption(args, 'rate', { min: 1, max: 100_000 }) ?? byDefault.ratePerSecond,
  };
  const store = storeOf(args);
  const output = new Output(args);
  const date = new Date().toISOString();
  const { outcomes, interrupted } = await measure(args, store, settings);
  const report = ablationReport(outcomes, {
    date,
    version: packageVersion(),
    durability: DURABILITY[store.kind],
    settings: { ...settings, store: store.location },
    interrupted,
  });
  output.write(report, { text: () => ablationText(report), page: () => ablationPage(report) });
  if (interrupted) return ExitCode.INTERRUPTED;
  const isWhole = outcomes.every(({ results }) => results.length > 0);
  return isWhole ? ExitCode.DONE : ExitCode.FAILED;
}

const DURABILITY: Readonly<Record<StoreFactory['kind'], string>> = {
  memory: 'none: lost with the process',
  embedded: 'fsync before the acknowledgement',
  etcd: 'on the disks of a majority of the servers before the acknowledgement',
};

async function measure(
  args: Arguments,
  store: StoreFactory,
  settings: AblationSettings,
): Promise<Rows> {
  const rows = CONTENDERS.map((contender) => ({
    contender,
    results: [] as RowResult[],
    failures: [] as string[],
  }));
  const interruption = new Interruption();
  const scratch = mkdtempSync(path.join(tmpdir(), 'millrace-ablation-'));
  const total = rows.length * settings.runs;
  process.stderr.write(`${total} rows, about ${span(total * rowMs(settings))}\n`);
  try {
    for (let round = 0; round < settings.runs; round++) {
      for (let turn = 0; turn < rows.length; turn++) {
        if (interruption.signal.aborted) break;
        // Each round begins with another row, so that what drifts hits all alike.
        const row = rows[(round + turn) % rows.length]!;
        const answer = await measureRow(row.contender, {
          options: placeOf(args, store, `${row.contender.name}-${round}`),
          settings,
          log: path.join(scratch, `${row.contender.name}.log`),
        });
        if ('result' in answer) row.results.push(answer.result);
        else row.failures.push(answer.reason);
        process.stderr.write(
          `${round * rows.length + turn + 1}/${total} ${brief(row.contender, answer)}\n`,
        );
      }
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
    interruption.dispose();
  }
  return { outcomes: rows, interrupted: interruption.signal.aborted };
}

/** The store's options, with a place of the row's own in it. */
function placeOf(args: Arguments, store: StoreFactory, name: string): RowAssignment['options'] {
  const place = {
    memory: 'memory',
    embedded: path.join(store.location, `ablation-${name}`),
    etcd: `${store.location}/ablation-${process.pid}-${name}`,
  }[store.kind];
  const rest = [...args.options].filter(([option]) => option.startsWith('etcd-'));
  return [['store', place], ...rest];
}

/** Runs one row to its end; never rejects. */
function measureRow(
  { off }: AblationContender,
  parts: {
    readonly options: RowAssignment['options'];
    readonly settings: AblationSettings;
    /** What it logs goes there. */
    readonly log: string;
  },
): Promise<RowAnswer> {
  const { options, settings } = parts;
  const assignment: RowAssignment = { options, off, settings };
  const log = openSync(parts.log, 'w');
  const child = fork(new URL('./ablation-main.js', import.meta.url), [JSON.stringify(assignment)], {
    stdio: ['ignore', log, 'pipe', 'ipc'],
  });
  closeSync(log);
  return new Promise((resolve) => {
    let answer: RowAnswer | undefined;
    let lastWords = '';
    const impatient = setTimeout(() => child.kill('SIGKILL'), PATIENCE * rowMs(settings));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      lastWords = (lastWords + text).slice(-1_000);
    });
    child.on('message', (message: RowAnswer) => {
      answer = message;
    });
    child.on('close', (code, signal) => {
      clearTimeout(impatient);
      resolve(answer ?? { reason: `ended with ${signal ?? code}: ${lastWords.trim()}` });
    });
  });
}

function brief({ name }: AblationContender, answer: RowAnswer): string {
  if ('reason' in answer) return `${name}: ${answer.reason.split('\n')[0]}`;
  const { tasksPerSecond, latencyP95Ms } = answer.result.metrics;
  return `${name}: ${tasksPerSecond?.toFixed(0)} tasks/s, p95 ${latencyP95Ms?.toFixed(1)} ms`;
}
