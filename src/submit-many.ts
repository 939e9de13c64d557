/**
 * Many tasks in one call: encoded straight into frames, with no object per task.
 *
 *   items --validate, encode--> a frame of up to 256 --admission--> engine --> accepted: a name per frame
 *
 * A source may be slow (an async iterable): a frame leaves when it is full, or when the source has nothing at hand. It
 * may also be endless: room in the queue is taken frame by frame, and no more than a bounded number of frames is on the
 * way at a time, so a source is read as fast as the store writes. Long plain lists give way to the event loop.
 */
import type { Clock } from './core/clock.js';
import { encodeInto, type PayloadLimits } from './core/codec.js';
import { isMillraceError, MillraceError } from './core/errors.js';
import { FrameKind, FrameWriter } from './core/frame.js';
import { type SegmentRef, type TaskId, taskId } from './core/ids.js';
import { writeTask } from './core/records.js';
import { type Settlement, statusOf, TaskState } from './core/states.js';
import { errorOfEnd, valueOfEnd } from './engine/ends.js';
import type { Engine } from './engine/engine.js';
import {
  type Accepted,
  type NewTask,
  SEGMENT_BYTES_MAX,
  SEGMENT_TASKS_MAX,
} from './engine/intake.js';

/** Frames that are submitted and not acknowledged; above it the source waits. */
const FLYING_MAX = 64;
/** After so many frames out of a plain list the event loop has a turn. */
const FRAMES_PER_TURN = 8;
/** Ends that are waited for ahead of whoever reads them. */
const RESULTS_AHEAD = 512;

/** What a runtime does for it. */
export interface BulkPorts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly limits: PayloadLimits;
  /** Takes room for tasks; rejects when there is none and nobody waits, or with the signal's reason. */
  admit(bytes: number, tasks: number): Promise<void>;
  /** Gives room back. */
  release(bytes: number, tasks: number): void;
  /** Submits a task with an idempotency key, admitted already. */
  submitKeyed(task: NewTask): Promise<Accepted>;
}

/** What all tasks of one call have in common. */
export interface BulkPlan<Input> {
  /** Names the datum in errors. */
  readonly what: string;
  /** Everything but payload and key; its times are those of the call. */
  readonly template: NewTask;
  readonly validate: ((input: Input) => unknown) | undefined;
  readonly idempotencyKey: ((input: Input, index: number) => string) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** One task of a call, and how it ended. */
export type Ended<Output> = { readonly id: TaskId } & Settlement<Output>;

/** Where some tasks of a call are: a run of indexes of one segment. In the order of the items. */
interface Placed {
  /** Undefined as long as they are not accepted. */
  segment: SegmentRef | undefined;
  from: number;
  readonly count: number;
}

/** Tasks that were submitted together. They hold nothing per task. */
export class SubmittedMany<Output> {
  /** Tasks that this call created. */
  readonly accepted: number;
  /** Items that stand for earlier tasks with the same idempotency key. */
  readonly deduplicated: number;
  readonly #engine: Engine;
  readonly #places: readonly Placed[];

  constructor(engine: Engine, places: readonly Placed[], deduplicated: number) {
    this.#engine = engine;
    this.#places = places;
    this.deduplicated = deduplicated;
    this.accepted = countOf(places) - deduplicated;
  }

