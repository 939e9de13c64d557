/**
 * Who owns which shard, of all queues: what the keys under `o/` say.
 *
 *   o/<queue>/<shard>   value: the owner's name; lease: the owner's; create revision: the epoch of its ownership
 */
import type { OwnedByNode } from '../core/channels.js';
import type { FollowBatch } from '../core/follow.js';
import { type Entry, type Key, type KeyRange, prefixRange } from '../core/store.js';
import { OWNERS } from './shard-map.js';

export const ALL_OWNERS: KeyRange = prefixRange(OWNERS);

export function ownerOfEntry({ key, value, createRevision }: Entry): OwnedByNode {
  return { ...placeOfKey(key), node: Buffer.from(value).toString(), epoch: createRevision };
}

/** A picture of `o/`, as new as the watch that feeds it. For choices; what is written compares epochs. */
export class ShardOwners {
  /** By queue and node: its shards. */
  readonly #queues = new Map<string, Map<string, Set<number>>>();
  readonly #nodeOf = new Map<Key, string>();
  #changes = 0;

  /** How often something has changed: what was worked out from the picture holds as long as this does. */
  get changes(): number {
    return this.#changes;
  }

  /** A batch of following {@link ALL_OWNERS}. */
  hear({ kind, events }: FollowBatch): void {
    // A first list tells by silence what is free.
    if (kind === 'list') for (const key of [...this.#nodeOf.keys()]) this.#remove(key);
    for (const event of events) {
      if (event.type === 'delete') this.#remove(event.key);
      else this.#put(event.entry);
    }
  }

  /** The nodes that own shards of a queue. */
  nodesOf(queue: string): readonly string[] {
    return [...(this.#queues.get(queue)?.keys() ?? [])];
  }

  /** A node's shards of a queue. */
  shardsOf(queue: string, node: string): readonly number[] {
    return [...(this.#queues.get(queue)?.get(node) ?? [])];
  }

  #put(entry: Entry): void {
    this.#remove(entry.key);
    const { queue, shard, node } = ownerOfEntry(entry);
    this.#nodeOf.set(entry.key, node);
    this.#changes++;
    let nodes = this.#queues.get(queue);
    if (nodes === undefined) {
      nodes = new Map();
      this.#queues.set(queue, nodes);
    }
    nodes.set(node, (nodes.get(node) ?? new Set()).add(shard));
  }

  #remove(key: Key): void {
    const node = this.#nodeOf.get(key);
    if (node === undefined) return;
    this.#nodeOf.delete(key);
    this.#changes++;
    const { queue, shard } = placeOfKey(key);
    const nodes = this.#queues.get(queue)!;
    const shards = nodes.get(node)!;
    shards.delete(shard);
    if (shards.size === 0) nodes.delete(node);
  }
}

function placeOfKey(key: Key): { readonly queue: string; readonly shard: number } {
  const [, queue = '', shard = ''] = key.split('/');
  return { queue, shard: Number.parseInt(shard, 36) };
}
