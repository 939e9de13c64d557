/**
 * WaitingSigns: says in the store that tasks of some type wait in a shard of ours for a node that runs them, so that one that does
 * is given the shard (coordination/shard-map.ts), and takes that back when everybody runs the type.
 */
import { encodeWaiting, type ShardMap, waitingKey } from '../coordination/shard-map.js';
import type { Outbox } from './outbox.js';
import type { Shard } from './shard.js';

export interface WaitingPorts {
  readonly outbox: Outbox;
  map(): ShardMap;
  /** There is something to write. */
  onChanged(): void;
}

export class WaitingSigns {
  readonly #ports: WaitingPorts;

  constructor(ports: WaitingPorts) {
    this.#ports = ports;
  }

  /** A task is due that cannot run here. */
  note(shard: Shard, type: string): void {
    shard.waiting.add(type);
    this.update(shard);
  }

  /** Writes what is to be said of a shard now, if that is something else than before. */
  update(shard: Shard): void {
    if (shard.stage !== 'active' || shard.isTelling) return;
    const map = this.#ports.map();
    const { queue } = shard;
    const told = map.waitingAt(shard);
    const type = [...shard.waiting].find((waiting) => map.isRun(queue, waiting));
    if (type === undefined ? told === undefined || !map.isRunByAll(queue, told) : type === told) {
      return;
    }
    shard.isTelling = true;
    const value = type === undefined ? undefined : encodeWaiting(type);
    const onSent = (): void => {
      shard.isTelling = false;
    };
    this.#ports.outbox.post({ key: waitingKey(shard), value, shard, onSent });
    this.#ports.onChanged();
  }
}
