/**
 * One-line bugs, to show that the oracle sees. Each is put into a compiled file while it is loaded; the files on disk
 * stay as they are.
 */
import { register } from 'node:module';
import type { FaultClass } from './plan.js';

export interface Mutant {
  readonly name: string;
  /** Where it shows. @defaultValue 'lone' */
  readonly world?: 'cluster';
  /** What it takes to see it: in every seed of its hunt. Absent: each seed has what is drawn for it. */
  readonly faults?: readonly FaultClass[];
  /** Below dist/src. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'skips the head compare',
    file: 'engine/commit-lane.js',
    find: "{ target: 'mod', key: this.#headKey, operator: '=', operand: this.#headRevision },",
    replace: '',
  },
  {
    name: 'takes unknown for refused',
    file: 'engine/commit-lane.js',
    find: "outcome.kind === 'failed' && tries === 1",
    replace: "outcome.kind === 'failed' || outcome.kind === 'unknown'",
  },
  {
    name: 'believes a refusal after an unknown outcome',
    file: 'engine/commit-lane.js',
    find: "outcome.kind === 'failed' && tries === 1",
    replace: "outcome.kind === 'failed'",
  },
  {
    name: 'takes unknown for done',
    file: 'engine/commit-lane.js',
    find: 'const outcome = await this.#tryOnce(txn);',
    replace:
      "let outcome = await this.#tryOnce(txn); if (outcome.kind === 'unknown') outcome = { kind: 'done', revision: this.#headRevision + 1, results: [] };",
  },
  {
    name: 'repeats a commit blindly',
    file: 'engine/commit-lane.js',
    find: 'const outcome = await this.#tryOnce(txn);',
    replace:
      'const outcome = await this.#tryOnce(tries === 1 ? txn : { ...txn, compares: txn.compares.slice(1) });',
  },
  {
    name: 'takes every head for its own',
    file: 'engine/commit-lane.js',
    find: 'Buffer.compare(entry.value, ours) === 0',
    replace: 'true',
  },
  {
    name: 'acknowledges before the commit',
    file: 'engine/cut.js',
    find: 'this.#frames.push({ frame, segment });',
    replace: 'this.#frames.push({ frame, segment }); submitted.onAccepted(frame, segment);',
  },
  {
    name: 'takes no head for its own',
    file: 'engine/commit-lane.js',
    find: 'Buffer.compare(entry.value, ours) === 0',
    replace: 'false',
  },
  {
    name: 'runs before the claim is durable',
    file: 'engine/cut.js',
    find: 'cut.#writeOverlays();',
    replace:
      'for (const { dispatcher, batches } of cut.#claims) dispatcher.launch(batches, { token: 1 });',
  },
  {
    name: 'forgets the overlay of a claim',
    file: 'engine/cut.js',
    find: 'if (overlay === undefined)',
    replace: 'if (overlay === undefined || this.#claims.length > 0)',
  },
  {
    name: 'loses frames of a failed commit',
    file: 'engine/cut.js',
    find: 'submitted.onRejected(frame, cause);',
    replace: '',
  },
  {
    name: 'keeps claims of a failed commit',
    file: 'engine/cut.js',
    find: 'dispatcher.unclaim(batches);',
    replace: '',
  },
  {
    name: 'keeps what a failed commit filed',
    file: 'engine/cut.js',
    find: 'this.#table.revert(this.#cut);',
    replace: 'this.#table.settle(this.#cut);',
  },
  {
    name: 'deletes a segment whatever is open in it',
    file: 'engine/cut.js',
    find: 'if (!filing.isComplete) {',
    replace: 'if (!filing.isComplete && filing.frame === undefined) {',
  },
  {
    name: 'spends no attempt on a failure',
    file: 'engine/settler.js',
    find: 'this.#runAgain(task, delayMs, { spent: true });',
    replace: 'this.#runAgain(task, delayMs, { spent: false });',
  },
  {
    name: 'spends an attempt on a loss',
    file: 'engine/settler.js',
    find: 'this.#runAgain(task, 0, { spent: false });',
    replace: 'this.#runAgain(task, 0, { spent: true });',
  },
  {
    name: 'retries a little early',
    file: 'engine/settler.js',
    find: 'monoMs: now.monoMs + delayMs,',
    replace: 'monoMs: now.monoMs + delayMs * 0.9,',
  },
  {
    name: 'starts delayed tasks a little early',
    file: 'engine/intake.js',
    find: '({ task }) => task.dueMonoMs)',
    replace: '({ task }) => task.dueMonoMs - 5)',
  },
  {
    name: 'ignores overlays when it recovers',
    file: 'engine/recovery.js',
    find: 'table.applyOverlay(segment, overlay);',
    replace: 'table.applyOverlay;',
  },
  {
    name: 'starts what it takes over a second early',
    file: 'engine/lone-shards.js',
    find: 'table.resume(segment, instantOf(clock))',
    replace: 'table.resume(segment, { ...instantOf(clock), wallMs: clock.wallMs() + 1_000 })',
  },
  {
    name: 'does not take up what ran in a dead process',
    file: 'engine/lone-shards.js',
    find: 'lose(resumed.lost);',
    replace: '',
  },
  {
    name: 'takes no key of this window for known',
    file: 'engine/keyed.js',
    find: 'compares: all.map(',
    replace: 'compares: this.#keys.flatMap((keys) => keys.slice(1)).map(',
  },
  {
    name: 'never takes up keyed tasks',
    file: 'engine/arrivals.js',
    find: 'const segment = this.adopt(frame);\n            return (index) => this.#ports.table.taskAt(segment, index);',
    replace: 'return () => 0;',
  },
  {
    name: 'releases no room',
    file: 'engine/cutter.js',
    find: 'room.release(settled.bytes, settled.tasks);',
    replace: ';',
  },
  {
    name: 'does not tell waiters',
    file: 'engine/cutter.js',
    find: 'waiters.settle(settled.watched);',
    replace: '',
  },
  {
    name: 'stays fenced in silence',
    file: 'engine/cutter.js',
    find: 'submissions.rejectUnsent(cause);\n        executions.stopClaiming();',
    replace: 'executions.stopClaiming();',
  },
  {
    name: 'writes under no epoch',
    world: 'cluster',
    file: 'engine/cut.js',
    find: 'for (const guard of added)',
    replace: 'for (const guard of [])',
  },
  {
    name: 'stands on no segment of an inbox',
    world: 'cluster',
    file: 'engine/shards.js',
    find: '[shard.guard, inbox]',
    replace: '[shard.guard]',
  },
  {
    name: 'reads a shard that it has not let go of',
    world: 'cluster',
    file: 'engine/shards.js',
    find: 'await this.untilOver(shard);',
    replace: '',
  },
  {
    name: 'takes a segment of an inbox twice',
    world: 'cluster',
    file: 'engine/shards.js',
    find: "shard.stage === 'over' || this.#table.findSegment(ref) !== 0",
    replace: "shard.stage === 'over'",
  },
  {
    name: 'follows an inbox from when it asks, not from what it has read',
    world: 'cluster',
    faults: ['join', 'leave', 'leaseLost', 'kill'],
    file: 'engine/shards.js',
    find: 'startRevision: shard.inboxFrom, signal',
    replace: 'signal',
  },
  {
    name: 'lists no inbox anew whose history is gone',
    world: 'cluster',
    faults: ['compaction', 'join', 'leave'],
    file: 'engine/shards.js',
    find: 'await this.#listInbox(shard);',
    replace: 'delete shard.inboxFrom;',
  },
  {
    name: 'begins no command anew with the shard',
    world: 'cluster',
    faults: ['redrive', 'pause', 'partition', 'hang'],
    file: 'engine/command-desk.js',
    find: 'if (this.#acting.get(key) === shard)\n            return false;',
    replace: 'if (this.#acting.has(key)) return false;',
  },
  {
    name: 'ignores the death of an executor',
    world: 'cluster',
    file: 'engine/elsewhere.js',
    find: 'this.#events.onDead(tasks);',
    replace: ';',
  },
  {
    name: 'takes itself for dead',
    world: 'cluster',
    faults: ['leaseLost', 'lateRecord', 'longRuns'],
    file: 'engine/elsewhere.js',
    find: 'executor === this.#members.node || ',
    replace: '',
  },
  {
    name: 'runs again what another node still runs',
    world: 'cluster',
    file: 'engine/cluster.js',
    find: "for (const task of lost)\n            this.#elsewhere.note(task, table.executorOf(task) ?? '');",
    replace:
      "for (const task of lost) this.#ports.settle(task, { kind: 'lost', death: { reason: 'exit', begun: 1 } });",
  },
  {
    name: 'tells that it does not run what it runs',
    world: 'cluster',
    file: 'engine/orphans.js',
    find: ' || this.#tasks.has(nameOfExecution(execution))',
    replace: '',
  },
  {
    name: 'deletes commands before their effect is written',
    world: 'cluster',
    faults: ['smallCommits', 'leaseLost', 'cancel'],
    file: 'engine/outbox.js',
    find: 'table.segmentInfo(segment)?.isDirty === true',
    replace: 'false',
  },
  {
    name: 'accepts the result of any execution',
    world: 'cluster',
    file: 'engine/command-desk.js',
    find: 'if (!this.#isExecutedBy(task, from, result))',
    replace: 'if (this.#ports.table.inspect(task)?.state !== TaskState.RUNNING)',
  },
  {
    name: 'deletes a subscription with its first end',
    world: 'cluster',
    file: 'engine/command-desk.js',
    find: 'if (subscription.left === 0)',
    replace: '',
  },
  {
    name: 'starts tasks while it is fenced',
    world: 'cluster',
    file: 'engine/cluster.js',
    find: "session.state === 'live' && members",
    replace: 'members',
  },
  {
    name: 'starts what it claimed under a lease that has ended',
    world: 'cluster',
    file: 'engine/dispatcher.js',
    find: 'claimed.leaseId !== leaseId',
    replace: 'false',
  },
  {
    name: 'tells nobody that it leaves',
    world: 'cluster',
    file: 'engine/cluster.js',
    find: 'members.change(record, this.#closing.signal)',
    replace: 'undefined',
  },
  {
    name: 'forgets who waits for a task that moves',
    world: 'cluster',
    file: 'engine/task-desk.js',
    find: 'this.ended(place).then(resolve, reject);',
    replace: ';',
  },
  {
    name: 'drops submissions of a shard that is lost',
    world: 'cluster',
    file: 'engine/submissions.js',
    find: 'this.#intake.putBack(frame, this.#ports.clock.wallMs());',
    replace: ';',
  },
  {
    name: 'gives back room that it never took',
    world: 'cluster',
    file: 'engine/cluster.js',
    find: 'if (isOpen && released.open > 0)',
    replace: 'if (released.open > 0)',
  },
  {
    name: 'acts on tasks of a shard that it is reading',
    world: 'cluster',
    faults: ['cancel', 'leaseLost'],
    file: 'engine/cluster.js',
    find: ' && this.shards.isResumed(info.segment)',
    replace: '',
  },
  {
    name: 'claims whatever rests by now',
    world: 'cluster',
    faults: ['rest', 'cancel'],
    file: 'engine/cut.js',
    find: 'this.#standOn([shared.pauses]);',
    replace: ';',
  },
  {
    name: 'drops what it had in hand of a shard that it lost',
    world: 'cluster',
    file: 'engine/cluster.js',
    find: 'this.#orphans.reportUnwritten(segment);',
    replace: '',
  },
  {
    name: 'tells of a cancel before it is written',
    world: 'cluster',
    file: 'engine/command-desk.js',
    find: '{ shard, after: segments });',
    replace: '{});',
  },
  {
    name: 'takes silence for a name in use',
    world: 'cluster',
    file: 'coordination/members.js',
    find: 'if (isTaken && ',
    replace: 'if (',
  },
  {
    name: 'counts its lease by the wall clock',
    world: 'cluster',
    faults: ['wallJump', 'pause'],
    file: 'coordination/session.js',
    find: '+ Math.max(0, this.#offset() - this.#offsetMs);\n    }\n    judge() {\n        const drift = this.#offset() - this.#offsetMs;',
    replace: '+ this.#offset() - this.#offsetMs;\n    }\n    judge() {\n        const drift = 0;',
  },
  {
    name: 'holds a lock under a session that is fenced',
    world: 'cluster',
    file: 'coordination/lock-queue.js',
    find: 'this.#hold?.lose(cause);',
    replace: '',
  },
  {
    name: 'enters a lock whoever is ahead',
    world: 'cluster',
    file: 'coordination/place.js',
    find: '.filter(({ createRevision }) => createRevision < this.#createRevision)',
    replace: '.filter(() => false)',
  },
  {
    name: 'tells of ends, and gives room back, before they are durable',
    file: 'engine/cut.js',
    find: 'if (cut.operations.length > 0)\n            return cut;',
    replace:
      'if (cut.operations.length > 0) { context.onSettled(context.table.settle(cut.#cut)); return cut; }',
  },
  {
    name: 'believes what a payload says of its tenant',
    file: 'engine/intake.js',
    find: 'writeTask(writer, submission.task);',
    replace:
      'writeTask(writer, { ...submission.task, tenant: JSON.parse(submission.task.payload).tenant });',
  },
  {
    name: 'leaves the dead letter of what runs again',
    file: 'engine/redrives.js',
    find: "const operations = [{ type: 'delete', key: deadLetterKey(id) }];",
    replace: 'const operations = [];',
  },
  {
    name: 'puts no segment for what runs again',
    file: 'engine/redrives.js',
    find: "put = { type: 'put', key: segmentKey(ref), value: frame };",
    replace: '',
  },
  {
    name: 'tells of a redrive before it is written',
    file: 'engine/redrives.js',
    find: 'this.#ports.additions.add(segment, {',
    replace: "answer('redriven'); this.#ports.additions.add(segment, {",
  },
  {
    name: 'fires whatever has become of the entry',
    world: 'cluster',
    file: 'engine/cron/fire-gate.js',
    find: "compares: [{ target: 'mod', key, operator: '=', operand: modRevision }],",
    replace: 'compares: [],',
  },
  {
    name: 'takes up no fire whose answer was lost',
    file: 'engine/cron/fire-gate.js',
    find: 'if (segment !== undefined)',
    replace: 'if (false)',
  },
  {
    name: 'forgets fires that are to wait in line',
    file: 'engine/cron/step.js',
    find: 'move([...queued, ...caught], {})',
    replace: 'move(queued, {})',
  },
];

/** Makes modules that are loaded from here on have the bug. */
export function applyMutant(name: string): void {
  const mutant = MUTANTS.find((candidate) => candidate.name === name);
  if (mutant === undefined) {
    throw new Error(
      `no mutant is called ${name}; there are ${MUTANTS.map((m) => m.name).join(', ')}`,
    );
  }
  register(new URL('./mutant-hooks.js', import.meta.url), { data: mutant });
}
