/**
 * The part of the oracle that knows what the store says of each task: overlays, filed ends, dead letters.
 *
 *   S1   what ends is filed; a dead letter is deleted by the transaction that lets its task run again
 *   S3   one filed end per version, of the newest execution; who has ended a task does not take it for lost
 *   S4   an end is final, but for a redrive; attempts and losses go as the executions went; overlays forget nothing
 *   S5   a task is claimed by whoever is to run it, and not while it rests; what ends it is what its executor ran
 */
import { FrameKind, openFrame, utf8 } from '../../src/core/frame.js';
import { type SegmentRef, type TaskId, taskId } from '../../src/core/ids.js';
import { readState, type StateRecord } from '../../src/core/records.js';
import { isEnded, Outcome, TaskState } from '../../src/core/states.js';
import type { Txn } from '../../src/core/store.js';
import { deadLetterKey } from '../../src/engine/keys.js';
import { type AppliedBy, type Evidence, refOf } from './evidence.js';
import type { SimNode } from './sim-node.js';
import { type Claim, lastRun, type Run, type StoredTask } from './stored-tasks.js';

/** Who writes an overlay. */
interface Claimer extends AppliedBy, Pick<Claim, 'epoch' | 'session'> {}

export class StateBook {
  readonly #known: Evidence;

  constructor(known: Evidence) {
    this.#known = known;
  }

  // --- Overlays ---------------------------------------------------------------------------------------------------

  onOverlay(key: string, value: Uint8Array, by: AppliedBy): void {
    const { tasks, law, violate } = this.#known;
    const ref = refOf(key);
    const frame = openFrame(value, FrameKind.STATES);
    const listed: (StateRecord | undefined)[] = [];
    for (let i = 0; i < frame.count; i++) {
      const state = readState(frame, i);
      listed[state.index] = state;
    }
    const claimer = { ...by, epoch: law.epochOf(by.txn, ref), session: law.sessionOf(by.node) };
    if (!tasks.isInStore(ref)) violate('S1', `${key} is put, and its segment is gone`);
    for (const [index, task] of (tasks.tasksOf(ref) ?? []).entries()) {
      const { id } = task;
      const state = listed[index];
      if (state === undefined) {
        if (task.end !== undefined) violate('S4', `${id} has ended, and is pending again`);
        else if (task.attempt > 0 || task.losses > 0 || task.version > 0) {
          violate('S4', `${id} lost its attempt ${task.attempt} and ${task.losses} losses`);
        }
      } else this.#onState(task, state, claimer);
    }
  }

