/**
 * The judge. It sees what every submitter was told, every transaction that reached the store, and every execution,
 * and keeps a model of its own of each task. What it says is a violation is a bug, in the engine or here.
 *
 *   S1   no acknowledged task is lost                S8   late only within a bound
 *   S2   nothing runs that was refused for certain   S9   nothing grows without bound, nothing is left over
 *   S3   one accepted end, of the newest execution   S10  every submit, wait and cancel gets an answer
 *   S4   states only move forward                    S14  after healing everything ends
 *   S5   only who may write does, and nothing runs   S16  nothing is swallowed
 *        in two places at once                    S6   one holder of a lock, by its token: lock-book.ts
 *   S7   nothing starts early
 *
 * S1, S2, S3, S4 and S5 are checked at every transaction, so a violation stands in the trace where it happened. Who may
 * write what depends on the world: lane-law.ts, shard-law.ts.
 */
import { FrameKind, type FrameReader, openFrame, utf8 } from '../../src/core/frame.js';
import { type SegmentRef, type TaskId, taskId } from '../../src/core/ids.js';
import { type BatchRecord, readState, readTask, type StateRecord } from '../../src/core/records.js';
import { isEnded, Outcome, TaskState } from '../../src/core/states.js';
import type { Revision, Txn } from '../../src/core/store.js';
import type { TaskEnd } from '../../src/engine/ends.js';
import { type ExecutionRef, isSameExecution } from '../../src/engine/execution-ref.js';
import { deadLetterKey } from '../../src/engine/keys.js';
import { type CancelAnswer, decodeCommand } from '../../src/engine/letters.js';
import { LOSSES_MAX } from '../../src/pool/loss-policy.js';
import type { AppliedTxn } from '../../src/testing/sim-connection.js';
import { CronBook } from './cron-book.js';
import { type Law, type Put, writesOf } from './law.js';
import { LockBook } from './lock-book.js';
import type { PlannedCron, PlannedTask, TypeName } from './plan.js';
import type { SimNode } from './sim-node.js';
import { type Execution, SNOOZE_MS } from './sim-pool.js';
import {
  type Claim,
  endsSince,
  lastRun,
  type Run,
  type StoredTask,
  StoredTasks,
} from './stored-tasks.js';

/** Of every type in the plan: fixed, without jitter, so that the next start is known. */
export const RETRY_MS = 200;
export const ATTEMPTS = 3;
/** A submit is answered, or told that nobody knows, within so long: a commit before it, its own, and what a gate reads. */
const ANSWER_MAX_MS = 30_000;

/** What a submitter was told. */
interface Submission {
  readonly task: PlannedTask;
  readonly node: SimNode;
  readonly dueMonoMs: number;
  readonly submittedMonoMs: number;
  answer: 'none' | 'accepted' | 'refused' | 'unclear';
  /** Of the task that stands for it. */
  id?: TaskId;
}

/** A command with what executions came to. */
interface Report {
  readonly executor: string;
  readonly told: readonly {
    readonly execution: ExecutionRef;
    /** The newest claim of the task when it was put. */
    readonly at: number;
  }[];
}

export class Oracle {
  readonly violations: string[] = [];
  /** What happened how often: proves that a run tested something. */
  readonly seen = new Map<string, number>();
  readonly locks = new LockBook((rule, what) => this.violate(rule, what));
  /** Types that rest, by the store. */
  resting: ReadonlySet<TypeName> = new Set();
  readonly #submissions = new Map<number, Submission>();
  readonly #tasks = new StoredTasks();
  readonly #crons: CronBook;
  /** In which version each dead letter in the store has failed. */
  readonly #letters = new Map<TaskId, number>();
  readonly #runs: Run[] = [];
  /** Labels of what has started. */
  readonly #started = new Set<number>();
  /** In the store: what executions came to, and the claims that stood then. */
  readonly #reports = new Map<string, Report>();
  readonly #trace: (line: string) => void;
  readonly #law: Law;
  /** Wall clocks jumped: then keys may have left their window, and due times of the wall mean little. */
  readonly #hasJumps: boolean;
  /** Processes stand still for a while: then nothing is answered in time. */
  readonly #hasPauses: boolean;
  /** They may jump further than ended tasks are kept. */
  readonly #mayForget: boolean;