  /** The tasks' ids, in the order of the items. */
  *ids(): IterableIterator<TaskId> {
    for (const { segment, index } of this.#each()) yield taskId(segment, index);
  }

  /**
   * How each task ended, in the order of `ids()`. Ask at once: what ended before is looked up in the store, as long as
   * its retention lasts.
   *
   * @throws ERR_MILLRACE_TASK_GONE when the store does not know a task (any more)
   * @throws ERR_MILLRACE_CLOSED when the runtime closes first
   */
  async *results(): AsyncIterableIterator<Ended<Output>> {
    const ahead: Promise<Ended<Output>>[] = [];
    const places = this.#each();
    for (;;) {
      while (ahead.length < RESULTS_AHEAD) {
        const next = places.next();
        if (next.done) break;
        const end = this.#ended(next.value.segment, next.value.index);
        // It is awaited in its turn.
        end.catch(() => {});
        ahead.push(end);
      }
      const first = ahead.shift();
      if (first === undefined) return;
      yield await first;
    }
  }

  *#each(): Generator<{ readonly segment: SegmentRef; readonly index: number }, void> {
    for (const { segment, from, count } of this.#places) {
      if (segment === undefined) continue;
      for (let index = from; index < from + count; index++) yield { segment, index };
    }
  }

  async #ended(segment: SegmentRef, index: number): Promise<Ended<Output>> {
    const end = await this.#engine.ended({ segment, index, task: 0 as Accepted['task'] });
    const id = taskId(segment, index);
    if (end.state === TaskState.COMPLETED) {
      return { id, status: 'completed', value: valueOfEnd(end) as Output };
    }
    const status = statusOf(end.state) as 'failed' | 'cancelled' | 'expired';
    return { id, status, error: errorOfEnd(end) };
  }
}

/** One call of `submitMany`. */
export class BulkSubmission<Input, Output> {
  readonly #ports: BulkPorts;
  readonly #plan: BulkPlan<Input>;
  readonly #writer = new FrameWriter(FrameKind.TASKS, { records: SEGMENT_TASKS_MAX });
  readonly #task: { -readonly [K in keyof NewTask]: NewTask[K] };
  readonly #payload = { text: '', byteLength: 0 };
  #payloadBytes = 0;
  #index = 0;
  readonly #places: Placed[] = [];
  #deduplicated = 0;
  #flying = 0;
  #failure: { readonly cause: unknown } | undefined;
  #wake: (() => void) | undefined;

  constructor(ports: BulkPorts, plan: BulkPlan<Input>) {
    this.#ports = ports;
    this.#plan = plan;
    this.#task = { ...plan.template };
  }

  /** @throws what `submitMany` says; everything accepted until then stays */
  async run(items: Iterable<Input> | AsyncIterable<Input>): Promise<SubmittedMany<Output>> {
    try {
      if (Symbol.asyncIterator in items) await this.#readSlow(items[Symbol.asyncIterator]());
      else await this.#readFast(items);
      await this.#flush();
      await this.#untilFlying(0);
    } catch (cause) {
      // What is on its way is heard of first: the count that the error names is then final.
      await this.#untilFlying(0).catch(() => {});
      throw this.#tell(cause);
    }
    return new SubmittedMany(this.#ports.engine, this.#places, this.#deduplicated);
  }

  async #readFast(items: Iterable<Input>): Promise<void> {
    let frames = 0;
    for (const item of items) {
      const taken = this.#take(item);
      // Nothing is awaited for most items: that would cost more than the rest.
      if (taken === false || (taken !== true && !(await taken))) continue;
      await this.#flush();
      if (++frames % FRAMES_PER_TURN === 0) await this.#turn();
    }
  }

