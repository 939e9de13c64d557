/**
 * StoreControl: reads what a store knows, without a runtime and without changing anything: neither a member nor a lease is
 * put, and nothing is recovered.
 */
import { ALL_HEARTBEATS, heartbeatOf } from '../coordination/heartbeats.js';
import { ALL_MEMBERS, memberOf } from '../coordination/members.js';
import { requireTaskId, type TaskId } from '../core/ids.js';
import type { Store } from '../core/store.js';
import { goneError } from '../engine/ends.js';
import { explainStored, hostOf } from '../engine/explain-stored.js';
import type { Explanation } from '../engine/explanation.js';
import { inspectionOf, type TaskInspection } from '../engine/inspection.js';
import { ALL_DEAD_LETTERS } from '../engine/keys.js';
import { readStoredTask } from '../engine/stored-task.js';
import { listTasks, type TaskPage } from '../engine/task-list.js';
import {
  DEAD_LETTERS_COUNTED_MAX,
  type ListRequest,
  type NodeOverview,
  type Overview,
  type Reading,
} from './control.js';

export class StoreControl implements Reading {
  readonly #store: Store;
  readonly #wallMs: () => number;

  constructor(store: Store, wallMs: () => number) {
    this.#store = store;
    this.#wallMs = wallMs;
  }

  list({ limit, after, ...filter }: ListRequest): Promise<TaskPage> {
    return listTasks(this.#store, filter, { limit, after });
  }

  async inspect(id: string): Promise<TaskInspection> {
    const { segment, index } = requireTaskId(id);
    const stored = await readStoredTask(this.#store, segment, index);
    if (stored === undefined) throw goneError(id as TaskId);
    return inspectionOf(segment, index, stored);
  }

  async explain(id: string): Promise<Explanation> {
    return explainStored(this.#store, await this.inspect(id), this.#wallMs());
  }

  async overview(): Promise<Overview> {
    const [members, beats, letters] = await Promise.all([
      this.#store.range(ALL_MEMBERS),
      this.#store.range(ALL_HEARTBEATS),
      this.#store.range(ALL_DEAD_LETTERS, { keysOnly: true, limit: DEAD_LETTERS_COUNTED_MAX }),
    ]);
    const beatOf = new Map(beats.entries.map(heartbeatOf).map((beat) => [beat.node, beat]));
    const nodes = members.entries.map(memberOf).map(({ node, record }): NodeOverview => {
      const beat = beatOf.get(node);
      const { open, ready, running, threads, freePlaces, bytes } = beat?.load ?? {};
      const queues = Array.isArray(record.queues) ? record.queues.map(String) : [];
      const shards = beat?.shards.length ?? 0;
      const host = hostOf(record);
      return { node, host, queues, open, ready, running, threads, freePlaces, bytes, shards };
    });
    return {
      atMs: this.#wallMs(),
      nodes,
      deadLetters: letters.entries.length,
      self: undefined,
    };
  }
}