  constructor(
    trace: (line: string) => void,
    law: Law,
    crons: readonly PlannedCron[],
    wall: { readonly hasJumps: boolean; readonly hasPauses: boolean; readonly mayForget: boolean },
  ) {
    this.#trace = trace;
    this.#law = law;
    this.#hasJumps = wall.hasJumps;
    this.#hasPauses = wall.hasPauses;
    this.#mayForget = wall.mayForget;
    this.#crons = new CronBook(crons, (rule, what) => this.violate(rule, what), wall.hasJumps);
  }

  get accepted(): number {
    return this.seen.get('accepted') ?? 0;
  }

  /** Tasks in the store that have not ended. */
  get openCount(): number {
    return this.#tasks.openCount;
  }

  /** Whether every cron entry has dealt with its fires up to a moment. */
  areCronsUpTo(wallMs: number): boolean {
    return this.#crons.isUpTo(wallMs);
  }

  get hasCrons(): boolean {
    return !this.#crons.isEmpty;
  }

  count(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
  }

  violate(rule: string, what: string): void {
    const line = `${rule}: ${what}`;
    this.#trace(`VIOLATION ${line}`);
    if (this.violations.length < 20) this.violations.push(line);
  }

  // --- What submitters hear ---------------------------------------------------------------------------------------

  submitted(task: PlannedTask, node: SimNode, dueMonoMs: number): void {
    const submittedMonoMs = node.process.clock.monoMs();
    this.#submissions.set(task.label, { task, node, dueMonoMs, submittedMonoMs, answer: 'none' });
  }

  acceptedAs(label: number, id: TaskId, isCreated: boolean): void {
    const submission = this.#answer(label, 'accepted');
    this.count(isCreated ? 'accepted' : 'deduplicated');
    submission.id = id;
    const task = this.#tasks.get(id);
    if (task === undefined) return this.violate('S1', `${label} acknowledged, not stored: ${id}`);
    if (isCreated && task.label !== label) {
      this.violate('S1', `${label} acknowledged as ${id}, which is ${task.label}`);
    }
    if (task.key !== keyOf(submission.task)) this.violate('S2', `${label} is ${id} of another key`);
  }

  /** @param isCertain - whether the answer says that it is not in the store */
  refused(label: number, code: string, isCertain: boolean): void {
    this.#answer(label, isCertain ? 'refused' : 'unclear');
    this.count(`refused ${code}`);
    if (isCertain && this.#tasks.ofLabel(label) !== undefined) {
      this.violate('S2', `${label} refused with ${code}, and stored`);
    }
  }

