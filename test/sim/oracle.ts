/**
 * The judge. It sees what every submitter was told, every transaction that reached the store, and every execution,
 * and keeps a model of its own of each task. What it says is a violation is a bug, in the engine or here.
 *
 *   S1   no acknowledged task is lost                S8   late only within a bound
 *   S2   nothing runs that was refused for certain   S9   nothing grows without bound, nothing is left over
 *   S3   one accepted end, of the newest execution   S10  every submit gets an answer
 *   S4   states only move forward                    S14  after healing everything ends
 *   S5   who has lost the lane writes no more        S16  nothing is swallowed
 *   S7   nothing starts early
 *
 * S1, S2, S3, S4 and S5 are checked at every transaction, so a violation stands in the trace where it happened.
 */
import { FrameKind, openFrame, utf8 } from '../../src/core/frame.js';
import { type SegmentRef, type TaskId, taskId } from '../../src/core/ids.js';
import { type BatchRecord, readState, readTask, type StateRecord } from '../../src/core/records.js';
import { isEnded, Outcome, TaskState } from '../../src/core/states.js';
import type { Operation, OperationResult, Revision } from '../../src/core/store.js';
import type { TaskEnd } from '../../src/engine/ends.js';
import { LOSSES_MAX } from '../../src/pool/loss-policy.js';
import type { AppliedTxn } from '../../src/testing/sim-connection.js';
import type { PlannedTask } from './plan.js';
import type { SimNode } from './sim-node.js';
import { type Execution, SNOOZE_MS } from './sim-pool.js';

/** Of every type in the plan: fixed, without jitter, so that the next start is known. */
export const RETRY_MS = 200;
export const ATTEMPTS = 3;

/** What a submitter was told. */
interface Submission {
  readonly task: PlannedTask;
  readonly node: SimNode;
  readonly dueMonoMs: number;
  answer: 'none' | 'accepted' | 'refused' | 'unclear';
  /** Of the task that stands for it. */
  id?: TaskId;
}

/** One task of the store. */
interface StoredTask {
  readonly id: TaskId;
  readonly label: number;
  readonly key: string | undefined;
  state: TaskState;
  attempt: number;
  losses: number;
  executor: string;
  /** What the store said of it at each revision at which it said that it runs. */
  readonly claims: Map<number, Claim>;
  readonly runs: Run[];
  end?: { readonly state: TaskState; readonly json: string };
}

type Claim = Pick<StateRecord, 'executor' | 'attempt' | 'dueAtMs'>;

interface Run {
  readonly number: number;
  readonly node: SimNode;
  readonly task: StoredTask;
  readonly token: number;
  readonly attempt: number;
  outcome?: Outcome | 'lost';
  endedAtMonoMs: number;
}

export class Oracle {
  readonly violations: string[] = [];
  /** What happened how often: proves that a run tested something. */
  readonly seen = new Map<string, number>();
  readonly #submissions = new Map<number, Submission>();
  readonly #tasks = new Map<TaskId, StoredTask>();
  readonly #segments = new Map<SegmentRef, TaskId[]>();
  readonly #runs: Run[] = [];
  readonly #trace: (line: string) => void;
  /** Incarnations that have written the lane's head, in order. */
  readonly #writers: string[] = [];
  /** Wall clocks jumped: then keys may have left their window, and due times of the wall mean little. */
  readonly #hasJumps: boolean;

  constructor(trace: (line: string) => void, hasJumps: boolean) {
    this.#trace = trace;
    this.#hasJumps = hasJumps;
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
    this.#submissions.set(task.label, { task, node, dueMonoMs, answer: 'none' });
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
    return submission;
  }

