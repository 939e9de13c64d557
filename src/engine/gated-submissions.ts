/**
 * Submissions with a gate, from the commit that decides about them to the answer of those who wait: what the gate came to is
 * told by the commit's own answer, or read when that was lost; tasks that are new are taken up here.
 *
 *   taken       by a cut: `flying` counts it until it is answered
 *   displaced   its shard is lost: it goes back, to be taken again
 *   unclear     nobody knows for too long: those who wait are told so. One of the others follows all the same
 *   done        applied; open until it is known whether the tasks came into being. What was refused for another's sake goes
 *               to be taken again
 *   failed      refused for certain
 */
import { type Clock, sleep } from '../core/clock.js';
import { hasCode, type MillraceError } from '../core/errors.js';
import { requireTaskId, type TaskId } from '../core/ids.js';
import type { OperationResult, Store } from '../core/store.js';
import type { TaskHandle } from '../timing/task-table.js';
import type { Decision } from './closed-frame.js';
import type { GatedFrame } from './intake.js';
import type { Accepted, Submission } from './submission.js';
import { NOT_HELD } from './task-desk.js';

/** What became of a submission is read again after so long. */
const READ_DELAY_MS = 200;

/** What the engine does for them. */
export interface GatedPorts {
  readonly clock: Clock;
  readonly store: Store;
  /** Why nobody here waits for anything any more. */
  haltedBy(): MillraceError | undefined;
  /** Those that joined the first one of a key. */
  takeJoined(first: Submission): readonly Submission[];
  /** The task of an earlier submission, where this node has it. */
  find(task: TaskId): TaskHandle;
  /**
   * New tasks are stored: this node takes them up, if they are of its own and near.
   *
   * @param isAwaited - whether submitters have room for them; else it is taken here
   * @returns which task an index of the frame is; 0 when it did not
   */
  takeUp(frame: GatedFrame, isAwaited: boolean): (index: number) => TaskHandle;
  tellSubmitted(
    frame: GatedFrame,
    counts: { readonly tasks: number; readonly deduplicated: number },
  ): void;
  /** It goes with a later commit. */
  again(submission: Submission): void;
  /** Some, and those that joined them, have their answers. */
  onSettled(): void;
  /** New tasks are here, and told of. */
  onNew(): void;
}

export class GatedSubmissions {
  readonly #ports: GatedPorts;
  /** In a commit that flies, or that is applied and does not say yet what they came to. */
  #flying = 0;
  /** Those of the second kind: closing does not wait for what the store may not tell. */
  readonly #open = new Set<GatedFrame>();
  /** Those that nobody waits for any more, and whose fate is to come. */
  readonly #unclear = new Set<GatedFrame>();

  constructor(ports: GatedPorts) {
    this.#ports = ports;
  }

  /** Whether all that was taken is answered, or back. */
  get isEmpty(): boolean {
    return this.#flying === 0;
  }

  /** A cut has it. */
  taken(): void {
    this.#flying++;
  }

  /** It was not written, and is to be taken again if somebody waits for it. */
  displaced(frame: GatedFrame): void {
    this.#flying--;
    this.#unclear.delete(frame);
  }

  /** Nobody knows for too long what it came to. */
  unclear(frame: GatedFrame, cause: MillraceError): void {
    for (const one of frame.submissions)
      this.#answer(one, (submission) => submission.reject(cause));
    this.#unclear.add(frame);
  }

  failed(frame: GatedFrame, cause: MillraceError): void {
    this.#settle(frame, (one) => this.#answer(one, (submission) => submission.reject(cause)));
  }

  /** @param result - of its nested transaction; undefined when the answer was lost */
  async done(frame: GatedFrame, result: OperationResult | undefined): Promise<void> {
    let decisions: readonly Decision[];
    this.#open.add(frame);
    try {
      decisions = await this.#decisions(frame, result);
    } catch (cause) {
      return this.#refuse(frame, cause as MillraceError);
    }
    // Closing has answered it.
    if (!this.#open.delete(frame)) return;
    if (decisions[0]!.kind === 'created') this.#acceptNew(frame);
    else this.#acceptFound(frame, decisions);
  }

  /** Whatever is still open is answered with this. */
  refuseOpen(cause: MillraceError): void {
    for (const frame of this.#open) this.#refuse(frame, cause);
  }

  #acceptFound(frame: GatedFrame, decisions: readonly Decision[]): void {
    let found = 0;
    this.#settle(frame, (one, i) => {
      const decision = decisions[i]!;
      if (decision.kind === 'found') {
        const { segment, index } = requireTaskId(decision.task);
        const task = this.#ports.find(decision.task);
        const accepted: Accepted = { segment, index, task, isCreated: false };
        found += this.#answer(one, (submission) => submission.accept(accepted));
      } else if (decision.kind === 'refused') {
        this.#answer(one, (submission) => submission.reject(decision.cause));
      } else {
        one.rounds++;
        this.#ports.again(one);
      }
    });
    this.#ports.tellSubmitted(frame, { tasks: 0, deduplicated: found });
  }

  #acceptNew(frame: GatedFrame): void {
    // Who closes tells that they are stored, and leaves them to others.
    const isHalted = this.#ports.haltedBy() !== undefined;
    const taskAt = isHalted ? () => NOT_HELD : this.#ports.takeUp(frame, !this.#unclear.has(frame));
    let deduplicated = 0;
    this.#settle(frame, (first, index) => {
      const [segment, task] = [frame.ref, taskAt(index)];
      // Those that joined the first did not create anything.
      const answered = this.#answer(first, (submission) =>
        submission.accept({ segment, index, task, isCreated: submission === first }),
      );
      deduplicated += answered - 1;
    });
    this.#ports.tellSubmitted(frame, { tasks: frame.submissions.length, deduplicated });
    if (!isHalted) this.#ports.onNew();
  }

  /** Asks until it is known: a task that is stored and not taken up here would wait for the next start. */
  async #decisions(
    frame: GatedFrame,
    result: OperationResult | undefined,
  ): Promise<readonly Decision[]> {
    const { store, clock, haltedBy } = this.#ports;
    for (;;) {
      try {
        return await frame.gate.outcome(store, frame, result);
      } catch (cause) {
        if (haltedBy() || !hasCode(cause, 'ERR_MILLRACE_STORE_UNAVAILABLE')) throw cause;
        await sleep(clock, READ_DELAY_MS);
      }
    }
  }

  /** Does nothing when it has been answered. */
  #refuse(frame: GatedFrame, cause: MillraceError): void {
    if (this.#open.delete(frame)) this.failed(frame, cause);
  }

  /** @param settle - called for each, but for those of an unclear one, which have been told */
  #settle(frame: GatedFrame, settle: (submission: Submission, index: number) => void): void {
    if (!this.#unclear.delete(frame)) frame.submissions.forEach(settle);
    this.#flying--;
    this.#ports.onSettled();
  }

  /** @returns how many that were: it, and those that joined it */
  #answer(first: Submission, settle: (submission: Submission) => void): number {
    settle(first);
    const joined = this.#ports.takeJoined(first);
    for (const submission of joined) settle(submission);
    return 1 + joined.length;
  }
}