  #onState(task: StoredTask, next: StateRecord, by: Claimer): void {
    const { violate } = this.#known;
    const { node, epoch } = by;
    if (isEnded(next.state)) {
      if (task.end === undefined) violate('S1', `${task.id} ends without being filed`);
      return;
    }
    this.#onVersion(task, next.version, by.txn);
    if (task.end !== undefined) {
      return violate('S4', `${task.id} has ended and is ${next.state} again`);
    }
    if (next.losses < task.losses) {
      violate('S4', `${task.id}: ${task.losses} losses become ${next.losses}`);
    }
    const last = lastRun(task);
    // What the writer itself saw must be in what it writes.
    if (last !== undefined && last.node === node && last.epoch === epoch && last.token > 0) {
      this.#checkAccount(task, next, last);
    }
    this.#checkInHand(task, next, { node, last });
    if (next.state === TaskState.RUNNING) this.#onRunning(task, next, by);
    task.state = next.state;
    task.attempt = next.attempt;
    task.losses = next.losses;
    task.executor = next.executor;
  }

  #onRunning(task: StoredTask, next: StateRecord, { node, revision, epoch, session }: Claimer) {
    const { law, violate } = this.#known;
    const isOwn = next.executor === node.incarnation;
    const { executor, attempt, losses, dueAtMs, version } = next;
    const isNew = task.state !== TaskState.RUNNING || attempt !== task.attempt;
    if (isOwn && isNew && law.isShared && this.#rests(task)) {
      violate('S5', `${node.name} claims ${task.id}, which rests`);
    }
    if (isOwn) {
      const claim = { executor, attempt, losses, dueAtMs, version, epoch, session };
      task.claims.set(revision, claim);
    }
    // What ran elsewhere when the shard changed hands stands there as before.
    else if (executor !== task.executor || attempt !== task.attempt) {
      violate('S5', `${node.name} claims ${task.id} for ${executor}`);
    }
  }

  #rests({ label }: StoredTask): boolean {
    return this.#known.resting.has(this.#known.plannedOf(label).type);
  }

  /** A task runs again that had failed for good: its dead letter goes with the same transaction. */
  #onVersion(task: StoredTask, version: number, txn: Txn): void {
    if (version === task.version) return;
    const { tasks, letters, violate } = this.#known;
    const { id } = task;
    const key = deadLetterKey(id);
    const isTaken = txn.success.some((one) => one.type === 'delete' && one.key === key);
    const isDead = task.end !== undefined && letters.get(id) === task.version;
    if (version !== task.version + 1 || !isDead) {
      violate('S4', `${id} goes from version ${task.version} to ${version}`);
    }
    if (!isTaken) violate('S4', `${id} runs again, and is a dead letter still`);
    if (task.end === undefined) return;
    this.#known.count('redriven');
    tasks.redriven(task);
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
      last.attempt === task.attempt &&
      last.losses === task.losses;
    const hasEnded =
      last?.outcome === Outcome.COMPLETED || last?.outcome === Outcome.FAILED_FOR_GOOD;
    const stands =
      next.state === TaskState.RUNNING &&
      next.attempt === task.attempt &&
      next.losses === task.losses;
    if (isOurs && hasEnded && !stands) {
      this.#known.violate('S3', `${node.name} had ended ${task.id}, and takes it for lost`);
    }
  }

  /** Attempts and losses of a task that has been put back, against how its last execution went. */
  #checkAccount(task: StoredTask, next: StateRecord, last: Run): void {
    const { violate } = this.#known;
    const claimed = next.state === TaskState.RUNNING ? 1 : 0;
    const isSpent = last.outcome === Outcome.FAILED;
    const isGivenBack =
      last.outcome === Outcome.SNOOZED || (last.outcome === 'lost' && !this.#isOverdue(task));
    // The end is not reported yet, or not in this commit: it stands as running.
    const stands = next.state === TaskState.RUNNING && next.attempt === last.attempt;
    if (isSpent && !stands && next.attempt !== last.attempt + claimed) {
      violate('S4', `${task.id}: attempt ${last.attempt} failed, then ${next.attempt}`);
    }
    if (isGivenBack && !stands && next.attempt !== last.attempt - 1 + claimed) {
      violate('S4', `${task.id}: attempt ${last.attempt} given back, then ${next.attempt}`);
    }
  }

  #isOverdue(task: StoredTask): boolean {
    return this.#known.plannedOf(task.label).type === 'limited';
  }

  // --- Ends -------------------------------------------------------------------------------------------------------

  onFinished(key: string, value: Uint8Array, by: AppliedBy): void {
    const ref = refOfFinished(key);
    const frame = openFrame(value, FrameKind.STATES);
    for (let i = 0; i < frame.count; i++) {
      const state = readState(frame, i);
      this.#onEnd(taskId(ref, state.index), state, by);
    }
  }

  onDeadLetter(key: string, value: Uint8Array, by: AppliedBy): void {
    const id = key.split('/')[2] as TaskId;
    const length = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
    this.#known.count('dead letter');
    this.#known.letters.set(id, this.#known.versionOf(id));
    this.#onEnd(id, readState(openFrame(value.subarray(4, 4 + length), FrameKind.STATES), 0), by);
  }

  onDeadLetterDeleted(key: string, node: SimNode): void {
    const { letters, circumstances, violate } = this.#known;
    const id = key.split('/')[2] as TaskId;
    const version = letters.get(id);
    letters.delete(id);
    if (version === undefined || this.#known.versionOf(id) > version) return;
    if (circumstances.mayForget) return;
    violate('S1', `${node.name} deletes the dead letter ${id}, which does not run again`);
  }

  #onEnd(id: TaskId, state: StateRecord, { node, txn }: AppliedBy): void {
    const { tasks, runs, violate } = this.#known;
    const task = tasks.get(id);
    const json = utf8(state.bytes);
    if (task === undefined) return violate('S2', `${id} ends and was never stored`);
    // It came back, and has ended before that was written.
    if (state.version > task.version) this.#onVersion(task, state.version, txn);
    if (task.end !== undefined) {
      return violate('S3', `${id} ends twice: ${task.end.json}, then ${json}`);
    }
    if (state.version !== task.version) {
      violate('S3', `${id} ends in version ${state.version}, and is in ${task.version}`);
    }
    tasks.ended(task, { state: state.state, json });
    this.#known.count(`ended ${state.state}`);
    const named = /"run":(\d+)|"run (\d+)"/.exec(json);
    if (state.state !== TaskState.COMPLETED && named === null) return;
    const run = runs[Number(named?.[1] ?? named?.[2])];
    if (run === undefined) return violate('S3', `${id} ends with ${json} of no execution`);
    const last = lastRun(task);
    if (run.task !== task) violate('S3', `${id} ends with the result of ${run.task.id}`);
    if (run !== last) {
      violate('S3', `${id} ends with execution ${run.token}, the newest is ${last?.token}`);
    }
    if (run.node.incarnation !== task.executor) {
      violate('S5', `${node.name} records what ${run.node.name} ran, not ${task.executor}`);
    }
    if (state.state === TaskState.COMPLETED && run.outcome !== Outcome.COMPLETED) {
      violate('S3', `${id} is completed by an execution that came to ${run.outcome}`);
    }
  }
}

/** `z/<queue>/<window>/<shard>.<due>.<seg>/<part>` */
function refOfFinished(key: string): SegmentRef {
  const [, queue, , rest] = key.split('/');
  return `${queue}.${rest}` as SegmentRef;
}
