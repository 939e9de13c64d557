/**
 * What a client does that was written without thinking of lost answers and pauses. The proof tests run their scenario
 * with these as well and assert that it goes wrong: a scenario in which nothing can go wrong proves nothing.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LeaseId, Store } from '../../../src/core/store.js';

/** How often etcd3 tries a call, whatever it does. */
const TRIES = 3;

type Transactions = Pick<Store, 'txn'>;

/** Makes a transaction without an answer again, as etcd3 does by default. */
export function repeating(store: Transactions): Transactions {
  return {
    async txn(txn, options) {
      for (let tries = 1; ; tries++) {
        const outcome = await store.txn(txn, options);
        if (outcome.kind !== 'unknown' || tries === TRIES) return outcome;
      }
    },
  };
}

/**
 * Renews a lease every third of its ttl and believes in it until two ttls after the last answer, by the wall clock.
 *
 * @param onLost - called when it believes no longer
 * @returns ends it
 */
export function believe(
  store: Pick<Store, 'renewLease'>,
  leaseId: LeaseId,
  ttlMs: number,
  onLost: () => void,
): () => void {
  let answeredAtMs = Date.now();
  const renewing = setInterval(() => {
    store.renewLease(leaseId).then(
      () => {
        answeredAtMs = Date.now();
      },
      () => {},
    );
  }, ttlMs / 3);
  const looking = setInterval(() => {
    if (Date.now() - answeredAtMs < 2 * ttlMs) return;
    end();
    onLost();
  }, 10);
  const end = (): void => {
    clearInterval(renewing);
    clearInterval(looking);
  };
  return end;
}

/** Counts every failure against the server, and after three leaves it alone for a while, whatever is asked of it. */
export function breaking(store: Pick<Store, 'txn' | 'get' | 'renewLease'>) {
  let failures = 0;
  const call = async <T>(work: () => Promise<T>): Promise<T> => {
    if (failures >= TRIES) throw new Error('the breaker is open');
    try {
      const result = await work();
      failures = 0;
      return result;
    } catch (error) {
      failures++;
      throw error;
    }
  };
  return {
    /** A transaction that failed is made again after a pause, and what was wrong is told at the end. */
    async txn(...args: Parameters<Store['txn']>) {
      for (let tries = 1; ; tries++) {
        try {
          return await call(() => store.txn(...args));
        } catch (error) {
          if (tries === TRIES) throw error;
          await sleep(10);
        }
      }
    },
    get: (key: string) => call(() => store.get(key)),
    renewLease: (leaseId: LeaseId) => call(() => store.renewLease(leaseId)),
  };
}
