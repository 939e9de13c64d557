/**
 * One-line bugs, to show that the oracle sees. Each is put into a compiled file while it is loaded; the files on disk
 * stay as they are.
 */
import { register } from 'node:module';

export interface Mutant {
  readonly name: string;
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
    name: 'takes every head for its own',
    file: 'engine/commit-lane.js',
    find: 'Buffer.compare(entry.value, ours) === 0',
    replace: 'true',
  },
  {
    name: 'acknowledges before the commit',
    file: 'engine/cut.js',
    find: 'this.#frames.push({ frame, segment: context.adopt(frame) });',
    replace:
      'const segment = context.adopt(frame); this.#frames.push({ frame, segment }); context.onAccepted(frame, segment);',
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
    replace: 'for (const { dispatcher, batches } of cut.#claims) dispatcher.launch(batches, 1);',
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
    find: 'context.onRejected(frame, cause);',
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
    find: '(submission) => submission.task.dueMonoMs)',
    replace: '(submission) => submission.task.dueMonoMs - 5)',
  },
  {
    name: 'ignores overlays when it recovers',
    file: 'engine/recovery.js',
    find: 'table.applyOverlay(segment, overlay);',
    replace: 'table.applyOverlay;',
  },
  {
    name: 'starts what it takes over a second early',
    file: 'engine/engine.js',
    find: 'this.#table.resume(segment, this.#now())',
    replace: 'this.#table.resume(segment, { ...this.#now(), wallMs: this.clock.wallMs() + 1_000 })',
  },
  {
    name: 'does not take up what ran in a dead process',
    file: 'engine/engine.js',
    find: 'for (const task of resumed.lost)',
    replace: 'for (const task of [])',
  },
  {
    name: 'does not look at the window before',
    file: 'engine/intake.js',
    find: "{ target: 'create', key, operator: '=', operand: 0 },",
    replace: '',
  },
  {
    name: 'never takes up keyed tasks',
    file: 'engine/engine.js',
    find: 'const task = this.#table.taskAt(this.#adopt(frame), 0);',
    replace: 'const task = 0;',
  },
  {
    name: 'releases no room',
    file: 'engine/engine.js',
    find: 'this.onReleased?.(settled.bytes, settled.tasks);',
    replace: ';',
  },
  {
    name: 'does not tell waiters',
    file: 'engine/engine.js',
    find: 'this.#waiters.settle(settled.watched);',
    replace: '',
  },
  {
    name: 'stays fenced in silence',
    file: 'engine/engine.js',
    find: 'this.#rejectUnsent(cause);\n        this.#stopClaiming();',
    replace: 'this.#stopClaiming();',
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
