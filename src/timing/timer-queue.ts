/**
 * TimerQueue: millions of pending timers outside the JavaScript heap, as numbers in and numbers out.
 *
 * The timers are in a timing wheel in C++ (native/timing_wheel.h). A call into it costs more than the work for one
 * timer, so single operations make none. They work on memory that both sides share:
 *
 *   schedule     takes a free record, writes generation, stamp and token into it, appends a command (due, record,
 *                stamp) to a buffer and returns generation and index of the record as the handle
 *   cancel       compares generations and frees the record; the wheel finds its entry stale later on
 *   reschedule   gives the record a new stamp and appends a command; the entry of the old stamp is stale
 *
 *   JavaScript:  commands, 1024 --flush--> C++: wheel --advance--> tokens in `out`
 *                records, chunks of 16384  <---------------------  frees the records of fired timers
 *
 * The buffer is flushed when it is full and before everything that looks at time: advance, nextDueMs, stats.
 * Layouts: native/timer_records.h (records, handles, generations) and native/binding.cc (control, commands).
 * An `advance` that can have nothing to do, by the time that C++ left in the control block, makes no call either.
 */
import { isUint32Array } from 'node:util/types';
import { MillraceError } from '../core/errors.js';
import { invalidOption, wholeNumber } from '../core/options.js';
import { type NativeQueue, native } from './native.js';

/** Options of a {@link TimerQueue}. */
export interface TimerQueueOptions {
  /**
   * Where the queue's clock starts, in milliseconds: 0 to 2^53 - 1, fractions are floored. Give the present time of
   * the clock you will pass to `advance`; timers are placed by their distance from it.
   *
   * @defaultValue 0
   */
  readonly startMs?: number;
  /**
   * How many timers may be pending, 1 to 134 million; one more is refused with ERR_MILLRACE_QUEUE_FULL.
   * A bound on memory: count 32 bytes for each, and 2 MiB.
   *
   * @defaultValue 134_000_000
   */
  readonly timersMax?: number;
}

/** What a {@link TimerQueue} holds. */
export interface TimerQueueStats {
  /** Timers that have neither fired nor been cancelled. */
  readonly pending: number;
  /** Entries of cancelled and rescheduled timers that still take space; a sweep keeps them near `1.5 x pending`. */
  readonly stale: number;
  /** Bytes held for timers, outside the JavaScript heap: tables of fixed size, entries, records, buffers. */
  readonly bytes: number;
}

const TIMERS_MAX = 134_000_000;
const MS_MAX = Number.MAX_SAFE_INTEGER;

// The control block. Int32Array: live timers, whether a chunk ran empty, buffered commands, operations not yet
// paid for. Float64Array over the same bytes: the clock, the next due time, when `advance` has work, and sizes.
const CONTROL_BYTES = 56;
const LIVE = 0;
const EMPTIED = 1;
const COMMANDS = 2;
const DEBT = 3;
const NOW = 2;
const NEXT_DUE = 3;
const QUIET_UNTIL = 4;
const BYTES = 5;
const ENTRIES = 6;

const COMMANDS_MAX = 1024;
const DEBT_MAX = 1024;
const COMMAND_BYTES = 16;

// Chunks of records: the header's words, then three words per record (generation, stamp, token or next free).
const CHUNK_RECORDS = 16_384;
const CHUNK_BITS = 14;
const RECORD_MASK = CHUNK_RECORDS - 1;
const FIRST_RECORD = 3;
const CHUNKS_MAX = 8192;
const HEAD = 0;
const TAIL = 1;
const FRESH = 2;
const USED = 3;
const BASE = 4;
const HIGHEST = 5;
const RETIRED = 6;
/** A chunk is taken for new records again when this many are free, so that looking for one is rare. */
const REUSE_MIN = CHUNK_RECORDS / 16;

