/**
 * Several processes on one store, in virtual time.
 */
import type { TestContext } from 'node:test';
import { Coordination } from '../../src/coordination/coordination.js';
import type { MemberRecord } from '../../src/coordination/members.js';
import { MillraceError } from '../../src/core/errors.js';
import { seededRandom } from '../../src/core/random.js';
import type { Entry, Store } from '../../src/core/store.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/index.js';
import { FaultyStore } from '../support/faulty-store.js';

export const TTL_MS = 15_000;

export interface World {
  readonly clock: VirtualClock;
  /** What the server has. */
  readonly store: Store;
  /** A process with a session; `faults` is its own way to the store. */
  join(label?: string, record?: MemberRecord, ttlMs?: number): Promise<Process>;
  /** Keys of locks and elections in the store. */
  lockKeys(): Promise<readonly Entry[]>;
}

export interface Process {
  readonly c: Coordination;
  readonly faults: FaultyStore;
}

export async function world(t: TestContext): Promise<World> {
  const clock = new VirtualClock();
  const factory = memoryStore();
  const store = await factory.open({ clock });
  const all: Process[] = [];
  t.after(async () => {
    for (const { faults } of all) faults.isCut = false;
    const closed = Promise.all(all.map(({ c }) => c.stop()));
    for (let i = 0; i < 3; i++) await clock.advance(5_000);
    await closed;
    await store.close();
  });
  return {
    clock,
    store,
    async join(label = `process ${all.length}`, record: MemberRecord = { label }, ttlMs = TTL_MS) {
      const faults = new FaultyStore(await factory.open({ clock }), clock);
      const c = new Coordination(
        { clock, random: seededRandom(all.length + 1), store: faults },
        {
          ttlMs,
          label,
          node: `node${all.length}`,
          record,
          isMember: true,
          locking: 'queueing',
        },
      );
      all.push({ c, faults });
      await c.start();
      await clock.settle();
      return { c, faults };
    },
    async lockKeys() {
      return (await store.range({ from: 'l/', to: 'l0' })).entries;
    },
  };
}

/** A promise whose state can be asked. */
export function track<T>(promise: Promise<T>): {
  value: T | undefined;
  error: unknown;
  state: string;
} {
  const tracked = { value: undefined as T | undefined, error: undefined as unknown, state: 'open' };
  promise.then(
    (value) => {
      tracked.value = value;
      tracked.state = 'done';
    },
    (error: unknown) => {
      tracked.error = error;
      tracked.state = 'failed';
    },
  );
  return tracked;
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof MillraceError ? error.code : String(error);
}

/** A gate that a test opens. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}
