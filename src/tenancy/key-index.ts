/**
 * KeyIndex: from a key's hash to where its record is; open addressing with linear probing, 8 bytes a slot.
 *
 *   slot   | hash | address |      address 0: free. The hash stands beside it, so that a probe reads a record only when
 *                                  it is very probably the right one.
 *
 * Removal moves what follows back into the gap, so there are no tombstones, and a search ends at the first free slot.
 * At most three quarters of the slots are used; the table doubles before that.
 */
import type { Address } from './record-slab.js';

const SLOTS_MIN = 1_024;

export class KeyIndex {
  /** Pairs of hash and address. For searches, see `slot`. */
  table: Uint32Array = new Uint32Array(2 * SLOTS_MIN);
  mask: number = SLOTS_MIN - 1;
  #size = 0;

  /** Keys. */
  get size(): number {
    return this.#size;
  }

  get bytes(): number {
    return this.table.byteLength;
  }

  insert(hash: number, address: Address): void {
    if (this.#size >= (this.mask + 1) * 0.75) this.#grow();
    this.#size++;
    this.#place(hash, address);
  }

  /** A record is somewhere else now, or has been replaced by another of the same key. */
  move(hash: number, from: Address, to: Address): void {
    const slot = this.#slotOf(hash, from);
    if (slot >= 0) this.table[2 * slot + 1] = to;
  }

  remove(hash: number, address: Address): void {
    let gap = this.#slotOf(hash, address);
    if (gap < 0) return;
    this.#size--;
    const { table, mask } = this;
    for (let slot = (gap + 1) & mask; table[2 * slot + 1] !== 0; slot = (slot + 1) & mask) {
      // It may move back unless its home lies behind the gap.
      const home = table[2 * slot]! & mask;
      if (((slot - home) & mask) < ((slot - gap) & mask)) continue;
      table[2 * gap] = table[2 * slot]!;
      table[2 * gap + 1] = table[2 * slot + 1]!;
      gap = slot;
    }
    table[2 * gap + 1] = 0;
  }

  clear(): void {
    this.table = new Uint32Array(2 * SLOTS_MIN);
    this.mask = SLOTS_MIN - 1;
    this.#size = 0;
  }

  #slotOf(hash: number, address: Address): number {
    const { table, mask } = this;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const found = table[2 * slot + 1]!;
      if (found === address) return slot;
      if (found === 0) return -1;
    }
  }

  #place(hash: number, address: Address): void {
    const { table, mask } = this;
    let slot = hash & mask;
    while (table[2 * slot + 1] !== 0) slot = (slot + 1) & mask;
    table[2 * slot] = hash;
    table[2 * slot + 1] = address;
  }

  #grow(): void {
    const { table } = this;
    this.mask = 2 * this.mask + 1;
    this.table = new Uint32Array(2 * (this.mask + 1));
    for (let at = 0; at < table.length; at += 2) {
      if (table[at + 1] !== 0) this.#place(table[at]!, table[at + 1]!);
    }
  }
}
