/**
 * What `millrace demo` counts, and how it tells it at the end.
 *
 * Every file that was found ends in exactly one of: done now, done in an earlier run, failed, or left in the store
 * by an interruption. Those done now were either new or taken over from the store, where an earlier run left them.
 */
import { type Fingerprint, GZIP_LEVEL } from './demo-tasks.js';
import type { GcFacts } from './gc-observer.js';
import { type PercentileFacts, Percentiles } from './percentiles.js';
import { table } from './table.js';
import { bytes, count, millis, plural, span } from './units.js';

/** Where a task that completed came from. */
export type Origin = 'new' | 'takenOver' | 'doneEarlier';

export interface Failure {
  readonly path: string;
  readonly message: string;
}

/** The facts of a run that the tally does not see itself. */
export interface RunFacts {
  readonly folder: string;
  readonly store: string;
  readonly elapsedMs: number;
  readonly threads: number;
  readonly isInterrupted: boolean;
  /** Open tasks that the store held when the run began. */
  readonly recovered: number;
  readonly gc: readonly GcFacts[];
}

const FAILURES_SHOWN = 10;

export class Tally {
  retries = 0;
  /** Open tasks from the store that belong to a file of this run, and ended. */
  recoveredMet = 0;
  /** Accepted by the store and not ended when the run did. */
  left = 0;
  /** Files whose task failed for good, or could not be made. */
  failed = 0;
  readonly #failures: Failure[] = [];
  readonly #done: Record<Origin, number> = { new: 0, takenOver: 0, doneEarlier: 0 };
  #unreadableFolders = 0;
  #bytes = 0;
  #gzipBytes = 0;
  #bytesNow = 0;
  readonly #waitMs = new Percentiles();
  readonly #runMs = new Percentiles();

