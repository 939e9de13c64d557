/**
 * createTimers: callback timers like setTimeout's, for services that have a million of them.
 *
 * Where setTimeout makes an object per timer, here a timer is a number. Its place in time is in a TimerQueue, outside
 * the JavaScript heap; its callback and its arguments, which have to be JavaScript values, are in dense arrays. All
 * timers share one wake-up.
 *
 *   handle, 53 bits:  generation (26) | token (27)        token = block << 12 | index
 *
 *   block of 4096:    callbacks, first arguments          arrays of references
 *                     dueMs      when it is to fire; NOT_ARMED while its own callback runs
 *                     delayMs    what `refresh` repeats
 *                     queued     the handle in the queue; the next free index when free
 *                     states     generation << 3 | IN_USE | HAS_LIST | KEEPS_ALIVE
 *
 * Extending a timer is one store. `refresh` writes the later dueMs and leaves the queue alone; when the queue hands
 * the token out at the old time, the timer is put back for the new one. So a connection whose timeout is pushed back
 * at every packet costs the queue one operation per timeout, not one per packet.
 *
 *     free --setTimer--> queued --the queue hands it out--> due --called--> running --> free
 *                          ^ put back: refreshed before ------|               | refreshed by its own callback
 *                          |--------------------------------------------------|
 *
 * Due tokens wait in a buffer until they are called; a token that is cleared there stays reserved until the buffer
 * has come past it, so that it never stands for another timer. Nothing is caught: a callback that throws leaves the
 * turn by the way of any uncaught exception, after the rest was given another turn.
 */
import type { Clock } from '../core/clock.js';
import { type Duration, durationMs } from '../core/durations.js';
import { MillraceError } from '../core/errors.js';
import { invalidOption, wholeNumber } from '../core/options.js';
import { type Alarm, ClockAlarm, NodeAlarm } from './alarm.js';
import { TimerQueue } from './timer-queue.js';

declare const handleOfTimers: unique symbol;

/** Names a timer of one {@link Timers}: a number. That of a timer which is over is refused for ever. */
export type TimerHandle = number & { readonly [handleOfTimers]: true };

/** Options of {@link createTimers}. */
export interface TimersOptions {
  /**
   * Whether a pending timer keeps the process alive, unless `ref` or `unref` says otherwise for it.
   *
   * @defaultValue true, as with setTimeout
   */
  readonly keepAlive?: boolean;
  /**
   * How long callbacks run before I/O gets its turn. When more is due then, it goes on in the next turn of the event
   * loop. Looked at after every 16th callback. Shorter: less latency for the rest of the process; longer: bursts are
   * over sooner.
   *
   * @defaultValue '5ms'
   */
  readonly budget?: Duration;
  /**
   * How many timers may be pending, 1 to 134 million; one more is refused with ERR_MILLRACE_QUEUE_FULL.
   * A bound on memory: count 80 bytes for each, and its closure.
   *
   * @defaultValue 134_000_000
   */
  readonly timersMax?: number;
  /**
   * The clock to run on, for tests with virtual time. Its wake-ups never keep the process alive.
   *
   * @defaultValue the monotonic clock of the process
   */
  readonly clock?: Clock;
}

const TIMERS_MAX = 134_000_000;
const BUDGET_MS = 5;
/** So many callbacks run between looks at the clock. */
const UNWATCHED_CALLS = 16;
/** So many due tokens are taken at a time. */
const DUE_ROOM = 1024;
const MS_MAX = Number.MAX_SAFE_INTEGER;

/** With so many timers the queue's paced moves are worth waking up for, this often. */
const PACED_SIZE = 10_000;
const PACE_MS = 16;

const BLOCK_BITS = 12;
const BLOCK_TIMERS = 2 ** BLOCK_BITS;
const INDEX_MASK = BLOCK_TIMERS - 1;
const TOKEN_RANGE = 2 ** 27;
const BLOCKS_MAX = TOKEN_RANGE / BLOCK_TIMERS;
const GENERATION_MAX = 2 ** 26 - 1;
/** A block is taken for new timers again when this many are free, so that looking for one is rare. */
const REUSE_MIN = BLOCK_TIMERS / 16;

const KEEPS_ALIVE = 1;
const HAS_LIST = 2;
const IN_USE = 4;
const GENERATION_SHIFT = 3;

const NONE = -1;
const NOT_ARMED = Number.NEGATIVE_INFINITY;

type Callback = (...args: never[]) => unknown;