  #answer(label: number, answer: Submission['answer']): Submission {
    const submission = this.#submissions.get(label)!;
    if (submission.answer !== 'none') {
      this.violate('S10', `${label} answered twice: ${submission.answer}, then ${answer}`);
    }
    submission.answer = answer;
    const waitedMs = submission.node.process.clock.monoMs() - submission.submittedMonoMs;
    if (waitedMs > ANSWER_MAX_MS && !this.#hasPauses) {
      this.violate('S10', `${label} answered after ${Math.round(waitedMs)} ms: ${answer}`);
    }
    return submission;
  }

  /** A process says that somebody else has the lane. */
  fenced(node: SimNode): void {
    this.#law.fenced(node);
  }

  /** How often a task has been redriven. */
  versionOf(id: TaskId): number {
    return this.#tasks.get(id)?.version ?? 0;
  }

  /** @param version - of the task when somebody began to wait */
  heardEnd(id: TaskId, heard: TaskEnd, version: number): void {
    this.count('heard an end');
    const ends = endsSince(this.#tasks.get(id), version);
    if (ends.some(({ state, json }) => state === heard.state && json === heard.json)) return;
    const stored = ends.map(({ state, json }) => `${state} ${json}`).join(', ') || 'as open';
    this.violate('S3', `${id} told as ${heard.state} ${heard.json}, stored ${stored}`);
  }

  /** Whoever cancelled a task was told what became of it. */
  heardCancel(id: TaskId, answer: CancelAnswer): void {
    this.count(`cancel: ${answer}`);
    const ends = endsSince(this.#tasks.get(id), 0);
    const isSo =
      answer === 'cancelled'
        ? ends.some(({ state }) => state === TaskState.CANCELLED)
        : answer !== 'ended' || ends.length > 0;
    if (!isSo) this.violate('S3', `${id} told as ${answer}, stored ${JSON.stringify(ends)}`);
  }

  /** Dead letters of a shard, with the version that failed. */
  deadLetters(): readonly (readonly [TaskId, number])[] {
    return [...this.#letters];
  }

  /**
   * Whoever asked for a redrive was told which run again.
   *
   * @param asked - dead letters, in the version that they had failed in
   */
  heardRedriven(asked: readonly (readonly [TaskId, number])[], redriven: readonly TaskId[]): void {
    for (const [id, version] of asked) {
      const isTold = redriven.includes(id);
      this.count(isTold ? 'told as redriven' : 'told as not redriven');
      const isRedriven = this.versionOf(id) > version;
      if (isTold && !isRedriven) this.violate('S1', `${id} told as redriven, stored as failed`);
      if (!isTold && !isRedriven && !this.#mayForget) {
        this.violate('S10', `${id} told as no dead letter, and it is one`);
      }
    }
  }

  /** Tasks in the store that have not ended, by their ids. */
  *open(): Generator<TaskId, void, undefined> {
    for (const { id } of this.#tasks.open()) yield id;
  }

  /** Somebody was told that nobody knows a task. */
  heardGone(id: TaskId): void {
    this.count('heard that a task is gone');
    if (this.#tasks.get(id) !== undefined && !this.#mayForget)
      this.violate('S3', `${id} told as gone`);
  }

  // --- What the store sees ----------------------------------------------------------------------------------------

  applied({ txn, outcome }: AppliedTxn, node: SimNode): void {
    if (outcome.kind !== 'done') return this.#trace(`store refused ${node.name}`);
    const writes = writesOf(txn.success, outcome.results);
    if (writes.length === 0) return;
    const { revision } = outcome;
    const shown = writes.map(({ key, value }) => (value === undefined ? `-${key}` : key));
    this.#trace(`store r${revision} ${node.name} ${shown.join(' ')}`);
    this.#law.judge({ txn, revision, node, writes });
    const put = (...prefixes: string[]): Put[] =>
      writes.filter((w): w is Put => w.value !== undefined && prefixes.includes(w.key.slice(0, 2)));
    for (const { value } of put('p/')) this.#onPauses(value);
    const fired = put('t/', 'i/').flatMap(({ key, value }) => this.#onSegment(key, value, txn));
    this.locks.judge(writes, node);
    this.#crons.judge(writes, {
      node,
      tasks: fired,
      isOpen: (id) => this.#tasks.get(id)?.end === undefined && this.versionOf(id) === 0,
    });
    // Before the claims of the same transaction: nothing has been reported of those.
    for (const { key, value } of put('c/')) this.#onCommand(key, value);
    const by = { node, revision, txn };
    for (const { key, value } of put('z/')) this.#onFinished(key, value, by);
    for (const { key, value } of put('d/')) this.#onDeadLetter(key, value, by);
    for (const { key, value } of put('s/')) this.#onOverlay(key, value, by);
    for (const { key, value } of writes) {
      if (value === undefined && /^[ti]\//.test(key)) this.#onSegmentDeleted(refOf(key));
      if (value === undefined && key.startsWith('d/')) this.#onLetterDeleted(key, node);
      if (value === undefined && key.startsWith('c/')) this.#onCommandDeleted(key, node);
    }
  }

  #onCommand(key: string, value: Uint8Array): void {
    const command = decodeCommand(value);
    const results = command.kind === 'results' ? command.results : [];
    const told = results.map((result) => ({ execution: result, at: this.#claimOf(result.task) }));
    this.#reports.set(key, { executor: command.from, told });
  }

  /** A report is deleted when what it says is stored: else nobody would have it after a crash. */
  #onCommandDeleted(key: string, node: SimNode): void {
    const report = this.#reports.get(key);
    this.#reports.delete(key);
    for (const { execution, at } of report?.told ?? []) {
      const id = execution.task;
      const task = this.#tasks.get(id);
      if (task?.state !== TaskState.RUNNING || task.end !== undefined) continue;
      const { attempt, losses, version, executor } = task;
      const stands = isSameExecution({ task: id, attempt, losses, version }, execution);
      // Claimed anew, perhaps by the same: then the report has been heard.
      if (stands && executor === report!.executor && this.#claimOf(id) === at) {
        this.violate('S1', `${node.name} deletes ${key}, and ${id} still stands as running`);
      }
    }
  }

  /** When a task was claimed last, as a revision. */
  #claimOf(id: TaskId): number {
    return Math.max(0, ...(this.#tasks.get(id)?.claims.keys() ?? []));
  }

  #onPauses(value: Uint8Array): void {
    const { pauses } = JSON.parse(utf8(value)) as {
      pauses: readonly { readonly name: TypeName }[];
    };
    this.resting = new Set(pauses.map(({ name }) => name));
    this.count(this.resting.size > 0 ? 'some rest' : 'nothing rests');
  }

  /** @returns what fires of cron entries have put */
  #onSegment(key: string, value: Uint8Array, txn: Txn): StoredTask[] {
    const ref = refOf(key);
    const frame = openFrame(value, FrameKind.TASKS);
    const before = this.#tasks.tasksOf(ref);
    if (before !== undefined) {
      this.#onSegmentBack(ref, before, frame);
      return [];
    }
    const isInbox = key.startsWith('i/');
    const epoch = isInbox ? undefined : this.#law.epochOf(txn, ref);
    const tasks: StoredTask[] = [];
    const fired: StoredTask[] = [];
    for (let index = 0; index < frame.count; index++) {
      const { payload, attempt, losses, tenant } = readTask(frame, index);
      const label = labelIn(payload);
      if (tenant !== this.#plannedOf(label).tenant) {
        this.violate('S2', `${label} is stored as one of '${tenant}'`);
      }
      const id = taskId(ref, index);
      const submission = this.#submissions.get(label);
      const taskKey = submission && keyOf(submission.task);
      if (submission !== undefined) this.#mustBeNew(id, label, submission, taskKey);
      const task = this.#tasks.add({ id, label, key: taskKey, epoch, isInbox, attempt, losses });
      tasks.push(task);
      if (submission === undefined) fired.push(task);
    }
    this.#tasks.segmentPut(ref, tasks);
    return fired;
  }

  #mustBeNew(id: TaskId, label: number, { answer }: Submission, key: string | undefined): void {
    if (answer === 'refused') this.violate('S2', `${label} refused, then stored`);
    const twin = this.#tasks.ofLabel(label);
    if (twin !== undefined) this.violate('S2', `${label} stored twice: ${twin.id}, ${id}`);
    const other = key === undefined ? undefined : this.#tasks.ofKey(key);
    if (other !== undefined && !this.#mayForget) {
      this.violate('S2', `key '${key}' twice: ${other.id}, ${id}`);
    }
  }

  /** A segment whose dead letters come back: each where it was. What stands between them has ended. */
  #onSegmentBack(ref: SegmentRef, before: readonly StoredTask[], frame: FrameReader): void {
    if (this.#tasks.isInStore(ref)) this.violate('S2', `segment ${ref} is put twice`);
    const tasks = before.slice(0, frame.count);
    for (const [index, { id, label: was }] of tasks.entries()) {
      if (!this.#letters.has(id)) continue;
      const label = labelIn(readTask(frame, index).payload);
      if (label !== was) this.violate('S1', `${id} was ${was}, and comes back as ${label}`);
    }
    this.count('segment put anew');
    this.#tasks.segmentPut(ref, tasks);
  }

  #onOverlay(key: string, value: Uint8Array, by: AppliedBy): void {
    const ref = refOf(key);
    const frame = openFrame(value, FrameKind.STATES);
    const listed: (StateRecord | undefined)[] = [];
    for (let i = 0; i < frame.count; i++) {
      const state = readState(frame, i);
      listed[state.index] = state;
    }
    const session = this.#law.sessionOf(by.node);
    const claimer = { ...by, epoch: this.#law.epochOf(by.txn, ref), session };
    if (!this.#tasks.isInStore(ref)) this.violate('S1', `${key} is put, and its segment is gone`);
    for (const [index, task] of (this.#tasks.tasksOf(ref) ?? []).entries()) {
      const { id } = task;
      const state = listed[index];
      if (state === undefined) {
        if (task.end !== undefined) this.violate('S4', `${id} has ended, and is pending again`);
        else if (task.attempt > 0 || task.losses > 0 || task.version > 0) {
          this.violate('S4', `${id} lost its attempt ${task.attempt} and ${task.losses} losses`);
        }
      } else this.#onState(task, state, claimer);
    }
  }

  #onState(task: StoredTask, next: StateRecord, by: Claimer): void {
    const { node, revision, epoch, session } = by;
    if (isEnded(next.state)) {
      if (task.end === undefined) this.violate('S1', `${task.id} ends without being filed`);
      return;
    }
    this.#onVersion(task, next.version, by.txn);
    if (task.end !== undefined) {
      return this.violate('S4', `${task.id} has ended and is ${next.state} again`);
    }
    if (next.losses < task.losses) {
      this.violate('S4', `${task.id}: ${task.losses} losses become ${next.losses}`);
    }
    const last = lastRun(task);
    // What the writer itself saw must be in what it writes.
    if (last !== undefined && last.node === node && last.epoch === epoch && last.token > 0) {
      this.#checkAccount(task, next, last);
    }
    this.#checkInHand(task, next, { node, last });
    if (next.state === TaskState.RUNNING) {
      const isOwn = next.executor === node.incarnation;
      const { executor, attempt, dueAtMs, version } = next;
      const isNew = task.state !== TaskState.RUNNING || attempt !== task.attempt;
      if (isOwn && isNew && this.#law.isShared && this.#rests(task)) {
        this.violate('S5', `${node.name} claims ${task.id}, which rests`);
      }
      if (isOwn) task.claims.set(revision, { executor, attempt, dueAtMs, version, epoch, session });
      // What ran elsewhere when the shard changed hands stands there as before.
      else if (executor !== task.executor || attempt !== task.attempt) {
        this.violate('S5', `${node.name} claims ${task.id} for ${executor}`);
      }
    }
    task.state = next.state;
    task.attempt = next.attempt;
    task.losses = next.losses;
    task.executor = next.executor;
  }

  #rests({ label }: StoredTask): boolean {
    return this.resting.has(this.#plannedOf(label).type);
  }

  #plannedOf(label: number): PlannedTask {
    return this.#submissions.get(label)?.task ?? this.#crons.taskOf(label)!;
  }

  /** A task runs again that had failed for good: its dead letter goes with the same transaction. */
  #onVersion(task: StoredTask, version: number, txn: Txn): void {
    if (version === task.version) return;
    const { id } = task;
    const key = deadLetterKey(id);
    const isTaken = txn.success.some((one) => one.type === 'delete' && one.key === key);
    const isDead = task.end !== undefined && this.#letters.get(id) === task.version;
    if (version !== task.version + 1 || !isDead) {
      this.violate('S4', `${id} goes from version ${task.version} to ${version}`);
    }
    if (!isTaken) this.violate('S4', `${id} runs again, and is a dead letter still`);
    if (task.end === undefined) return;
    this.count('redriven');
    this.#tasks.redriven(task);
  }

  #onLetterDeleted(key: string, node: SimNode): void {
    const id = key.split('/')[2] as TaskId;
    const version = this.#letters.get(id);
    this.#letters.delete(id);
    if (version === undefined || this.versionOf(id) > version || this.#mayForget) return;
    this.violate('S1', `${node.name} deletes the dead letter ${id}, which does not run again`);
  }

  /** Who has run a task to its end, and finds it RUNNING in its own name, records that end, and does not run it again. */
  #checkInHand(
    task: StoredTask,
    next: StateRecord,
    { node, last }: { readonly node: SimNode; readonly last: Run | undefined },
  ): void {
    const isOurs =
      task.state === TaskState.RUNNING &&
      task.executor === node.incarnation &&
      last?.node === node &&
      last.attempt === task.attempt;
    const hasEnded =
      last?.outcome === Outcome.COMPLETED || last?.outcome === Outcome.FAILED_FOR_GOOD;
    const stands = next.state === TaskState.RUNNING && next.attempt === task.attempt;
    if (isOurs && hasEnded && !stands) {
      this.violate('S3', `${node.name} had ended ${task.id}, and takes it for lost`);
    }
  }

  /** Attempts and losses of a task that has been put back, against how its last execution went. */
  #checkAccount(task: StoredTask, next: StateRecord, last: Run): void {
    const claimed = next.state === TaskState.RUNNING ? 1 : 0;
    const isSpent = last.outcome === Outcome.FAILED;
    const isGivenBack =
      last.outcome === Outcome.SNOOZED || (last.outcome === 'lost' && !this.#isOverdue(task));
    // The end is not reported yet, or not in this commit: it stands as running.
    const stands = next.state === TaskState.RUNNING && next.attempt === last.attempt;
    if (isSpent && !stands && next.attempt !== last.attempt + claimed) {
      this.violate('S4', `${task.id}: attempt ${last.attempt} failed, then ${next.attempt}`);
    }
    if (isGivenBack && !stands && next.attempt !== last.attempt - 1 + claimed) {
      this.violate('S4', `${task.id}: attempt ${last.attempt} given back, then ${next.attempt}`);
    }
  }

  #isOverdue(task: StoredTask): boolean {
    return this.#plannedOf(task.label).type === 'limited';
  }

  #onFinished(key: string, value: Uint8Array, by: AppliedBy): void {
    const ref = refOfFinished(key);
    const frame = openFrame(value, FrameKind.STATES);
    for (let i = 0; i < frame.count; i++) {
      const state = readState(frame, i);
      this.#onEnd(taskId(ref, state.index), state, by);
    }
  }

  #onDeadLetter(key: string, value: Uint8Array, by: AppliedBy): void {
    const id = key.split('/')[2] as TaskId;
    const length = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
    this.count('dead letter');
    this.#letters.set(id, this.versionOf(id));
    this.#onEnd(id, readState(openFrame(value.subarray(4, 4 + length), FrameKind.STATES), 0), by);
  }

  #onEnd(id: TaskId, state: StateRecord, { node, txn }: AppliedBy): void {
    const task = this.#tasks.get(id);
    const json = utf8(state.bytes);
    if (task === undefined) return this.violate('S2', `${id} ends and was never stored`);
    // It came back, and has ended before that was written.
    if (state.version > task.version) this.#onVersion(task, state.version, txn);
    if (task.end !== undefined) {
      return this.violate('S3', `${id} ends twice: ${task.end.json}, then ${json}`);
    }
    if (state.version !== task.version) {
      this.violate('S3', `${id} ends in version ${state.version}, and is in ${task.version}`);
    }
    this.#tasks.ended(task, { state: state.state, json });
    this.count(`ended ${state.state}`);
    const named = /"run":(\d+)|"run (\d+)"/.exec(json);
    if (state.state !== TaskState.COMPLETED && named === null) return;
    const run = this.#runs[Number(named?.[1] ?? named?.[2])];
    if (run === undefined) return this.violate('S3', `${id} ends with ${json} of no execution`);
    const last = lastRun(task);
    if (run.task !== task) this.violate('S3', `${id} ends with the result of ${run.task.id}`);
    if (run !== last) {
      this.violate('S3', `${id} ends with execution ${run.token}, the newest is ${last?.token}`);
    }
    if (run.node.incarnation !== task.executor) {
      this.violate('S5', `${node.name} records what ${run.node.name} ran, not ${task.executor}`);
    }
    if (state.state === TaskState.COMPLETED && run.outcome !== Outcome.COMPLETED) {
      this.violate('S3', `${id} is completed by an execution that came to ${run.outcome}`);
    }
  }

  #onSegmentDeleted(ref: SegmentRef): void {
    this.#tasks.segmentDeleted(ref);
    for (const task of this.#tasks.tasksOf(ref) ?? []) {
      const { id } = task;
      if (task.end === undefined)
        this.violate('S1', `${id} (${task.label}) deleted before its end`);
    }
  }

  // --- What runs --------------------------------------------------------------------------------------------------

  started(
    record: BatchRecord,
    node: SimNode,
  ): { readonly task: PlannedTask; readonly run: number } {
    const id = taskId(record.segment as SegmentRef, record.index);
    const label = labelIn(record.payload);
    const task = this.#tasks.get(id);
    const number = this.#runs.length;
    this.#trace(
      `start ${node.name} ${label} ${id} attempt ${record.attempt} token ${record.token}`,
    );
    if (task === undefined) {
      this.violate('S2', `${id} runs and is not stored`);
      throw new Error(`nothing is known of ${id}`);
    }
    const claim = task.claims.get(record.token);
    const isClaimed = claim?.attempt === record.attempt && claim.version === record.version;
    if (claim?.executor !== node.incarnation || !isClaimed) {
      this.violate('S5', `${id} runs with token ${record.token}, which claims nothing for it`);
    }
    for (const run of task.runs) {
      if (run.node === node && run.token >= record.token) {
        this.violate('S5', `${id} runs with token ${record.token} after ${run.token}`);
      }
      if (run.token < record.token && this.#goesOn(run, node)) {
        this.violate('S5', `${id} runs on ${node.name}, and still on ${run.node.name}`);
      }
      if (
        run.version === record.version &&
        run.token < record.token &&
        this.#mustCount(run, node)
      ) {
        this.violate('S3', `${id} runs on ${node.name}, and ${run.node.name} had ended it`);
      }
    }
    if (record.tenant !== this.#plannedOf(label).tenant) {
      this.violate('S2', `${id} runs as one of '${record.tenant}'`);
    }
    if (record.attempt > ATTEMPTS) this.violate('S4', `${id} runs in attempt ${record.attempt}`);
    this.#checkNotEarly(task, node, claim);
    if (task.runs.length > 0) this.count('run again');
    const run = {
      number,
      node,
      task,
      token: record.token,
      attempt: record.attempt,
      version: record.version,
      epoch: claim?.epoch,
      session: claim?.session,
      endedAtMonoMs: 0,
    };
    this.#runs.push(run);
    this.#started.add(label);
    task.runs.push(run);
    return { task: this.#plannedOf(label), run: number };
  }

  /** Whether an execution goes on which nobody may take for lost: its node has kept its session since the claim. */
  #goesOn({ node, outcome, session }: Run, starter: SimNode): boolean {
    if (outcome !== undefined || !node.process.isAlive) return false;
    return node === starter || (session !== undefined && session === this.#law.sessionOf(node));
  }

  /** Whether an execution ended its task for good, and nobody may have taken it for lost. */
  #mustCount({ node, outcome, session }: Run, starter: SimNode): boolean {
    if (outcome !== Outcome.COMPLETED && outcome !== Outcome.FAILED_FOR_GOOD) return false;
    if (!node.process.isAlive || session !== this.#law.sessionOf(node)) return false;
    return session !== undefined || node === starter;
  }

  #checkNotEarly(task: StoredTask, node: SimNode, claim: Claim | undefined): void {
    const monoMs = node.process.clock.monoMs();
    const wallMs = node.process.clock.wallMs();
    const submission = this.#submissions.get(task.label);
    const before = task.runs.at(-1);
    // What was redriven is due at once.
    if (before !== undefined && before.version < task.version) return;
    if (before?.node === node) {
      const isSame = before.epoch === claim?.epoch;
      // Under another ownership it counts on the wall clock, in whole milliseconds; and what it came to may be lost.
      const isRetry = isSame || (claim?.attempt ?? 0) > before.attempt;
      if (!isSame && (this.#hasJumps || !isRetry)) return;
      const delayMs =
        before.outcome === Outcome.FAILED
          ? RETRY_MS
          : before.outcome === Outcome.SNOOZED
            ? SNOOZE_MS
            : 0;
      if (monoMs < before.endedAtMonoMs + delayMs - (isSame ? 0 : 1)) {
        this.violate('S7', `${task.id} runs again ${monoMs - before.endedAtMonoMs} ms after`);
      }
    } else if (submission?.node === node && !task.isInbox && task.epoch === claim?.epoch) {
      if (monoMs < submission.dueMonoMs) {
        this.violate('S7', `${task.id} starts ${submission.dueMonoMs - monoMs} ms early`);
      }
    } else if (!this.#hasJumps && claim !== undefined) {
      // As of its claim: when a zombie starts it, somebody else may have put it off meanwhile.
      if (wallMs < claim.dueAtMs - 1) {
        this.violate('S7', `${task.id} starts before its due time ${claim.dueAtMs}`);
      }
    }
  }

  reported(execution: Execution, outcome: Outcome): void {
    const run = this.#runs[execution.run]!;
    run.outcome = outcome;
    run.endedAtMonoMs = run.node.process.clock.monoMs();
    this.#trace(`report ${run.node.name} run ${run.number} outcome ${outcome}`);
    this.count(`outcome ${outcome}`);
  }

  lost(execution: Execution): void {
    const run = this.#runs[execution.run]!;
    run.outcome = 'lost';
    run.endedAtMonoMs = run.node.process.clock.monoMs();
    this.#trace(`lost ${run.node.name} run ${run.number}`);
    this.count('thread died under a task');
    const { task } = run;
    if (execution.step === 'stuck') return;
    const lost = task.runs.filter(
      ({ outcome, version }) => outcome === 'lost' && version === run.version,
    ).length;
    if (lost > LOSSES_MAX) this.violate('S4', `${task.id} was lost ${lost} times and goes on`);
  }

  // --- At the end -------------------------------------------------------------------------------------------------

  /** How often the handler of a planned task has been called. */
  runsOf(record: BatchRecord): number {
    const id = taskId(record.segment as SegmentRef, record.index);
    return this.#tasks.get(id)?.runs.length ?? 0;
  }

  /** Everybody who submitted to a process that has had time to answer. */
  judgeAnswers(node: SimNode): void {
    for (const [label, submission] of this.#submissions) {
      if (submission.node !== node || submission.answer !== 'none') continue;
      this.violate('S10', `${label}, submitted to ${node.name}, never got an answer`);
    }
  }

  /** When everything is healed and has had its time. */
  judgeEnd(): void {
    for (const [label, { answer, id }] of this.#submissions) {
      if (answer !== 'accepted') continue;
      const task = this.#tasks.get(id!);
      if (task?.end === undefined) {
        this.violate('S1', `${label} was acknowledged as ${id} and has not ended (${task?.state})`);
      }
    }
    for (const { id, label } of this.#tasks.open()) {
      this.violate('S14', `${id} (${label}) has not ended`);
    }
  }

  /** Whether a task has started by now. */
  hasStarted(label: number): boolean {
    return this.#started.has(label);
  }
}

/** Who writes an overlay. */
interface Claimer extends AppliedBy, Pick<Claim, 'epoch' | 'session'> {}

/** A transaction, and whose it was. */
interface AppliedBy {
  readonly node: SimNode;
  readonly revision: Revision;
  readonly txn: Txn;
}

function refOf(key: string): SegmentRef {
  return key.slice(2).replaceAll('/', '.') as SegmentRef;
}

/** `z/<queue>/<window>/<shard>.<due>.<seg>/<part>` */
function refOfFinished(key: string): SegmentRef {
  const [, queue, , rest] = key.split('/');
  return `${queue}.${rest}` as SegmentRef;
}

function labelIn(payload: Uint8Array): number {
  return (JSON.parse(utf8(payload)) as { readonly label: number }).label;
}

/** Keys of different types do not meet. */
function keyOf({ type, key }: PlannedTask): string | undefined {
  return key && `${type} ${key}`;
}
