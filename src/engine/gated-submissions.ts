/**
 * Submissions with a gate, from the commit that decides about them to the answer of those who wait: what the gate came to is
 * told by the commit's own answer, or read when that was lost; a task that is new is taken up here.
 *
 *   taken       by a cut: `flying` counts it until it is answered
 *   displaced   its shard is lost: it goes back, to be taken again
 *   unclear     nobody knows for too long: those who wait are told so. One of the others follows all the same
 *   done        applied; open until it is known whether the task came into being
 *   failed      refused for certain
 */
import { type Clock, sleep } from '../core/clock.js';
import { hasCode, type MillraceError } from '../core/errors.js';
import { requireTaskId, type TaskId } from '../core/ids.js';
import type { OperationResult, Store } from '../core/store.js';
import type { TaskHandle } from '../timing/task-table.js';
import type { Accepted, GatedFrame, Submission } from './intake.js';

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
   * A new task is stored: this node takes it up, if it is one of its own and near. @returns 0 when it did not
   *
   * @param isAwaited - whether a submitter has room for it; else it is taken here
   */
  takeUp(frame: GatedFrame, isAwaited: boolean): TaskHandle;
  tellSubmitted(
    frame: GatedFrame,
    counts: { readonly tasks: number; readonly deduplicated: number },
  ): void;
  /** One and those that joined it have their answers. */
  onSettled(): void;
  /** A new task is here, and told of. */
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
    this.#answer(frame, (submission) => submission.reject(cause));
    this.#unclear.add(frame);
  }

  failed(frame: GatedFrame, cause: MillraceError): void {
    this.#settle(frame, (submission) => submission.reject(cause));
  }

  /** @param result - of its nested transaction; undefined when the answer was lost */
  async done(frame: GatedFrame, result: OperationResult | undefined): Promise<void> {
    let existing: TaskId | undefined;
    this.#open.add(frame);
    try {
      existing = await this.#existingTask(frame, result);
    } catch (cause) {
      return this.#refuse(frame, cause as MillraceError);
    }
    // Stored, or there before; but nobody here can wait for it any more.
    const haltedBy = this.#ports.haltedBy();
    if (haltedBy !== undefined) return this.#refuse(frame, haltedBy);
    this.#open.delete(frame);
    if (existing === undefined) this.#acceptNew(frame);
    else this.#acceptFound(frame, existing);
  }

  /** Whatever is still open is answered with this. */
  refuseOpen(cause: MillraceError): void {
    for (const frame of this.#open) this.#refuse(frame, cause);
  }

  #acceptFound(frame: GatedFrame, existing: TaskId): void {
    const { segment, index } = requireTaskId(existing);
    const accepted: Accepted = {
      segment,
      index,
      task: this.#ports.find(existing),
      isCreated: false,
    };
    const found = this.#settle(frame, (submission) => submission.accept(accepted));
    this.#ports.tellSubmitted(frame, { tasks: 0, deduplicated: found });
  }

  #acceptNew(frame: GatedFrame): void {
    const task = this.#ports.takeUp(frame, !this.#unclear.has(frame));
    const settled = this.#settle(frame, (submission) =>
      submission.accept({
        segment: frame.ref,
        index: 0,
        task,
        // Those that joined the first did not create anything.
        isCreated: submission === frame.submission,
      }),
    );
    this.#ports.tellSubmitted(frame, { tasks: 1, deduplicated: Math.max(0, settled - 1) });
    this.#ports.onNew();
  }

  /** Asks until it is known: a task that is stored and not taken up here would wait for the next start. */
  async #existingTask(
    frame: GatedFrame,
    result: OperationResult | undefined,
  ): Promise<TaskId | undefined> {
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

  /** @returns how many submissions that were; those of an unclear one have been told */
  #settle(frame: GatedFrame, settle: (submission: Submission) => void): number {
    this.#flying--;
    const settled = this.#unclear.delete(frame) ? 0 : this.#answer(frame, settle);
    this.#ports.onSettled();
    return settled;
  }

  #answer(frame: GatedFrame, settle: (submission: Submission) => void): number {
    const first = frame.submission;
    settle(first);
    const joined = this.#ports.takeJoined(first);
    for (const submission of joined) settle(submission);
    return 1 + joined.length;
  }
}