// A handle is generation * 2^27 + index.
const INDEX_RANGE = 2 ** 27;
const INDEX_MASK = INDEX_RANGE - 1;
const GENERATION_MAX = 2 ** 26 - 1;

/** Stands for the present chunk when there is none with room: looks exhausted. */
const NO_ROOM: Int32Array = new Int32Array(FIRST_RECORD * 3).fill(CHUNK_RECORDS, FRESH, FRESH + 1);

/**
 * A queue of timers on the caller's own clock: the caller says what time it is, and gets the tokens that are due.
 *
 * Timers are never early: a due time is rounded up to the next millisecond, the time given to `advance` down.
 * Handles are good for one queue; a handle of a timer that has fired or was cancelled is refused for ever.
 *
 * Every method but `close` throws ERR_MILLRACE_CLOSED after `close`.
 * Thread: the one that made it. Cost: see docs/internals/timing-wheel.md.
 */
export class TimerQueue {
  readonly #control: Int32Array;
  readonly #times: Float64Array;
  readonly #commandWords: Int32Array;
  readonly #commandDues: Float64Array;
  #queue: NativeQueue | undefined;
  #timersMax: number;
  #stamp = 0;
  /** By number; undefined where there is none. */
  #chunks: (Int32Array | undefined)[] = [];
  /** The chunk that new records come from, and the index of its first record. */
  #chunk: Int32Array = NO_ROOM;
  #chunkIndex = 0;

  /** @throws ERR_MILLRACE_INVALID_OPTION for a startMs or timersMax out of range */
  constructor(options: TimerQueueOptions = {}) {
    const { startMs = 0, timersMax = TIMERS_MAX } = options;
    if (typeof startMs !== 'number' || !(startMs >= 0 && startMs <= MS_MAX)) {
      throw invalidOption('startMs', startMs, 'milliseconds from 0 to 2^53 - 1');
    }
    this.#timersMax = wholeNumber(timersMax, 'timersMax', 1, TIMERS_MAX);
    const control = new ArrayBuffer(CONTROL_BYTES);
    const commands = new ArrayBuffer(COMMANDS_MAX * COMMAND_BYTES);
    this.#control = new Int32Array(control);
    this.#times = new Float64Array(control);
    this.#commandWords = new Int32Array(commands);
    this.#commandDues = new Float64Array(commands);
    this.#times[NOW] = Math.floor(startMs);
    this.#queue = native.create(control, commands);
  }

  /** Timers that have neither fired nor been cancelled. */
  get size(): number {
    this.#open();
    return this.#control[LIVE]!;
  }

