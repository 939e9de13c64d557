/**
 * How a lock is taken: the port between what users call (locks.ts) and the two ways of doing it.
 */
import type { MillraceError } from '../core/errors.js';
import type { Hold } from './hold.js';

export interface LockRequest {
  readonly name: string;
  /** Prefix of the lock's keys, shard included, with its final slash. */
  readonly line: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  /** Take it if it is free now, wait for nobody. */
  readonly isTry: boolean;
}

export interface LockStrategy {
  /**
   * @returns the hold; undefined when a try finds the lock taken
   * @throws the signal's reason
   * @throws ERR_MILLRACE_LOCK_TIMEOUT, ERR_MILLRACE_STORE_FULL, ERR_MILLRACE_CLOSED
   * @throws ERR_MILLRACE_INVALID_OPTION when keys of longer names stand under this one
   */
  acquire(request: LockRequest): Promise<Hold | undefined>;
  /** Nothing is safely held any more. */
  lose(cause: MillraceError): void;
  /** Refuses who waits. Who holds goes on until it releases. */
  close(cause: MillraceError): Promise<void>;
}
