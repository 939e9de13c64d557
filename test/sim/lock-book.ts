/**
 * The part of the oracle that knows locks: rule S6.
 *
 *   - the token of a hold is higher than those of all holds before it
 *   - nobody holds the lock while somebody else still may believe to: its process runs, and its signal is not aborted. What
 *     was paused meanwhile, or had its lease ended by somebody else, cannot know; that is what tokens are for
 *   - what stands on a hold's `compare` is never written after the write of a higher token
 */
import type { Lock } from '../../src/coordination/locks.js';
import type { LeaseId } from '../../src/core/store.js';
import type { Write } from './law.js';
import type { Oracle } from './oracle.js';
import type { SimNode } from './sim-node.js';

/** The one lock that everybody wants. */
export const LOCK_NAME = 'ledger';
/** What it guards: the token of whoever wrote last. */
export const GUARDED_KEY = 'x/ledger';

interface Holding {
  readonly node: SimNode;
  readonly lock: Lock;
  readonly leaseId: LeaseId | undefined;
}

export class LockBook {
  readonly #violate: Oracle['violate'];
  readonly #holdings = new Set<Holding>();
  readonly #revoked = new Set<LeaseId | undefined>();
  #highestToken = 0n;
  #writtenToken = 0n;

  constructor(violate: Oracle['violate']) {
    this.#violate = violate;
  }

  /** @returns what to call when the holder is done */
  entered(holding: Holding): () => void {
    const { node, lock, leaseId } = holding;
    node.count('lock held');
    // Its answer was on its way when the lease was ended.
    if (this.#revoked.has(leaseId)) return () => {};
    if (lock.token <= this.#highestToken) {
      this.#violate('S6', `${node.name} holds with ${lock.token} after ${this.#highestToken}`);
    }
    this.#highestToken = lock.token;
    for (const other of this.#holdings) {
      const isOver = !other.node.process.isAlive || this.#revoked.has(other.leaseId);
      if (isOver) this.#holdings.delete(other);
      else if (!other.lock.signal.aborted) {
        this.#violate('S6', `${node.name} holds, and ${other.node.name} still does`);
      }
    }
    this.#holdings.add(holding);
    return () => this.#holdings.delete(holding);
  }

  /** A lease is ended by somebody else: an operator, or the supervisor who evicts its node. */
  revoked(leaseId: LeaseId | undefined): void {
    this.#revoked.add(leaseId);
  }

  /** Whether somebody else has ended a lease: its node may not know it. */
  isRevoked(leaseId: LeaseId | undefined): boolean {
    return this.#revoked.has(leaseId);
  }

  /** What a node holds is no longer what it can know of: it stands still. */
  disturbed(node: SimNode): void {
    for (const holding of this.#holdings) if (holding.node === node) this.#holdings.delete(holding);
  }

  /** Judges what a transaction writes under the lock. */
  judge(writes: readonly Write[], node: SimNode): void {
    for (const { key, value } of writes) {
      if (key !== GUARDED_KEY || value === undefined) continue;
      node.count('wrote under a lock');
      const token = BigInt(Buffer.from(value).toString());
      if (token < this.#writtenToken) {
        this.#violate('S6', `${node.name} writes with ${token} after ${this.#writtenToken}`);
      }
      this.#writtenToken = token;
    }
  }
}
