/**
 * The part of the oracle that knows executions: each as its pool starts it, and what it reports.
 *
 *   S2   what runs is stored, and runs for its tenant
 *   S3   a task does not run again whose end must count
 *   S4   attempts and losses have their most
 *   S5   each execution's token is the commit that claimed it, and nothing runs in two places at once
 *   S7   nothing starts early
 */
import { type SegmentRef, taskId } from '../../src/core/ids.js';
import type { BatchRecord } from '../../src/core/records.js';
import { Outcome } from '../../src/core/states.js';
import { LOSSES_MAX } from '../../src/pool/loss-policy.js';
import { type Evidence, labelIn } from './evidence.js';
import { ATTEMPTS, type PlannedTask, RETRY_MS } from './plan.js';
import type { SimNode } from './sim-node.js';
import { type Execution, SNOOZE_MS } from './sim-pool.js';
import type { Claim, Run, StoredTask } from './stored-tasks.js';

export class RunBook {
  readonly #known: Evidence;
  /** Labels of what has started. */
  readonly #started = new Set<number>();

  constructor(known: Evidence) {
    this.#known = known;
  }

  /** A batch goes to a thread, whose tasks start one after another. */
  launched(batch: readonly BatchRecord[], node: SimNode): void {
    const session = this.#sessionOf(node);
    for (const { segment, index, token } of batch) {
      const id = taskId(segment as SegmentRef, index);
      const claim = this.#known.tasks.get(id)?.claims.get(token);
      const isKnown = claim?.session !== undefined && session !== undefined;
      if (isKnown && claim.session !== session) {
        const what = `${node.name} starts ${id}, which it claimed in a session that is over`;
        this.#known.violate('S5', what);
      }
    }
  }

  started(
    record: BatchRecord,
    node: SimNode,
  ): { readonly task: PlannedTask; readonly run: number } {
    const { tasks, runs, violate } = this.#known;
    const { token, attempt, version } = record;
    const id = taskId(record.segment as SegmentRef, record.index);
    const label = labelIn(record.payload);
    const task = tasks.get(id);
    const number = runs.length;
    this.#known.trace(`start ${node.name} ${label} ${id} attempt ${attempt} token ${token}`);
    if (task === undefined) {
      violate('S2', `${id} runs and is not stored`);
      throw new Error(`nothing is known of ${id}`);
    }
    const claim = task.claims.get(token);
    const isClaimed = claim?.attempt === attempt && claim.version === version;
    if (claim?.executor !== node.incarnation || !isClaimed) {
      violate('S5', `${id} runs with token ${token}, which claims nothing for it`);
    }
    for (const run of task.runs) this.#judgeBeside(run, record, node);
    if (record.tenant !== this.#known.plannedOf(label).tenant) {
      violate('S2', `${id} runs as one of '${record.tenant}'`);
    }
    if (attempt > ATTEMPTS) violate('S4', `${id} runs in attempt ${attempt}`);
    this.#judgeTime(task, node, claim);
    if (task.runs.length > 0) this.#known.count('run again');
    const { losses = 0, epoch, session } = claim ?? {};
    const execution = { token, attempt, losses, version, epoch, session };
    const run = { ...execution, number, node, task, endedAtMonoMs: 0 };
    runs.push(run);
    this.#started.add(label);
    task.runs.push(run);
    return { task: this.#known.plannedOf(label), run: number };
  }

  /** An execution that starts, beside one that did before. */
  #judgeBeside(run: Run, { token, version }: BatchRecord, node: SimNode): void {
    const { violate } = this.#known;
    const { id } = run.task;
    if (run.node === node && run.token >= token) {
      violate('S5', `${id} runs with token ${token} after ${run.token}`);
    }
    if (run.token >= token) return;
    if (this.#goesOn(run, node)) {
      violate('S5', `${id} runs on ${node.name}, and still on ${run.node.name}`);
    }
    if (run.version === version && this.#mustCount(run, node)) {
      violate('S3', `${id} runs on ${node.name}, and ${run.node.name} had ended it`);
    }
  }

