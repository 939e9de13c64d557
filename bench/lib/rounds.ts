/** Runs the rounds: one process after another, interleaved, each given a limit; collects what they answer. */
import { fork } from 'node:child_process';
import { rmSync } from 'node:fs';
import type { Bench, Contender, Json, JsonObject, Part } from './bench.js';
import { metricsOf } from './bench.js';
import type { Answer, Assignment } from './child.js';
import { scratchDirectory } from './places.js';
import type { Profile } from './profile.js';

export interface Rounds {
  readonly module: string;
  readonly contenders: readonly Contender<JsonObject>[];
  readonly settings: JsonObject & { readonly scale: Json };
  readonly runs: number;
  readonly isProfiled: boolean;
  /** Told after each process. */
  onProgress(line: string): void;
}

/** What is known about a contender after all rounds. */
export interface Outcome {
  readonly contender: Contender<JsonObject>;
  node: string;
  /** One value per round that had one, by metric. */
  readonly values: Map<string, number[]>;
  /** Why a metric has no value, or fewer than rounds. */
  readonly reasons: Map<string, string>;
  notes: JsonObject;
  /** Of rounds without figures, with the stack where there is one. */
  readonly failures: string[];
  readonly profiles: Profile[];
}

/** A process may take so many times longer than estimated before it counts as hung. */
const PATIENCE = 8;
const PATIENCE_SECONDS_MIN = 60;
const STDERR_CHARS_MAX = 2_000;
const WHOLE: Part = { name: '' };

export async function runRounds(bench: Bench, rounds: Rounds): Promise<readonly Outcome[]> {
  const outcomes = rounds.contenders.map(
    (contender): Outcome => ({
      contender,
      node: process.version,
      values: new Map(),
      reasons: new Map(),
      notes: {},
      failures: [],
      profiles: [],
    }),
  );
  /** What said that it cannot run is not asked again. */
  const isOut = new Set<string>();
  for (let round = 0; round < rounds.runs; round++) {
    for (let turn = 0; turn < outcomes.length; turn++) {
      const outcome = outcomes[(round + turn) % outcomes.length]!;
      const { contender } = outcome;
      for (const part of contender.parts ?? [WHOLE]) {
        const label = part.name === '' ? contender.name : `${contender.name} ${part.name}`;
        if (isOut.has(label)) continue;
        const startedAt = performance.now();
        const answer = await runProcess(bench, rounds, contender, part);
        const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
        note(bench, outcome, part, answer);
        if (answer.isUnavailable === true) isOut.add(label);
        const head = `round ${round + 1}/${rounds.runs}  ${label}  ${seconds} s`;
        rounds.onProgress(`${head}  ${brief(bench, answer)}`);
      }
    }
  }
  return outcomes;
}

function note(bench: Bench, outcome: Outcome, part: Part, answer: Answer): void {
  outcome.node = answer.node;
  outcome.profiles.push(...answer.profiles);
  const { sample } = answer;
  if (sample === undefined) {
    const where = part.name === '' ? '' : `${part.name}: `;
    const failure = `${where}${answer.reason ?? 'it said nothing'}`;
    const lost = metricsOf(bench, outcome.contender).filter((name) => !outcome.values.has(name));
    for (const metric of lost) {
      if (!outcome.reasons.has(metric)) outcome.reasons.set(metric, failure.split('\n')[0] ?? '');
    }
    outcome.failures.push(failure);
    return;
  }
  for (const [metric, value] of Object.entries(sample.metrics)) {
    if (value === null || !Number.isFinite(value)) {
      outcome.reasons.set(metric, sample.reasons?.[metric] ?? 'not measured');
      continue;
    }
    outcome.reasons.delete(metric);
    const values = outcome.values.get(metric);
    if (values === undefined) outcome.values.set(metric, [value]);
    else values.push(value);
  }
  if (sample.notes !== undefined) outcome.notes = { ...outcome.notes, ...sample.notes };
}

function brief(bench: Bench, { sample, reason }: Answer): string {
  if (sample === undefined) return `no figures: ${(reason ?? '').split('\n')[0]}`;
  const measured = Object.entries(sample.metrics).filter(([, value]) => value !== null);
  if (measured.length === 0) return `no figures: ${Object.values(sample.reasons ?? {})[0] ?? ''}`;
  return measured
    .filter(([metric]) => bench.metrics[metric] !== undefined)
    .slice(0, 4)
    .map(([metric, value]) => `${metric} ${Number(value?.toPrecision(4))}`)
    .join('  ');
}

/** Starts a process and waits for its answer; never rejects. */
function runProcess(
  bench: Bench,
  rounds: Rounds,
  contender: Contender<JsonObject>,
  part: Part,
): Promise<Answer> {
  const { module, settings, isProfiled } = rounds;
  const scratch = scratchDirectory();
  const assignment: Assignment = {
    module,
    contender: contender.name,
    part: part.name,
    settings,
    scratch,
    isProfiled,
  };
  const limitSeconds = Math.max(
    PATIENCE_SECONDS_MIN,
    PATIENCE * bench.seconds(settings, contender.name, part.name),
  );
  const child = fork(new URL('./child.js', import.meta.url), [JSON.stringify(assignment)], {
    execArgv: [...(part.nodeFlags ?? [])],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  return new Promise((resolve) => {
    let answer: Answer | undefined;
    let stderr = '';
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      child.kill('SIGKILL');
    }, limitSeconds * 1000);
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-STDERR_CHARS_MAX);
    });
    child.on('message', (message) => {
      answer = message as Answer;
    });
    child.on('error', (error) => {
      stderr += error.message;
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      rmSync(scratch, { recursive: true, force: true });
      const end = isLate
        ? `it did not end within ${limitSeconds} s`
        : `it ended with ${signal ?? code} and no answer`;
      const reason = [end, stderr.trim()].filter((text) => text !== '').join(': ');
      resolve(answer ?? { reason, profiles: [], node: process.version });
    });
  });
}
