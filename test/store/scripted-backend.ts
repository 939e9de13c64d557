/**
 * A backend whose commits end when, and how, the test says.
 */
import type { Key, LeaseId, Revision, Store } from '../../src/core/store.js';
import type { HistoryOptions } from '../../src/store/factory.js';
import type { Backend, Write } from '../../src/store/machine/backend.js';
import { StateMachine } from '../../src/store/machine/state-machine.js';
import { StoreView } from '../../src/store/machine/store-view.js';
import { MemoryBackend } from '../../src/store/memory/memory-backend.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';

export interface Commit {
  readonly keys: readonly Key[];
  readonly revision: Revision;
  /** Applies it and lets the machine know. */
  succeed(): Promise<void>;
  /** Applies it, without letting the machine know: what a reader may see before the answer. */
  show(): Promise<void>;
  fail(error: unknown): Promise<void>;
}

export class ScriptedBackend implements Backend {
  readonly durability = 'durable';
  readonly revision: Revision = 1 as Revision;
  readonly commits: Commit[] = [];
  readonly #memory = new MemoryBackend(Number.POSITIVE_INFINITY);
  #arrived: (() => void) | undefined;

  adopt: Backend['adopt'] = (values) => this.#memory.adopt(values);
  get: Backend['get'] = (key) => this.#memory.get(key);
  entries: Backend['entries'] = (range, options) => this.#memory.entries(range, options);
  keys: Backend['keys'] = (range) => this.#memory.keys(range);

  commit(writes: ReadonlyMap<Key, Write>, revision: Revision): Promise<void> {
    return new Promise((resolve, reject) => {
      this.commits.push({
        keys: [...writes.keys()].sort(),
        revision,
        show: () => this.#memory.commit(writes),
        succeed: async () => {
          await this.#memory.commit(writes);
          resolve();
          await settle();
        },
        fail: async (error) => {
          reject(error);
          await settle();
        },
      });
      this.#arrived?.();
    });
  }

  /** The commit in flight, once there is one. */
  async next(): Promise<Commit> {
    if (this.commits.length === 0) {
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    }
    return this.commits.shift()!;
  }

  async close(): Promise<void> {}
}

export interface Scripted {
  readonly backend: ScriptedBackend;
  readonly store: Store;
  readonly clock: VirtualClock;
}

export function scriptedStore(history: HistoryOptions = {}): Scripted {
  const backend = new ScriptedBackend();
  const clock = new VirtualClock();
  const orphans = new Map<LeaseId, Key[]>();
  const machine = new StateMachine(clock, { backend, incarnation: 1, orphans }, history);
  return { backend, clock, store: new StoreView(machine, () => machine.close()) };
}

/** Lets everything run that needs no outside help. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
