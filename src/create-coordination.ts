/**
 * millrace/coordination: session, locks, elections and members over any store, without the task engine.
 */
import { getRandomValues } from 'node:crypto';
import { hostname } from 'node:os';
import { Coordination } from './coordination/coordination.js';
import type { Elections } from './coordination/elections.js';
import type { Locks } from './coordination/locks.js';
import type { MemberRecord, Members } from './coordination/members.js';
import type { Session } from './coordination/session.js';
import { type Duration, durationMs } from './core/durations.js';
import { newIncarnation } from './core/ids.js';
import { invalidOption, knownOptions } from './core/options.js';
import { seededRandom } from './core/random.js';
import type { StoreFactory } from './store/factory.js';
import { systemClock } from './timing/system-clock.js';

export type {
  CampaignOptions,
  Elections,
  Leader,
  Leadership,
} from './coordination/elections.js';
export type { Heartbeat, NodeReport } from './coordination/heartbeats.js';
export type { Load } from './coordination/load.js';
export type { Lock, LockHandle, LockOptions, Locks, TryLockOptions } from './coordination/locks.js';
export type { Member, MemberRecord, Members } from './coordination/members.js';
export type { Session, SessionChange, SessionState, Tenure } from './coordination/session.js';
export type { ShardOwnership } from './core/channels.js';

export interface CoordinationOptions {
  /**
   * How long the store waits for a process that is silent before it frees what that held; renewed every third of it.
   * Shorter: others take over sooner, and shorter pauses and outages cost the lease.
   * @defaultValue '15s'
   */
  readonly ttl?: Duration;
  /**
   * This process's name among the members, unlike any other's: 1 to 63 of `a-z 0-9 . _ -`.
   * @defaultValue a random one
   */
  readonly node?: string;
  /** What the other members see of this one: plain data. @defaultValue `{ host, pid }` */
  readonly record?: MemberRecord;
}

export interface CoordinationHandle extends AsyncDisposable {
  readonly session: Session;
  readonly locks: Pick<Locks, 'withLock' | 'tryLock'>;
  readonly elections: Pick<Elections, 'campaign' | 'leader' | 'observe'>;
  readonly members: Members;
  /** Gives the lease back, and closes the store. Whoever holds a lock or leads has lost it. Idempotent. */
  close(): Promise<void>;
}

const TTL_MS = 15_000;
const TTL_MS_MIN = 100;
const TTL_MS_MAX = 3_600_000;
const NODE_FORM = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/**
 * Opens the store and joins those who share it.
 *
 * @param store - what `etcdStore()`, `fileStore()` or `memoryStore()` returned
 * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION for options
 * @throws ERR_MILLRACE_INVALID_OPTION when a process that lives has the name
 * @throws ERR_MILLRACE_STORE_UNAVAILABLE, _LOCKED, _NOT_WRITABLE, _FORMAT, _CORRUPT when the store cannot be used
 */
export async function createCoordination(
  store: StoreFactory,
  options: CoordinationOptions = {},
): Promise<CoordinationHandle> {
  knownOptions(options, '', { ttl: true, node: true, record: true });
  const random = seededRandom(getRandomValues(new Uint32Array(4)));
  const ttlMs = options.ttl === undefined ? TTL_MS : durationMs(options.ttl, 'ttl');
  if (ttlMs < TTL_MS_MIN || ttlMs > TTL_MS_MAX) {
    throw invalidOption('ttl', options.ttl, `a duration from ${TTL_MS_MIN}ms to 1h`);
  }
  const node = options.node ?? newIncarnation(() => random.u32());
  if (!NODE_FORM.test(node)) {
    throw invalidOption('node', node, '1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit');
  }
  const opened = await store.open({ clock: systemClock });
  const coordination = new Coordination(
    { clock: systemClock, random, store: opened },
    {
      ttlMs,
      node,
      label: `${hostname()}:${process.pid}`,
      record: options.record ?? { host: hostname(), pid: process.pid },
      isMember: true,
      locking: 'queueing',
    },
  );
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= coordination.stop().finally(() => opened.close());
    return closed;
  };
  try {
    await coordination.start();
  } catch (error) {
    await close();
    throw error;
  }
  const { session, locks, elections, members } = coordination;
  return { session, locks, elections, members, close, [Symbol.asyncDispose]: close };
}
