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
 * A task with an idempotency key is alone in its segment, because whether it exists is decided per key inside the
 * transaction (see `keyedOperation`).
 */
import type { MillraceError } from '../core/errors.js';
import { Fifo } from '../core/fifo.js';
import { FrameKind, FrameWriter } from '../core/frame.js';
import { type Incarnation, type SegmentRef, segmentRef, taskId } from '../core/ids.js';
import { type TaskToWrite, writeTask } from '../core/records.js';
import type { Operation } from '../core/store.js';
import type { TaskHandle } from '../timing/task-table.js';
import { idempotencyKey, inboxKey, segmentKey } from './keys.js';
import type { Shard } from './shard.js';

export const SEGMENT_TASKS_MAX = 256;
export const SEGMENT_BYTES_MAX = 262_144;
/** Room for one record with its share of header and strings. */
const RECORD_OVERHEAD_BYTES = 96;

/** A task as the engine takes it: checked, encoded, with times resolved. */
export interface NewTask extends TaskToWrite {
  readonly queue: string;
  /** On the monotonic clock; exact where `dueAtMs` is rounded to the wall clock. */
  readonly dueMonoMs: number;
  /** Whether it is due at a moment of the wall clock, and not after a delay. @defaultValue false */
  readonly isDueByDate?: boolean;
  readonly idempotencyKey: string | undefined;
}

/** A task that stands for a submission: the one it created, or an earlier one with the same idempotency key. */
export interface Accepted {
  readonly segment: SegmentRef;
  readonly index: number;
  /** 0 when this node's table did not have it. */
  readonly task: TaskHandle;
  readonly isCreated: boolean;
}

/** The shard that a new segment goes to. */
export interface Home {
  readonly shard: number;
  /** Ours; undefined where shards are somebody else's, or where the store has one writer. */
  readonly owner: Shard | undefined;
  /** Whether it goes into the inbox of the shard's owner, and this node holds nothing of it. */
  readonly isInbox: boolean;
}

/** What is to be put, for whoever says where. */
export interface NewSegment {
  readonly queue: string;
  /** Of one of its tasks; this node runs the others too, or they are of the same. */
  readonly type: string;
  /** How many there are. */
  readonly tasks: number;
}

export type HomeOf = (segment: NewSegment) => Home;

/** One task between submit() and its acknowledgement. */
export class Submission {
  readonly task: NewTask;
  /** It is durable. */
  readonly accept: (accepted: Accepted) => void;
  /** It certainly is not in the store, and will not be. */
  readonly reject: (cause: MillraceError) => void;

  constructor(
    task: NewTask,
    accept: (accepted: Accepted) => void,
    reject: (cause: MillraceError) => void,
  ) {
    this.task = task;
    this.accept = accept;
    this.reject = reject;
  }
}

/** Who is told of the tasks of a frame. */
export interface FrameOwner {
  readonly count: number;
  readonly payloadBytes: number;
  /** They are durable. @param taskAt - 0 for every index where this node does not hold them */
  accept(segment: SegmentRef, taskAt: (index: number) => TaskHandle): void;
  /** They certainly are not in the store, and will not be. */
  reject(cause: MillraceError): void;
}

/** Tasks of one queue. */
interface EncodedFrame {
  readonly queue: string;
  /** Of one of them: the others are of the same, or this node runs them too. */
  readonly type: string;
  /** Sorted by due time; at most 256 tasks. */
  readonly frame: Uint8Array<ArrayBuffer>;
  /** Of the first. */
  readonly dueAtMs: number;
  /** Whether they are due at moments of the wall clock, and not after delays. */
  readonly isDueByDate: boolean;
  /** When each task is due on the monotonic clock. */
  readonly dueMonoMs: Float64Array;
}

/** Tasks that were submitted together, encoded already. */
export interface BulkFrame extends FrameOwner, EncodedFrame {}

/** A closed frame, ready to be put. */
export interface ClosedFrame extends EncodedFrame {
  readonly ref: SegmentRef;
  readonly home: Home;
  readonly owner: FrameOwner;
  readonly operation: Operation;
  readonly bytes: number;
}

/** A keyed task as one nested transaction. */
export interface KeyedFrame extends ClosedFrame {
  readonly submission: Submission;
  /** Where the key may be: this window, in which a new one is put, the one before, and the next. */
  readonly keys: readonly [string, string, string];
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

export class Intake {
  readonly #incarnation: Incarnation;
  readonly #keyWindowMs: number;
  readonly #handled: ReadonlySet<string>;
  #segmentCounter = 0;
  /** Frames that take more tasks, by queue and class of due time. */
  readonly #open = new Map<string, OpenFrame>();
  /** Frames that are full, and those that came full. */
  readonly #full = new Fifo<OpenFrame | BulkFrame>();
  readonly #keyed = new Fifo<Submission>();
  /** Keyed submissions in this lane, by scope and key: later ones join the first. */
  readonly #joined = new Map<string, Submission[]>();
  readonly #writer = new FrameWriter(FrameKind.TASKS, { records: SEGMENT_TASKS_MAX });

  /**
   * @param options.keyWindowMs - idempotency keys are filed in windows this wide and looked up in three
   * @param options.handled - types that this node runs: these share frames, each other has frames of its own, since
   *   the nodes that run it may be others than for the next
   */
  constructor(options: {
    readonly incarnation: Incarnation;
    readonly keyWindowMs: number;
    readonly handled: ReadonlySet<string>;
  }) {
    this.#incarnation = options.incarnation;
    this.#keyWindowMs = options.keyWindowMs;
    this.#handled = options.handled;
  }

