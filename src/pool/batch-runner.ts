/**
 * Runs batches in the current thread: the same code in every worker thread and, for `exec: 'inline'`, on the main one.
 *
 *   frame -> [ queue of batches ] -> begin task, begin task, ... -> settle -> result frames
 *                                     `-- one slice of SLICE_MS, then the event loop gets its turn
 *
 * Batches begin in the order they came, and so do the tasks in them. A sync handler ends where it is called; an
 * async one is left running and the next task begins, so those overlap, up to the task's `concurrency`. A batch
 * whose tasks have all begun steps aside for the next one. After a handler that returned a promise, promises get
 * their turn before the next task begins: much async code is done by then, and what is done cannot be lost to a
 * batch-mate that hangs, nor is its time counted with that of its mates.
 *
 * Tasks of a type with `runBatch` begin one after another like all others, and are handed over together once the whole batch
 * has begun (batch-call.ts).
 *
 * Results travel in frames, because a message costs more than a task. What ended in the same turn of the event
 * loop goes together; a batch that is done is reported at once; and while sync handlers keep the loop, what is done
 * is reported after REPORT_MS, and before a call that by experience takes longer than LONG_CALL_MS, so nobody waits for a slow
 * batch-mate. What has not been sent when the thread dies is in the batch's ResultLog, for the other side to find. When all that is left of a
 * batch waits for something else than this thread, `onParked` says so and another batch may come.
 *
 * A task that stands on others (`begin` in its metadata: those it joins, its parent) is not begun before the runtime says so.
 *
 * Invariants: (1) each task of a batch is reported exactly once; (2) `onEnd` comes after the last report and once;
 * (3) a task is marked as begun before its code runs, and as ended before
 * anything of it is reported; (4) nothing a handler returns, throws or does with its
 * promise escapes from here, except by killing the thread.
 * Thread safety: none. Time and turns of the event loop come in through `RunnerTime`.
 */
import type { ChildAnswer, ChildAnswers, ChildAsk } from '../core/children.js';
import {
  DEFAULT_PAYLOAD_LIMITS,
  encodePayload,
  type PayloadLimits,
  payloadTooLarge,
} from '../core/codec.js';
import { toWire } from '../core/error-wire.js';
import { hasCode, MillraceError } from '../core/errors.js';
import { badFrame, FrameKind, type FrameReader, openFrame } from '../core/frame.js';
import type { HandlerHooks } from '../core/handler-hooks.js';
import { batchMetadata, batchMetadataBytes, batchMetadataPlace } from '../core/records.js';
import { Outcome } from '../core/states.js';
import { type AnyTask, Cancel, hasHandler, Snooze } from '../core/task.js';
import { hasConditions, readConditions, readParent } from '../core/task-metadata.js';
import { CallContext, type GatheredItem, itemEnds } from './batch-call.js';
import { FrameText } from './frame-text.js';
import type { LastWords } from './last-words.js';
import { type ResultLog, singleResult } from './result-log.js';
import { executionOver } from './task-children.js';
import { type ContextDesk, TaskContext, TaskItem } from './task-context.js';
import { NoteBook, type NoteCounts, type Notes, NoteTaker, type NoteTime } from './task-notes.js';

/** Where a runner gets its time from. */
export interface RunnerTime extends NoteTime {
  /** Calls back after the I/O that is ready now. */
  soon(turn: () => void): void;
}

/** Who is told about a batch. Called from within the runner, never from within `run`. */
export interface BatchReport {
  /** Tasks have said something; before the results of those that have ended since. */
  onNotes(notes: Notes): void;
  /** A task asks something of the runtime. Never after the report of its end. */
  ask(ask: ChildAsk): Promise<ChildAnswer>;
  /** Some tasks ended; the frame owns its buffer. */
  onResults(frame: Uint8Array<ArrayBuffer>): void;
  /** Every task of the batch has begun, and those that have not ended do not need the thread now. At most once. */
  onParked(): void;
  /** Every task has been reported. Once, last. */
  onEnd(): void;
}

