/**
 * What a thread and its pool tell each other without messages: how much heap it has, whether its log lines are read.
 *
 *   [0] f64 bytes in use: the least of the last looks, so that garbage does not count for growth
 *   [8] f64 bytes held: the heap, and what it holds outside
 *   [16] f64 whether anybody reads lines of `ctx.log`; written by the pool
 *   [24] f64 lines dropped   [32] f64 notes of tasks that had ended   (task-notes.ts)
 *
 * A look costs some microseconds, so there is at most one per second, and none in a thread without work.
 */
import { getHeapStatistics } from 'node:v8';
import type { NoteCounts } from './task-notes.js';

const LOOK_EVERY_MS = 1_000;
const LOOKS = 3;

/** The thread's side. */
export class VitalsWriter implements NoteCounts {
  readonly #values: Float64Array;
  readonly #looks: number[] = [];
  #nextLookMs = 0;

  constructor(memory: SharedArrayBuffer) {
    this.#values = new Float64Array(memory);
  }

  get wantsLines(): boolean {
    return this.#values[2] !== 0;
  }

  get dropped(): number {
    return this.#values[3]!;
  }

  set dropped(count: number) {
    this.#values[3] = count;
  }

  get late(): number {
    return this.#values[4]!;
  }

  set late(count: number) {
    this.#values[4] = count;
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
  readonly memory: SharedArrayBuffer = new SharedArrayBuffer(40);
  readonly #values: Float64Array = new Float64Array(this.memory);

  /** 0 until the thread has looked. */
  get usedBytes(): number {
    return this.#values[0]!;
  }

  get heldBytes(): number {
    return this.#values[1]!;
  }

  set wantsLines(isHeard: boolean) {
    this.#values[2] = Number(isHeard);
  }

  get noteCounts(): Readonly<NoteCounts> {
    return { dropped: this.#values[3]!, late: this.#values[4]! };
  }
}
