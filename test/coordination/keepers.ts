/**
 * Shard keepers with owners that record what they are told.
 */
import assert from 'node:assert/strict';
import type { Session } from '../../src/coordination/session.js';
import type { OwnedShard, ShardOwner } from '../../src/coordination/shard-keeper.js';
import type { Key } from '../../src/core/store.js';

/** What a process believes to own. */
export class Belief implements ShardOwner {
  readonly name: string;
  readonly session: Session;
  readonly held = new Map<Key, OwnedShard>();
  /** Asked to release and not yet let go: the way to do so. */
  readonly asked = new Map<OwnedShard, () => void>();
  readonly log: string[] = [];
  /** Lets go as soon as it is asked. */
  isObliging = true;
  readonly #all: readonly Belief[];
  readonly #epochs: Map<string, string>;

  /**
   * @param all - everybody's beliefs, this one among them
   * @param epochs - who had which epoch of which shard
   */
  constructor(name: string, session: Session, all: readonly Belief[], epochs: Map<string, string>) {
    this.name = name;
    this.session = session;
    this.#all = all;
    this.#epochs = epochs;
  }

  onAcquired(shard: OwnedShard): void {
    assert.equal(
      this.held.get(shard.key),
      undefined,
      'told of the end of one epoch before the next',
    );
    const ownership = `${shard.key}@${shard.epoch}`;
    assert.equal(this.#epochs.get(ownership), undefined, `${ownership} was owned before`);
    this.#epochs.set(ownership, this.name);
    this.held.set(shard.key, shard);
    this.log.push(`+${shard.key.slice(2)}`);
    this.#checkAlone(shard);
  }

  async onReleaseAsked(shard: OwnedShard): Promise<void> {
    this.log.push(`?${shard.key.slice(2)}`);
    assert.equal(this.held.get(shard.key), shard);
    if (!this.isObliging) {
      await new Promise<void>((resolve) => this.asked.set(shard, resolve));
      this.asked.delete(shard);
    }
    if (this.held.get(shard.key) === shard) this.held.delete(shard.key);
  }

  onLost(shard: OwnedShard): void {
    this.log.push(`-${shard.key.slice(2)}`);
    if (this.held.get(shard.key) === shard) this.held.delete(shard.key);
  }

  /** Of those who may act, only one believes to own a shard; whoever is late has an older epoch. */
  #checkAlone({ key }: OwnedShard): void {
    const believing = this.#all.filter(
      ({ held, session }) => held.has(key) && session.state === 'live',
    );
    const epochs = new Set(believing.map(({ held }) => held.get(key)!.epoch));
    assert.equal(epochs.size, believing.length, `two own ${key} under one epoch`);
  }
}
