/**
 * The kernel of deterministic simulation: one queue of events for every process of a simulated cluster.
 *
 *   heap of (time, random order among equals)  ──pop──>  one event  ──>  one turn of the real event loop, so that
 *                                                                        every promise chain it set off has run
 *
 * Each process has a clock; all it ever learns of the world is a wake-up of that clock. So the kernel can do to a
 * process what an operating system can:
 *
 *   kill      its events are dropped, now and for ever: `kill -9`
 *   pause     its events wait and come in a burst with `resume`: SIGSTOP and SIGCONT, or a very long collection
 *   jumpWall  its wall clock moves; the monotonic one never does
 *
 * One seed is one run: nothing here or in what it runs draws from anywhere else. Source: FoundationDB's simulation
 * (one thread, discrete events); the random order among equals is what finds races that a stable order hides.
 */
import type { Clock, WakeUp } from '../core/clock.js';
import { Heap } from '../core/heap.js';
import { type Random, seededRandom } from '../core/random.js';

/** 2026-01-01T00:00:00Z */
const START_WALL_MS = 1_767_225_600_000;
/** Clocks of processes begin anywhere below, so that mixing two of them shows. */
const MONO_ORIGIN_MAX_MS = 1e9;
/** Times are whole multiples of 1/1024 ms: then no clock's origin makes a wake-up early by a rounding error. */
const TICKS_PER_MS = 1_024;

interface Event {
  readonly atMs: number;
  /** Random; decides among equals. */
  readonly order: number;
  readonly sequence: number;
  readonly process: SimProcess | undefined;
  /** Undefined when it was cancelled. */
  run: (() => void) | undefined;
}

// Taken before anybody can replace it: the kernel needs the real one.
const nextTurn = setImmediate;
/** So often the event loop turns all the same: rejections that nobody handles are told by then, and timers of the test. */
const EVENTS_PER_TURN = 16;

export interface WorldOptions {
  readonly isPromisesOnly?: boolean;
}

export class World {
  readonly random: Random;
  /** The time of everything that is in no process: the network, the store, the test. */
  readonly clock: Clock;
  readonly #order: Random;
  readonly #isPromisesOnly: boolean;
  readonly #heap = new Heap<Event>(isBefore);
  #nowMs = 0;
  #sequence = 0;
  #eventCount = 0;

  /**
   * @param seed - decides everything
   * @param options.isPromisesOnly - whether all that runs in it waits for nothing but promises and clocks of the world. Then
   *   the event loop need not turn after each event, which is a seventh of the time. @defaultValue false
   */
  constructor(seed: number, { isPromisesOnly = false }: WorldOptions = {}) {
    this.#isPromisesOnly = isPromisesOnly;
    this.random = seededRandom(seed);
    this.#order = this.random.fork('order');
    this.clock = new ProcessClock(this, undefined);
  }

  /** Virtual time since the beginning. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events so far. */
  get eventCount(): number {
    return this.#eventCount;
  }

  /** Starts a process: a clock of its own, alive until it is killed. */
  spawn(name: string): SimProcess {
    return new SimProcess(this, name, Math.floor(this.random.float() * MONO_ORIGIN_MAX_MS));
  }

  /** Calls after so much time, in a process if one is given. */
  at(delayMs: number, run: () => void, process?: SimProcess): WakeUp {
    const atMs = Math.ceil((this.#nowMs + Math.max(0, delayMs)) * TICKS_PER_MS) / TICKS_PER_MS;
    const event: Event = {
      atMs,
      order: this.#order.u32(),
      sequence: this.#sequence++,
      process,
      run,
    };
    this.#heap.push(event);
    return {
      cancel: () => {
        event.run = undefined;
      },
    };
  }

  /** Lets so much time pass. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await this.runUntil(() => false, ms);
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  /**
   * Lets time pass until something holds, or for `limitMs`.
   *
   * @returns whether it holds
   */
  async runUntil(holds: () => boolean, limitMs: number): Promise<boolean> {
    const untilMs = this.#nowMs + limitMs;
    await quiescence();
    while (!holds()) {
      const event = this.#heap.first;
      if (event === undefined || event.atMs > untilMs) {
        this.#nowMs = untilMs;
        return holds();
      }
      this.#heap.pop();
      if (event.run === undefined || event.process?.isAlive === false) continue;
      this.#nowMs = Math.max(this.#nowMs, event.atMs);
      if (event.process?.isPaused) {
        event.process.hold(event.run);
        continue;
      }
      this.#eventCount++;
      event.run();
      const isTurn = !this.#isPromisesOnly || this.#eventCount % EVENTS_PER_TURN === 0;
      await (isTurn ? quiescence() : promisesSettled());
    }
    return true;
  }

  /** Wake-ups that a process waits for. */
  pendingOf(process: SimProcess): number {
    let count = 0;
    for (const event of this.#heap) if (event.process === process && event.run) count++;
    return count;
  }
}

/** A process of the simulated world. */
export class SimProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly #world: World;
  readonly #held: (() => void)[] = [];
  #isAlive = true;
  #isPaused = false;
  wallOffsetMs = 0;
  /** Where its monotonic clock stood when the world began. */
  readonly monoOriginMs: number;

  /** Processes come from `World.spawn`. */
  constructor(world: World, name: string, monoOriginMs: number) {
    this.#world = world;
    this.name = name;
    this.monoOriginMs = monoOriginMs;
    this.clock = new ProcessClock(world, this);
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  kill(): void {
    this.#isAlive = false;
    this.#held.length = 0;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    for (const run of this.#held.splice(0)) this.#world.at(0, run, this);
  }

  /** Moves the wall clock alone, either way. */
  jumpWall(ms: number): void {
    this.wallOffsetMs += ms;
  }

  /** For the kernel: what would have happened while it stands still. */
  hold(run: () => void): void {
    this.#held.push(run);
  }
}

class ProcessClock implements Clock {
  readonly #world: World;
  readonly #process: SimProcess | undefined;

  constructor(world: World, process: SimProcess | undefined) {
    this.#world = world;
    this.#process = process;
  }

  wallMs(): number {
    return Math.floor(START_WALL_MS + this.#world.nowMs + (this.#process?.wallOffsetMs ?? 0));
  }

  monoMs(): number {
    return this.#world.nowMs + (this.#process?.monoOriginMs ?? 0);
  }

  wakeIn(delayMs: number, wake: () => void): WakeUp {
    return this.#world.at(delayMs, wake, this.#process);
  }

  wakeSoon(wake: () => void): WakeUp {
    return this.#world.at(0, wake, this.#process);
  }
}

function isBefore(a: Event, b: Event): boolean {
  if (a.atMs !== b.atMs) return a.atMs < b.atMs;
  return a.order === b.order ? a.sequence < b.sequence : a.order < b.order;
}

/** One turn of the real event loop: by its end every promise chain that needs no I/O has run. */
function quiescence(): Promise<void> {
  return new Promise((resolve) => nextTurn(resolve));
}

/** The same without a turn: a tick that is asked for by a microtask comes when no microtask is left. */
function promisesSettled(): Promise<void> {
  return new Promise((resolve) => {
    void Promise.resolve().then(() => process.nextTick(resolve));
  });
}
