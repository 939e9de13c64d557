/**
 * When each of many things is to be looked at next: a binary heap by time. A thing that gets another time leaves its old
 * place behind, which is passed over when it comes up.
 */
interface Place<Thing> {
  readonly atMs: number;
  readonly thing: Thing;
}

export class Agenda<Thing> {
  readonly #heap: Place<Thing>[] = [];
  readonly #times = new Map<Thing, number>();

  /** @param atMs - Infinity: never */
  set(thing: Thing, atMs: number): void {
    if (this.#times.get(thing) === atMs) return;
    this.#times.delete(thing);
    if (atMs === Number.POSITIVE_INFINITY) return;
    this.#times.set(thing, atMs);
    this.#push({ atMs, thing });
  }

  delete(thing: Thing): void {
    this.#times.delete(thing);
  }

  /** When the next one is due; Infinity: nothing is. */
  get nextMs(): number {
    for (let first = this.#heap[0]; first !== undefined; first = this.#heap[0]) {
      if (this.#times.get(first.thing) === first.atMs) return first.atMs;
      this.#pop();
    }
    return Number.POSITIVE_INFINITY;
  }

  /** Takes out the next thing that is due by then. */
  take(nowMs: number): Thing | undefined {
    if (this.nextMs > nowMs) return undefined;
    const { thing } = this.#heap[0]!;
    this.#pop();
    this.#times.delete(thing);
    return thing;
  }

  #push(place: Place<Thing>): void {
    const heap = this.#heap;
    let at = heap.push(place) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]!.atMs <= place.atMs) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = place;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]!.atMs < heap[child]!.atMs) child++;
      if (heap[child]!.atMs >= last.atMs) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}