  async #readSlow(items: AsyncIterator<Input>): Promise<void> {
    try {
      for (;;) {
        const next = items.next();
        let isHere = false;
        const here = next.then(() => {
          isHere = true;
        });
        // What has gathered does not wait for a source that has nothing at hand.
        await Promise.race([here, this.#turn()]);
        if (!isHere) await this.#flush();
        const result = await next;
        if (result.done) return;
        if (await this.#take(result.value)) await this.#flush();
      }
    } catch (error) {
      await items.return?.();
      throw error;
    }
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => this.#ports.clock.wakeSoon(resolve));
  }

  /** @returns whether the frame is to leave */
  #take(item: Input): boolean | Promise<boolean> {
    this.#plan.signal?.throwIfAborted();
    const { validate } = this.#plan;
    if (validate === undefined) return this.#encode(item);
    const checked = validate(item);
    return checked instanceof Promise ? checked.then(() => this.#encode(item)) : this.#encode(item);
  }

  #encode(item: Input): boolean | Promise<boolean> {
    const { what, idempotencyKey } = this.#plan;
    const payload = this.#payload;
    payload.text = '';
    payload.byteLength = 0;
    encodeInto(payload, item, what, this.#ports.limits);
    if (idempotencyKey !== undefined) return this.#submitKeyed(idempotencyKey(item, this.#index++));
    const isFirst = this.#writer.count === 0;
    const wouldBe = this.#writer.frameBytes + payload.byteLength;
    if (!isFirst && wouldBe > SEGMENT_BYTES_MAX) {
      return this.#flush().then(() => this.#append());
    }
    return this.#append();
  }

  #append(): boolean {
    this.#index++;
    const task = this.#task;
    task.payload = this.#payload.text;
    task.payloadBytes = this.#payload.byteLength;
    writeTask(this.#writer, task);
    this.#payloadBytes += task.payloadBytes;
    return this.#writer.count === SEGMENT_TASKS_MAX || this.#writer.frameBytes > SEGMENT_BYTES_MAX;
  }

  async #flush(): Promise<void> {
    const { engine } = this.#ports;
    const count = this.#writer.count;
    if (count === 0) return;
    const frame = this.#writer.finish();
    const payloadBytes = this.#payloadBytes;
    this.#writer.reset();
    this.#payloadBytes = 0;
    await this.#untilFlying(FLYING_MAX - 1);
    await this.#ports.admit(payloadBytes, count);
    const { queue, type, dueAtMs, dueMonoMs, isDueByDate = false } = this.#plan.template;
    const place = this.#placed(count);
    engine.submitBulk({
      queue,
      type,
      frame,
      dueAtMs,
      dueMonoMs: new Float64Array(count).fill(dueMonoMs),
      isDueByDate,
      count,
      payloadBytes,
      accept: (segment) => {
        place.segment = segment;
        this.#landed(undefined);
      },
      reject: (cause) => {
        this.#ports.release(payloadBytes, count);
        this.#landed({ cause });
      },
    });
  }

  /** A keyed task is alone in its frame, and may be another one already. */
  async #submitKeyed(key: string): Promise<boolean> {
    const { text, byteLength } = this.#payload;
    await this.#untilFlying(FLYING_MAX - 1);
    await this.#ports.admit(byteLength, 1);
    const task = { ...this.#plan.template, payload: text, payloadBytes: byteLength };
    const place = this.#placed(1);
    this.#ports.submitKeyed({ ...task, idempotencyKey: key }).then(
      ({ segment, index, isCreated }) => {
        if (!isCreated) this.#deduplicated++;
        place.segment = segment;
        place.from = index;
        this.#landed(undefined);
      },
      (cause: unknown) => this.#landed({ cause }),
    );
    return false;
  }

  #placed(count: number): Placed {
    const place: Placed = { segment: undefined, from: 0, count };
    this.#places.push(place);
    this.#flying++;
    return place;
  }

  #landed(failure: { readonly cause: unknown } | undefined): void {
    this.#flying--;
    this.#failure ??= failure;
    this.#wake?.();
  }

  /** @throws what a frame was rejected with */
  async #untilFlying(max: number): Promise<void> {
    while (this.#flying > max) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#failure !== undefined) throw this.#failure.cause;
  }

  /** Says how far it came, since what was accepted stays. */
  #tell(cause: unknown): unknown {
    if (!isMillraceError(cause)) return cause;
    const accepted = countOf(this.#places) - this.#deduplicated;
    return new MillraceError(cause.code, `${cause.message} (item ${this.#index})`, {
      details: { ...cause.details, index: this.#index, accepted },
      cause,
    });
  }
}

function countOf(places: readonly Placed[]): number {
  return places.reduce((sum, { segment, count }) => sum + (segment === undefined ? 0 : count), 0);
}