  /** Files whose end is known. */
  get ended(): number {
    const { new: fresh, takenOver, doneEarlier } = this.#done;
    return fresh + takenOver + doneEarlier + this.failed;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** @param dueAtMs - when the task could start at the earliest, if this run submitted it */
  noteDone(origin: Origin, value: Fingerprint, dueAtMs: number | undefined): void {
    this.#done[origin]++;
    this.#bytes += value.bytes;
    this.#gzipBytes += value.gzipBytes;
    if (origin === 'doneEarlier') return;
    this.#bytesNow += value.bytes;
    this.#runMs.record(value.runMs);
    // The wait of a later attempt is its backoff; who submitted a task that was taken over is long gone.
    const isWaitKnown = origin === 'new' && dueAtMs !== undefined && value.attempt === 1;
    if (isWaitKnown) this.#waitMs.record(value.startedAtMs - dueAtMs);
  }

  noteFailed(failure: Failure): void {
    this.failed++;
    this.#list(failure);
  }

  /** A folder that cannot be read may hide any number of files. */
  noteUnreadableFolder(failure: Failure): void {
    this.#unreadableFolders++;
    this.#list(failure);
  }

  /** The run as plain data. */
  summary(run: RunFacts): DemoSummary {
    const { new: fresh, takenOver, doneEarlier } = this.#done;
    const seconds = Math.max(run.elapsedMs, 1) / 1_000;
    return {
      ...run,
      files: this.ended + this.left,
      new: fresh,
      takenOver,
      doneEarlier,
      failed: this.failed,
      unreadableFolders: this.#unreadableFolders,
      left: this.left,
      otherTasks: run.isInterrupted ? 0 : Math.max(0, run.recovered - this.recoveredMet),
      retries: this.retries,
      bytes: this.#bytes,
      gzipBytes: this.#gzipBytes,
      tasksPerSecond: Math.round((fresh + takenOver) / seconds),
      bytesPerSecond: Math.round(this.#bytesNow / seconds),
      waitMs: this.#waitMs.facts(),
      runMs: this.#runMs.facts(),
      failures: this.#failures,
    };
  }

  #list(failure: Failure): void {
    if (this.#failures.length < FAILURES_SHOWN) this.#failures.push(failure);
  }
}

export interface DemoSummary extends RunFacts {
  readonly files: number;
  readonly new: number;
  readonly takenOver: number;
  readonly doneEarlier: number;
  readonly failed: number;
  readonly unreadableFolders: number;
  readonly left: number;
  /** Open tasks that were in the store and belong to none of the files, as they are now. */
  readonly otherTasks: number;
  readonly retries: number;
  readonly bytes: number;
  readonly gzipBytes: number;
  readonly tasksPerSecond: number;
  readonly bytesPerSecond: number;
  readonly waitMs: PercentileFacts;
  readonly runMs: PercentileFacts;
  /** The first few. */
  readonly failures: readonly Failure[];
}

/** The summary as people read it. */
export function summaryText(summary: DemoSummary): string {
  const hasRun = summary.runMs.count > 0;
  return [
    outcomeText(summary),
    countsText(summary),
    hasRun ? timesText(summary) : '',
    gcText(summary),
    failuresText(summary),
    leftText(summary),
  ]
    .filter((part) => part !== '')
    .join('\n');
}

function outcomeText(summary: DemoSummary): string {
  const { files, doneEarlier, folder, elapsedMs } = summary;
  const total = plural(files, 'file');
  if (files > 0 && doneEarlier === files) {
    return `${count(files)} of ${total} below ${folder} were already done: nothing was left to do (${span(elapsedMs)})\n`;
  }
  const end = summary.isInterrupted ? 'interrupted after' : 'in';
  const earlier =
    doneEarlier === 0 ? '' : `; ${count(doneEarlier)} of ${count(files)} were already done`;
  return `${total} below ${folder} ${end} ${span(elapsedMs)}${earlier}\n`;
}

function countsText(summary: DemoSummary): string {
  const { bytes: total, gzipBytes, unreadableFolders, otherTasks } = summary;
  const ratio = total === 0 ? '' : `${((gzipBytes / total) * 100).toFixed(1)} %`;
  return table([
    ['tasks done now', count(summary.new + summary.takenOver)],
    ['  new', count(summary.new)],
    ['  taken over from the store', count(summary.takenOver)],
    ['done in an earlier run', count(summary.doneEarlier)],
    ['failed', count(summary.failed)],
    ...(unreadableFolders > 0 ? [['folders that cannot be read', count(unreadableFolders)]] : []),
    ...(summary.left > 0 ? [['left in the store', count(summary.left)]] : []),
    ...(otherTasks > 0 ? [['tasks of other files in the store', count(otherTasks)]] : []),
    ['retries', count(summary.retries)],
    ['bytes', bytes(total)],
    [`gzip (level ${GZIP_LEVEL})`, bytes(gzipBytes), ratio],
    ['tasks/s', count(summary.tasksPerSecond), `${bytes(summary.bytesPerSecond)}/s`],
    ['threads', count(summary.threads)],
  ]);
}

function timesText({ waitMs, runMs }: DemoSummary): string {
  return table([
    ['ms', 'p50', 'p95', 'p99', 'max'],
    ['wait (due to start)', ...percentileCells(waitMs)],
    ['run', ...percentileCells(runMs)],
  ]);
}

function percentileCells({ count: recorded, p50, p95, p99, max }: PercentileFacts): string[] {
  return [p50, p95, p99, max].map((ms) => (recorded === 0 ? '-' : millis(ms)));
}

function gcText({ gc }: DemoSummary): string {
  return table([
    ['gc of the main thread', 'count', 'total ms', 'max ms'],
    ...gc.map(({ kind, count: times, totalMs, maxMs }) => [
      kind,
      count(times),
      millis(totalMs),
      millis(maxMs),
    ]),
  ]);
}

function failuresText({ failed, unreadableFolders, failures }: DemoSummary): string {
  const total = failed + unreadableFolders;
  if (total === 0) return '';
  const lines = failures.map(({ path, message }) => `  ${path}\n    ${message}\n`);
  const more = total - failures.length;
  if (more > 0) lines.push(`  ... and ${count(more)} more\n`);
  return `${count(total)} failed for good:\n${lines.join('')}`;
}

function leftText({ isInterrupted, left, store }: DemoSummary): string {
  if (!isInterrupted) return '';
  const tasks = plural(left, 'accepted task');
  return store === 'memory'
    ? `interrupted; ${tasks} went with the memory store\n`
    : `interrupted; ${tasks} stay in ${store}: run the same command again to go on\n`;
}
