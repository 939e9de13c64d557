/**
 * Submitted tasks on their way into the store.
 *
 * Tasks gather in open frames, one per queue and class of due time (dates and delays apart; and per type, of those that
 * run elsewhere), so that a frame spans little time and loading one never loads a day. The commit lane closes frames when it is free: a lone task leaves at once, a flood leaves
 * in frames of up to 256. A frame is sorted by due time and named by its first, and goes whole to one shard; that is
 * when its tasks get ids.
 *
 * Whoever submits many tasks at once fills the frames itself (`BulkFrame`): then there is no object per task on this way.
 *
 * Tasks with a concurrency key go to the shard that this names, so that one node counts what runs of it: their frames are by
 * shard as well.
 *
 * Whether a task with a gate comes into being is decided inside the transaction. Fires of cron entries (cron/fire-gate.ts) and
 * debounced tasks have a gate and a segment for each. Tasks with idempotency keys share one, a few of them (keyed-queue.ts), so that
 * the store has less to do for each.
 */
import type { MillraceError } from '../core/errors.js';
import { Fifo } from '../core/fifo.js';
import { FrameKind, FrameWriter } from '../core/frame.js';
import { hash32 } from '../core/hash.js';
import { type Incarnation, type SegmentRef, segmentRef } from '../core/ids.js';
import { writeTask } from '../core/records.js';
import type { TaskHandle } from '../timing/task-table.js';
import type {
  BulkFrame,
  ClosedFrame,
  EncodedFrame,
  FrameOwner,
  Gate,
  Home,
} from './closed-frame.js';
import { KeyGate } from './keyed.js';
import { KeyedQueue, keyedTask, type NestedRoom } from './keyed-queue.js';
import { inboxKey, segmentKey } from './keys.js';
import { type NewTask, recordBytes, type Submission } from './submission.js';

export const SEGMENT_TASKS_MAX = 256;
export const SEGMENT_BYTES_MAX = 262_144;

/** What is to be put, for whoever says where. */
export interface NewSegment {
  readonly queue: string;
  /** Where it has to go; undefined: anywhere. */
  readonly shard?: number | undefined;
  /** Of one of its tasks; this node runs the others too, or they are of the same. */
  readonly type: string;
  /** How many there are. */
  readonly tasks: number;
}

export type HomeOf = (segment: NewSegment) => Home;

/** Tasks with a gate, as one nested transaction. */
export interface GatedFrame extends ClosedFrame {
  /** In the order of the frame. */
  readonly submissions: readonly Submission[];
  readonly gate: Gate;
}

/** What a gated frame may take of a commit. */
export interface GatedBudget extends NestedRoom {
  /** Wall clock. */
  readonly nowMs: number;
}

/** Single submissions that share a frame. */
class OpenFrame implements FrameOwner {
  readonly submissions: Submission[] = [];
  /** What the frame will have, about. */
  bytes = 0;

  get count(): number {
    return this.submissions.length;
  }

  get payloadBytes(): number {
    let bytes = 0;
    for (const { task } of this.submissions) bytes += task.payloadBytes;
    return bytes;
  }

  accept(segment: SegmentRef, taskAt: (index: number) => TaskHandle): void {
    this.submissions.forEach(({ accept }, index) => {
      accept({ segment, index, task: taskAt(index), isCreated: true });
    });
  }

  reject(cause: MillraceError): void {
    for (const submission of this.submissions) submission.reject(cause);
  }
}

export interface IntakeOptions {
  readonly incarnation: Incarnation;
  /** Idempotency keys are filed in windows this wide and looked up in three. */
  readonly keyWindowMs: number;
  /**
   * Types that this node runs: these share frames, each other has frames of its own, since the nodes that run it may be others
   * than for the next.
   */
  readonly handled: ReadonlySet<string>;
  /** At most {@link SEGMENT_TASKS_MAX}. @defaultValue SEGMENT_TASKS_MAX */
  readonly segmentTasksMax?: number | undefined;
  /** Of each queue; 1 where nobody shares the store. @defaultValue 1 */
  readonly shardCount?: number | undefined;
}

export class Intake {
  readonly #incarnation: Incarnation;
  readonly #keyWindowMs: number;
  readonly #handled: ReadonlySet<string>;
  readonly #segmentTasksMax: number;
  readonly #shardCount: number;
  #segmentCounter = 0;
  /** Frames that take more tasks, by queue and class of due time. */
  readonly #open = new Map<string, OpenFrame>();
  /** Frames that are full, and those that came full. */
  readonly #full = new Fifo<OpenFrame | BulkFrame>();
  /** Those with a gate of their own. */
  readonly #gated = new Fifo<Submission>();
  /** Those with an idempotency key. */
  readonly #keyed: KeyedQueue;
  readonly #writer = new FrameWriter(FrameKind.TASKS, { records: SEGMENT_TASKS_MAX });