  get isEmpty(): boolean {
    return this.#open.size === 0 && this.#full.length === 0 && this.#keyed.length === 0;
  }

  /** @param nowMs - wall clock, for the class of due time */
  add(submission: Submission, nowMs: number): void {
    const { task } = submission;
    if (task.idempotencyKey !== undefined) return this.#addKeyed(submission);
    const bytes = task.payloadBytes + (task.metadata?.length ?? 0) + RECORD_OVERHEAD_BYTES;
    const type = this.#handled.has(task.type) ? '' : task.type;
    const kind = task.isDueByDate ? 'at' : 'in';
    const frameKey = `${task.queue}/${kind}/${dueClassOf(task.dueAtMs, nowMs)}/${type}`;
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
    if (frame.submissions.length === SEGMENT_TASKS_MAX) {
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

  /** The next keyed task as a nested transaction. */
  takeKeyed(bytesMax: number, nowMs: number, homeOf: HomeOf): KeyedFrame | undefined {
    const submission = this.#keyed.peek();
    if (submission === undefined) return undefined;
    const { task } = submission;
    if (task.payloadBytes + RECORD_OVERHEAD_BYTES > bytesMax) return undefined;
    this.#keyed.shift();
    const owner = new OpenFrame();
    owner.submissions.push(submission);
    const closed = this.#name(this.#encode(owner.submissions), owner, homeOf);
    const window = Math.floor(nowMs / this.#keyWindowMs) * this.#keyWindowMs;
    const keyIn = (begin: number): string =>
      idempotencyKey(Math.max(0, begin), task.type, task.idempotencyKey!);
    const width = this.#keyWindowMs;
    const keys = [keyIn(window), keyIn(window - width), keyIn(window + width)] as const;
    return { ...closed, submission, keys, operation: keyedOperation(closed, keys) };
  }

  /** Its commit was not applied, and its shard is not ours any more: it goes with the next one, to another. */
  putBack(frame: ClosedFrame | KeyedFrame): void {
    // What joined it has joined it still.
    if ('keys' in frame) this.#keyed.push(frame.submission);
    else if (frame.owner instanceof OpenFrame) this.#full.push(frame.owner);
    else this.#full.push(frame.owner as BulkFrame);
  }

  /** A keyed submission ended; those that joined it hear the same. */
  takeJoined(submission: Submission): readonly Submission[] {
    const joinKey = joinKeyOf(submission);
    const joined = this.#joined.get(joinKey) ?? [];
    this.#joined.delete(joinKey);
    return joined;
  }

  /** Rejects everything not yet cut. */
  rejectAll(cause: MillraceError): void {
    const frames = [...this.#full.takeAll(), ...this.#open.values()];
    this.#open.clear();
    for (const frame of frames) frame.reject(cause);
    for (const submission of this.#keyed.takeAll()) {
      submission.reject(cause);
      for (const joined of this.takeJoined(submission)) joined.reject(cause);
    }
  }

  #addKeyed(submission: Submission): void {
    const joinKey = joinKeyOf(submission);
    const joined = this.#joined.get(joinKey);
    if (joined !== undefined) {
      joined.push(submission);
      return;
    }
    this.#joined.set(joinKey, []);
    this.#keyed.push(submission);
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

  /** REQUIRES: sorted by due time. */
  #encode(submissions: readonly Submission[]): EncodedFrame {
    const { queue, type, dueAtMs, isDueByDate = false } = submissions[0]!.task;
    const writer = this.#writer;
    writer.reset();
    for (const submission of submissions) writeTask(writer, submission.task);
    const dueMonoMs = Float64Array.from(submissions, ({ task }) => task.dueMonoMs);
    return { queue, type, dueAtMs, isDueByDate, dueMonoMs, frame: writer.finish() };
  }

  /** Gives a frame its place in the store, and so its tasks their ids. */
  #name(
    { queue, type, dueAtMs, isDueByDate, dueMonoMs, frame }: EncodedFrame,
    owner: FrameOwner,
    homeOf: HomeOf,
  ): ClosedFrame {
    const home = homeOf({ queue, type, tasks: dueMonoMs.length });
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
 * One transaction that creates a keyed task, or tells which task has the key already:
 *
 *   if    neither this window nor the one before nor the next holds the key
 *   then  put the key -> task id, put the segment
 *   else  get the key from all three
 *
 * The next window has begun on a node whose clock is ahead, and on this one before its clock was set back.
 * A key is thus known for at least one window's width after its first use, and for at most two.
 */
function keyedOperation(closed: ClosedFrame, keys: KeyedFrame['keys']): Operation {
  const id = taskId(closed.ref, 0);
  return {
    type: 'txn',
    txn: {
      compares: keys.map((key) => ({ target: 'create', key, operator: '=', operand: 0 })),
      success: [{ type: 'put', key: keys[0], value: Buffer.from(id) }, closed.operation],
      failure: keys.map((key) => ({ type: 'get', key })),
    },
  };
}

function joinKeyOf(submission: Submission): string {
  return `${submission.task.type}\n${submission.task.idempotencyKey}`;
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
