/**
 * Leases kept by a thread of their own: the lease keeper of the etcd store.
 *
 *   main thread                       shared memory            sentinel thread
 *   session --- progress() --------->  progress stamp  ------>  renewal loop: due, and progress is recent?
 *           <-- lastRenewal() -------  sentAt, ttl     <------     |  KeepAliveStream, connection of its own
 *           <-- onRenewed, onLost ---  messages        <------     v
 *                                                               etcd
 *
 * A garbage collection or a long synchronous task of the main thread stops everything there, renewals included, if
 * they were made there: a pause of a ttl would cost every lock and shard of the node. The sentinel has its own heap and
 * event loop, and goes on. It must not go on for ever, or a process that hangs would keep what it holds: so it renews
 * only while the main thread's stamp is younger than `hangLimitMs`. A process that is stopped as a whole (SIGSTOP)
 * wakes with an old stamp, and renews nothing until the main thread has shown that it runs.
 *
 * What cannot be trusted to arrive in time is the message that says a renewal was answered, since the main thread's
 * timers may run before its messages: `lastRenewal()` reads it from the memory.
 *
 * The thread is started with the first lease, does not hold up the end of the process, and is started again when it
 * ends unasked; a lease that is kept goes on where it was. `close()` ends it, by force if it does not end by itself.
 */
import { Worker } from 'node:worker_threads';
import { publish } from '../../core/channels.js';
import type { Clock, WakeUp } from '../../core/clock.js';
import { MillraceError } from '../../core/errors.js';
import type {
  KeepLeaseOptions,
  Lease,
  LeaseId,
  LeaseKeeper,
  LeaseRenewal,
} from '../../core/store.js';
import {
  type FromSentinel,
  LeaseMemory,
  processMs,
  type SentinelConnection,
  type ToSentinel,
} from './sentinel-protocol.js';

const RESTART_MS = 200;
/** How long the thread may take to end when asked to. */
const END_MS_MAX = 1_000;
/** It holds a connection and a few timers. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 };

/** Starts the thread; tests put something else in its place. */
export type StartThread = (connection: SentinelConnection) => Worker;

export class Sentinel {
  readonly #clock: Clock;
  readonly #connection: SentinelConnection;
  readonly #startThread: StartThread;
  readonly #keepers = new Map<number, SentinelLeaseKeeper>();
  #keepings = 0;
  #thread: Worker | undefined;
  #restart: WakeUp | undefined;
  #isClosed = false;

  constructor(
    clock: Clock,
    connection: SentinelConnection,
    startThread: StartThread = startSentinelThread,
  ) {
    this.#clock = clock;
    this.#connection = connection;
    this.#startThread = startThread;
  }

