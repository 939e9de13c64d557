/**
 * When each of many things is to be looked at next: a heap by time. A thing that gets another time leaves its old
 * place behind, which is passed over when it comes up.
 */
import { Heap } from '../../core/heap.js';

interface Place<Thing> {
  readonly atMs: number;
  readonly thing: Thing;
}

export class Agenda<Thing> {
  readonly #heap = new Heap<Place<Thing>>((a, b) => a.atMs <= b.atMs);
  readonly #times = new Map<Thing, number>();

  /** @param atMs - Infinity: never */
  set(thing: Thing, atMs: number): void {
    if (this.#times.get(thing) === atMs) return;
    this.#times.delete(thing);
    if (atMs === Number.POSITIVE_INFINITY) return;
    this.#times.set(thing, atMs);
    this.#heap.push({ atMs, thing });
  }

  delete(thing: Thing): void {
    this.#times.delete(thing);
  }

  /** When the next one is due; Infinity: nothing is. */
  get nextMs(): number {
    for (let { first } = this.#heap; first !== undefined; first = this.#heap.first) {
      if (this.#times.get(first.thing) === first.atMs) return first.atMs;
      this.#heap.pop();
    }
    return Number.POSITIVE_INFINITY;
  }

  /** Takes out the next thing that is due by then. */
  take(nowMs: number): Thing | undefined {
    if (this.nextMs > nowMs) return undefined;
    const { thing } = this.#heap.first!;
    this.#heap.pop();
    this.#times.delete(thing);
    return thing;
  }
}