/** Timers by token. Generations of an index rise by one with each use, and never come again. */
class Block {
  readonly callbacks: (Callback | undefined)[] = new Array(BLOCK_TIMERS).fill(undefined);
  /** Absent until one of the block's timers has an argument. */
  args: unknown[] | undefined;
  readonly dueMs: Float64Array = new Float64Array(BLOCK_TIMERS);
  readonly delayMs: Float64Array = new Float64Array(BLOCK_TIMERS);
  readonly queued: Float64Array = new Float64Array(BLOCK_TIMERS);
  readonly states: Int32Array = new Int32Array(BLOCK_TIMERS);
  readonly number: number;
  /** Where generations of indexes never used start. */
  readonly baseGeneration: number;
  highestGeneration: number;
  used = 0;
  retired = 0;
  fresh = 0;
  free: number = NONE;

  constructor(number: number, baseGeneration: number) {
    this.number = number;
    this.baseGeneration = baseGeneration;
    this.highestGeneration = baseGeneration - 1;
  }

  get hasRoom(): boolean {
    return this.fresh < BLOCK_TIMERS || this.free !== NONE;
  }

  /** Takes an index into use. REQUIRES: there is room. */
  take(flags: number): number {
    let index = this.free;
    let generation = this.baseGeneration;
    if (index !== NONE) {
      this.free = this.queued[index]!;
      generation = (this.states[index]! >> GENERATION_SHIFT) + 1;
    } else {
      index = this.fresh++;
    }
    this.states[index] = (generation << GENERATION_SHIFT) | IN_USE | flags;
    if (generation > this.highestGeneration) this.highestGeneration = generation;
    this.used++;
    return index;
  }

  /** Lets go of what a timer refers to, and makes its handle stale. Its index stays reserved until `release`. */
  drop(index: number): void {
    this.states[index]! &= ~(IN_USE | HAS_LIST | KEEPS_ALIVE);
    this.callbacks[index] = undefined;
    if (this.args !== undefined) this.args[index] = undefined;
  }

  release(index: number): void {
    this.used--;
    if (this.states[index]! >> GENERATION_SHIFT >= GENERATION_MAX) {
      this.retired++;
      return;
    }
    this.queued[index] = this.free;
    this.free = index;
  }
}

/**
 * Callback timers on one wake-up; {@link createTimers} makes them.
 *
 * Timers are never early. Those of one millisecond are called in the order in which they were set, except that one that
 * was refreshed has no fixed place among them. Callbacks run in the async context in which the `Timers` was made, not in that of `setTimer`; they may set, clear
 * and refresh timers, their own too, and close the `Timers`.
 *
 * Thread: the one that made it. Handles are good for one `Timers`. docs/guides/timers.md compares with setTimeout.
 */
export class Timers {
  readonly #alarm: Alarm;
  readonly #queue: TimerQueue;
  readonly #budgetMs: number;
  readonly #timersMax: number;
  readonly #flags: number;
  /** By number; undefined where there is none. */
  readonly #blocks: (Block | undefined)[] = [];
  /** By number: where the generations of its next block start. Outlives blocks. */
  readonly #bases: number[] = [];
  #block: Block | undefined;
  #size = 0;
  /** Pending timers that keep the process alive. */
  #keptCount = 0;
  /** What the alarm is set to; Infinity when it is not set. */
  #alarmMs = Number.POSITIVE_INFINITY;
  #isClosed = false;

  // Tokens handed out by the queue, [next, end) still to be called.
  readonly #due: Uint32Array = new Uint32Array(DUE_ROOM);
  #dueNext = 0;
  #dueEnd = 0;
  /** Then the alarm is not set, until the turn ends. */
  #isInTurn = false;

  /** As for {@link createTimers}. */
  constructor(options: TimersOptions = {}) {
    const { keepAlive = true, budget = BUDGET_MS, timersMax = TIMERS_MAX, clock } = options;
    if (typeof keepAlive !== 'boolean') throw invalidOption('keepAlive', keepAlive, 'a boolean');
    this.#flags = keepAlive ? KEEPS_ALIVE : 0;
    this.#budgetMs = durationMs(budget, 'budget');
    this.#timersMax = wholeNumber(timersMax, 'timersMax', 1, TIMERS_MAX);
    const ring = (): void => this.#turn();
    this.#alarm = clock === undefined ? new NodeAlarm(ring) : new ClockAlarm(clock, ring);
    this.#queue = new TimerQueue({ startMs: this.#alarm.nowMs() });
  }

  /** Timers that are to be called. One whose callback runs is not among them, unless that has refreshed it. */
  get size(): number {
    return this.#size;
  }

