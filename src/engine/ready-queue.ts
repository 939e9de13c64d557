/**
 * Tasks that are due and wait for a place: per task type, ordered by priority, then first come, first served.
 *
 * Types keep queues of their own because limits are per type: a type at its `concurrency` is passed over in O(1)
 * instead of being sifted through. Taking one task looks at the head of each type that has something ready, so it
 * costs O(types + log tasks); there are few types.
 */
import type { TaskSpec } from '../core/task.js';

/** What a task tells about its place in line. */
export interface ReadyItem {
  /** Higher goes first. */
  readonly priority: number;
  /** Order of becoming ready, set when it is pushed: FIFO among equals. */
  readyOrder: number;
  /** It is in a ready queue. */
  isReady: boolean;
}

/** Ready tasks of one type, and what runs of it. */
export class TypeQueue<Item extends ReadyItem = ReadyItem> {
  readonly name: string;
  /** Undefined when this node has no such task: its tasks wait. */
  readonly spec: TaskSpec | undefined;
  /** Executions claimed or running on this node. */
  runningCount = 0;
  /** Moving average of the run time, ms; NaN before the first. */
  averageRunMs: number = Number.NaN;
  // A binary heap by (priority descending, order of becoming ready).
  readonly #heap: Item[] = [];

  constructor(name: string, spec: TaskSpec | undefined) {
    this.name = name;
    this.spec = spec;
  }

  get length(): number {
    return this.#heap.length;
  }

  get head(): Item | undefined {
    return this.#heap[0];
  }

  /** Whether another execution may be claimed. */
  get hasRoom(): boolean {
    return this.spec !== undefined && this.runningCount < this.spec.concurrency;
  }

  push(task: Item): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(task);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(task, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = task;
  }

  shift(): Item | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }

  /** Smooths a measured run time into the average. */
  noteRun(runMs: number): void {
    this.averageRunMs = smoothed(this.averageRunMs, runMs);
  }
}

/** All types of one place of execution (worker threads, or the main thread). */
export class ReadyQueue<Item extends ReadyItem = ReadyItem> {
  readonly #types: TypeQueue<Item>[] = [];
  #order = 0;
  #length = 0;

  /** Ready tasks, those of types at their limit included. */
  get length(): number {
    return this.#length;
  }

  addType(type: TypeQueue<Item>): void {
    this.#types.push(type);
  }

  push(task: Item, type: TypeQueue<Item>): void {
    task.readyOrder = this.#order++;
    task.isReady = true;
    type.push(task);
    this.#length++;
  }

  /** How many could be taken now, counted up to `max`: ready tasks of types with room. */
  takeable(max: number): number {
    let count = 0;
    for (const type of this.#types) {
      if (!type.hasRoom) continue;
      count += Math.min(type.length, type.spec!.concurrency - type.runningCount);
      if (count >= max) return max;
    }
    return count;
  }

  /** The type whose head goes next: highest priority first, then the longest ready. */
  next(): TypeQueue<Item> | undefined {
    let best: TypeQueue<Item> | undefined;
    for (const type of this.#types) {
      if (type.head === undefined || !type.hasRoom) continue;
      if (best === undefined || isBefore(type.head, best.head!)) best = type;
    }
    return best;
  }

  /** Takes the head of a type. REQUIRES: it has one. */
  takeFrom(type: TypeQueue<Item>): Item {
    const task = type.shift()!;
    task.isReady = false;
    this.#length--;
    return task;
  }
}

function isBefore(a: ReadyItem, b: ReadyItem): boolean {
  return a.priority !== b.priority ? a.priority > b.priority : a.readyOrder < b.readyOrder;
}

/** A moving average with one more value in it; NaN stands for none yet. */
export function smoothed(averageMs: number, valueMs: number): number {
  return Number.isNaN(averageMs) ? valueMs : averageMs * 0.9 + valueMs * 0.1;
}
