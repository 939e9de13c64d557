/**
 * A binary heap: what comes first is at hand, whatever the order of pushing. Equal ones come out in no order of theirs, unless
 * `isBefore` tells them apart.
 */
export class Heap<Item> {
  readonly #items: Item[] = [];
  readonly #isBefore: (a: Item, b: Item) => boolean;

  constructor(isBefore: (a: Item, b: Item) => boolean) {
    this.#isBefore = isBefore;
  }

  /** The first one; undefined when there is none. */
  get first(): Item | undefined {
    return this.#items[0];
  }

  push(item: Item): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#isBefore(items[parent]!, item)) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  /** Takes out the first one. REQUIRES: there is one. */
  pop(): void {
    const items = this.#items;
    const last = items.pop()!;
    if (items.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && this.#isBefore(items[child + 1]!, items[child]!)) child++;
      if (this.#isBefore(last, items[child]!)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
  }

  /** All of them, in no order. */
  [Symbol.iterator](): IterableIterator<Item> {
    return this.#items.values();
  }
}