  /** Whether an execution goes on which nobody may take for lost: its node has kept its session since the claim. */
  #goesOn({ node, outcome, session }: Run, starter: SimNode): boolean {
    if (outcome !== undefined || !node.process.isAlive) return false;
    return node === starter || (session !== undefined && session === this.#sessionOf(node));
  }

  /** Whether an execution ended its task for good, and nobody may have taken it for lost. */
  #mustCount({ node, outcome, session }: Run, starter: SimNode): boolean {
    if (outcome !== Outcome.COMPLETED && outcome !== Outcome.FAILED_FOR_GOOD) return false;
    if (!node.process.isAlive || session !== this.#sessionOf(node)) return false;
    return session !== undefined || node === starter;
  }

  #sessionOf(node: SimNode) {
    return this.#known.law.sessionOf(node);
  }

  #judgeTime(task: StoredTask, node: SimNode, claim: Claim | undefined): void {
    const { submissions, circumstances, violate } = this.#known;
    const { hasJumps } = circumstances;
    const monoMs = node.process.clock.monoMs();
    const wallMs = node.process.clock.wallMs();
    const submission = submissions.get(task.label);
    const before = task.runs.at(-1);
    // What was redriven is due at once.
    if (before !== undefined && before.version < task.version) return;
    if (before?.node === node) {
      const isSame = before.epoch === claim?.epoch;
      // Under another ownership it counts on the wall clock, in whole milliseconds; and what it came to may be lost.
      const isRetry = isSame || (claim?.attempt ?? 0) > before.attempt;
      if (!isSame && (hasJumps || !isRetry)) return;
      if (monoMs < before.endedAtMonoMs + pauseAfter(before) - (isSame ? 0 : 1)) {
        violate('S7', `${task.id} runs again ${monoMs - before.endedAtMonoMs} ms after`);
      }
    } else if (submission?.node === node && !task.isInbox && task.epoch === claim?.epoch) {
      if (monoMs < submission.dueMonoMs) {
        violate('S7', `${task.id} starts ${submission.dueMonoMs - monoMs} ms early`);
      }
    } else if (!hasJumps && claim !== undefined) {
      // As of its claim: when a zombie starts it, somebody else may have put it off meanwhile.
      if (wallMs < claim.dueAtMs - 1) {
        violate('S7', `${task.id} starts before its due time ${claim.dueAtMs}`);
      }
    }
  }

  reported(execution: Execution, outcome: Outcome): void {
    const run = this.#known.runs[execution.run]!;
    run.outcome = outcome;
    run.endedAtMonoMs = run.node.process.clock.monoMs();
    this.#known.trace(`report ${run.node.name} run ${run.number} outcome ${outcome}`);
    this.#known.count(`outcome ${outcome}`);
  }

  lost(execution: Execution): void {
    const run = this.#known.runs[execution.run]!;
    run.outcome = 'lost';
    run.endedAtMonoMs = run.node.process.clock.monoMs();
    this.#known.trace(`lost ${run.node.name} run ${run.number}`);
    this.#known.count('thread died under a task');
    if (execution.step === 'stuck') return;
    const { task } = run;
    const lost = task.runs.filter(
      ({ outcome, version }) => outcome === 'lost' && version === run.version,
    ).length;
    if (lost > LOSSES_MAX) {
      this.#known.violate('S4', `${task.id} was lost ${lost} times and goes on`);
    }
  }

  /** How often the handler of a planned task has been called. */
  runsOf(record: BatchRecord): number {
    const id = taskId(record.segment as SegmentRef, record.index);
    return this.#known.tasks.get(id)?.runs.length ?? 0;
  }

  /** Whether a task has started by now. */
  hasStarted(label: number): boolean {
    return this.#started.has(label);
  }
}

/** How long after an execution the next one may start, ms. */
function pauseAfter({ outcome }: Run): number {
  if (outcome === Outcome.FAILED) return RETRY_MS;
  return outcome === Outcome.SNOOZED ? SNOOZE_MS : 0;
}
