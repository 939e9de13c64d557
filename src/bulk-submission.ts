/**
 * Many tasks on their way into the engine: encoded straight into frames, with no object per task.
 *
 *   items --validate, encode--> a frame of up to 256 --admission--> engine --> accepted: a name per frame
 *
 * Room in the queue is taken frame by frame, and no more than a bounded number of frames is on the way at a time: whoever
 * adds items goes as fast as the store writes. Who feeds it decides when a frame that is not full leaves: `submit-many.ts`
 * reads iterables, `task-sink.ts` is written to.
 */
import type { Clock } from './core/clock.js';
import { encodeInto, type PayloadLimits } from './core/codec.js';
import { isMillraceError, MillraceError } from './core/errors.js';
import { FrameKind, FrameWriter } from './core/frame.js';
import type { SegmentRef } from './core/ids.js';
import { writeTask } from './core/records.js';
import type { Engine } from './engine/engine.js';
import { SEGMENT_BYTES_MAX, SEGMENT_TASKS_MAX } from './engine/intake.js';
import type { Accepted, NewTask } from './engine/submission.js';

/** Frames that are submitted and not acknowledged; above it the source waits. */
const FLYING_MAX = 64;
/** The same of keyed tasks, each by itself: a few commits' worth. */
const KEYED_FLYING_MAX = 4_096;

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

/** What all its tasks have in common. */
export interface BulkPlan<Input> {
  /** Names the datum in errors. */
  readonly what: string;
  /** Everything but payload and key, with the times of now: a source may go on for days. */
  readonly template: () => NewTask;
  readonly validate: ((input: Input) => unknown) | undefined;
  readonly idempotencyKey: ((input: Input, index: number) => string) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Where some tasks are: a run of indexes of one segment. */
export interface Placed {
  /** Undefined as long as they are not accepted. */
  segment: SegmentRef | undefined;
  from: number;
  readonly count: number;
}

export class BulkSubmission<Input> {
  readonly #ports: BulkPorts;
  readonly #plan: BulkPlan<Input>;
  readonly #places: Placed[] | undefined;
  readonly #writer = new FrameWriter(FrameKind.TASKS, { records: SEGMENT_TASKS_MAX });
  #task: { -readonly [K in keyof NewTask]: NewTask[K] };
  readonly #payload = { text: '', byteLength: 0 };
  #payloadBytes = 0;
  #index = 0;
  #accepted = 0;
  #deduplicated = 0;
  #flying = 0;
  #failure: { readonly cause: unknown } | undefined;
  #wake: (() => void) | undefined;

  /** @param places - gets where the tasks are, in the order of the items; absent: nobody asks */
  constructor(ports: BulkPorts, plan: BulkPlan<Input>, places?: Placed[]) {
    this.#ports = ports;
    this.#plan = plan;
    this.#places = places;
    this.#task = plan.template();
  }

  /** Tasks that it created, so far. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Items that stand for earlier tasks with the same idempotency key, so far. */
  get deduplicated(): number {
    return this.#deduplicated;
  }

  /** Whether items have gathered that are on no way yet. */
  get isGathering(): boolean {
    return this.#writer.count > 0;
  }

  /**
   * Takes one item in. One at a time: where this is a promise, it is awaited before the next.
   *
   * @returns whether the frame is to leave: `flush` is to be called before the next item
   * @throws what the item is refused with; the signal's reason
   */
  add(item: Input): boolean | Promise<boolean> {
    this.#plan.signal?.throwIfAborted();
    const { validate } = this.#plan;
    if (validate === undefined) return this.#encode(item);
    const checked = validate(item);
    return checked instanceof Promise ? checked.then(() => this.#encode(item)) : this.#encode(item);
  }

  /** Sends on what has gathered; resolves when there is room for more. @throws what a frame before was rejected with */
  async flush(): Promise<void> {
    const { engine } = this.#ports;
    const count = this.#writer.count;
    if (count === 0) return;
    const frame = this.#writer.finish();
    const payloadBytes = this.#payloadBytes;
    const { queue, type, dueAtMs, dueMonoMs, isDueByDate = false, concurrencyKey } = this.#task;
    this.#writer.reset();
    this.#payloadBytes = 0;
    await this.#untilFlying(FLYING_MAX - 1);
    await this.#ports.admit(payloadBytes, count);
    const place = this.#leaves(count);
    engine.submitBulk({
      queue,
      type,
      frame,
      dueAtMs,
      dueMonoMs: new Float64Array(count).fill(dueMonoMs),
      isDueByDate,
      concurrencyKey,
      count,
      payloadBytes,
      accept: (segment) => {
        if (place !== undefined) place.segment = segment;
        this.#accepted += count;
        this.#landed(undefined);
      },
      reject: (cause) => {
        this.#ports.release(payloadBytes, count);
        this.#landed({ cause });
      },
    });
  }

  /** Resolves when everything is durable. @throws what a frame was rejected with */
  async settle(): Promise<void> {
    await this.flush();
    await this.#untilFlying(0);
  }

  /** What to tell of an error: how far it came, since what was accepted stays. Resolves when that is final. */
  async told(cause: unknown): Promise<unknown> {
    await this.#untilFlying(0).catch(() => {});
    if (!isMillraceError(cause)) return cause;
    return new MillraceError(cause.code, `${cause.message} (item ${this.#index})`, {
      details: { ...cause.details, index: this.#index, accepted: this.#accepted },
      cause,
    });
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
      return this.flush().then(() => this.#append());
    }
    return this.#append();
  }

  #append(): boolean {
    this.#index++;
    // One time for all that share a frame.
    if (this.#writer.count === 0) this.#task = this.#plan.template();
    const task = this.#task;
    task.payload = this.#payload.text;
    task.payloadBytes = this.#payload.byteLength;
    writeTask(this.#writer, task);
    this.#payloadBytes += task.payloadBytes;
    return this.#writer.count === SEGMENT_TASKS_MAX || this.#writer.frameBytes > SEGMENT_BYTES_MAX;
  }

  /** A keyed task goes by itself, since it may be another one already. */
  async #submitKeyed(key: string): Promise<boolean> {
    const { text, byteLength } = this.#payload;
    await this.#untilFlying(KEYED_FLYING_MAX - 1);
    await this.#ports.admit(byteLength, 1);
    const task = { ...this.#plan.template(), payload: text, payloadBytes: byteLength };
    const place = this.#leaves(1);
    this.#ports.submitKeyed({ ...task, idempotencyKey: key }).then(
      ({ segment, index, isCreated }) => {
        if (isCreated) this.#accepted++;
        else this.#deduplicated++;
        if (place !== undefined) {
          place.segment = segment;
          place.from = index;
        }
        this.#landed(undefined);
      },
      (cause: unknown) => this.#landed({ cause }),
    );
    return false;
  }

  #leaves(count: number): Placed | undefined {
    this.#flying++;
    if (this.#places === undefined) return undefined;
    const place: Placed = { segment: undefined, from: 0, count };
    this.#places.push(place);
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
}
