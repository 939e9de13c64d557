/** Millrace's stores as clients of the bench. */

import {
  type Key,
  type Operation,
  prefixRange,
  type Revision,
  type Store,
  type TxnOutcome,
} from '../../../src/core/store.js';
import { createCoordination } from '../../../src/create-coordination.js';
import type { StoreFactory } from '../../../src/store/factory.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import type { StoreClient } from '../client.js';

/**
 * Locks get their session on first use.
 *
 * @param off - what to switch off, for comparison: `client` is a connection for each call
 */
export async function openMillrace(factory: StoreFactory, ...off: string[]): Promise<StoreClient> {
  const store = await factory.open({ clock: systemClock, off: new Set(off) });
  let coordination: ReturnType<typeof createCoordination> | undefined;
  // A directory is opened once in a process.
  const shared: StoreFactory = { ...factory, open: async () => store };
  return {
    async put(key, value) {
      await done(store.txn({ compares: [], success: [{ type: 'put', key, value }] }));
    },
    async version(key) {
      return (await store.get(key))?.version ?? 0;
    },
    async swap(keys, version, value) {
      const outcome = await store.txn({
        compares: keys.map((key) => ({
          target: 'version',
          key,
          operator: '=',
          operand: version,
        })),
        success: putsOf(keys, value),
      });
      return outcome.kind === 'done';
    },
    putAll: (keys, value) => done(store.txn({ compares: [], success: putsOf(keys, value) })),
    async withLock(name, work) {
      coordination ??= createCoordination(shared);
      const { locks } = await coordination;
      await locks.withLock(name, { timeout: '60s' }, work);
    },
    replay: (prefix, fromRevision, count) => replay(store, prefix, fromRevision, count),
    async grantLease(ttlMs) {
      const { leaseId } = await store.grantLease(ttlMs);
      return async () => {
        await store.renewLease(leaseId);
      };
    },
    async close() {
      await (await coordination)?.close();
      await store.close();
    },
  };
}

function putsOf(keys: readonly Key[], value: Uint8Array): Operation[] {
  return keys.map((key) => ({ type: 'put', key, value }));
}

async function done(pending: Promise<TxnOutcome>): Promise<number> {
  const outcome = await pending;
  if (outcome.kind !== 'done') throw new Error(`a write without a condition is ${outcome.kind}`);
  return outcome.revision;
}

async function replay(
  store: Store,
  prefix: string,
  fromRevision: number,
  count: number,
): Promise<number> {
  let seen = 0;
  let newest = 0;
  const startRevision = fromRevision as Revision;
  for await (const { revision, events } of store.watch(prefixRange(prefix), { startRevision })) {
    if (revision <= newest) throw new Error(`revision ${revision} after ${newest}`);
    newest = revision;
    seen += events.length;
    if (seen >= count) break;
  }
  return seen;
}
