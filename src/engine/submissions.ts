/**
 * Submissions: from `submit()` to the answer of who submitted.
 *
 *   Intake             packs what is submitted into frames           intake.ts
 *   Debounces          of those with one key, the last one           debounces.ts
 *   GatedSubmissions   those that a gate decides about               gated-submissions.ts
 *   Arrivals           where tasks go that are stored                arrivals.ts
 *
 * A cut takes frames from here, and tells what became of them.
 */
import type { MillraceError } from '../core/errors.js';
import { requireTaskId } from '../core/ids.js';
import type { OperationResult, Store } from '../core/store.js';
import type { SegmentHandle } from '../timing/task-table.js';
import { type ArrivalPorts, Arrivals } from './arrivals.js';
import type { BulkFrame, ClosedFrame } from './closed-frame.js';
import type { Cluster } from './cluster.js';
import type { SubmittedFrames } from './cut.js';
import { Debounces } from './debounces.js';
import { type Door, mayBeStored } from './door.js';
import { GatedSubmissions } from './gated-submissions.js';
import { type GatedFrame, type HomeOf, Intake, type IntakeOptions } from './intake.js';
import { type Accepted, type NewTask, Submission } from './submission.js';
import type { TaskDesk } from './task-desk.js';
import type { TimeKeeper } from './time-keeper.js';

/** What the engine knows and does for them. */
export interface SubmissionPorts extends ArrivalPorts {
  readonly store: Store;
  readonly door: Door;
  readonly time: TimeKeeper;
  readonly desk: TaskDesk;
  /** Undefined: nobody shares the store. */
  readonly cluster: Cluster | undefined;
  /** There is something to write. */
  requestCommit(): void;
  /** Some have their answers. */
  onAnswered(): void;
}

export class Submissions implements SubmittedFrames {
  readonly #ports: SubmissionPorts;
  readonly #door: Door;
  readonly #intake: Intake;
  readonly #homeOf: HomeOf;
  readonly #arrivals: Arrivals;
  readonly #gated: GatedSubmissions;
  readonly #debounces: Debounces;

  /** @param options - debounce keys are filed in windows as wide as those of idempotency keys */
  constructor(ports: SubmissionPorts, options: Omit<IntakeOptions, 'incarnation'>) {
    const { clock, store, incarnation, door, desk, cluster, holder } = ports;
    const intake = new Intake({ incarnation, ...options });
    const arrivals = new Arrivals(ports);
    this.#ports = ports;
    this.#door = door;
    this.#intake = intake;
    this.#homeOf = (segment) => holder.home(segment);
    this.#arrivals = arrivals;
    this.#gated = new GatedSubmissions({
      clock,
      store,
      haltedBy: () => (door.isClosed ? door.refusal : undefined),
      takeJoined: (first) => intake.takeJoined(first),
      find: (id) => {
        const { segment, index } = requireTaskId(id);
        return desk.find(segment, index);
      },
      takeUp: (frame, isAwaited) => arrivals.takeUp(frame, isAwaited),
      tellSubmitted: (frame, counts) => arrivals.tellSubmitted(frame, counts),
      again: (submission) => {
        intake.again(submission, clock.wallMs());
        ports.requestCommit();
      },
      onSettled: () => ports.onAnswered(),
      onNew: () => {
        ports.time.update();
        ports.requestCommit();
      },
    });
    this.#debounces = new Debounces({
      clock,
      store,
      windowMs: options.keyWindowMs,
      submit: (task) => new Promise((resolve, reject) => this.submit(task, resolve, reject)),
      supersedeBy: (task, by) => cluster?.remote.supersede(task, by),
      supersede: async (task, by) => {
        // Where nodes share the store, a command has been put with the task that replaces it.
        if (cluster === undefined) await desk.supersede(task, by);
      },
    });
  }

  /** Whether all that was submitted is answered. */
  get isEmpty(): boolean {
    return this.#intake.isEmpty && this.#gated.isEmpty;
  }

  /** See `Engine.submit`. */
  submit(
    task: NewTask,
    accept: (accepted: Accepted) => void,
    reject: (cause: MillraceError) => void,
  ): void {
    const refusal = this.#door.cause;
    if (refusal) return reject(refusal);
    if (task.debounce !== undefined && task.gate === undefined) {
      return this.#debounces.submit(task, accept, reject);
    }
    this.#intake.add(new Submission(task, accept, reject), this.#ports.clock.wallMs());
    this.#ports.requestCommit();
  }

  /** See `Engine.submitBulk`. */
  submitBulk(bulk: BulkFrame): void {
    const refusal = this.#door.cause;
    if (refusal) return bulk.reject(refusal);
    this.#intake.addBulk(bulk);
    this.#ports.requestCommit();
  }

  /** Ends what was replaced when the process before this one died. REQUIRES: nobody shares the store. */
  recover(): Promise<void> {
    return this.#debounces.recover();
  }

  /** Rejects what no commit has taken. */
  rejectUnsent(cause: MillraceError): void {
    this.#intake.rejectAll(cause);
  }

  /** Nobody learns any more what the store does not tell. */
  refuseOpen(cause: MillraceError): void {
    this.#gated.refuseOpen(cause);
  }

  // --- SubmittedFrames --------------------------------------------------------------------------------------------

  take(bytesMax: number): ClosedFrame | undefined {
    return this.#intake.takeFrame(bytesMax, this.#homeOf);
  }

  takeGated(bytesMax: number, operationsMax: number): GatedFrame | undefined {
    const nowMs = this.#ports.clock.wallMs();
    const frame = this.#intake.takeGated({ bytesMax, operationsMax, nowMs }, this.#homeOf);
    if (frame) this.#gated.taken();
    return frame;
  }

  adopt(frame: ClosedFrame): SegmentHandle {
    return this.#arrivals.adopt(frame);
  }

  onAccepted(frame: ClosedFrame, segment: SegmentHandle, isAwaited: boolean): void {
    this.#arrivals.accept(frame, segment, isAwaited);
  }

  onUnclear(frame: ClosedFrame, cause: MillraceError): void {
    frame.owner.reject(mayBeStored(cause));
  }

  onRejected(frame: ClosedFrame, cause: MillraceError): void {
    frame.owner.reject(cause);
  }

  onDisplaced(frame: ClosedFrame, isAwaited: boolean): void {
    if ('gate' in frame) this.#gated.displaced(frame as GatedFrame);
    if (isAwaited) this.#intake.putBack(frame, this.#ports.clock.wallMs());
  }

  onGatedDone(frame: GatedFrame, result: OperationResult | undefined): void {
    void this.#gated.done(frame, result);
  }

  onGatedUnclear(frame: GatedFrame, cause: MillraceError): void {
    this.#gated.unclear(frame, mayBeStored(cause));
  }

  onGatedFailed(frame: GatedFrame, cause: MillraceError): void {
    this.#gated.failed(frame, cause);
  }
}
