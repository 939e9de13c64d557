/**
 * A binary heap of objects, ordered by due time and sequence: what most priority queues for JavaScript are.
 *
 * The object knows its place in the heap, so cancelling is O(log n) and leaves nothing behind. The object is the
 * handle; one that is not in the heap has index -1.
 */
import type { TimerSet } from './timer-set.js';

export class HeapTimer {
  due: number;
  sequence: number;
  token: number;
  index: number;

  constructor(due: number, sequence: number, token: number, index: number) {
    this.due = due;
    this.sequence = sequence;
    this.token = token;
    this.index = index;
  }
}

export class ObjectHeap implements TimerSet<HeapTimer> {
  readonly #heap: HeapTimer[] = [];
  #sequence = 0;
  #now = 0;

  get size(): number {
    return this.#heap.length;
  }

  schedule(dueMs: number, token: number): HeapTimer {
    const due = Math.max(Math.ceil(dueMs), this.#now);
    const heap = this.#heap;
    const timer = new HeapTimer(due, this.#sequence++, token, heap.length);
    heap.push(timer);
    this.#up(timer);
    return timer;
  }

  cancel(timer: HeapTimer): boolean {
    if (timer.index < 0) return false;
    this.#remove(timer);
    return true;
  }

  advance(nowMs: number, out: Uint32Array): number {
    const now = Math.floor(nowMs);
    if (now < this.#now) return 0;
    this.#now = now;
    const heap = this.#heap;
    let count = 0;
    while (count < out.length && heap.length > 0) {
      const first = heap[0]!;
      if (first.due > now) break;
      out[count++] = first.token;
      this.#remove(first);
    }
    return count;
  }

  nextDueMs(): number {
    return this.#heap[0]?.due ?? Number.POSITIVE_INFINITY;
  }

  offHeapBytes(): number {
    return 0;
  }

  close(): void {
    this.#heap.length = 0;
  }

  /** Puts the last timer into the place of the one that goes. */
  #remove(timer: HeapTimer): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (last !== timer) {
      last.index = timer.index;
      heap[last.index] = last;
      this.#up(last);
      this.#down(last);
    }
    timer.index = -1;
  }

  #up(timer: HeapTimer): void {
    const heap = this.#heap;
    const { due, sequence } = timer;
    let index = timer.index;
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = heap[parentIndex]!;
      if (parent.due < due || (parent.due === due && parent.sequence < sequence)) break;
      heap[index] = parent;
      parent.index = index;
      index = parentIndex;
    }
    heap[index] = timer;
    timer.index = index;
  }

  #down(timer: HeapTimer): void {
    const heap = this.#heap;
    const { due, sequence } = timer;
    const { length } = heap;
    let index = timer.index;
    for (;;) {
      let childIndex = 2 * index + 1;
      if (childIndex >= length) break;
      let child = heap[childIndex]!;
      if (childIndex + 1 < length) {
        const right = heap[childIndex + 1]!;
        if (right.due < child.due || (right.due === child.due && right.sequence < child.sequence)) {
          child = right;
          childIndex++;
        }
      }
      if (due < child.due || (due === child.due && sequence < child.sequence)) break;
      heap[index] = child;
      child.index = index;
      index = childIndex;
    }
    heap[index] = timer;
    timer.index = index;
  }
}
