/**
 * The judge. It sees what every submitter was told, every transaction that reached the store, and every execution,
 * and keeps a model of its own of each task. What it says is a violation is a bug, in the engine or here.
 *
 *   S1   no acknowledged task is lost                S8   late only within a bound
 *   S2   nothing runs that was refused for certain   S9   nothing grows without bound, nothing is left over
 *   S3   one accepted end, of the newest execution   S10  every submit, wait and cancel gets an answer
 *   S4   states only move forward                    S14  after healing everything ends
 *   S5   only who may write does, and nothing runs   S16  nothing is swallowed
 *        in two places at once
 *   S7   nothing starts early
 *
 * S1, S2, S3, S4 and S5 are checked at every transaction, so a violation stands in the trace where it happened. Who may
 * write what depends on the world: lane-law.ts, shard-law.ts.
 */
import { FrameKind, openFrame, utf8 } from '../../src/core/frame.js';
import { type SegmentRef, type TaskId, taskId } from '../../src/core/ids.js';
import { type BatchRecord, readState, readTask, type StateRecord } from '../../src/core/records.js';
import { isEnded, Outcome, TaskState } from '../../src/core/states.js';
import type { Revision, Txn } from '../../src/core/store.js';
import type { TaskEnd } from '../../src/engine/ends.js';
import { type CancelAnswer, decodeCommand } from '../../src/engine/letters.js';
import { LOSSES_MAX } from '../../src/pool/loss-policy.js';
import type { AppliedTxn } from '../../src/testing/sim-connection.js';
import { type Law, type Put, writesOf } from './law.js';
import type { PlannedTask, TypeName } from './plan.js';
import type { SimNode } from './sim-node.js';
import { type Execution, SNOOZE_MS } from './sim-pool.js';

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

/** One task of the store. */
interface StoredTask {
  readonly id: TaskId;
  readonly label: number;
  readonly key: string | undefined;
  /** Under which its segment was put; undefined in an inbox, and where there is only one. */
  readonly epoch: Revision | undefined;
  readonly isInbox: boolean;
  state: TaskState;
  attempt: number;
  losses: number;
  executor: string;
  /** What the store said of it at each revision at which it said that it runs. */
  readonly claims: Map<number, Claim>;
  readonly runs: Run[];
  end?: { readonly state: TaskState; readonly json: string };
}

interface Claim extends Pick<StateRecord, 'executor' | 'attempt' | 'dueAtMs'> {
  /** Of the shard, for whoever claimed. */
  readonly epoch: Revision | undefined;
  /** The membership of whoever claimed. */
  readonly session: Revision | undefined;
}

interface Run {
  readonly number: number;
  readonly node: SimNode;
  readonly task: StoredTask;
  readonly token: number;
  readonly attempt: number;
  readonly epoch: Revision | undefined;
  /** The membership of its node when it was claimed. */
  readonly session: Revision | undefined;
  outcome?: Outcome | 'lost';
  endedAtMonoMs: number;
}

/** A command with what executions came to. */
interface Report {
  readonly executor: string;
  readonly told: readonly { readonly id: TaskId; readonly attempt: number; readonly at: number }[];
}