  /** As `Store.keepLease`; the spans have been checked. */
  keep(lease: Lease, options: KeepLeaseOptions): LeaseKeeper {
    const number = ++this.#keepings;
    const keeper = new SentinelLeaseKeeper(this.#clock, lease, options, {
      number,
      post: (message) => this.#thread?.postMessage(message),
      onStopped: () => this.#keepers.delete(number),
    });
    this.#keepers.set(number, keeper);
    if (this.#thread) this.#thread.postMessage(keeper.order);
    else if (!this.#restart) this.#start();
    return keeper;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#restart?.cancel();
    for (const keeper of [...this.#keepers.values()]) void keeper.stop();
    const thread = this.#thread;
    this.#thread = undefined;
    if (!thread) return;
    const message: ToSentinel = { type: 'close' };
    await new Promise<void>((resolve) => {
      const patience = this.#clock.wakeIn(END_MS_MAX, () => void thread.terminate());
      thread.once('exit', () => {
        patience.cancel();
        resolve();
      });
      // Without it a process that only waits for this would end before.
      thread.ref();
      thread.postMessage(message);
    });
  }

  #start(): void {
    this.#restart = undefined;
    if (this.#isClosed || this.#keepers.size === 0) return;
    const thread = this.#startThread(this.#connection);
    this.#thread = thread;
    thread.unref();
    let cause: unknown;
    thread.on('message', (message: FromSentinel) =>
      this.#keepers.get(message.number)?.take(message),
    );
    thread.on('error', (error) => {
      cause = error;
    });
    thread.on('exit', (code) => {
      if (this.#thread === thread) this.#onLost(code, cause);
    });
    for (const keeper of this.#keepers.values()) thread.postMessage(keeper.order);
  }

  #onLost(code: number, cause: unknown): void {
    this.#thread = undefined;
    publish('millrace:lease:sentinel-lost', () => ({
      cause: new MillraceError(
        'ERR_MILLRACE_STORE_UNAVAILABLE',
        `the thread that renews leases ended with code ${code}; another starts in ${RESTART_MS} ms`,
        { details: { code }, cause },
      ),
    }));
    this.#restart = this.#clock.wakeIn(RESTART_MS, () => this.#start());
  }
}

export function startSentinelThread(connection: SentinelConnection): Worker {
  return new Worker(new URL('./sentinel-thread.js', import.meta.url), {
    name: 'millrace-sentinel',
    workerData: connection,
    resourceLimits: RESOURCE_LIMITS,
    // Not the process's own: a loader or an inspector has no business here, and would be slow to start.
    execArgv: [],
  });
}

interface Keeping {
  readonly number: number;
  readonly post: (message: ToSentinel) => void;
  readonly onStopped: () => void;
}

class SentinelLeaseKeeper implements LeaseKeeper {
  readonly leaseId: LeaseId;
  /** What the thread is told, and told again when it is another one. */
  readonly order: ToSentinel;
  readonly #clock: Clock;
  readonly #options: KeepLeaseOptions;
  readonly #keeping: Keeping;
  readonly #memory = new LeaseMemory();
  /** From the store's clock to the process clock. */
  readonly #offsetMs: number;
  #toldSentAtMs: number | undefined;
  #isStopped = false;

  constructor(clock: Clock, lease: Lease, options: KeepLeaseOptions, keeping: Keeping) {
    this.leaseId = lease.leaseId;
    this.#clock = clock;
    this.#options = options;
    this.#keeping = keeping;
    this.#offsetMs = processMs() - clock.monoMs();
    this.order = {
      type: 'keep',
      number: keeping.number,
      leaseId: lease.leaseId,
      everyMs: options.everyMs ?? lease.ttlMs / 3,
      hangLimitMs: options.hangLimitMs ?? lease.ttlMs,
      memory: this.#memory.buffer,
    };
    this.progress();
  }

  lastRenewal(): LeaseRenewal | undefined {
    const renewal = this.#memory.renewal();
    return renewal && { ...renewal, sentAtMs: renewal.sentAtMs - this.#offsetMs };
  }

  progress(): void {
    this.#memory.noteProgress(this.#clock.monoMs() + this.#offsetMs);
  }

  renewNow(): void {
    if (!this.#isStopped) this.#keeping.post({ type: 'renew', number: this.#keeping.number });
  }

  stop(): Promise<void> {
    if (!this.#isStopped) {
      this.#isStopped = true;
      this.#keeping.post({ type: 'stop', number: this.#keeping.number });
      this.#keeping.onStopped();
    }
    return Promise.resolve();
  }

  take(message: FromSentinel): void {
    if (this.#isStopped) return;
    if (message.type === 'renewed') {
      const renewal = this.lastRenewal();
      // Of renewals that were answered while this thread was busy only the newest is in the memory.
      if (renewal === undefined || renewal.sentAtMs === this.#toldSentAtMs) return;
      this.#toldSentAtMs = renewal.sentAtMs;
      this.#options.onRenewed?.(renewal);
      return;
    }
    this.#isStopped = true;
    this.#keeping.onStopped();
    const { leaseId } = this;
    this.#options.onLost?.(
      new MillraceError('ERR_MILLRACE_LEASE_LOST', message.message, { details: { leaseId } }),
    );
  }
}