  /**
   * Sets a timer.
   *
   * @param delay - how long from now at least; less than a millisecond counts as one, and there is no upper limit
   * @param callback - is called once, with the arguments and without a `this`
   * @param args - what it is called with; one costs no memory of its own
   * @returns the handle for the other methods
   * @throws ERR_MILLRACE_INVALID_OPTION for a delay that is not finite, or a callback that is no function
   * @throws ERR_MILLRACE_INVALID_DURATION for a delay that is neither a number nor a string like '30s'
   * @throws ERR_MILLRACE_QUEUE_FULL if `timersMax` timers are pending
   * @throws ERR_MILLRACE_CLOSED after `close`
   */
  setTimer<A extends unknown[]>(
    delay: Duration,
    callback: (...args: A) => unknown,
    ...args: A
  ): TimerHandle {
    const delayMs = checkedDelay(delay);
    if (typeof callback !== 'function') throw invalidOption('callback', callback, 'a function');
    if (this.#isClosed || this.#size >= this.#timersMax) throw this.#refusal();
    const block = this.#blockWithRoom();
    const index = block.take(this.#flags);
    const token = block.number * BLOCK_TIMERS + index;
    const dueMs = this.#dueIn(delayMs);
    block.queued[index] = this.#queue.schedule(dueMs, token);
    block.callbacks[index] = callback;
    if (args.length > 0) setArguments(block, index, args);
    block.dueMs[index] = dueMs;
    block.delayMs[index] = delayMs;
    this.#size++;
    if (this.#flags !== 0) this.#countKept(1);
    this.#wakeBy(this.#size === PACED_SIZE ? Math.min(dueMs, this.#dueIn(PACE_MS)) : dueMs);
    return ((block.states[index]! >> GENERATION_SHIFT) * TOKEN_RANGE + token) as TimerHandle;
  }

  /**
   * Takes a timer back.
   *
   * @param handle - undefined is fine, as with clearTimeout
   * @returns whether it was pending; false for one that was called or cleared before, and after `close`
   * @throws ERR_MILLRACE_INVALID_OPTION for a value that cannot be a handle
   */
  clear(handle: TimerHandle | undefined): boolean {
    const block = this.#blockOf(handle);
    if (block === undefined) return false;
    const index = handle! & INDEX_MASK;
    if (block.dueMs[index] === NOT_ARMED) return false;
    this.#size--;
    if ((block.states[index]! & KEEPS_ALIVE) !== 0) this.#countKept(-1);
    const isQueued = this.#queue.cancel(block.queued[index]!);
    block.drop(index);
    // Else the turn holds it: due, or running and refreshed.
    if (isQueued) this.#release(block, index);
    return true;
  }

  /**
   * Starts a pending timer's delay anew; from its own callback, sets it once more. Its handle stays. To a later time,
   * which is the usual case, this is a look at the clock and a store.
   *
   * @param delay - another delay from now on. @defaultValue the one it has
   * @returns whether it was pending, or is running; false after that, and after `close`
   * @throws ERR_MILLRACE_INVALID_OPTION for a value that cannot be a handle, or a delay as in `setTimer`
   */
  refresh(handle: TimerHandle, delay?: Duration): boolean {
    const block = this.#blockOf(handle);
    if (block === undefined) {
      if (delay !== undefined) checkedDelay(delay);
      return false;
    }
    const index = handle & INDEX_MASK;
    if (delay !== undefined) block.delayMs[index] = checkedDelay(delay);
    const dueMs = this.#dueIn(block.delayMs[index]!);
    const before = block.dueMs[index]!;
    block.dueMs[index] = dueMs;
    if (dueMs >= before) {
      if (before !== NOT_ARMED) return true;
      this.#size++;
      if ((block.states[index]! & KEEPS_ALIVE) !== 0) this.#countKept(1);
      return true;
    }
    // False if it is due already, or running: who holds it then looks at dueMs.
    if (this.#queue.reschedule(block.queued[index]!, dueMs)) this.#wakeBy(dueMs);
    return true;
  }

  /** Makes a timer keep the process alive as long as it is pending. Returns whether it was, or is running. */
  ref(handle: TimerHandle): boolean {
    return this.#setKeepAlive(handle, KEEPS_ALIVE);
  }

  /** Lets the process end while this timer is pending. Returns whether it was, or is running. */
  unref(handle: TimerHandle): boolean {
    return this.#setKeepAlive(handle, 0);
  }

  /** Drops all timers, uncalled, and frees the memory. More than once is fine. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#alarm.cancel();
    this.#queue.close();
    this.#blocks.length = 0;
    this.#block = undefined;
    this.#size = 0;
    this.#keptCount = 0;
    this.#dueNext = this.#dueEnd;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /** Calls what is due, as long as the budget allows, and sets the alarm for the rest. */
  #turn(): void {
    this.#isInTurn = true;
    this.#alarmMs = Number.POSITIVE_INFINITY;
    try {
      this.#callDue();
    } finally {
      // Also when a callback has thrown: what is left is called in the next turn.
      this.#isInTurn = false;
      if (!this.#isClosed) this.#setAlarm();
    }
  }

  #callDue(): void {
    const startedAt = this.#alarm.nowMs();
    const nowMs = Math.floor(startedAt);
    for (let calls = 1; ; calls++) {
      if (this.#dueNext === this.#dueEnd) {
        if (this.#isClosed) return;
        this.#dueNext = 0;
        this.#dueEnd = this.#queue.advance(nowMs, this.#due);
        if (this.#dueEnd === 0) return;
      }
      this.#call(this.#due[this.#dueNext++]!, nowMs);
      if (calls % UNWATCHED_CALLS === 0 && this.#alarm.nowMs() - startedAt >= this.#budgetMs) {
        return;
      }
    }
  }

  /** Calls a timer, unless it was cleared or refreshed since the queue handed it out. */
  #call(token: number, nowMs: number): void {
    const block = this.#blocks[token >>> BLOCK_BITS]!;
    const index = token & INDEX_MASK;
    const state = block.states[index]!;
    if ((state & IN_USE) === 0) {
      this.#release(block, index);
      return;
    }
    if (block.dueMs[index]! > nowMs) {
      block.queued[index] = this.#queue.schedule(block.dueMs[index]!, token);
      return;
    }
    const callback = block.callbacks[index] as (...args: unknown[]) => unknown;
    block.dueMs[index] = NOT_ARMED;
    this.#size--;
    if ((state & KEEPS_ALIVE) !== 0) this.#keptCount--;
    try {
      if (block.args === undefined || block.args[index] === undefined) callback();
      else if ((state & HAS_LIST) === 0) callback(block.args[index]);
      else callback(...(block.args[index] as unknown[]));
    } finally {
      if (!this.#isClosed) this.#afterCall(block, index, token);
    }
  }

  #afterCall(block: Block, index: number, token: number): void {
    const dueMs = block.dueMs[index]!;
    const isInUse = (block.states[index]! & IN_USE) !== 0;
    if (isInUse && dueMs !== NOT_ARMED) {
      block.queued[index] = this.#queue.schedule(dueMs, token);
      return;
    }
    if (isInUse) block.drop(index);
    this.#release(block, index);
  }

  #setAlarm(): void {
    this.#alarm.keepAlive(this.#keptCount > 0);
    if (this.#dueNext < this.#dueEnd) {
      this.#alarmMs = Number.NEGATIVE_INFINITY;
      this.#alarm.setSoon();
      return;
    }
    let nextMs = this.#queue.nextDueMs();
    if (nextMs === Number.POSITIVE_INFINITY) return;
    const nowMs = this.#alarm.nowMs();
    if (this.#size >= PACED_SIZE) {
      nextMs = Math.min(nextMs, Math.max(this.#queue.quietUntilMs(), nowMs + PACE_MS));
    }
    if (nextMs <= nowMs) {
      this.#alarmMs = Number.NEGATIVE_INFINITY;
      this.#alarm.setSoon();
    } else {
      this.#alarmMs = nextMs;
      this.#alarm.set(nextMs - nowMs);
    }
  }

  /** Sees to it that there is a turn at this time or earlier. During a turn, its end does. */
  #wakeBy(dueMs: number): void {
    if (dueMs >= this.#alarmMs || this.#isInTurn) return;
    this.#alarmMs = dueMs;
    this.#alarm.set(dueMs - this.#alarm.nowMs());
  }

  /** The whole millisecond that is at least so long away. Always later than the time of the present turn. */
  #dueIn(delayMs: number): number {
    return Math.min(MS_MAX, Math.ceil(this.#alarm.nowMs() + Math.max(1, delayMs)));
  }

  #countKept(change: 1 | -1): void {
    const before = this.#keptCount;
    this.#keptCount = before + change;
    if (this.#isInTurn || (before !== 0 && before + change !== 0)) return;
    this.#alarm.keepAlive(this.#keptCount > 0);
  }

  #setKeepAlive(handle: TimerHandle, flag: number): boolean {
    const block = this.#blockOf(handle);
    if (block === undefined) return false;
    const index = handle & INDEX_MASK;
    const state = block.states[index]!;
    if ((state & KEEPS_ALIVE) === flag) return true;
    block.states[index] = state ^ KEEPS_ALIVE;
    if (block.dueMs[index] !== NOT_ARMED) this.#countKept(flag !== 0 ? 1 : -1);
    return true;
  }

  /** The block of a timer that is pending or running; undefined for one that is over. */
  #blockOf(handle: unknown): Block | undefined {
    if (typeof handle !== 'number' || !(handle >= 0 && handle <= MS_MAX)) {
      if (handle === undefined) return undefined;
      throw badHandle(handle);
    }
    const generation = Math.floor(handle / TOKEN_RANGE);
    const token = handle - generation * TOKEN_RANGE;
    const block = this.#blocks[token >>> BLOCK_BITS];
    if (Math.floor(token) !== token) throw badHandle(handle);
    if (block === undefined) return undefined;
    const state = block.states[token & INDEX_MASK]!;
    return state >> GENERATION_SHIFT === generation && (state & IN_USE) !== 0 ? block : undefined;
  }

  #blockWithRoom(): Block {
    if (this.#block?.hasRoom !== true) this.#block = this.#openBlock();
    return this.#block;
  }

  /** The lowest block with enough free indexes, so that those above can become empty and go; or a new one. */
  #openBlock(): Block {
    for (const enough of [REUSE_MIN, 1]) {
      const room = this.#blocks.find(
        (block) => block !== undefined && BLOCK_TIMERS - block.used - block.retired >= enough,
      );
      if (room !== undefined) return room;
      for (let number = 0; number < BLOCKS_MAX; number++) {
        const base = this.#bases[number] ?? 1;
        if (this.#blocks[number] !== undefined || base > GENERATION_MAX) continue;
        const block = new Block(number, base);
        while (this.#blocks.length < number) this.#blocks.push(undefined);
        this.#blocks[number] = block;
        return block;
      }
    }
    throw new MillraceError('ERR_MILLRACE_QUEUE_FULL', 'no handle is left; make other timers');
  }

  /** Gives back an index; and its block, if that is the last one and not the present block. */
  #release(block: Block, index: number): void {
    block.release(index);
    if (block.used > 0 || block === this.#block) return;
    this.#bases[block.number] = block.highestGeneration + 1;
    this.#blocks[block.number] = undefined;
    while (this.#blocks.length > 0 && this.#blocks.at(-1) === undefined) this.#blocks.pop();
  }

  #refusal(): MillraceError {
    if (this.#isClosed) {
      return new MillraceError('ERR_MILLRACE_CLOSED', 'the timers are closed; make others');
    }
    return new MillraceError(
      'ERR_MILLRACE_QUEUE_FULL',
      `${this.#timersMax} timers are pending, which is the limit; clear some, or raise timersMax`,
      { details: { timersMax: this.#timersMax } },
    );
  }
}

/**
 * Callback timers for many: connection timeouts, lease renewals, retries.
 *
 * ```ts
 * const timers = createTimers();
 * const timeout = timers.setTimer('30s', closeConnection, socket);
 * socket.on('data', () => timers.refresh(timeout));
 * socket.on('close', () => timers.clear(timeout));
 * ```
 *
 * @throws ERR_MILLRACE_INVALID_OPTION or ERR_MILLRACE_INVALID_DURATION for an option out of range
 */
export function createTimers(options: TimersOptions = {}): Timers {
  return new Timers(options);
}

/** A delay in milliseconds, not below 0. The clock cannot reach what is too large to be exact. */
function checkedDelay(delay: unknown): number {
  if (typeof delay !== 'number') return durationMs(delay, 'delay');
  if (delay > Number.NEGATIVE_INFINITY && delay < Number.POSITIVE_INFINITY) {
    return Math.min(MS_MAX, Math.max(0, delay));
  }
  throw invalidOption('delay', delay, 'finite milliseconds, or no timer at all');
}

/** One argument is kept as it is, several as a list. */
function setArguments(block: Block, index: number, args: unknown[]): void {
  block.args ??= new Array(BLOCK_TIMERS).fill(undefined);
  // A lone undefined is kept as no argument, unless it is in a list.
  if (args.length === 1 && args[0] !== undefined) {
    block.args[index] = args[0];
  } else {
    block.args[index] = args;
    block.states[index]! |= HAS_LIST;
  }
}

function badHandle(handle: unknown): MillraceError {
  return invalidOption('handle', handle, 'a handle that setTimer() returned');
}