  constructor(options: IntakeOptions) {
    this.#segmentTasksMax = options.segmentTasksMax ?? SEGMENT_TASKS_MAX;
    this.#keyed = new KeyedQueue({
      tasksMax: this.#segmentTasksMax,
      bytesMax: SEGMENT_BYTES_MAX,
    });
    this.#incarnation = options.incarnation;
    this.#keyWindowMs = options.keyWindowMs;
    this.#handled = options.handled;
    this.#shardCount = options.shardCount ?? 1;
  }

  get isEmpty(): boolean {
    return (
      this.#open.size === 0 &&
      this.#full.length === 0 &&
      this.#gated.length === 0 &&
      this.#keyed.isEmpty
    );
  }

  /** @param nowMs - wall clock, for the class of due time */
  add(submission: Submission, nowMs: number): void {
    const { task } = submission;
    const frameKey = this.#frameKeyOf(task, nowMs);
    if (task.idempotencyKey !== undefined) return this.#keyed.add(submission, frameKey);
    if (task.gate !== undefined) return this.#gated.push(submission);
    const bytes = recordBytes(task);
    let frame = this.#open.get(frameKey);
    if (frame !== undefined && frame.bytes + bytes > SEGMENT_BYTES_MAX) {
      this.#full.push(frame);
      frame = undefined;
    }
    if (frame === undefined) {
      frame = new OpenFrame();
      this.#open.set(frameKey, frame);
    }
    frame.submissions.push(submission);
    frame.bytes += bytes;
    if (frame.submissions.length >= this.#segmentTasksMax) {
      this.#open.delete(frameKey);
      this.#full.push(frame);
    }
  }

  addBulk(bulk: BulkFrame): void {
    this.#full.push(bulk);
  }

  /**
   * The next frame, closed; full ones first. Undefined when there is none within `bytesMax`.
   *
   * @param homeOf - where a frame goes
   */
  takeFrame(bytesMax: number, homeOf: HomeOf): ClosedFrame | undefined {
    const frame = this.#takeOpenFrame(bytesMax);
    if (frame === undefined) return undefined;
    if (!(frame instanceof OpenFrame)) return this.#name(frame, frame, homeOf);
    // Mostly they arrive in order; then sorting is a single pass.
    frame.submissions.sort((a, b) => a.task.dueAtMs - b.task.dueAtMs);
    return this.#name(this.#encode(frame.submissions), frame, homeOf);
  }

  /** The next tasks with a gate as a nested transaction; undefined when there are none that fit. */
  takeGated(budget: GatedBudget, homeOf: HomeOf): GatedFrame | undefined {
    const submission = this.#gated.peek();
    if (submission === undefined) return this.#takeKeyed(budget, homeOf);
    const gate = submission.task.gate!;
    const bytes = recordBytes(submission.task) + gate.bytes;
    if (bytes > budget.bytesMax || gate.operations > budget.operationsMax) return undefined;
    this.#gated.shift();
    return this.#gate([submission], gate, homeOf);
  }

  /** Its commit was not applied, and its shard is not ours any more: it goes with the next one, to another. */
  putBack(frame: ClosedFrame | GatedFrame, nowMs: number): void {
    if ('gate' in frame) for (const submission of frame.submissions) this.again(submission, nowMs);
    else if (frame.owner instanceof OpenFrame) this.#full.push(frame.owner);
    else this.#full.push(frame.owner as BulkFrame);
  }

  /** One with a gate goes with a later commit. What joined it has joined it still. */
  again(submission: Submission, nowMs: number): void {
    const { task } = submission;
    if (task.idempotencyKey === undefined) this.#gated.push(submission);
    else this.#keyed.again(submission, this.#frameKeyOf(task, nowMs));
  }

  /** A keyed submission ended; those that joined it hear the same. */
  takeJoined(submission: Submission): readonly Submission[] {
    if (submission.task.idempotencyKey === undefined) return [];
    return this.#keyed.takeJoined(submission);
  }

  /** Rejects everything not yet cut. */
  rejectAll(cause: MillraceError): void {
    const frames = [...this.#full.takeAll(), ...this.#open.values()];
    this.#open.clear();
    for (const frame of frames) frame.reject(cause);
    for (const submission of [...this.#gated.takeAll(), ...this.#keyed.takeAll()]) {
      submission.reject(cause);
      for (const joined of this.takeJoined(submission)) joined.reject(cause);
    }
  }

  #takeKeyed(budget: GatedBudget, homeOf: HomeOf): GatedFrame | undefined {
    const submissions = this.#keyed.take(budget);
    if (submissions.length === 0) return undefined;
    submissions.sort((a, b) => a.task.dueAtMs - b.task.dueAtMs);
    const { nowMs } = budget;
    const gate = new KeyGate(submissions.map(keyedTask), { nowMs, windowMs: this.#keyWindowMs });
    return this.#gate(submissions, gate, homeOf);
  }

  #gate(submissions: readonly Submission[], gate: Gate, homeOf: HomeOf): GatedFrame {
    const owner = new OpenFrame();
    owner.submissions.push(...submissions);
    const closed = this.#name(this.#encode(submissions), owner, homeOf);
    const operation = gate.operation(closed);
    return { ...closed, submissions, gate, operation, bytes: closed.bytes + gate.bytes };
  }

  #takeOpenFrame(bytesMax: number): OpenFrame | BulkFrame | undefined {
    const full = this.#full.peek();
    if (full !== undefined) {
      const bytes = full instanceof OpenFrame ? full.bytes : full.frame.length;
      return bytes > bytesMax ? undefined : this.#full.shift();
    }
    for (const [key, frame] of this.#open) {
      if (frame.bytes > bytesMax) return undefined;
      this.#open.delete(key);
      return frame;
    }
    return undefined;
  }

  /** Tasks with the same may share a frame. */
  #frameKeyOf(task: NewTask, nowMs: number): string {
    const type = this.#handled.has(task.type) ? '' : task.type;
    const kind = task.isDueByDate ? 'at' : 'in';
    const shard = this.#shardOf(task);
    const at = shard === undefined ? '' : `#${shard}`;
    return `${task.queue}${at}/${kind}/${dueClassOf(task.dueAtMs, nowMs)}/${type}`;
  }

  /** REQUIRES: sorted by due time. */
  #encode(submissions: readonly Submission[]): EncodedFrame {
    const { queue, type, dueAtMs, isDueByDate = false, concurrencyKey } = submissions[0]!.task;
    const writer = this.#writer;
    writer.reset();
    for (const submission of submissions) writeTask(writer, submission.task);
    const dueMonoMs = Float64Array.from(submissions, ({ task }) => task.dueMonoMs);
    const frame = writer.finish();
    return { queue, type, dueAtMs, isDueByDate, dueMonoMs, frame, concurrencyKey };
  }

  /** Where a task has to go. */
  #shardOf({
    concurrencyKey,
  }: {
    readonly concurrencyKey?: string | undefined;
  }): number | undefined {
    return concurrencyKey === undefined ? undefined : hash32(concurrencyKey) % this.#shardCount;
  }

  /** Gives a frame its place in the store, and so its tasks their ids. */
  #name(encoded: EncodedFrame, owner: FrameOwner, homeOf: HomeOf): ClosedFrame {
    const { queue, type, dueAtMs, isDueByDate, dueMonoMs, frame } = encoded;
    const shard = this.#shardOf(encoded);
    const home = homeOf({ queue, type, tasks: dueMonoMs.length, shard });
    const at = { queue, shard: home.shard, dueAtMs };
    const ref = segmentRef(at, this.#incarnation, this.#segmentCounter++);
    const key = home.isInbox ? inboxKey(ref) : segmentKey(ref);
    return {
      queue,
      type,
      dueAtMs,
      isDueByDate,
      dueMonoMs,
      frame,
      ref,
      home,
      owner,
      operation: { type: 'put', key, value: frame },
      bytes: frame.length + 64,
    };
  }
}

/**
 * Tasks of one class may share a frame. The nearer, the finer: everything due now; then spans that double from
 * one second on; beyond an hour, the hour itself.
 */
function dueClassOf(dueAtMs: number, nowMs: number): string {
  const delayMs = dueAtMs - nowMs;
  if (delayMs <= 0) return 'now';
  if (delayMs <= 1_000) return '1s';
  if (delayMs < 3_600_000) return `2^${Math.floor(Math.log2(delayMs))}`;
  return `h${Math.floor(dueAtMs / 3_600_000)}`;
}
