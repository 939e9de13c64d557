/**
 * How much heap a thread has, written by the thread where the pool can read it.
 *
 *   [0] f64 bytes in use: the least of the last looks, so that garbage does not count for growth
 *   [8] f64 bytes held: the heap, and what it holds outside
 *
 * A look costs some microseconds, so there is at most one per second, and none in a thread without work.
 */
import { getHeapStatistics } from 'node:v8';

const LOOK_EVERY_MS = 1_000;
const LOOKS = 3;

/** The thread's side. */
export class VitalsWriter {
  readonly #values: Float64Array;
  readonly #looks: number[] = [];
  #nextLookMs = 0;

  constructor(memory: SharedArrayBuffer) {
    this.#values = new Float64Array(memory);
  }

  /** Looks if it is time to. */
  note(nowMs: number): void {
    if (nowMs < this.#nextLookMs) return;
    this.#nextLookMs = nowMs + LOOK_EVERY_MS;
    const heap = getHeapStatistics();
    this.#looks.push(heap.used_heap_size + heap.external_memory);
    if (this.#looks.length > LOOKS) this.#looks.shift();
    this.#values[0] = Math.min(...this.#looks);
    this.#values[1] = heap.total_heap_size + heap.external_memory;
  }
}

/** The pool's side. */
export class Vitals {
  readonly memory: SharedArrayBuffer = new SharedArrayBuffer(16);
  readonly #values: Float64Array = new Float64Array(this.memory);

  /** 0 until the thread has looked. */
  get usedBytes(): number {
    return this.#values[0]!;
  }

  get heldBytes(): number {
    return this.#values[1]!;
  }
}
