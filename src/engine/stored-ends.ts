/**
 * StoredEnds: what other nodes ask of tasks of our shards that are not open here: how they ended. The table may not know them yet,
 * or not any more, so the store is asked, again and again until it has answered or the shard is somebody else's.
 */
import { type Clock, sleep } from '../core/clock.js';
import { hasCode } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { requireTaskId, type TaskId } from '../core/ids.js';
import { isEnded } from '../core/states.js';
import type { Store } from '../core/store.js';
import type { TaskTable } from '../timing/task-table.js';
import type { StoredEnd } from './command-desk.js';
import { findFinished } from './finished.js';
import type { Horizon } from './horizon.js';
import type { Shard } from './shard.js';
import type { Shards } from './shards.js';

/** A store that does not say how a task ended, or has more than is here, is asked again after so long. */
const READ_DELAY_MS = 200;

export interface StoredEndPorts {
  readonly clock: Clock;
  readonly store: Store;
  readonly table: TaskTable;
  readonly shards: Shards;
  readonly horizon: Horizon;
  /** Aborted when no commit comes any more. */
  readonly closing: AbortSignal;
}

export class StoredEnds {
  readonly #ports: StoredEndPorts;

  constructor(ports: StoredEndPorts) {
    this.#ports = ports;
  }

  /** How a task of a shard ended; `over`: nobody here can tell any more. */
  async find(shard: Shard, id: TaskId): Promise<StoredEnd> {
    const answer = await this.whileOurs(shard, () => this.#look(shard, id));
    return answer ?? 'over';
  }

  /**
   * Tries until there is an answer.
   *
   * @param ask - gives undefined when it is to be called again; ERR_MILLRACE_STORE_UNAVAILABLE says the same
   * @returns undefined: the shard is somebody else's, or this node closes
   */
  async whileOurs<T>(shard: Shard, ask: () => Promise<T | undefined>): Promise<T | undefined> {
    const { clock, closing } = this.#ports;
    while (!closing.aborted && shard.stage !== 'over') {
      try {
        const answer = await ask();
        if (answer !== undefined) return answer;
      } catch (error) {
        if (hasCode(error, 'ERR_MILLRACE_CLOSED')) break;
        if (!hasCode(error, 'ERR_MILLRACE_STORE_UNAVAILABLE')) throw error;
      }
      await sleep(clock, READ_DELAY_MS);
    }
    return undefined;
  }

  /** A dead letter that is redriven between two reads of one look is in neither place: the next look finds it open. */
  async #look(shard: Shard, id: TaskId): Promise<StoredEnd | undefined> {
    const found = await this.#lookOnce(shard, id);
    return found === 'gone' ? this.#lookOnce(shard, id) : found;
  }

  async #lookOnce(shard: Shard, id: TaskId): Promise<StoredEnd | undefined> {
    const { store, shards, horizon } = this.#ports;
    const { segment } = requireTaskId(id);
    const before = this.#inTable(id);
    // In this order: what ends in between is filed by the second reading.
    const isStored = await shards.fetch(shard, segment);
    const filed = await findFinished(store, id);
    if (filed !== undefined) return { state: filed.state, json: utf8(filed.bytes) };
    // An end that is durable and not filed is not kept.
    if (!isStored || before === 'settled' || this.#inTable(id) === 'unknown') return 'gone';
    // Beyond the horizon only who has ended is asked for.
    if (before === 'absent' && horizon.beyond(segment) !== undefined) return 'gone';
    return this.#inTable(id) === 'open' ? 'held' : undefined;
  }

  #inTable(id: TaskId): 'absent' | 'unknown' | 'open' | 'ended' | 'settled' {
    const { table } = this.#ports;
    const { segment, index } = requireTaskId(id);
    const held = table.findSegment(segment);
    if (held === 0) return 'absent';
    const info = table.inspect(table.taskAt(held, index));
    if (info === undefined) return 'unknown';
    if (info.isSettled) return 'settled';
    return isEnded(info.state) ? 'ended' : 'open';
  }
}
