/**
 * A timing wheel of objects: doubly linked lists in slots of a millisecond, two windows of 65 536 slots.
 *
 * Timers of this window and the next have a slot each millisecond; later ones wait in a list per window, which is
 * spread when the window before it begins. So a delay below a minute is never moved, and whatever is moved comes before
 * what is scheduled later for the same millisecond, which keeps the order of scheduling.
 *
 * The object is the handle. Each list has a sentinel, made when it is first used, which knows its slot; a timer that
 * is in no list has `next` null.
 */
import { Occupancy } from './occupancy.js';
import type { TimerSet } from './timer-set.js';

const WINDOW = 65_536;
const SLOTS = 2 * WINDOW;

export class WheelTimer {
  /** Of a sentinel: its slot, or -1 for a window's list. */
  due: number;
  token: number;
  previous: WheelTimer | null = null;
  next: WheelTimer | null = null;

  constructor(due: number, token: number) {
    this.due = due;
    this.token = token;
  }
}

export class ObjectWheel implements TimerSet<WheelTimer> {
  readonly #slots: (WheelTimer | null)[] = new Array<WheelTimer | null>(SLOTS).fill(null);
  readonly #occupancy = new Occupancy(SLOTS);
  /** Lists of timers beyond the next window, by window. */
  readonly #far = new Map<number, WheelTimer>();
  #now = 0;
  #windowStart = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  schedule(dueMs: number, token: number): WheelTimer {
    const due = Math.max(Math.ceil(dueMs), this.#now);
    const timer = new WheelTimer(due, token);
    this.#place(timer);
    this.#size++;
    return timer;
  }

  cancel(timer: WheelTimer): boolean {
    if (timer.next === null) return false;
    this.#unlink(timer);
    return true;
  }

  advance(nowMs: number, out: Uint32Array): number {
    const now = Math.floor(nowMs);
    if (now < this.#now) return 0;
    let count = 0;
    for (;;) {
      const sentinel = this.#slots[this.#now % SLOTS]!;
      if (sentinel !== null) {
        for (let timer = sentinel.next!; timer !== sentinel; timer = sentinel.next!) {
          if (count === out.length) return count;
          out[count++] = timer.token;
          this.#unlink(timer);
        }
      }
      if (this.#now === now) return count;
      this.#step(now);
    }
  }

  nextDueMs(): number {
    if (this.#size === 0) return Number.POSITIVE_INFINITY;
    const windowEnd = this.#windowStart + WINDOW;
    const near = this.#nextIn(this.#now, windowEnd);
    if (near >= 0) return near;
    const next = this.#nextIn(windowEnd, windowEnd + WINDOW);
    if (next >= 0) return next;
    let earliest = Number.POSITIVE_INFINITY;
    const sentinel = this.#far.get(this.#firstFarWindow());
    if (sentinel === undefined) return earliest;
    for (let timer = sentinel.next!; timer !== sentinel; timer = timer.next!) {
      earliest = Math.min(earliest, timer.due);
    }
    return earliest;
  }

  offHeapBytes(): number {
    return this.#occupancy.bytes;
  }

  close(): void {
    this.#slots.fill(null);
    this.#far.clear();
    this.#size = 0;
  }

  #place(timer: WheelTimer): void {
    const { due } = timer;
    if (due - this.#windowStart < SLOTS) {
      const slot = due % SLOTS;
      let sentinel = this.#slots[slot]!;
      if (sentinel === null) {
        sentinel = newSentinel(slot);
        this.#slots[slot] = sentinel;
      }
      if (sentinel.next === sentinel) this.#occupancy.set(slot);
      append(sentinel, timer);
      return;
    }
    const window = Math.floor(due / WINDOW);
    let sentinel = this.#far.get(window);
    if (sentinel === undefined) {
      sentinel = newSentinel(-1);
      this.#far.set(window, sentinel);
    }
    append(sentinel, timer);
  }

  #unlink(timer: WheelTimer): void {
    const previous = timer.previous!;
    const next = timer.next!;
    previous.next = next;
    next.previous = previous;
    timer.previous = null;
    timer.next = null;
    this.#size--;
    // Only a sentinel is its own neighbour.
    if (previous === next && previous.next === previous) {
      if (previous.due >= 0) this.#occupancy.clear(previous.due);
    }
  }

  /** Moves time to the next millisecond with timers, the next window, or `now`. */
  #step(now: number): void {
    const windowEnd = this.#windowStart + WINDOW;
    const next = this.#nextIn(this.#now + 1, windowEnd);
    if (next >= 0 || now < windowEnd) {
      this.#now = next >= 0 ? Math.min(next, now) : now;
      return;
    }
    this.#enter(windowEnd, now);
  }

  #enter(windowStart: number, now: number): void {
    let start = windowStart;
    if (this.#nextIn(windowStart, windowStart + WINDOW) < 0) {
      // Nothing is left near by: the windows before the first far list are empty.
      const before = this.#far.size === 0 ? Number.POSITIVE_INFINITY : this.#firstFarWindow() - 1;
      start = Math.max(start, Math.min(Math.floor(now / WINDOW), before) * WINDOW);
    }
    this.#windowStart = start;
    this.#now = start;
    this.#spread(start / WINDOW);
    this.#spread(start / WINDOW + 1);
  }

  #spread(window: number): void {
    const sentinel = this.#far.get(window);
    if (sentinel === undefined) return;
    this.#far.delete(window);
    for (let timer = sentinel.next!; timer !== sentinel; ) {
      const following = timer.next!;
      this.#place(timer);
      timer = following;
    }
  }

  /** The first millisecond with timers in `[fromMs, toMs)`, which is within one window; -1 if there is none. */
  #nextIn(fromMs: number, toMs: number): number {
    const base = (toMs - WINDOW) % SLOTS;
    const start = toMs - WINDOW;
    const slot = this.#occupancy.next(base + (fromMs - start), base + WINDOW);
    return slot < 0 ? -1 : start + (slot - base);
  }

  #firstFarWindow(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const [window, sentinel] of this.#far) {
      if (window < first && sentinel.next !== sentinel) first = window;
    }
    return first;
  }
}

function newSentinel(slot: number): WheelTimer {
  const sentinel = new WheelTimer(slot, 0);
  sentinel.previous = sentinel;
  sentinel.next = sentinel;
  return sentinel;
}

function append(sentinel: WheelTimer, timer: WheelTimer): void {
  const last = sentinel.previous!;
  timer.previous = last;
  timer.next = sentinel;
  last.next = timer;
  sentinel.previous = timer;
}
