/**
 * The judge. It sees what every submitter was told, every transaction that reached the store, and every execution,
 * and keeps a model of its own of each task. What it says is a violation is a bug, in the engine or here.
 *
 *   rule                                                        where it is checked
 *   S1   no acknowledged task is lost                           answer-, segment-, state-, report-, cron-book.ts
 *   S2   nothing runs that was refused for certain              answer-, segment-, run-, cron-book.ts
 *   S3   one accepted end, of the newest execution              state-, run-, answer-, cron-book.ts
 *   S4   states only move forward                               state-, run-, cron-book.ts
 *   S5   only who may write does, and nothing runs in two       lane-law.ts, shard-law.ts: who may write what;
 *        places at once                                         run-, state-, cron-book.ts, sim-node.ts
 *   S6   one holder of a lock, by its token                     lock-book.ts
 *   S7   nothing starts early                                   run-, cron-book.ts
 *   S8   late only within a bound                               run.ts, shard-law.ts
 *   S9   nothing grows without bound, nothing is left over      sim-node.ts, shard-law.ts, run.ts
 *   S10  every submit, wait and cancel gets an answer           answer-book.ts, sim-node.ts
 *   S14  after healing everything ends                          answer-book.ts, shard-law.ts, the runs
 *   S16  nothing is swallowed                                   run.ts, sim-node.ts
 *
 * What concerns the store is checked at every transaction, so a violation stands in the trace where it happened. Here the parts
 * get their share of each, in the order in which they build on one another.
 */
import type { SessionState } from '../../src/coordination/session.js';
import { utf8 } from '../../src/core/frame.js';
import type { TaskId } from '../../src/core/ids.js';
import type { BatchRecord } from '../../src/core/records.js';
import type { AppliedTxn } from '../../src/testing/sim-connection.js';
import { AnswerBook } from './answer-book.js';
import { CronBook } from './cron-book.js';
import { type Circumstances, Evidence } from './evidence.js';
import { type Law, type Put, writesOf } from './law.js';
import { LockBook } from './lock-book.js';
import type { PlannedCron, TypeName } from './plan.js';
import { ReportBook } from './report-book.js';
import { RunBook } from './run-book.js';
import { SegmentBook } from './segment-book.js';
import type { SimNode } from './sim-node.js';
import { StateBook } from './state-book.js';

export class Oracle {
  readonly answers: AnswerBook;
  readonly runs: RunBook;
  readonly locks: LockBook;
  readonly #known: Evidence;
  readonly #segments: SegmentBook;
  readonly #states: StateBook;
  readonly #reports: ReportBook;
  readonly #crons: CronBook;

  constructor(
    trace: (line: string) => void,
    law: Law,
    crons: readonly PlannedCron[],
    circumstances: Circumstances,
  ) {
    const known = new Evidence(trace, law, circumstances, (label) => this.#crons.taskOf(label));
    this.#known = known;
    this.answers = new AnswerBook(known);
    this.runs = new RunBook(known);
    this.locks = new LockBook(known.violate);
    this.#segments = new SegmentBook(known);
    this.#states = new StateBook(known);
    this.#reports = new ReportBook(known);
    this.#crons = new CronBook(crons, known.violate, circumstances.hasJumps);
  }

  get violations(): string[] {
    return this.#known.violations;
  }

  /** What happened how often: proves that a run tested something. */
  get seen(): Map<string, number> {
    return this.#known.seen;
  }

  get accepted(): number {
    return this.seen.get('accepted') ?? 0;
  }

  /** Tasks in the store that have not ended. */
  get openCount(): number {
    return this.#known.tasks.openCount;
  }

  /** Types that rest, by the store. */
  get resting(): ReadonlySet<TypeName> {
    return this.#known.resting;
  }

  get hasCrons(): boolean {
    return !this.#crons.isEmpty;
  }

  /** Whether every cron entry has dealt with its fires up to a moment. */
  areCronsUpTo(wallMs: number): boolean {
    return this.#crons.isUpTo(wallMs);
  }

  /** Tasks in the store that have not ended, by their ids. */
  *open(): Generator<TaskId, void, undefined> {
    for (const { id } of this.#known.tasks.open()) yield id;
  }

  /** Dead letters in the store, with the version that failed. */
  deadLetters(): readonly (readonly [TaskId, number])[] {
    return [...this.#known.letters];
  }

  /** How often a task has been redriven. */
  versionOf(id: TaskId): number {
    return this.#known.versionOf(id);
  }

  count(what: string): void {
    this.#known.count(what);
  }

  violate(rule: string, what: string): void {
    this.#known.violate(rule, what);
  }

  /** A process says that somebody else has the lane. */
  fenced(node: SimNode): void {
    this.#known.law.fenced(node);
  }

  /** A process starts tasks, and takes its session to be in a state. */
  launched(batch: readonly BatchRecord[], node: SimNode, state: SessionState): void {
    if (state !== 'live') {
      this.violate('S5', `${node.name} starts tasks, and its session is ${state}`);
    }
    const isOver = this.#known.law.hasOutlivedItsLease(node) && !this.locks.isRevoked(node.leaseId);
    if (isOver) this.violate('S5', `${node.name} starts tasks, and its lease is over`);
    this.runs.launched(batch, node);
  }

  /** A transaction has reached the store. */
  applied({ txn, outcome }: AppliedTxn, node: SimNode): void {
    const { trace, law } = this.#known;
    if (outcome.kind !== 'done') return trace(`store refused ${node.name}`);
    const writes = writesOf(txn.success, outcome.results);
    if (writes.length === 0) return;
    const { revision } = outcome;
    const shown = writes.map(({ key, value }) => (value === undefined ? `-${key}` : key));
    trace(`store r${revision} ${node.name} ${shown.join(' ')}`);
    law.judge({ txn, revision, node, writes });
    const put = (...prefixes: string[]): Put[] =>
      writes.filter((w): w is Put => w.value !== undefined && prefixes.includes(w.key.slice(0, 2)));
    for (const { value } of put('p/')) this.#onPauses(value);
    const fired = put('t/', 'i/').flatMap(({ key, value }) =>
      this.#segments.onPut(key, value, txn),
    );
    this.locks.judge(writes, node);
    this.#crons.judge(writes, { node, tasks: fired, isOpen: (id) => this.#isOpen(id) });
    for (const { key, value } of put('c/')) this.#reports.onCommand(key, value);
    const by = { node, revision, txn };
    for (const { key, value } of put('z/')) this.#states.onFinished(key, value, by);
    for (const { key, value } of put('d/')) this.#states.onDeadLetter(key, value, by);
    for (const { key, value } of put('s/')) this.#states.onOverlay(key, value, by);
    for (const { key, value } of writes) {
      if (value !== undefined) continue;
      if (/^[ti]\//.test(key)) this.#segments.onDeleted(key);
      if (key.startsWith('d/')) this.#states.onDeadLetterDeleted(key, node);
      if (key.startsWith('c/')) this.#reports.onCommandDeleted(key, node);
    }
  }

  /** Whether what a cron entry has fired has not ended. */
  #isOpen(id: TaskId): boolean {
    return this.#known.tasks.get(id)?.end === undefined && this.versionOf(id) === 0;
  }

  #onPauses(value: Uint8Array): void {
    const { pauses } = JSON.parse(utf8(value)) as {
      pauses: readonly { readonly name: TypeName }[];
    };
    this.#known.resting = new Set(pauses.map(({ name }) => name));
    this.count(this.resting.size > 0 ? 'some rest' : 'nothing rests');
  }
}
