/**
 * OtherOwners: who else owns shards that a segment may go to. Asked for every task that is submitted where it does not run, so
 * what was worked out is kept until an owner changes.
 */
import type { ShardOwners } from '../coordination/shard-owners.js';

/** A node, and its shards that a segment may go to. */
export interface OtherOwner {
  readonly node: string;
  readonly shards: readonly number[];
}

interface Known {
  readonly queue: string;
  /** Of the owners, when this was worked out. */
  readonly changes: number;
  readonly others: readonly OtherOwner[];
}

export class OtherOwners {
  readonly #owners: ShardOwners;
  readonly #self: string;
  /** By the list of shards that was asked with. */
  readonly #known = new WeakMap<readonly number[], Known>();

  /** @param self - the node that is none of them */
  constructor(owners: ShardOwners, self: string) {
    this.#owners = owners;
    this.#self = self;
  }

  /** @param fitting - shards that count; none: all do. The same list as long as it says the same, or nothing is kept */
  of(queue: string, fitting: readonly number[]): readonly OtherOwner[] {
    const { changes } = this.#owners;
    const known = this.#known.get(fitting);
    if (known?.changes === changes && known.queue === queue) return known.others;
    const others = this.#find(queue, fitting);
    this.#known.set(fitting, { queue, changes, others });
    return others;
  }

  #find(queue: string, fitting: readonly number[]): OtherOwner[] {
    const fits = new Set(fitting);
    return this.#owners.nodesOf(queue).flatMap((node) => {
      if (node === this.#self) return [];
      const owned = this.#owners.shardsOf(queue, node);
      const shards = owned.filter((at) => fits.size === 0 || fits.has(at));
      return shards.length > 0 ? [{ node, shards }] : [];
    });
  }
}