  /** A process says that somebody else has the lane. */
  fenced(node: SimNode): void {
    if (this.#writers.at(-1) === node.incarnation) {
      this.violate('S5', `${node.name} was the last to write and thinks that it is fenced`);
    }
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

  // --- What the store sees ----------------------------------------------------------------------------------------

  applied({ txn, outcome }: AppliedTxn, node: SimNode): void {
    if (outcome.kind !== 'done') return this.#trace(`store refused ${node.name}`);
    const writes: Write[] = [];
    listWrites(txn.success, outcome.results, writes);
    if (writes.length === 0) return;
    this.#trace(`store r${outcome.revision} ${node.name} ${writes.map((w) => w.key).join(' ')}`);
    const put = (prefix: string): Put[] =>
      writes.filter((w): w is Put => w.value !== undefined && w.key.startsWith(prefix));
    for (const { value } of put('h/')) this.#onHead(value, node);
    // The layout is put before the lane is opened, by whoever is the first of all.
    const besideLane = put('').filter(({ key }) => key !== 'v/layout');
    if (put('h/').length === 0 && besideLane.length > 0) {
      this.violate('S5', `${node.name} writes past its lane: ${besideLane[0]!.key}`);
    }
    for (const { key, value } of put('t/')) this.#onSegment(key, value);
    for (const { key, value } of put('z/')) this.#onFinished(key, value, node);
    for (const { key, value } of put('d/')) this.#onDeadLetter(key, value, node);
    for (const { key, value } of put('s/')) this.#onOverlay(key, value, node, outcome.revision);
    for (const { key, value } of writes) {
      if (value === undefined && key.startsWith('t/')) this.#onSegmentDeleted(refOf(key));
    }
  }

  #onHead(value: Uint8Array, node: SimNode): void {
    const { incarnation } = JSON.parse(utf8(value)) as { incarnation: string };
    if (this.#writers.at(-1) === incarnation) return;
    if (this.#writers.includes(incarnation)) {
      this.violate('S5', `${node.name} writes after ${this.#writers.at(-1)} took the lane`);
    }
    if (this.#writers.length > 0) this.count('lane taken over');
    this.#writers.push(incarnation);
  }

  #onSegment(key: string, value: Uint8Array): void {
    const ref = refOf(key);
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
        if (taskKey !== undefined && other.key === taskKey && !this.#hasJumps) {
          this.violate('S2', `key '${taskKey}' twice: ${other.id}, ${id}`);
        }
      }
      this.#tasks.set(id, {
        id,
        label,
        key: taskKey,
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

  #onOverlay(key: string, value: Uint8Array, node: SimNode, revision: Revision): void {
    const ref = refOf(key);
    const frame = openFrame(value, FrameKind.STATES);
    const listed = new Map<number, StateRecord>();
    for (let i = 0; i < frame.count; i++) {
      const state = readState(frame, i);
      listed.set(state.index, state);
    }
    for (const [index, id] of (this.#segments.get(ref) ?? []).entries()) {
      const task = this.#tasks.get(id)!;
      const state = listed.get(index);
      if (state === undefined) {
        if (task.end !== undefined) this.violate('S4', `${id} has ended, and is pending again`);
        else if (task.attempt > 0 || task.losses > 0) {
          this.violate('S4', `${id} lost its attempt ${task.attempt} and ${task.losses} losses`);
        }
      } else this.#onState(task, state, node, revision);
    }
  }

  #onState(task: StoredTask, next: StateRecord, node: SimNode, revision: Revision): void {
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
    if (last !== undefined && last.node === node && last.token > 0) {
      this.#checkAccount(task, next, last);
    }
    if (next.state === TaskState.RUNNING) {
      task.claims.set(revision, next);
      if (next.executor !== node.incarnation) {
        this.violate('S5', `${node.name} claims ${task.id} for ${next.executor}`);
      }
    }
    task.state = next.state;
    task.attempt = next.attempt;
    task.losses = next.losses;
    task.executor = next.executor;
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
    if (run.node !== node) this.violate('S5', `${node.name} records what ${run.node.name} ran`);
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
      endedAtMonoMs: 0,
    };
    this.#runs.push(run);
    task.runs.push(run);
    return { task: submission.task, run: number };
  }

  #checkNotEarly(
    task: StoredTask,
    submission: Submission,
    node: SimNode,
    claim: Claim | undefined,
  ): void {
    const monoMs = node.process.clock.monoMs();
    const before = task.runs.filter((run) => run.node === node).at(-1);
    if (before !== undefined) {
      const delayMs =
        before.outcome === Outcome.FAILED
          ? RETRY_MS
          : before.outcome === Outcome.SNOOZED
            ? SNOOZE_MS
            : 0;
      if (monoMs < before.endedAtMonoMs + delayMs) {
        this.violate('S7', `${task.id} runs again ${monoMs - before.endedAtMonoMs} ms after`);
      }
    } else if (submission.node === node) {
      if (monoMs < submission.dueMonoMs) {
        this.violate('S7', `${task.id} starts ${submission.dueMonoMs - monoMs} ms early`);
      }
    } else if (!this.#hasJumps && claim !== undefined) {
      // As of its claim: when a zombie starts it, somebody else may have put it off meanwhile.
      if (node.process.clock.wallMs() < claim.dueAtMs - 1) {
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

interface Put {
  readonly key: string;
  readonly value: Uint8Array;
}

/** `value` undefined: deleted. */
interface Write {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

function listWrites(
  operations: readonly Operation[],
  results: readonly OperationResult[],
  into: Write[],
): void {
  operations.forEach((operation, i) => {
    const result = results[i];
    if (operation.type === 'put') into.push({ key: operation.key, value: operation.value });
    else if (operation.type === 'delete') into.push({ key: operation.key, value: undefined });
    else if (operation.type === 'txn' && result?.type === 'txn') {
      const { success, failure = [] } = operation.txn;
      listWrites(result.succeeded ? success : failure, result.results, into);
    }
  });
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