  /**
   * Adds a timer.
   *
   * @param dueMs - when, in milliseconds on the queue's clock; fractions are ceiled, the past is due at once
   * @param token - a whole number below 2^32 that `advance` gives back
   * @returns the handle for `cancel` and `reschedule`: a whole number from 1 to 2^53 - 1
   * @throws ERR_MILLRACE_INVALID_OPTION for a dueMs that is not finite or beyond 2^53 - 1, or another token
   * @throws ERR_MILLRACE_QUEUE_FULL if `timersMax` timers are pending
   */
  schedule(dueMs: number, token: number): number {
    if (typeof dueMs !== 'number' || !(dueMs >= -MS_MAX && dueMs <= MS_MAX))
      throw badMs('dueMs', dueMs);
    if (typeof token !== 'number' || token >>> 0 !== token) throw badToken(token);
    if (this.#control[LIVE]! >= this.#timersMax) throw this.#refusal();
    return this.#add(Math.ceil(dueMs), token);
  }

  /**
   * Adds many timers, in order; as `schedule` for each pair, and quicker.
   *
   * @param dueMs - when each is due
   * @param tokens - the token of each; as long as `dueMs`
   * @param handles - if given, takes their handles; at least as long as `dueMs`
   * @returns how many were added: fewer than given when `timersMax` is reached, the first ones then
   * @throws ERR_MILLRACE_INVALID_OPTION for a bad argument or element; nothing was added
   * @throws ERR_MILLRACE_QUEUE_FULL if there is not room for even one
   */
  scheduleBatch(dueMs: Float64Array, tokens: Uint32Array, handles?: Float64Array): number {
    const count = checkedBatch(dueMs, tokens, handles);
    const room = this.#timersMax - this.#control[LIVE]!;
    if (room <= 0 && (count > 0 || this.#queue === undefined)) throw this.#refusal();
    const added = Math.min(count, room);
    for (let i = 0; i < added; ) {
      const run = this.#addRun(dueMs, tokens, handles, i, added);
      if (run === 0) {
        const handle = this.#add(Math.ceil(dueMs[i]!), tokens[i]!);
        if (handles !== undefined) handles[i] = handle;
      }
      i += Math.max(run, 1);
    }
    return added;
  }

  /**
   * Takes a timer back.
   *
   * @returns whether it was pending; false for the handle of a timer that has fired or was cancelled before
   * @throws ERR_MILLRACE_INVALID_OPTION for a value that cannot be a handle
   */
  cancel(handle: number): boolean {
    if (typeof handle !== 'number') return this.#notPending(handle);
    const index = handle & INDEX_MASK;
    const generation = (handle - index) / INDEX_RANGE;
    const chunk = this.#chunks[index >>> CHUNK_BITS];
    const local = index & RECORD_MASK;
    if (!isPending(generation, local, chunk)) return this.#notPending(handle);
    const record = local * 3;
    chunk[record] = -generation;
    chunk[record + 1] = 0;
    chunk[record + 2] = 0;
    const used = chunk[USED]! - 1;
    chunk[USED] = used;
    if (generation < GENERATION_MAX) {
      const tail = chunk[TAIL]!;
      if (tail === 0) chunk[HEAD] = local;
      else chunk[tail * 3 + 2] = local;
      chunk[TAIL] = local;
    } else {
      chunk[RETIRED]!++;
    }
    const control = this.#control;
    if (used === 0) control[EMPTIED] = 1;
    control[LIVE]!--;
    const debt = control[DEBT]! + 1;
    control[DEBT] = debt;
    if (debt >= DEBT_MAX) this.#flush();
    return true;
  }

  /**
   * Gives a pending timer another due time. It counts as scheduled now for the order among equals; its handle and
   * token stay.
   *
   * @returns whether it was pending; false for the handle of a timer that has fired or was cancelled before
   * @throws ERR_MILLRACE_INVALID_OPTION for a value that cannot be a handle, or a dueMs as in `schedule`
   */
  reschedule(handle: number, dueMs: number): boolean {
    if (typeof dueMs !== 'number' || !(dueMs >= -MS_MAX && dueMs <= MS_MAX))
      throw badMs('dueMs', dueMs);
    if (typeof handle !== 'number') return this.#notPending(handle);
    const index = handle & INDEX_MASK;
    const generation = (handle - index) / INDEX_RANGE;
    const chunk = this.#chunks[index >>> CHUNK_BITS];
    const local = index & RECORD_MASK;
    if (!isPending(generation, local, chunk)) return this.#notPending(handle);
    const stamp = this.#nextStamp();
    chunk[local * 3 + 1] = stamp;
    this.#control[DEBT]!++;
    this.#command(Math.ceil(dueMs), index, stamp);
    return true;
  }

  /**
   * Moves the queue's clock and takes the timers that are due, ordered by (dueMs, order of scheduling).
   *
   * @param nowMs - the present time; fractions are floored. A time before the last one fires nothing.
   * @param out - takes their tokens, from the start
   * @returns how many tokens were written. When `out` is full there may be more: call again with the same time.
   * @throws ERR_MILLRACE_INVALID_OPTION for a nowMs that is not finite or beyond 2^53 - 1, or an `out` without room
   */
  advance(nowMs: number, out: Uint32Array): number {
    if (!isUint32Array(out) || out.length === 0) throw badOut(out);
    if (typeof nowMs !== 'number' || !(nowMs >= -MS_MAX && nowMs <= MS_MAX))
      throw badMs('nowMs', nowMs);
    const queue = this.#open();
    const now = Math.floor(nowMs);
    const control = this.#control;
    const times = this.#times;
    if (now < times[NOW]!) return 0;
    if (now < times[QUIET_UNTIL]! && control[COMMANDS] === 0) {
      times[NOW] = now;
      return 0;
    }
    const fired = native.advance(queue, now, out);
    if (control[EMPTIED] !== 0) this.#releaseChunks();
    return fired;
  }

  /**
   * When to call `advance` next: Infinity when no timer is pending, else never later than the earliest deadline.
   * It is that deadline, except that after cancelling or rescheduling the earliest timer it can be the due time of the
   * one that is gone: when there are several more than 4 seconds away, or when its millisecond had begun and `advance`
   * had not handed it out yet. An `advance` to there then gives nothing, once.
   */
  nextDueMs(): number {
    this.#open();
    const control = this.#control;
    if (control[LIVE] === 0) return Number.POSITIVE_INFINITY;
    // After an advance it is NaN: not worked out yet.
    const next = this.#times[NEXT_DUE]!;
    if (control[COMMANDS] === 0 && control[DEBT] === 0 && !Number.isNaN(next)) return next;
    this.#flush();
    return this.#times[NEXT_DUE]!;
  }

  /**
   * Until when `advance` has nothing to do: neither a timer to fire nor timers of the next window to move closer.
   * Never later than the earliest deadline. A driver with very many timers that wants no long pause calls `advance`
   * then, and every few milliseconds as long as this stays close ahead; others do with `nextDueMs`.
   */
  quietUntilMs(): number {
    this.#open();
    const control = this.#control;
    if (control[COMMANDS] !== 0 || control[DEBT] !== 0) this.#flush();
    return this.#times[QUIET_UNTIL]!;
  }

  /** Counts and sizes. Cost: as `nextDueMs`, and one small object. */
  stats(): TimerQueueStats {
    this.#open();
    const control = this.#control;
    if (control[COMMANDS] !== 0 || control[DEBT] !== 0) this.#flush();
    const pending = control[LIVE]!;
    return { pending, stale: this.#times[ENTRIES]! - pending, bytes: this.#times[BYTES]! };
  }

  /** Drops all timers and frees the memory. More than once is fine. */
  close(): void {
    if (this.#queue === undefined) return;
    native.close(this.#queue);
    this.#queue = undefined;
    this.#chunks = [];
    this.#chunk = NO_ROOM;
    this.#control[LIVE] = 0;
    this.#timersMax = 0;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /** The rest of `schedule` when there is room for a timer. REQUIRES: `due` is whole. */
  #add(due: number, token: number): number {
    if (this.#chunk[FRESH] === CHUNK_RECORDS && this.#chunk[HEAD] === 0) this.#openChunk();
    const chunk = this.#chunk;
    let local = chunk[FRESH]!;
    let record = local * 3;
    let generation: number;
    // Never used records first, then the one that has been free for longest: so generations rise evenly.
    if (local < CHUNK_RECORDS) {
      chunk[FRESH] = local + 1;
      generation = chunk[BASE]!;
    } else {
      local = chunk[HEAD]!;
      record = local * 3;
      const next = chunk[record + 2]!;
      chunk[HEAD] = next;
      if (next === 0) chunk[TAIL] = 0;
      generation = 1 - chunk[record]!;
    }
    const stamp = this.#nextStamp();
    chunk[record] = generation;
    chunk[record + 1] = stamp;
    chunk[record + 2] = token;
    if (generation > chunk[HIGHEST]!) chunk[HIGHEST] = generation;
    chunk[USED]!++;
    this.#control[LIVE]!++;
    const index = this.#chunkIndex + local;
    this.#command(due, index, stamp);
    return generation * INDEX_RANGE + index;
  }

  /**
   * `#add` for elements from `begin` on, as many as fit into the never used records of the present chunk and into
   * the command buffer. Returns how many; 0 if there is no such record.
   */
  #addRun(
    dueMs: Float64Array,
    tokens: Uint32Array,
    handles: Float64Array | undefined,
    begin: number,
    end: number,
  ): number {
    const control = this.#control;
    const chunk = this.#chunk;
    const dues = this.#commandDues;
    const words = this.#commandWords;
    const fresh = chunk[FRESH]!;
    const at = control[COMMANDS]!;
    const run = Math.min(end - begin, CHUNK_RECORDS - fresh, COMMANDS_MAX - at);
    if (run === 0) return 0;
    const generation = chunk[BASE]!;
    const index = this.#chunkIndex + fresh;
    const handle = generation * INDEX_RANGE + index;
    for (let i = 0; i < run; i++) {
      const record = (fresh + i) * 3;
      const stamp = this.#nextStamp();
      chunk[record] = generation;
      chunk[record + 1] = stamp;
      chunk[record + 2] = tokens[begin + i]!;
      dues[(at + i) * 2] = Math.ceil(dueMs[begin + i]!);
      words[(at + i) * 4 + 2] = index + i;
      words[(at + i) * 4 + 3] = stamp;
      if (handles !== undefined) handles[begin + i] = handle + i;
    }
    chunk[FRESH] = fresh + run;
    chunk[USED]! += run;
    if (generation > chunk[HIGHEST]!) chunk[HIGHEST] = generation;
    control[LIVE]! += run;
    control[COMMANDS] = at + run;
    if (at + run === COMMANDS_MAX) this.#flush();
    return run;
  }

  /** Stamps go round at 2^32; 0 is that of a free record. */
  #nextStamp(): number {
    const stamp = (this.#stamp + 1) | 0;
    this.#stamp = stamp === 0 ? 1 : stamp;
    return this.#stamp;
  }

  #command(due: number, index: number, stamp: number): void {
    const control = this.#control;
    const at = control[COMMANDS]!;
    this.#commandDues[at * 2] = due;
    this.#commandWords[at * 4 + 2] = index;
    this.#commandWords[at * 4 + 3] = stamp;
    control[COMMANDS] = at + 1;
    if (at + 1 === COMMANDS_MAX) this.#flush();
  }

  #flush(): void {
    native.flush(this.#queue!);
    if (this.#control[EMPTIED] !== 0) this.#releaseChunks();
  }

  /**
   * Makes the lowest chunk with enough free records the present one, or a new one. The lowest, so that those
   * above can become empty and go.
   */
  #openChunk(): void {
    const chunks = this.#chunks;
    for (const enough of [REUSE_MIN, 1]) {
      let unused = -1;
      for (let number = 0; number < chunks.length; number++) {
        const chunk = chunks[number];
        if (chunk === undefined) {
          if (unused < 0) unused = number;
        } else if (freeRecords(chunk) >= enough) {
          this.#chunk = chunk;
          this.#chunkIndex = number * CHUNK_RECORDS;
          return;
        }
      }
      if (this.#attachChunk(unused < 0 ? chunks.length : unused)) return;
    }
    throw new MillraceError(
      'ERR_MILLRACE_QUEUE_FULL',
      'the queue has no handle left; make another queue',
    );
  }

  /** Makes a new chunk the present one, with this number or a higher one. False if no number is left. */
  #attachChunk(from: number): boolean {
    for (let number = from; number < CHUNKS_MAX; number++) {
      if (this.#chunks[number] !== undefined) continue;
      const chunk = new Int32Array(CHUNK_RECORDS * 3);
      if (!native.attach(this.#queue!, number, chunk)) continue;
      while (this.#chunks.length < number) this.#chunks.push(undefined);
      this.#chunks[number] = chunk;
      this.#chunk = chunk;
      this.#chunkIndex = number * CHUNK_RECORDS;
      return true;
    }
    return false;
  }

  /** Gives up chunks without a record in use, but for the present one. */
  #releaseChunks(): void {
    const chunks = this.#chunks;
    let isReleased = false;
    for (let number = 0; number < chunks.length; number++) {
      const chunk = chunks[number];
      if (chunk === undefined || chunk === this.#chunk || chunk[USED] !== 0) continue;
      native.detach(this.#queue!, number);
      chunks[number] = undefined;
      isReleased = true;
    }
    while (chunks.length > 0 && chunks[chunks.length - 1] === undefined) chunks.pop();
    this.#control[EMPTIED] = 0;
    if (isReleased) native.flush(this.#queue!);
  }

  #open(): NativeQueue {
    if (this.#queue === undefined) throw closed();
    return this.#queue;
  }

  #refusal(): MillraceError {
    if (this.#queue === undefined) return closed();
    return new MillraceError(
      'ERR_MILLRACE_QUEUE_FULL',
      `${this.#timersMax} timers are pending, which is the limit; wait for some to fire, or raise timersMax`,
      { details: { timersMax: this.#timersMax } },
    );
  }

  /** The answer for a handle that is not that of a pending timer. */
  #notPending(handle: number): false {
    this.#open();
    if (Number.isSafeInteger(handle) && handle >= 0) return false;
    throw invalidOption('handle', handle, 'a handle that schedule() returned');
  }
}

/**
 * Whether the record that a handle names is in use with the handle's generation. Anything may come in as a handle;
 * a record that is free has a negative generation, one that was never used has 0.
 */
function isPending(
  generation: number,
  local: number,
  chunk: Int32Array | undefined,
): chunk is Int32Array {
  return (
    chunk !== undefined &&
    chunk[local * 3] === generation &&
    generation > 0 &&
    local >= FIRST_RECORD
  );
}

function freeRecords(chunk: Int32Array): number {
  return CHUNK_RECORDS - FIRST_RECORD - chunk[USED]! - chunk[RETIRED]!;
}

/** The length of a batch whose every element is good. */
function checkedBatch(dueMs: Float64Array, tokens: Uint32Array, handles?: Float64Array): number {
  if (!(dueMs instanceof Float64Array)) throw invalidOption('dueMs', dueMs, 'a Float64Array');
  if (!isUint32Array(tokens) || tokens.length !== dueMs.length) {
    throw invalidOption('tokens', sizeOf(tokens), `a Uint32Array of ${dueMs.length}, as dueMs`);
  }
  if (
    handles !== undefined &&
    !(handles instanceof Float64Array && handles.length >= dueMs.length)
  ) {
    throw invalidOption('handles', sizeOf(handles), `a Float64Array of at least ${dueMs.length}`);
  }
  for (let i = 0; i < dueMs.length; i++) {
    const due = dueMs[i]!;
    if (!(due >= -MS_MAX && due <= MS_MAX)) throw badMs(`dueMs[${i}]`, due);
  }
  return dueMs.length;
}

function sizeOf(value: unknown): unknown {
  return ArrayBuffer.isView(value) && 'length' in value
    ? `a ${value.constructor.name} of ${value.length}`
    : value;
}

function badMs(name: string, value: unknown): MillraceError {
  return invalidOption(name, value, 'finite milliseconds, at most 2^53 - 1');
}

function badToken(value: unknown): MillraceError {
  return invalidOption('token', value, 'a whole number from 0 to 2^32 - 1');
}

function badOut(out: unknown): MillraceError {
  return invalidOption('out', sizeOf(out), 'a Uint32Array with room for at least one token');
}

function closed(): MillraceError {
  return new MillraceError('ERR_MILLRACE_CLOSED', 'the timer queue is closed; make another');
}