export class Oracle {
  readonly violations: string[] = [];
  /** What happened how often: proves that a run tested something. */
  readonly seen = new Map<string, number>();
  /** Types that rest, by the store. */
  resting: ReadonlySet<TypeName> = new Set();
  readonly #submissions = new Map<number, Submission>();
  readonly #tasks = new Map<TaskId, StoredTask>();
  readonly #segments = new Map<SegmentRef, TaskId[]>();
  readonly #runs: Run[] = [];
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
    wall: { readonly hasJumps: boolean; readonly hasPauses: boolean; readonly mayForget: boolean },
  ) {
    this.#trace = trace;
    this.#law = law;
    this.#hasJumps = wall.hasJumps;
    this.#hasPauses = wall.hasPauses;
    this.#mayForget = wall.mayForget;
  }

  get accepted(): number {
    return this.seen.get('accepted') ?? 0;
  }

  /** Tasks in the store that have not ended. */
  get openCount(): number {
    let open = 0;
    for (const task of this.#tasks.values()) if (task.end === undefined) open++;
    return open;
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
    if (!isCertain) return;
    for (const task of this.#tasks.values()) {
      if (task.label === label) this.violate('S2', `${label} refused with ${code}, and stored`);
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

  heardEnd(id: TaskId, heard: TaskEnd): void {
    this.count('heard an end');
    const end = this.#tasks.get(id)?.end;
    if (end === undefined)
      return this.violate('S3', `${id} told as ended, and not stored as ended`);
    if (end.state !== heard.state || end.json !== heard.json) {
      this.violate('S3', `${id} told as ${heard.state} ${heard.json}, stored ${end.state}`);
    }
  }

  /** Whoever cancelled a task was told what became of it. */
  heardCancel(id: TaskId, answer: CancelAnswer): void {
    this.count(`cancel: ${answer}`);
    const end = this.#tasks.get(id)?.end;
    const isSo =
      answer === 'cancelled' ? end?.state === TaskState.CANCELLED : answer !== 'ended' || end;
    if (!isSo) this.violate('S3', `${id} told as ${answer}, stored ${end?.state ?? 'open'}`);
  }

  /** Tasks in the store that have not ended, by their ids. */
  *open(): Generator<TaskId, void, undefined> {
    for (const { id, end } of this.#tasks.values()) if (end === undefined) yield id;
  }

  /** Somebody was told that nobody knows a task. */
  heardGone(id: TaskId): void {
    this.count('heard that a task is gone');
    if (this.#tasks.has(id) && !this.#mayForget) this.violate('S3', `${id} told as gone`);
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
    for (const { key, value } of put('t/', 'i/')) this.#onSegment(key, value, txn);
    for (const { key, value } of put('z/')) this.#onFinished(key, value, node);
    for (const { key, value } of put('d/')) this.#onDeadLetter(key, value, node);
    for (const { key, value } of put('s/')) this.#onOverlay(key, value, { node, revision, txn });
    for (const { key, value } of writes) {
      if (value === undefined && /^[ti]\//.test(key)) this.#onSegmentDeleted(refOf(key));
      if (key.startsWith('c/')) this.#onCommand(key, value, node);
    }
  }

  /** A report is deleted when what it says is stored: else nobody would have it after a crash. */
  #onCommand(key: string, value: Uint8Array | undefined, node: SimNode): void {
    if (value !== undefined) {
      const command = decodeCommand(value);
      const results = command.kind === 'results' ? command.results : [];
      const told = results.map(({ task, attempt }) => ({
        id: task,
        attempt,
        at: this.#claimOf(task),
      }));
      this.#reports.set(key, { executor: command.from, told });
      return;
    }
    const report = this.#reports.get(key);
    this.#reports.delete(key);
    for (const { id, attempt, at } of report?.told ?? []) {
      const task = this.#tasks.get(id);
      const stands = task?.state === TaskState.RUNNING && task.end === undefined;
      const isSame = task?.executor === report!.executor && task.attempt === attempt;
      // Claimed anew, perhaps by the same: then the report has been heard.
      if (stands && isSame && this.#claimOf(id) === at) {
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

  #onSegment(key: string, value: Uint8Array, txn: Txn): void {
    const ref = refOf(key);
    const isInbox = key.startsWith('i/');
    const frame = openFrame(value, FrameKind.TASKS);
    const ids: TaskId[] = [];
    for (let index = 0; index < frame.count; index++) {
      const record = readTask(frame, index);
      const { label } = JSON.parse(utf8(record.payload)) as { label: number };
      const submission = this.#submissions.get(label);
      const id = taskId(ref, index);
      ids.push(id);
      const taskKey = submission && keyOf(submission.task);
      if (submission?.answer === 'refused') this.violate('S2', `${label} refused, then stored`);
      for (const other of this.#tasks.values()) {
        if (other.label === label) this.violate('S2', `${label} stored twice: ${other.id}, ${id}`);
        if (taskKey !== undefined && other.key === taskKey && !this.#mayForget) {
          this.violate('S2', `key '${taskKey}' twice: ${other.id}, ${id}`);
        }
      }
      this.#tasks.set(id, {
        id,
        label,
        key: taskKey,
        epoch: isInbox ? undefined : this.#law.epochOf(txn, ref),
        isInbox,
        state: TaskState.PENDING,
        attempt: record.attempt,
        losses: record.losses,
        executor: '',
        claims: new Map(),
        runs: [],
      });
    }
    this.#segments.set(ref, ids);
  }

  #onOverlay(key: string, value: Uint8Array, by: OverlayWrite): void {
    const ref = refOf(key);
    const frame = openFrame(value, FrameKind.STATES);
    const listed = new Map<number, StateRecord>();
    for (let i = 0; i < frame.count; i++) {
      const state = readState(frame, i);
      listed.set(state.index, state);
    }
    const epoch = this.#law.epochOf(by.txn, ref);
    for (const [index, id] of (this.#segments.get(ref) ?? []).entries()) {
      const task = this.#tasks.get(id)!;
      const state = listed.get(index);
      if (state === undefined) {
        if (task.end !== undefined) this.violate('S4', `${id} has ended, and is pending again`);
        else if (task.attempt > 0 || task.losses > 0) {
          this.violate('S4', `${id} lost its attempt ${task.attempt} and ${task.losses} losses`);
        }
      } else this.#onState(task, state, { ...by, epoch });
    }
  }

  #onState(
    task: StoredTask,
    next: StateRecord,
    { node, revision, epoch }: OverlayWrite & { readonly epoch: Revision | undefined },
  ): void {
    if (isEnded(next.state)) {
      if (task.end === undefined) this.violate('S1', `${task.id} ends without being filed`);
      return;
    }
    if (task.end !== undefined) {
      return this.violate('S4', `${task.id} has ended and is ${next.state} again`);
    }
    if (next.losses < task.losses) {
      this.violate('S4', `${task.id}: ${task.losses} losses become ${next.losses}`);
    }
    const last = this.#lastRun(task);
    // What the writer itself saw must be in what it writes.
    if (last !== undefined && last.node === node && last.epoch === epoch && last.token > 0) {
      this.#checkAccount(task, next, last);
    }
    this.#checkInHand(task, next, { node, last });
    if (next.state === TaskState.RUNNING) {
      const isOwn = next.executor === node.incarnation;
      const { executor, attempt, dueAtMs } = next;
      const session = this.#law.sessionOf(node);
      const isNew = task.state !== TaskState.RUNNING || attempt !== task.attempt;
      if (isOwn && isNew && this.#law.isShared && this.#rests(task)) {
        this.violate('S5', `${node.name} claims ${task.id}, which rests`);
      }
      if (isOwn) task.claims.set(revision, { executor, attempt, dueAtMs, epoch, session });
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
    const type = this.#submissions.get(label)?.task.type;
    return type !== undefined && this.resting.has(type);
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
    return this.#submissions.get(task.label)?.task.type === 'limited';
  }

  #onFinished(key: string, value: Uint8Array, node: SimNode): void {
    const ref = refOfFinished(key);
    const frame = openFrame(value, FrameKind.STATES);
    for (let i = 0; i < frame.count; i++) {
      const state = readState(frame, i);
      this.#onEnd(taskId(ref, state.index), state, node);
    }
  }

  #onDeadLetter(key: string, value: Uint8Array, node: SimNode): void {
    const id = key.split('/')[2] as TaskId;
    const length = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
    this.count('dead letter');
    this.#onEnd(id, readState(openFrame(value.subarray(4, 4 + length), FrameKind.STATES), 0), node);
  }

  #onEnd(id: TaskId, state: StateRecord, node: SimNode): void {
    const task = this.#tasks.get(id);
    const json = utf8(state.bytes);
    if (task === undefined) return this.violate('S2', `${id} ends and was never stored`);
    if (task.end !== undefined) {
      return this.violate('S3', `${id} ends twice: ${task.end.json}, then ${json}`);
    }
    task.end = { state: state.state, json };
    this.count(`ended ${state.state}`);
    const named = /"run":(\d+)|"run (\d+)"/.exec(json);
    if (state.state !== TaskState.COMPLETED && named === null) return;
    const run = this.#runs[Number(named?.[1] ?? named?.[2])];
    if (run === undefined) return this.violate('S3', `${id} ends with ${json} of no execution`);
    const last = this.#lastRun(task);
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
    for (const id of this.#segments.get(ref) ?? []) {
      const task = this.#tasks.get(id)!;
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
    const { label } = JSON.parse(utf8(record.payload)) as { label: number };
    const submission = this.#submissions.get(label)!;
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
    if (claim?.executor !== node.incarnation || claim.attempt !== record.attempt) {
      this.violate('S5', `${id} runs with token ${record.token}, which claims nothing for it`);
    }
    for (const run of task.runs) {
      if (run.node === node && run.token >= record.token) {
        this.violate('S5', `${id} runs with token ${record.token} after ${run.token}`);
      }
      if (run.token < record.token && this.#goesOn(run, node)) {
        this.violate('S5', `${id} runs on ${node.name}, and still on ${run.node.name}`);
      }
      if (run.token < record.token && this.#mustCount(run, node)) {
        this.violate('S3', `${id} runs on ${node.name}, and ${run.node.name} had ended it`);
      }
    }
    if (record.attempt > ATTEMPTS) this.violate('S4', `${id} runs in attempt ${record.attempt}`);
    this.#checkNotEarly(task, submission, node, claim);
    if (task.runs.length > 0) this.count('run again');
    const run = {
      number,
      node,
      task,
      token: record.token,
      attempt: record.attempt,
      epoch: claim?.epoch,
      session: claim?.session,
      endedAtMonoMs: 0,
    };
    this.#runs.push(run);
    task.runs.push(run);
    return { task: submission.task, run: number };
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

  #checkNotEarly(
    task: StoredTask,
    submission: Submission,
    node: SimNode,
    claim: Claim | undefined,
  ): void {
    const monoMs = node.process.clock.monoMs();
    const wallMs = node.process.clock.wallMs();
    const before = task.runs.at(-1);
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
    } else if (submission.node === node && !task.isInbox && task.epoch === claim?.epoch) {
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
    const lost = task.runs.filter(({ outcome }) => outcome === 'lost').length;
    if (lost > LOSSES_MAX) this.violate('S4', `${task.id} was lost ${lost} times and goes on`);
  }

  #lastRun(task: StoredTask): Run | undefined {
    let last: Run | undefined;
    for (const run of task.runs) if (last === undefined || run.token > last.token) last = run;
    return last;
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
    for (const task of this.#tasks.values()) {
      if (task.end === undefined) this.violate('S14', `${task.id} (${task.label}) has not ended`);
    }
  }

  /** Whether a task has started by now. */
  hasStarted(label: number): boolean {
    return this.#runs.some((run) => run.task.label === label);
  }
}

/** A transaction that has written an overlay. */
interface OverlayWrite {
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

/** Keys of different types do not meet. */
function keyOf({ type, key }: PlannedTask): string | undefined {
  return key && `${type} ${key}`;
}
