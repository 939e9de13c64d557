/**
 * What happens inside millrace, as node:diagnostics_channel events: lower code publishes here, telemetry, healing
 * and the curious subscribe by name. Subscribers run synchronously inside the publisher, so they stay cheap; a
 * payload that costs something is built only behind `hasSubscribers`.
 *
 * One event speaks of one task only where tasks are rare (retries, losses, failures); the busy paths publish once
 * per commit or batch.
 */
import { type Channel, channel } from 'node:diagnostics_channel';
import type { MillraceError } from './errors.js';
import type { LeftHandles } from './handler-hooks.js';
import type { Outcome } from './states.js';
import type { Revision, WatchClass } from './store.js';
import type { LogLevel } from './task.js';

/** One ownership of a shard. */
export interface ShardOwnership {
  readonly queue: string;
  readonly shard: number;
  readonly epoch: number;
}

/** An ownership, and whose it is. */
export interface OwnedByNode extends ShardOwnership {
  readonly node: string;
}

/** Where some of what leaks was opened. */
export interface LeakSite {
  readonly stack: string;
  /** Open handles that were created there, of those whose stack was taken. */
  readonly count: number;
}

/** Every channel name with the payload its subscribers get. `incarnation` names the runtime, where one speaks. */
export interface ChannelPayloads {
  /** Submits of one segment are durable. */
  'millrace:tasks:submitted': {
    readonly incarnation: string;
    readonly queue: string;
    /** New tasks. */
    readonly tasks: number;
    /** Submits that met an earlier task with their idempotency key. */
    readonly deduplicated: number;
  };
  /** A submit was refused, for a reason that is not its own. */
  'millrace:tasks:rejected': {
    readonly incarnation: string;
    readonly queue: string;
    readonly reason: 'backpressure' | 'store' | 'draining' | 'shed';
  };
  /** Dead letters of one segment run again, durably. */
  'millrace:tasks:redriven': {
    readonly incarnation: string;
    readonly queue: string;
    readonly tasks: number;
  };
  /** Tasks of a type, queue or tenant rest from here on, or go on; told on every node that hears of it. */
  'millrace:tasks:paused': {
    readonly incarnation: string;
    readonly kind: 'task' | 'queue' | 'tenant';
    readonly name: string;
    readonly isPaused: boolean;
    /** How many of this kind rest now. */
    readonly count: number;
  };
  /** A batch was handed to a thread, or to the main one. */
  'millrace:batch:launched': {
    readonly incarnation: string;
    readonly pool: 'thread' | 'inline';
    readonly tasks: number;
    /** Of the first task. */
    readonly queue: string;
    /** From when the first task was due, as it was asked for or after its last failure. */
    readonly waitMs: number;
  };
  /** Tasks of a batch reported. Columns: one entry for each. */
  'millrace:batch:reported': {
    readonly incarnation: string;
    readonly pool: 'thread' | 'inline';
    readonly types: readonly string[];
    readonly queues: readonly string[];
    readonly outcomes: readonly Outcome[];
    /** How long their handlers ran. */
    readonly runMs: readonly number[];
    /** Whether they ran longer than they may; `task:timeout` follows unless somebody had cancelled them. */
    readonly isOverdue: readonly boolean[];
  };
  /** A commit is durable. */
  'millrace:commit:done': {
    readonly operations: number;
    readonly bytes: number;
    readonly elapsedMs: number;
  };
  /** The store did not say whether a commit was applied; it is sent again. */
  'millrace:commit:unknown': { readonly cause: MillraceError; readonly tries: number };
  /** A commit stood on keys that are not what they were: what stood on them is dropped, the rest is written. */
  'millrace:commit:broken': { readonly keys: readonly string[] };
  /** The store refused a commit for certain: submits in it are rejected, everything else is tried again. */
  'millrace:commit:failed': { readonly cause: MillraceError };
  /** An execution failed and the task runs again. */
  'millrace:task:retry': {
    readonly incarnation: string;
    readonly taskId: string;
    readonly type: string;
    readonly queue: string;
    readonly attempt: number;
    readonly delayMs: number;
    readonly error: unknown;
  };
  /** A task ended as failed. */
  'millrace:task:failed': {
    readonly incarnation: string;
    readonly taskId: string;
    readonly type: string;
    readonly queue: string;
    readonly attempt: number;
    readonly error: unknown;
  };
  /** An execution ran longer than it may; it is repeated, or the task ends as failed. */
  'millrace:task:timeout': {
    readonly incarnation: string;
    readonly taskId: string;
    readonly type: string;
    readonly queue: string;
    readonly attempt: number;
    readonly limitMs: number;
  };
  /** A thread or process died under a running task. */
  'millrace:task:lost': {
    readonly incarnation: string;
    readonly taskId: string;
    readonly type: string;
    readonly queue: string;
    readonly losses: number;
  };
  /** A cron entry fired: its task is stored. */
  'millrace:cron:fired': {
    readonly name: string;
    readonly queue: string;
    readonly taskId: string;
    /** The moment that the expression names; epoch ms. */
    readonly atMs: number;
    /** From then to the submit. */
    readonly lateMs: number;
  };
  /** Fires of a cron entry are over without a task. */
  'millrace:cron:skipped': {
    readonly name: string;
    readonly queue: string;
    /** `missed`: nobody could fire in time. `overlapping`: the task before had not ended. */
    readonly reason: 'missed' | 'overlapping';
    /** How many; missed ones are counted up to 100 at a time. */
    readonly fires: number;
  };
  /** A fire of a cron entry could not be stored; it is tried again. */
  'millrace:cron:failed': {
    readonly name: string;
    readonly queue: string;
    readonly cause: MillraceError;
  };
  /** A task waits because this node has no handler of its name. */
  'millrace:task:unhandled': { readonly taskId: string; readonly type: string };
  /** A handler called `ctx.log`. */
  'millrace:task:log': {
    /** Undefined in a BatchPool. */
    readonly taskId?: string;
    readonly type: string;
    readonly attempt: number;
    readonly tenant?: string;
    readonly level: LogLevel;
    /** Wall clock, epoch ms. */
    readonly atMs: number;
    readonly message: string;
    readonly fields?: unknown;
    /** Lines of this task that were dropped since its last one. */
    readonly dropped: number;
  };
  /** A result came from an execution that is not the current one, and was refused. */
  'millrace:result:stale': { readonly taskId: string; readonly attempt: number };
  /** A stream of watches was cut; it comes back by itself, each watch where it was. */
  'millrace:watch:cut': {
    readonly class: WatchClass;
    /** How many watches it carried. */
    readonly watches: number;
    readonly cause: MillraceError;
  };
  /** A watch was detached because its reader is too slow; it goes on from the store's history. */
  'millrace:watch:lagging': { readonly class: WatchClass; readonly neededRevision: Revision };
  /** History was compacted under a follower; it has listed its range again and told the difference. */
  'millrace:watch:relisted': { readonly class: WatchClass; readonly changes: number };
  /** How long a write took to come back through a watch. */
  'millrace:watch:delay': {
    readonly class: WatchClass;
    /** From sending the write to seeing its event, or so far when it is overdue. */
    readonly delayMs: number;
    /** From sending the write to its acknowledgement; the part of the delay that is not the watch's. */
    readonly commitMs: number | undefined;
  };
  /** The circuit breaker of a task type has opened, lets probes through, or has closed. */
  'millrace:breaker:changed': {
    readonly incarnation: string;
    readonly type: string;
    readonly state: 'closed' | 'open' | 'half-open';
    /** In a row, when it opens. */
    readonly failures: number;
    /** How long it stays open; 0 unless it opens. */
    readonly openMs: number;
  };
  /** The runtime does less on purpose from here on, or everything again. */
  'millrace:runtime:degraded': {
    readonly incarnation: string;
    readonly isDegraded: boolean;
    /** The first that said so, or the last that passed. */
    readonly reason: string;
  };
  /** Healing was asked for an action, by a rule or an alert; what came of it. */
  'millrace:heal:action': {
    readonly incarnation: string;
    readonly action: string;
    readonly target: string;
    readonly source: 'rule' | 'webhook';
    readonly reason: string;
    readonly result: string;
    readonly detail: string;
  };
  /** The thread that renews leases ended unasked; another takes over. */
  'millrace:lease:sentinel-lost': { readonly cause: MillraceError };
  /** A worker thread ended unasked. */
  'millrace:pool:thread-lost': { readonly threadId: number; readonly cause: MillraceError };
  /** What a worker thread has open; told by threads that run something, once a second at most. */
  'millrace:thread:handles': {
    readonly incarnation: string;
    readonly threadId: number;
    /** By kind, as Node calls them. */
    readonly open: Readonly<Record<string, number>>;
    /** By tasks that have ended, since the last time. */
    readonly left: readonly LeftHandles[];
    /** The thread is gone, and everything with it. */
    readonly hasEnded: boolean;
  };
  /** A caller has something that has to be closed. `id` is its own. */
  'millrace:handle:opened': {
    readonly kind: 'lock' | 'leadership' | 'watcher';
    readonly id: number;
    readonly name: string;
  };
  /** It is closed, or gone. */
  'millrace:handle:closed': { readonly kind: string; readonly id: number };
  /** It ended without having been closed: its service ended, or nobody has it any more. */
  'millrace:handle:dropped': {
    readonly kind: 'lock' | 'leadership' | 'watcher';
    readonly id: number;
    readonly name: string;
  };
  /** The watchdog has counted what is open. */
  'millrace:leak:sampled': {
    readonly incarnation: string;
    readonly counts: ReadonlyMap<string, number>;
    /** The kind that is looked into. */
    readonly suspect: string | undefined;
  };
  /** A task type has left handles open; the first, and each time there are twice as many. */
  'millrace:leak:left': {
    readonly incarnation: string;
    readonly type: string;
    /** As Node calls them. */
    readonly kind: string;
    readonly count: number;
    /** Where one of them was opened, as a stack; '' where that was not looked at. */
    readonly site: string;
  };
  /** A count grows with time and not with load; it is looked into. */
  'millrace:leak:suspected': {
    readonly incarnation: string;
    readonly kind: string;
    readonly count: number;
    readonly growthPerSecond: number;
  };
  /** It did not: what was open was closed once nothing ran. */
  'millrace:leak:cleared': {
    readonly incarnation: string;
    readonly kind: string;
    readonly count: number;
  };
  /** It does; `type` is the task type that left most of it, `sites` where it was opened. */
  'millrace:leak:confirmed': {
    readonly incarnation: string;
    readonly kind: string;
    readonly type: string | undefined;
    readonly count: number;
    readonly growthPerSecond: number;
    readonly sites: readonly LeakSite[];
  };
  /** A round of forgetting old records failed; the next one makes it good. */
  'millrace:janitor:failed': { readonly cause: MillraceError };
  /** What a node had left that is gone for good was cleared away; `subscriptions` of its were open. */
  'millrace:node:reaped': { readonly node: string; readonly subscriptions: number };
  /** The session has a lease: the first one, or another after a loss. */
  'millrace:session:granted': { readonly leaseId: string; readonly ttlMs: number };
  /** The store was silent for so long that the lease may have ended; nothing acts under it. */
  'millrace:session:fenced': { readonly leaseId: string; readonly silentMs: number };
  /** A renewal was answered after a fence or a doubt: the lease was alive all along. */
  'millrace:session:lifted': { readonly leaseId: string };
  /** The lease is over; what hung on it is gone. */
  'millrace:session:lost': { readonly leaseId: string; readonly cause: MillraceError };
  /** This process owns a shard from here on; `epoch` fences whoever had it before. */
  'millrace:shard:acquired': {
    readonly queue: string;
    readonly shard: number;
    readonly epoch: number;
  };
  /** It gave a shard up that somebody else is to have. */
  'millrace:shard:released': {
    readonly queue: string;
    readonly shard: number;
    readonly epoch: number;
  };
  /** A shard was taken from it: its lease is over, or its owner key is gone. */
  'millrace:shard:lost': {
    readonly queue: string;
    readonly shard: number;
    readonly epoch: number;
    readonly cause: MillraceError;
  };
  /** This process looks after the others' heartbeats from here on. */
  'millrace:supervisor:elected': { readonly node: string };
  /** It could not look, or not act; the next round does. Nobody is judged by what it did not see. */
  'millrace:supervisor:failed': { readonly cause: MillraceError };
  /** A member's heartbeat is half a ttl old; others place fewer new tasks there. */
  'millrace:member:late': { readonly node: string; readonly silentMs: number };
  /** Two heartbeats of a member are missing; it gets no new tasks while there is anybody else. */
  'millrace:member:silent': { readonly node: string; readonly silentMs: number };
  /** What a silent member last said of itself against what is stored of it. */
  'millrace:member:compared': {
    readonly node: string;
    readonly silentMs: number;
    /** Shards it took to be its own that the store says are not. */
    readonly notStored: readonly ShardOwnership[];
    /** Shards it owns by the store and did not speak of. */
    readonly notSaid: readonly ShardOwnership[];
    /** Tasks that ran by its own word; undefined when it gave none. */
    readonly runningSaid: number | undefined;
    /** Tasks that run by the overlays of its shards; undefined when nothing here runs tasks. */
    readonly runningStored: number | undefined;
    /** Whether all of these overlays were read; not of a backlog of thousands. */
    readonly isComplete: boolean;
  };
  /** Three are missing: the member's lease is revoked next. */
  'millrace:member:evicting': {
    readonly node: string;
    readonly leaseId: string;
    readonly silentMs: number;
  };
  /** Its lease is revoked, and everything that hung on it gone; so many shards were its own. */
  'millrace:member:evicted': {
    readonly node: string;
    readonly leaseId: string;
    readonly shards: number;
  };
  /** Who owns its shards now; `orphaned` of them nobody took within two ttls. */
  'millrace:member:reassigned': {
    readonly node: string;
    readonly owners: readonly OwnedByNode[];
    readonly orphaned: number;
    readonly elapsedMs: number;
  };
  /** A late member's heartbeat is back. */
  'millrace:member:recovered': {
    readonly node: string;
    readonly silentMs: number;
    readonly stage: 'late' | 'silent' | 'evicting';
  };
  /** A lock was granted. */
  'millrace:lock:acquired': {
    readonly name: string;
    readonly token: bigint;
    readonly waitMs: number;
    readonly isHandOff: boolean;
  };
  /** A holder is done; `isLost` when it had lost the lock before. */
  'millrace:lock:released': {
    readonly name: string;
    readonly token: bigint;
    readonly heldMs: number;
    readonly isLost: boolean;
  };
  /** A lock has been held for as long as a lease lives; again each time that doubles. */
  'millrace:lock:held-long': {
    readonly name: string;
    readonly token: bigint;
    readonly heldMs: number;
  };
  /** A server of the store answered for the first time; `bugs` is what is known to be wrong with its version. */
  'millrace:store:server': {
    readonly endpoint: string;
    readonly version: string;
    readonly bugs: readonly string[];
  };
  /** A connection to a server of the store takes calls; `isResumed` when TLS went on from an earlier one. */
  'millrace:store:connected': {
    readonly endpoint: string;
    readonly role: 'kv' | 'watch' | 'lease';
    readonly isResumed: boolean;
  };
  /** This process made the store forget its history before a revision. */
  'millrace:compaction:done': { readonly revision: number; readonly elapsedMs: number };
  /** A round of looking after the store's history failed; the next one makes it good. */
  'millrace:compaction:failed': { readonly cause: MillraceError };
  /** How full the store is has come to matter, or no longer does. */
  'millrace:store:pressure': {
    readonly pressure: 'none' | 'slow' | 'refuse';
    readonly bytes: number;
    readonly bytesMax: number;
  };
  /** A write to a tenant was missed: its entries in the cache are compared with the store. */
  'millrace:metadata:gap': {
    /** Of the tenant's counter. */
    readonly key: string;
    /** Up to where all was known, and what was told; revisions of the store. */
    readonly known: number;
    readonly told: number;
  };
  /** A write was done, and other processes could not be told; they find it with their next re-check. */
  'millrace:metadata:unpublished': { readonly key: string; readonly cause: unknown };
  /** A configuration value is not valid; the last good one stays. */
  'millrace:config:invalid': {
    readonly name: string;
    /** Undefined: everybody's. */
    readonly tenant: string | undefined;
    readonly cause: MillraceError;
  };
  /** A stored record did not decode; it was set aside and the rest goes on. */
  'millrace:store:corrupt': { readonly key: string; readonly cause: MillraceError };
}

/** One call of `ctx.log`. */
export type TaskLine = ChannelPayloads['millrace:task:log'];

export type ChannelName = keyof ChannelPayloads;

const channels = new Map<ChannelName, Channel>();

/** Publishes an event; `payload` is only called when somebody listens. */
export function publish<Name extends ChannelName>(
  name: Name,
  payload: () => ChannelPayloads[Name],
): void {
  const found = channelOf(name);
  if (found.hasSubscribers) found.publish(payload());
}

/** Whether anybody listens, for what has to be prepared far from here. */
export function hasSubscribers(name: ChannelName): boolean {
  return channelOf(name).hasSubscribers;
}

function channelOf(name: ChannelName): Channel {
  let found = channels.get(name);
  if (found === undefined) {
    found = channel(name);
    channels.set(name, found);
  }
  return found;
}