export interface RunnerOptions {
  /** Names this process in execution ids. @defaultValue 'local' */
  readonly executor?: string;
  /** Of results. @defaultValue those of payloads */
  readonly limits?: PayloadLimits;
  /** Woven around every handler, the first outermost. @defaultValue none */
  readonly hooks?: readonly HandlerHooks[];
  /** Whether anybody would read a line of `ctx.log`. @defaultValue nobody */
  readonly wantsLines?: () => boolean;
  /** Has the lines until they are sent. */
  readonly lastWords?: LastWords;
  /** Gets what was said too much or too late. */
  readonly noteCounts?: NoteCounts;
  /** Whether results that are buffers travel as such, and not as JSON. @defaultValue false */
  readonly allowsBytes?: boolean;
}

/** A batch in a runner. */
export interface RunnerBatch {
  /**
   * Aborts a task's signal, or ends it before it begins. Does nothing for one that has ended.
   *
   * @param isTimeout - whether its time is over; the signal's reason says so
   */
  cancel(slot: number, reason: string, isTimeout?: boolean): void;
  /** The same for every task of the batch. */
  cancelAll(reason: string): void;
}

/** Runs what is appended to it after the promises that are settled now. */
const SETTLED = Promise.resolve();
/** How long tasks may begin one after another before the event loop gets a turn. */
const SLICE_MS = 4;
/** A result waits no longer than this for batch-mates that run synchronously. */
const REPORT_MS = 1;
/** A call that by experience takes longer is not waited for: the time of several reports. */
const LONG_CALL_MS = 0.5;

/** A task and what of it is going on in this thread. */
interface Lane {
  readonly task: AnyTask;
  readonly concurrency: number;
  /** Mean time of a call until it returns, in ms; async handlers return early. Unknown is long. */
  callMs: number;
  /** Handlers that have returned a promise and not ended. */
  running: number;
  /** Tasks of this type that wait for one of those to end. */
  readonly waiting: { readonly batch: Batch; readonly index: number }[];
}

export class BatchRunner {
  readonly time: RunnerTime;
  readonly executor: string;
  readonly limits: PayloadLimits;
  readonly notes: NoteTaker;
  readonly allowsBytes: boolean;
  readonly #hooks: readonly HandlerHooks[];
  /** That have not ended. */
  #batches = 0;
  readonly #lanes = new Map<string, Lane>();
  readonly #queue: Batch[] = [];
  #unflushed: Batch[] = [];
  #isBeginning = false;
  #sliceEndsMs = 0;
  #sawPromise = false;
  #turnAsked = false;
  readonly #goOn = (): void => this.#beginOn(this.time.nowMs());

