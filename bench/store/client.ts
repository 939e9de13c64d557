/** What a contender of the store bench can do. The workloads know nothing else of it. */

export interface StoreClient {
  put(key: string, value: Uint8Array): Promise<void>;
  /** Linearizable. @returns how often the key was written; 0 when absent */
  version(key: string): Promise<number>;
  /** Writes all keys if all have this version. @returns whether they had */
  swap(keys: readonly string[], version: number, value: Uint8Array): Promise<boolean>;
  /** Writes all keys at once, unconditionally. @returns the revision */
  putAll(keys: readonly string[], value: Uint8Array): Promise<number>;
  /** Locks, does the work, unlocks. */
  withLock(name: string, work: () => Promise<void>): Promise<void>;
  /** Reads so many events of a prefix, from a revision on. @returns how many were in order */
  replay(prefix: string, fromRevision: number, count: number): Promise<number>;
  /** @returns what renews the lease once, and rejects when it is over */
  grantLease(ttlMs: number): Promise<() => Promise<void>>;
  close(): Promise<void>;
}

export interface ClientTls {
  /** PEM files. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface ClientOptions {
  readonly endpoint: string;
  readonly tls?: ClientTls;
}

/** Clients that live for one operation. */
export interface ManyClients {
  open(): Promise<StoreClient>;
  closeOne(client: StoreClient): Promise<void>;
  closeAll(): Promise<void>;
}
