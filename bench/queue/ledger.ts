/**
 * Which tasks have run, in memory that all threads of a process share: worker threads inherit it.
 *
 *   header   i32 x 2    [0] the gate: 1 is open   [1] runs of any task
 *   counts   i32 each   how often the task of this number has run
 *   starts   f64 each   when it ran last, on the shared clock, in ms
 *
 * Handlers call `run` or `pass`. The gate holds them until the load has been handed in: what is measured then is a
 * queue that was loaded beforehand.
 */
import { getEnvironmentData, setEnvironmentData } from 'node:worker_threads';
import { sharedNowMs } from './queue.js';

const KEY = 'millrace.bench.queue.ledger';
const GATE = 0;
const RUNS = 1;
const HEADER_BYTES = 8;
const POLL_MS = 1;

export class Ledger {
  readonly #header: Int32Array<SharedArrayBuffer>;
  readonly #counts: Int32Array<SharedArrayBuffer>;
  readonly #starts: Float64Array<SharedArrayBuffer>;
  /** Resolves when the gate opens, for handlers on the thread that opens it. */
  #opened: Promise<void> = Promise.resolve();
  #open = (): void => {};

  private constructor(memory: SharedArrayBuffer) {
    const capacity = (memory.byteLength - HEADER_BYTES) / 12;
    this.#header = new Int32Array(memory, 0, 2);
    this.#starts = new Float64Array(memory, HEADER_BYTES, capacity);
    this.#counts = new Int32Array(memory, HEADER_BYTES + 8 * capacity, capacity);
  }

  /** The ledger of this process; threads that start from now on have it too. @param capacity - even */
  static create(capacity: number): Ledger {
    const memory = new SharedArrayBuffer(HEADER_BYTES + 12 * capacity);
    setEnvironmentData(KEY, memory as never);
    current = new Ledger(memory);
    return current;
  }

  /** The ledger of the process, wherever a handler is. */
  static inherited(): Ledger {
    current ??= new Ledger(getEnvironmentData(KEY) as unknown as SharedArrayBuffer);
    return current;
  }

  /** Runs of any task since the last `clear`. */
  get runs(): number {
    return Atomics.load(this.#header, RUNS);
  }

  /** A handler on the main thread: notes the run; the promise, where there is one, is the gate's. */
  run(id: number): Promise<void> | undefined {
    if (Atomics.load(this.#header, GATE) === 1) {
      this.#note(id);
      return undefined;
    }
    return this.#opened.then(() => this.#note(id));
  }

  /** A handler in a thread of its own, which the gate blocks. */
  runInThread(id: number): void {
    Atomics.wait(this.#header, GATE, 0);
    this.#note(id);
  }

  shutGate(): void {
    Atomics.store(this.#header, GATE, 0);
    this.#opened = new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  openGate(): void {
    Atomics.store(this.#header, GATE, 1);
    Atomics.notify(this.#header, GATE);
    this.#open();
  }

  clear(): void {
    this.#counts.fill(0);
    Atomics.store(this.#header, RUNS, 0);
  }

  startedAtMs(id: number): number {
    return this.#starts[id] ?? Number.NaN;
  }

  /** Resolves when so many tasks have run. @throws after a time without any */
  async untilRun(count: number, patienceMs = 30_000): Promise<void> {
    let seen = this.runs;
    let seenAtMs = sharedNowMs();
    while (this.runs < count) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      if (this.runs !== seen) {
        seen = this.runs;
        seenAtMs = sharedNowMs();
      } else if (sharedNowMs() - seenAtMs > patienceMs) {
        throw new Error(`${seen} of ${count} tasks ran, then none for ${patienceMs} ms`);
      }
    }
  }

  /** @throws unless each task below `count` has run exactly once, and no other */
  check(count: number): void {
    for (const [id, runs] of this.#counts.entries()) {
      const expected = id < count ? 1 : 0;
      if (runs !== expected) throw new Error(`task ${id} ran ${runs} times, not ${expected}`);
    }
  }

  #note(id: number): void {
    this.#starts[id] = sharedNowMs();
    Atomics.add(this.#counts, id, 1);
    Atomics.add(this.#header, RUNS, 1);
  }
}

let current: Ledger | undefined;
