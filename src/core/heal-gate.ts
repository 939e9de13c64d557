/**
 * What healing needs of the rest of the cluster: to be the only one that acts, and to act once. The runtime fills this
 * with its locks and its store.
 */
export interface HealGate {
  /**
   * Runs `act` unless somebody else in the cluster is under this name now.
   *
   * @returns whether it ran
   */
  exclusive(name: string, act: () => Promise<void>): Promise<boolean>;
  /**
   * Whether this caller is the first in the cluster to say this key within the time.
   *
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE when that cannot be known
   */
  once(key: string, ttlMs: number): Promise<boolean>;
}
