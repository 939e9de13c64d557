/**
 * What `memoryStore()`, `fileStore()` and `etcdStore()` return: the description of a store that is not open yet.
 *
 * A description is cheap, holds no file and loads no vendor's code, so options can be built anywhere. The
 * composition root opens it, and gives it the clock that everything else runs on.
 */
import type { Clock } from '../core/clock.js';
import type { Store } from '../core/store.js';

export interface StoreContext {
  /** Leases end on this clock's monotonic side. */
  readonly clock: Clock;
  /** Mechanisms to do without, to show what they are worth; a store that has none of them ignores it. */
  readonly off?: ReadonlySet<string>;
}

export interface StoreFactory {
  readonly kind: 'memory' | 'embedded' | 'etcd';
  /** Where the data is, for people: `'memory'`, the absolute path of the directory, or `etcd://host:2379/namespace`. */
  readonly location: string;
  /**
   * Opens the store. The caller owns it and closes it.
   *
   * @throws ERR_MILLRACE_STORE_LOCKED, ERR_MILLRACE_STORE_NOT_WRITABLE, ERR_MILLRACE_STORE_FORMAT or
   *   ERR_MILLRACE_STORE_CORRUPT for a directory that cannot be used (embedded only)
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE when no server answers (etcd only)
   */
  open(context: StoreContext): Promise<Store>;
}

/** How much of the past a local store keeps for watches and for reads at a revision; the oldest goes first. */
export interface HistoryOptions {
  /** @defaultValue 10_000 */
  readonly revisionsMax?: number;
  /**
   * Keys and values of the revisions kept, with what they replaced. The newest revision is kept whatever its size.
   * @defaultValue 16 MiB
   */
  readonly bytesMax?: number;
}
