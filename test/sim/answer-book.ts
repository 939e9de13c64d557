/**
 * The part of the oracle that knows what callers hear: submitters, those who wait for an end, who cancel and who redrive.
 *
 *   S1   what is acknowledged is stored at that moment, and has ended when all is healed; what is told as redriven runs again
 *   S2   what is refused for certain is not stored
 *   S3   what is heard of a task is what the store has
 *   S10  everybody gets one answer, submitters within 30 s
 *   S14  tasks that nobody acknowledged end as well
 */
import type { TaskId } from '../../src/core/ids.js';
import { TaskState } from '../../src/core/states.js';
import type { TaskEnd } from '../../src/engine/ends.js';
import type { CancelAnswer } from '../../src/engine/letters.js';
import { type Evidence, keyOf, type Submission } from './evidence.js';
import type { PlannedTask } from './plan.js';
import type { SimNode } from './sim-node.js';
import { endsSince } from './stored-tasks.js';

/** A submit is answered, or told that nobody knows, within so long: a commit before it, its own, and what a gate reads. */
const ANSWER_MAX_MS = 30_000;

export class AnswerBook {
  readonly #known: Evidence;

  constructor(known: Evidence) {
    this.#known = known;
  }

  submitted(task: PlannedTask, node: SimNode, dueMonoMs: number): void {
    const submittedMonoMs = node.process.clock.monoMs();
    const submission: Submission = { task, node, dueMonoMs, submittedMonoMs, answer: 'none' };
    this.#known.submissions.set(task.label, submission);
  }

  acceptedAs(label: number, id: TaskId, isCreated: boolean): void {
    const { tasks, violate } = this.#known;
    const submission = this.#answer(label, 'accepted');
    this.#known.count(isCreated ? 'accepted' : 'deduplicated');
    submission.id = id;
    const task = tasks.get(id);
    if (task === undefined) return violate('S1', `${label} acknowledged, not stored: ${id}`);
    if (isCreated && task.label !== label) {
      violate('S1', `${label} acknowledged as ${id}, which is ${task.label}`);
    }
    if (task.key !== keyOf(submission.task)) violate('S2', `${label} is ${id} of another key`);
  }

  /** @param isCertain - whether the answer says that it is not in the store */
  refused(label: number, code: string, isCertain: boolean): void {
    this.#answer(label, isCertain ? 'refused' : 'unclear');
    this.#known.count(`refused ${code}`);
    if (isCertain && this.#known.tasks.ofLabel(label) !== undefined) {
      this.#known.violate('S2', `${label} refused with ${code}, and stored`);
    }
  }

  #answer(label: number, answer: Submission['answer']): Submission {
    const { submissions, circumstances, violate } = this.#known;
    const submission = submissions.get(label)!;
    if (submission.answer !== 'none') {
      violate('S10', `${label} answered twice: ${submission.answer}, then ${answer}`);
    }
    submission.answer = answer;
    const waitedMs = submission.node.process.clock.monoMs() - submission.submittedMonoMs;
    if (waitedMs > ANSWER_MAX_MS && !circumstances.hasPauses) {
      violate('S10', `${label} answered after ${Math.round(waitedMs)} ms: ${answer}`);
    }
    return submission;
  }

  /** @param version - of the task when somebody began to wait */
  heardEnd(id: TaskId, heard: TaskEnd, version: number): void {
    this.#known.count('heard an end');
    const ends = endsSince(this.#known.tasks.get(id), version);
    if (ends.some(({ state, json }) => state === heard.state && json === heard.json)) return;
    const stored = ends.map(({ state, json }) => `${state} ${json}`).join(', ') || 'as open';
    this.#known.violate('S3', `${id} told as ${heard.state} ${heard.json}, stored ${stored}`);
  }

  /** Whoever cancelled a task was told what became of it. */
  heardCancel(id: TaskId, answer: CancelAnswer): void {
    this.#known.count(`cancel: ${answer}`);
    const ends = endsSince(this.#known.tasks.get(id), 0);
    const isSo =
      answer === 'cancelled'
        ? ends.some(({ state }) => state === TaskState.CANCELLED)
        : answer !== 'ended' || ends.length > 0;
    if (!isSo) this.#known.violate('S3', `${id} told as ${answer}, stored ${JSON.stringify(ends)}`);
  }

  /**
   * Whoever asked for a redrive was told which run again.
   *
   * @param asked - dead letters, in the version that they had failed in
   */
  heardRedriven(asked: readonly (readonly [TaskId, number])[], redriven: readonly TaskId[]): void {
    const { circumstances, violate } = this.#known;
    for (const [id, version] of asked) {
      const isTold = redriven.includes(id);
      this.#known.count(isTold ? 'told as redriven' : 'told as not redriven');
      const isRedriven = this.#known.versionOf(id) > version;
      if (isTold && !isRedriven) violate('S1', `${id} told as redriven, stored as failed`);
      if (!isTold && !isRedriven && !circumstances.mayForget) {
        violate('S10', `${id} told as no dead letter, and it is one`);
      }
    }
  }

  /** Somebody was told that nobody knows a task. */
  heardGone(id: TaskId): void {
    const { tasks, circumstances, violate } = this.#known;
    this.#known.count('heard that a task is gone');
    if (tasks.get(id) !== undefined && !circumstances.mayForget)
      violate('S3', `${id} told as gone`);
  }

  /** Everybody who submitted to a process that has had time to answer. */
  judgeAnswers(node: SimNode): void {
    for (const [label, submission] of this.#known.submissions) {
      if (submission.node !== node || submission.answer !== 'none') continue;
      this.#known.violate('S10', `${label}, submitted to ${node.name}, never got an answer`);
    }
  }

  /** When everything is healed and has had its time. */
  judgeEnd(): void {
    const { submissions, tasks, violate } = this.#known;
    for (const [label, { answer, id }] of submissions) {
      if (answer !== 'accepted') continue;
      const task = tasks.get(id!);
      if (task?.end === undefined) {
        violate('S1', `${label} was acknowledged as ${id} and has not ended (${task?.state})`);
      }
    }
    for (const { id, label } of tasks.open()) violate('S14', `${id} (${label}) has not ended`);
  }
}