  constructor(time: RunnerTime, tasks: ReadonlyMap<string, AnyTask>, options: RunnerOptions = {}) {
    this.time = time;
    this.executor = options.executor ?? 'local';
    this.limits = options.limits ?? DEFAULT_PAYLOAD_LIMITS;
    this.#hooks = options.hooks ?? [];
    const counts = options.noteCounts ?? { dropped: 0, late: 0 };
    const wantsLines = options.wantsLines ?? (() => false);
    this.notes = new NoteTaker(time, wantsLines, counts, options.lastWords);
    this.allowsBytes = options.allowsBytes ?? false;
    for (const [name, task] of tasks) {
      this.#lanes.set(name, {
        task,
        concurrency: task.spec.concurrency,
        callMs: Number.POSITIVE_INFINITY,
        running: 0,
        waiting: [],
      });
    }
  }

  /**
   * Takes a batch. Its tasks begin in a later turn of the event loop, or in `begin()`.
   *
   * @param frame - a frame of kind `batch`; must not change until the batch has ended
   * @param log - the batch's account, clear and large enough; the caller may read it once the runner is gone
   * @throws ERR_MILLRACE_STORE_CORRUPT, ERR_MILLRACE_STORE_FORMAT when the frame's outer shape is wrong. A record
   *   that lies about its own bytes fails alone, for good.
   */
  run(frame: Uint8Array, report: BatchReport, log: ResultLog): RunnerBatch {
    const batch = new Batch(this, openFrame(frame, FrameKind.BATCH), report, log);
    this.#batches++;
    for (const hooks of this.#hooks) hooks.onBatch?.(batch.types);
    this.#queue.push(batch);
    this.#askTurn();
    return batch;
  }

  /** Begins what can begin now, for a caller that is at the start of a turn already. */
  begin(): void {
    // A handler may call into its own pool (inline); its turn is still going on.
    if (this.#isBeginning) return;
    this.#isBeginning = true;
    const nowMs = this.time.nowMs();
    this.#sliceEndsMs = nowMs + SLICE_MS;
    this.#beginOn(nowMs);
  }

  /** Begins tasks until the slice is over or there are no more; pauses after every promise. */
  #beginOn(fromMs: number): void {
    let nowMs = fromMs;
    this.#sawPromise = false;
    try {
      for (let batch = this.#queue[0]; batch !== undefined; batch = this.#queue[0]) {
        nowMs = batch.begin(nowMs, this.#sliceEndsMs);
        if (batch.hasBegun) this.#queue.shift();
        if (this.#sawPromise || nowMs >= this.#sliceEndsMs) break;
      }
    } finally {
      if (this.#sawPromise && this.#queue.length > 0 && nowMs < this.#sliceEndsMs) {
        void SETTLED.then(this.#goOn);
      } else {
        this.#isBeginning = false;
        if (this.#queue.length > 0 || this.#unflushed.length > 0) this.#askTurn();
      }
    }
  }

  /** A batch has ended. */
  ended(): void {
    this.#batches--;
    if (this.#batches > 0) return;
    for (const hooks of this.#hooks) hooks.onQuiet?.();
  }

  /** Calls a task's handler, with everything that is woven around it. */
  call(task: AnyTask, input: unknown, context: TaskContext): unknown {
    let woven: (() => unknown) | undefined;
    for (let i = this.#hooks.length - 1; i >= 0; i--) {
      const { around } = this.#hooks[i]!;
      if (around === undefined) continue;
      const inner = woven ?? (() => task.run!(input, context));
      woven = () => around(context, inner);
    }
    return woven === undefined ? task.run!(input, context) : woven();
  }

  /** Calls the handler of several, with everything that is woven around it for each of them. */
  callTogether(task: AnyTask, gathered: readonly GatheredItem[]): unknown {
    const items = gathered.map(({ item }) => item);
    let woven = (): unknown => task.runBatch!(items, new CallContext(gathered));
    for (const { around } of this.#hooks) {
      if (around === undefined) continue;
      for (const item of items) {
        const inner = woven;
        woven = () => around(item, inner);
      }
    }
    return woven();
  }

  /** A handler has returned a promise, which may be settled already. */
  get sawPromise(): boolean {
    return this.#sawPromise;
  }

  pauseForPromise(): void {
    this.#sawPromise = true;
  }

  /** Reports everything that has ended and is not reported yet. */
  flush(): void {
    const batches = this.#unflushed;
    if (batches.length === 0) return;
    this.#unflushed = [];
    for (const batch of batches) batch.flush();
  }

  /** The lane of a task name; undefined when there is no such task or it has no handler. */
  lane(name: string): Lane | undefined {
    return this.#lanes.get(name);
  }

  /** An async handler of this lane has ended: one that waited takes its place. */
  leave(lane: Lane): void {
    lane.running--;
    while (lane.waiting.length > 0 && lane.running < lane.concurrency) {
      const { batch, index } = lane.waiting.shift()!;
      batch.beginWaiting(index);
    }
  }

  /** The batch has something to report by the next turn. */
  willFlush(batch: Batch): void {
    this.#unflushed.push(batch);
    if (!this.#isBeginning) this.#askTurn();
  }

  #askTurn(): void {
    if (this.#turnAsked) return;
    this.#turnAsked = true;
    this.time.soon(() => {
      this.#turnAsked = false;
      // First what is done, then what is new: beginning may take a whole slice.
      this.flush();
      this.begin();
    });
  }
}

/** Where a task of a batch is. */
const Stage = { PENDING: 0, WAITING: 1, RUNNING: 2, ENDED: 3, ASKING: 4 } as const;

class Batch implements RunnerBatch, ContextDesk {
  readonly #runner: BatchRunner;
  readonly #reader: FrameReader;
  readonly #text: FrameText;
  /** All inputs, where they could be read in one go. */
  #inputs: readonly unknown[] | undefined;
  readonly #report: BatchReport;
  readonly #log: ResultLog;
  /** What tasks said and was not sent; made when one says something. */
  #book: NoteBook | undefined;
  readonly #stages: Uint8Array;
  readonly #contexts: (TaskContext | undefined)[];
  /** By string index, so that names are looked up once per batch. */
  readonly #lanes: (Lane | undefined)[];
  /** Begun, and to be handed to their handlers together. */
  #gathered: Map<Lane, GatheredItem[]> | undefined;
  #next = 0;
  #left: number;
  #waiting = 0;
  #unreportedSinceMs = 0;
  #willFlush = false;
  #isParked = false;
  #hasEnded = false;

  constructor(runner: BatchRunner, reader: FrameReader, report: BatchReport, log: ResultLog) {
    const { count } = reader;
    this.#runner = runner;
    this.#reader = reader;
    this.#text = new FrameText(reader);
    this.#report = report;
    this.#log = log;
    this.#stages = new Uint8Array(count);
    this.#contexts = new Array(count);
    this.#lanes = reader.strings.map((name) => runner.lane(name));
    this.#left = count;
  }

  /** Of its tasks; each once. */
  get types(): string[] {
    return this.#lanes.flatMap((lane) => (lane === undefined ? [] : [lane.task.name]));
  }

  get taker(): NoteTaker {
    return this.#runner.notes;
  }

  bookOf(index: number): NoteBook | undefined {
    if (this.#stages[index] === Stage.ENDED) return undefined;
    this.#book ??= new NoteBook(this.taker, (notes) => this.#report.onNotes(notes));
    return this.#book;
  }

  get limits(): PayloadLimits {
    return this.#runner.limits;
  }

  async ask(index: number, ask: ChildAsk): Promise<ChildAnswer> {
    if (this.#stages[index] === Stage.ENDED) throw executionOver();
    return this.#report.ask(ask);
  }

  get hasBegun(): boolean {
    return this.#next === this.#stages.length;
  }

  /** Begins tasks until all have or the slice is over. Returns the time. */
  begin(fromMs: number, untilMs: number): number {
    let nowMs = fromMs;
    if (this.#left === 0) this.#flushOnce();
    if (this.#next === 0) {
      this.#inputs = this.#text.list();
      // That was no task's time.
      if (this.#inputs !== undefined) nowMs = this.#runner.time.nowMs();
    }
    while (this.#next < this.#stages.length) {
      const index = this.#next++;
      if (this.#stages[index] === Stage.PENDING) nowMs = this.#beginTask(index, nowMs);
      if (this.#log.count > 0 && nowMs - this.#unreportedSinceMs >= REPORT_MS) this.#post();
      if (nowMs >= untilMs || this.#runner.sawPromise) break;
    }
    if (this.hasBegun && this.#gathered !== undefined) nowMs = this.#callGathered();
    if (this.hasBegun && this.#left > 0) this.#flushOnce();
    return nowMs;
  }

  beginWaiting(index: number): void {
    // Cancelled while it waited.
    if (this.#stages[index] !== Stage.WAITING) return;
    this.#waiting--;
    this.#beginTask(index, this.#runner.time.nowMs());
  }

  cancel(slot: number, reason: string, isTimeout = false): void {
    // A walk over the batch: cancels are rare, and an index would cost every task.
    const { view, count } = this.#reader;
    for (let index = 0; index < count; index++) {
      if (view.getUint32(this.#reader.recordAt(index), true) === slot) {
        this.#cancelTask(index, reason, isTimeout);
        return;
      }
    }
  }

  cancelAll(reason: string): void {
    for (let index = 0; index < this.#stages.length; index++) this.#cancelTask(index, reason);
  }

  #cancelTask(index: number, reason: string, isTimeout = false): void {
    const stage = this.#stages[index];
    if (stage === Stage.ENDED) return;
    if (stage === Stage.RUNNING) {
      this.#contexts[index]?.abort(reason, isTimeout);
      return;
    }
    if (stage === Stage.WAITING) this.#waiting--;
    this.#settle(index, Outcome.CANCELLED, 0, JSON.stringify(reason));
  }

  /** Reports what has ended; the runner's turn has come. */
  flush(): void {
    this.#willFlush = false;
    if (this.#hasEnded) return;
    this.#post();
    if (this.#left > 0 && this.hasBegun && this.#waiting === 0 && !this.#isParked) {
      this.#isParked = true;
      this.#report.onParked();
    }
  }

  /** Calls a task's handler, unless something is wrong before. Returns the time after it. */
  #beginTask(index: number, nowMs: number): number {
    const reader = this.#reader;
    const at = reader.recordAt(index);
    const type = reader.view.getUint16(at + 4, true);
    const lane = this.#lanes[type];
    if (lane === undefined || !hasHandler(lane.task)) {
      this.#fail(index, Outcome.FAILED_FOR_GOOD, 0, unknownTask(reader.strings[type]));
      return nowMs;
    }
    if (this.#stages[index] === Stage.PENDING && this.#isConditional(index)) {
      void this.#askFirst(index);
      return nowMs;
    }
    if (lane.running >= lane.concurrency) {
      this.#stages[index] = Stage.WAITING;
      this.#waiting++;
      lane.waiting.push({ batch: this, index });
      return nowMs;
    }
    // What is done does not wait for a batch-mate that is slow, or may be: nothing is sent while it computes.
    if (lane.callMs > LONG_CALL_MS && this.#log.count > 0) this.#post();
    this.#stages[index] = Stage.RUNNING;
    this.#log.begin(index, nowMs);
    let input: unknown;
    try {
      input = this.#inputs === undefined ? this.#inputAt(at) : this.#inputs[index];
    } catch (error) {
      this.#fail(index, Outcome.FAILED_FOR_GOOD, 0, error);
      return nowMs;
    }
    const isTogether = lane.task.runBatch !== undefined;
    const Context = isTogether ? TaskItem : TaskContext;
    const context = new Context(reader, index, this.#runner.executor, this);
    this.#contexts[index] = context;
    const schema = lane.task.spec.schema;
    if (schema === undefined) return this.#call(lane, index, input, context, nowMs);

    let checked: unknown;
    try {
      checked = schema['~standard'].validate(input);
      if (!isThenable(checked)) {
        const value = validValue(checked, lane.task.name);
        return this.#call(lane, index, value, context, this.#runner.time.nowMs());
      }
    } catch (error) {
      this.#fail(index, Outcome.FAILED_FOR_GOOD, 0, invalidInput(lane.task.name, error));
      return this.#runner.time.nowMs();
    }
    this.#afterValidation(lane, index, context, checked);
    return this.#runner.time.nowMs();
  }

  #isConditional(index: number): boolean {
    const reader = this.#reader;
    const length = batchMetadataBytes(reader, index);
    if (length === 0) return false;
    try {
      return hasConditions(reader.frame, batchMetadataPlace(reader, index), length);
    } catch {
      // A record that lies about its bytes has none.
      return false;
    }
  }

  /** Its beginning depends on other tasks: it takes up neither its lane nor its time while the runtime looks after them. */
  async #askFirst(index: number): Promise<void> {
    this.#stages[index] = Stage.ASKING;
    let refusal: string | undefined;
    try {
      const metadata = batchMetadata(this.#reader, index);
      const [conditions, parent = ''] = [readConditions(metadata), readParent(metadata)];
      if (conditions !== undefined) {
        const answer = await this.#report.ask({ kind: 'begin', parent, conditions });
        refusal = (answer as ChildAnswers['begin']).cancel;
      }
    } catch (error) {
      if (this.#stages[index] !== Stage.ASKING) return;
      const isFinal = hasCode(error, 'ERR_MILLRACE_TASK_FAILED');
      this.#fail(index, isFinal ? Outcome.FAILED_FOR_GOOD : Outcome.FAILED, 0, error);
      return;
    }
    // Cancelled meanwhile.
    if (this.#stages[index] !== Stage.ASKING) return;
    if (refusal === undefined) this.#beginTask(index, this.#runner.time.nowMs());
    else this.#settle(index, Outcome.CANCELLED, 0, JSON.stringify(refusal));
  }

  /** The schema validates asynchronously: the task holds its place in the lane meanwhile. */
  #afterValidation(
    lane: Lane,
    index: number,
    context: TaskContext,
    checking: PromiseLike<unknown>,
  ): void {
    lane.running++;
    Promise.resolve(checking)
      .then((checked) => validValue(checked, lane.task.name))
      .then(
        (value) => {
          // The handler takes over the place if it is async too, so count it once.
          lane.running--;
          const before = lane.running;
          if (context.abortReason === undefined) {
            this.#call(lane, index, value, context, this.#runner.time.nowMs());
          } else {
            this.#settle(index, Outcome.CANCELLED, 0, JSON.stringify(context.abortReason));
          }
          if (lane.running === before) {
            lane.running++;
            this.#runner.leave(lane);
          }
        },
        (error) => {
          this.#fail(index, Outcome.FAILED_FOR_GOOD, 0, invalidInput(lane.task.name, error));
          this.#runner.leave(lane);
        },
      );
  }

  /** One more for the next call of its `runBatch`. */
  #gather(lane: Lane, gathered: GatheredItem): void {
    // One whose input was checked for long finds the others gone, and goes with those that come with it.
    if (this.hasBegun && this.#gathered === undefined) {
      void SETTLED.then(() => this.#callGathered());
    }
    this.#gathered ??= new Map();
    const others = this.#gathered.get(lane);
    if (others === undefined) this.#gathered.set(lane, [gathered]);
    else others.push(gathered);
  }

  /** Calls the handlers of what was gathered. Returns the time after it. */
  #callGathered(): number {
    const calls = this.#gathered ?? new Map<Lane, GatheredItem[]>();
    this.#gathered = undefined;
    for (const [lane, items] of calls) {
      const open = items.filter(({ index, item }) => {
        if (item.abortReason === undefined) return true;
        this.#settle(index, Outcome.CANCELLED, 0, JSON.stringify(item.abortReason));
        return false;
      });
      if (open.length > 0) this.#callTogether(lane, open);
    }
    return this.#runner.time.nowMs();
  }

  #callTogether(lane: Lane, items: readonly GatheredItem[]): void {
    const { time } = this.#runner;
    const startMs = time.nowMs();
    const end = (settle: (index: number, i: number, runMs: number) => void): void => {
      const runMs = (time.nowMs() - startMs) / items.length;
      for (const [i, { index }] of items.entries()) settle(index, i, runMs);
    };
    const returned = (outcomes: unknown): void => {
      const ends = itemEnds(lane.task, items.length, outcomes);
      end((index, i, runMs) => {
        const ended = ends[i]!;
        if (ended.kind === 'returned') this.#succeed(index, runMs, ended.value);
        else this.#threw(index, runMs, ended.error);
      });
    };
    const threw = (error: unknown): void => {
      end((index, _, runMs) => this.#threw(index, runMs, error));
    };
    try {
      const outcomes = this.#runner.callTogether(lane.task, items);
      if (isThenable(outcomes)) void Promise.resolve(outcomes).then(returned, threw);
      else returned(outcomes);
    } catch (error) {
      threw(error);
    }
  }

  /** Calls the handler. Returns the time when it returned. */
  #call(lane: Lane, index: number, input: unknown, context: TaskContext, startMs: number): number {
    if (context instanceof TaskItem) {
      context.input = input;
      this.#gather(lane, { index, item: context });
      return startMs;
    }
    let result: unknown;
    try {
      result = this.#runner.call(lane.task, input, context);
      if (isThenable(result)) {
        lane.running++;
        this.#runner.pauseForPromise();
        // resolve() passes a plain promise on as it is and tames any other thenable.
        Promise.resolve(result).then(
          (value) => {
            this.#succeed(index, this.#runner.time.nowMs() - startMs, value);
            this.#runner.leave(lane);
          },
          (error) => {
            this.#threw(index, this.#runner.time.nowMs() - startMs, error);
            this.#runner.leave(lane);
          },
        );
        const returnMs = this.#runner.time.nowMs();
        measure(lane, returnMs - startMs);
        return returnMs;
      }
    } catch (error) {
      const endMs = this.#runner.time.nowMs();
      measure(lane, endMs - startMs);
      this.#threw(index, endMs - startMs, error);
      return endMs;
    }
    const endMs = this.#runner.time.nowMs();
    measure(lane, endMs - startMs);
    this.#succeed(index, endMs - startMs, result);
    return endMs;
  }

  #succeed(index: number, runMs: number, value: unknown): void {
    let json: string | undefined;
    let outcome: Outcome = Outcome.COMPLETED;
    try {
      if (typeof value === 'object' && value !== null) {
        if (this.#runner.allowsBytes && isBytes(value)) {
          const { byteLength } = value;
          const { limits } = this.#runner;
          if (byteLength > limits.bytesMax) throw payloadTooLarge('the result', byteLength, limits);
          this.#settle(index, outcome, runMs, value, byteLength);
          return;
        }
        if (isSnooze(value)) {
          outcome = Outcome.SNOOZED;
          json = String(value.delayMs);
        } else if (isCancel(value)) {
          outcome = Outcome.CANCELLED;
          json = JSON.stringify(value.reason);
        }
      }
      if (outcome === Outcome.COMPLETED && value !== undefined) {
        const encoded = encodePayload(value, 'the result', this.#runner.limits);
        this.#settle(index, outcome, runMs, encoded.text, encoded.byteLength);
        return;
      }
    } catch (error) {
      this.#fail(index, Outcome.FAILED_FOR_GOOD, runMs, error);
      return;
    }
    this.#settle(index, outcome, runMs, json);
  }

  #threw(index: number, runMs: number, error: unknown): void {
    const reason = this.#contexts[index]?.abortReason;
    if (reason !== undefined) {
      this.#settle(index, Outcome.CANCELLED, runMs, JSON.stringify(reason));
    } else {
      const outcome = isNonRetryable(error) ? Outcome.FAILED_FOR_GOOD : Outcome.FAILED;
      this.#fail(index, outcome, runMs, error);
    }
  }

  #fail(index: number, outcome: Outcome, runMs: number, error: unknown): void {
    this.#settle(index, outcome, runMs, JSON.stringify(toWire(error)));
  }

  #settle(
    index: number,
    outcome: Outcome,
    runMs: number,
    result: string | Uint8Array | ArrayBuffer | undefined,
    byteLength: number = typeof result === 'string' ? Buffer.byteLength(result) : 0,
  ): void {
    const { view } = this.#reader;
    const at = this.#reader.recordAt(index);
    const slot = view.getUint32(at, true);
    const attempt = view.getUint16(at + 16, true);
    // A clock that is not quite monotonic must not make a frame that does not decode.
    const ranMs = Math.max(0, runMs);
    const log = this.#log;
    if (this.#book !== undefined) this.#contexts[index]?.closeNotes();
    this.#stages[index] = Stage.ENDED;
    this.#contexts[index] = undefined;
    log.end(index);

    if (!log.hasRoom(byteLength)) this.#post();
    if (log.hasRoom(byteLength)) {
      if (log.count === 0) this.#unreportedSinceMs = this.#runner.time.nowMs();
      log.add(slot, outcome, attempt, ranMs, result ?? '', byteLength);
    } else {
      this.#book?.send();
      this.#report.onResults(singleResult(slot, outcome, attempt, ranMs, result ?? ''));
    }
    this.#left--;
    if (this.#left === 0) this.#post();
    else this.#flushOnce();
  }

  /** Sends what there is, and says so when it was the last. */
  #post(): void {
    this.#book?.send();
    if (this.#log.count > 0) this.#report.onResults(this.#log.take());
    if (this.#left === 0) {
      this.#hasEnded = true;
      this.#report.onEnd();
      this.#runner.ended();
    }
  }

  #flushOnce(): void {
    if (this.#willFlush) return;
    this.#willFlush = true;
    this.#runner.willFlush(this);
  }

  /** @throws ERR_MILLRACE_STORE_CORRUPT for bytes that are outside the frame or not what they are said to be */
  #inputAt(at: number): unknown {
    const { view } = this.#reader;
    const position = view.getUint32(at + 32, true);
    const length = view.getUint32(at + 36, true);
    try {
      return this.#text.value(view.getUint16(at + 26, true), position, length);
    } catch (cause) {
      if (cause instanceof SyntaxError) throw badFrame(`a payload is not JSON: ${cause.message}`);
      throw cause;
    }
  }
}

function measure(lane: Lane, callMs: number): void {
  lane.callMs =
    lane.callMs === Number.POSITIVE_INFINITY ? callMs : lane.callMs + (callMs - lane.callMs) * 0.1;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as { then?: unknown }).then === 'function'
  );
}

function isBytes(value: object): value is Uint8Array | ArrayBuffer {
  return value instanceof Uint8Array || value instanceof ArrayBuffer;
}

// An instance of another installed copy has the same class name and the same one field.
function isSnooze(value: object): value is Snooze {
  return (
    value instanceof Snooze ||
    (value.constructor?.name === 'Snooze' &&
      typeof (value as Partial<Snooze>).delayMs === 'number' &&
      Object.keys(value).length === 1)
  );
}

function isCancel(value: object): value is Cancel {
  return (
    value instanceof Cancel ||
    (value.constructor?.name === 'Cancel' &&
      typeof (value as Partial<Cancel>).reason === 'string' &&
      Object.keys(value).length === 1)
  );
}

function isNonRetryable(error: unknown): boolean {
  try {
    return (error as { name?: unknown } | null | undefined)?.name === 'NonRetryableError';
  } catch {
    return false;
  }
}

function unknownTask(name: string | undefined): MillraceError {
  return new MillraceError(
    'ERR_MILLRACE_UNKNOWN_TASK',
    `no handler for task '${name ?? ''}' in this tasks module; define it there with run`,
    { details: { type: name ?? '' } },
  );
}

const ISSUES_MAX = 10;

/** What a Standard Schema made of the input. @throws ERR_MILLRACE_INVALID_INPUT */
function validValue(checked: unknown, name: string): unknown {
  const { issues, value } = checked as { issues?: readonly unknown[]; value?: unknown };
  if (issues === undefined) return value;
  const shown = issues.slice(0, ISSUES_MAX).map((issue) => {
    const { message, path } = issue as { message?: unknown; path?: readonly unknown[] };
    return {
      message: String(message).slice(0, 200),
      path: (path ?? []).map(segmentName).join('.').slice(0, 200),
    };
  });
  throw new MillraceError(
    'ERR_MILLRACE_INVALID_INPUT',
    `the input of task '${name}' does not satisfy its schema: ${shown[0]?.path ? `${shown[0].path}: ` : ''}${shown[0]?.message}; it was accepted under another one, and can be redriven under one that takes it`,
    { details: { issues: shown } },
  );
}

function segmentName(segment: unknown): string {
  const key =
    typeof segment === 'object' && segment !== null ? (segment as { key: unknown }).key : segment;
  return String(key);
}

function invalidInput(name: string, error: unknown): unknown {
  if (error instanceof MillraceError) return error;
  return new MillraceError(
    'ERR_MILLRACE_INVALID_INPUT',
    `the schema of task '${name}' failed while it checked the input`,
    { cause: error },
  );
}
