/**
 * How each event is said in the log: its kind, its level, its words. One table; the compiler sees to it that no channel
 * is forgotten.
 *
 * Line, channel and metric share the noun: what `millrace:task:retry` publishes is logged with `event: 'task.retry'`.
 * A line has ids, counts and times. Inputs, results and progress of tasks are in no payload, and so in no line.
 */
import type { ChannelName, ChannelPayloads } from '../core/channels.js';
import { toWire, type WireError } from '../core/error-wire.js';
import type { LogLevel } from '../core/task.js';
import type { LineKind } from './log-options.js';
import { type Redaction, withoutCredentials } from './redaction.js';

/** How an event is said. */
export interface LogEvent<Payload> {
  readonly kind: LineKind;
  readonly level: LogLevel | ((payload: Payload) => LogLevel);
  /** What is frequent by itself, such as a task type: has a sampler of its own. */
  readonly key?: (payload: Payload) => string;
  readonly message: (payload: Payload) => string;
  readonly fields: (payload: Payload, redaction: Redaction) => object;
}

/** `undefined`: said by no line, since another one says it or nobody could read so many. */
type LogEvents = {
  readonly [Name in ChannelName]: LogEvent<ChannelPayloads[Name]> | undefined;
};

const shardFields = ({
  queue,
  shard,
  epoch,
}: {
  readonly queue: string;
  readonly shard: number;
  readonly epoch: number;
}): object => ({ queue, shard, epoch });

const silenceFields = ({
  node,
  silentMs,
}: {
  readonly node: string;
  readonly silentMs: number;
}): object => ({ node, silentMs });

export const LOG_EVENTS: LogEvents = {
  // The busy paths are for metrics: nobody reads a line for each batch.
  'millrace:tasks:submitted': undefined,
  'millrace:batch:launched': undefined,
  'millrace:batch:reported': undefined,
  'millrace:tasks:rejected': {
    kind: 'event',
    level: 'info',
    key: ({ queue, reason }) => `${queue} ${reason}`,
    message: () => 'a submit was refused',
    fields: ({ queue, reason }) => ({ queue, reason }),
  },
  'millrace:tasks:redriven': {
    kind: 'event',
    level: 'info',
    message: () => 'dead letters run again',
    fields: ({ queue, tasks }) => ({ queue, tasks }),
  },
  'millrace:tasks:paused': {
    kind: 'event',
    level: 'info',
    message: ({ kind, isPaused }) =>
      `a ${kind} ${isPaused ? 'rests: nothing of it begins' : 'goes on'}`,
    fields: ({ kind, name, isPaused }) => ({ pauseKind: kind, name, isPaused }),
  },
  'millrace:task:timeout': {
    kind: 'event',
    level: 'warn',
    message: () => 'an execution ran longer than it may',
    fields: ({ taskId, type, queue, attempt, limitMs }) => ({
      taskId,
      type,
      queue,
      attempt,
      limitMs,
    }),
  },
  'millrace:commit:done': {
    kind: 'heartbeat',
    level: 'debug',
    message: () => 'a commit is durable',
    fields: ({ operations, bytes, elapsedMs }) => ({ operations, bytes, elapsedMs }),
  },
  'millrace:commit:unknown': {
    kind: 'event',
    level: 'warn',
    message: () => 'the store did not say whether a commit was applied; it is sent again',
    fields: ({ cause, tries }, redaction) => ({ tries, err: errorFields(cause, redaction) }),
  },
  'millrace:commit:broken': {
    kind: 'event',
    level: 'warn',
    message: () => 'a commit stood on keys that have changed; what stood on them is dropped',
    fields: ({ keys }) => ({ keys: keys.slice(0, 20), keyCount: keys.length }),
  },
  'millrace:commit:failed': {
    kind: 'event',
    level: 'error',
    message: () => 'the store refused a commit; submits in it are rejected',
    fields: causeFields,
  },
  'millrace:task:retry': {
    kind: 'event',
    level: 'info',
    key: ({ type }) => type,
    message: () => 'an execution failed; the task runs again',
    fields: ({ taskId, type, queue, attempt, delayMs, error }, redaction) => ({
      taskId,
      type,
      queue,
      attempt,
      delayMs,
      err: errorFields(error, redaction),
    }),
  },
  'millrace:task:failed': {
    kind: 'event',
    level: 'error',
    message: () => 'a task failed for good',
    fields: ({ taskId, type, queue, attempt, error }, redaction) => ({
      taskId,
      type,
      queue,
      attempt,
      err: errorFields(error, redaction),
    }),
  },
  'millrace:task:lost': {
    kind: 'event',
    level: 'warn',
    message: () => 'a thread or process died under a task',
    fields: ({ taskId, type, queue, losses }) => ({ taskId, type, queue, losses }),
  },
  'millrace:cron:fired': {
    kind: 'event',
    level: 'debug',
    message: () => 'a cron entry fired',
    fields: ({ name, queue, taskId, lateMs }) => ({ name, queue, taskId, lateMs }),
  },
  'millrace:cron:skipped': {
    kind: 'event',
    level: 'info',
    message: () => 'fires of a cron entry are left out',
    fields: ({ name, queue, reason, fires }) => ({ name, queue, reason, fires }),
  },
  'millrace:cron:failed': {
    kind: 'event',
    level: 'warn',
    message: () => 'a fire of a cron entry could not be stored; it is tried again',
    fields: ({ name, queue, cause }, redaction) => ({
      name,
      queue,
      err: errorFields(cause, redaction),
    }),
  },
  'millrace:task:unhandled': {
    kind: 'event',
    level: 'warn',
    message: () => 'a task waits for a node that has its handler',
    fields: ({ taskId, type }) => ({ taskId, type }),
  },
  'millrace:task:log': {
    kind: 'line',
    level: ({ level }) => level,
    key: ({ message }) => message,
    message: ({ message }) => withoutCredentials(message),
    fields: ({ taskId, type, attempt, tenant, atMs, fields, dropped }, redaction) => ({
      ...(taskId !== undefined && { taskId }),
      type,
      attempt,
      ...(tenant !== undefined && { tenant }),
      saidAt: new Date(atMs).toISOString(),
      ...(dropped > 0 && { dropped }),
      ...(fields !== undefined && { fields: redaction.of(fields) }),
    }),
  },
  'millrace:result:stale': {
    kind: 'event',
    level: 'info',
    message: () => 'a result came from an execution that is not the current one',
    fields: ({ taskId, attempt }) => ({ taskId, attempt }),
  },
  'millrace:watch:cut': {
    kind: 'event',
    level: 'warn',
    message: () => 'a stream of watches was cut; it comes back by itself',
    fields: ({ class: watchClass, watches, cause }, redaction) => ({
      class: watchClass,
      watches,
      err: errorFields(cause, redaction),
    }),
  },
  'millrace:watch:lagging': {
    kind: 'event',
    level: 'warn',
    message: () => 'a watch was detached, since its reader is too slow',
    fields: ({ class: watchClass, neededRevision }) => ({ class: watchClass, neededRevision }),
  },
  'millrace:watch:relisted': {
    kind: 'event',
    level: 'info',
    message: () => 'history was compacted under a follower; it has listed its range again',
    fields: ({ class: watchClass, changes }) => ({ class: watchClass, changes }),
  },
  'millrace:watch:delay': {
    kind: 'heartbeat',
    level: 'info',
    message: () => 'a write came back through a watch',
    fields: ({ class: watchClass, delayMs, commitMs }) => ({
      class: watchClass,
      delayMs,
      commitMs,
    }),
  },
  'millrace:breaker:changed': {
    kind: 'event',
    level: ({ state }) => (state === 'open' ? 'warn' : 'info'),
    key: ({ type }) => type,
    message: ({ state }) =>
      state === 'open'
        ? 'a task type is paused, since what it depends on does not answer'
        : state === 'half-open'
          ? 'a task type is tried again, one at a time'
          : 'a task type runs again',
    fields: ({ type, state, failures, openMs }) => ({ type, state, failures, openMs }),
  },
  'millrace:runtime:degraded': {
    kind: 'event',
    level: ({ isDegraded }) => (isDegraded ? 'warn' : 'info'),
    message: ({ isDegraded }) =>
      isDegraded
        ? 'the runtime does less: low priorities are refused, nothing is claimed ahead, commits linger'
        : 'the runtime does everything again',
    fields: ({ reason }) => ({ reason }),
  },
  'millrace:heal:action': {
    kind: 'event',
    level: ({ result }) =>
      result === 'failed' || result === 'skipped-budget'
        ? 'error'
        : result === 'done'
          ? 'warn'
          : 'info',
    key: ({ action, result }) => `${action} ${result}`,
    message: ({ action, result }) => `healing: ${action}, ${result}`,
    fields: ({ action, target, source, reason, result, detail }) => ({
      action,
      target,
      source,
      reason,
      result,
      detail,
    }),
  },
  'millrace:lease:sentinel-lost': {
    kind: 'event',
    level: 'error',
    message: () => 'the thread that renews leases ended unasked; another takes over',
    fields: causeFields,
  },
  'millrace:pool:thread-lost': {
    kind: 'event',
    level: 'error',
    message: () => 'a worker thread ended unasked',
    fields: ({ threadId, cause }, redaction) => ({
      threadId,
      err: errorFields(cause, redaction),
    }),
  },
  // For those who count.
  'millrace:thread:handles': undefined,
  'millrace:handle:opened': undefined,
  'millrace:handle:closed': undefined,
  'millrace:leak:sampled': undefined,
  'millrace:handle:dropped': {
    kind: 'event',
    level: 'warn',
    key: ({ kind }) => kind,
    message: ({ kind }) => `a ${kind} ended without having been closed`,
    fields: ({ kind, name }) => ({ kind, name }),
  },
  'millrace:leak:left': {
    kind: 'event',
    level: 'info',
    key: ({ type }) => type,
    message: () => 'tasks of this type ended and left handles open',
    fields: ({ type, kind, count, site }) => ({ type, kind, count, site }),
  },
  'millrace:leak:suspected': {
    kind: 'event',
    level: 'warn',
    message: () => 'a count of open handles grows with time and not with load; it is looked into',
    fields: ({ kind, count, growthPerSecond }) => ({ kind, count, growthPerSecond }),
  },
  'millrace:leak:cleared': {
    kind: 'event',
    level: 'info',
    message: () => 'no leak: what was open was closed once nothing ran',
    fields: ({ kind, count }) => ({ kind, count }),
  },
  'millrace:leak:confirmed': {
    kind: 'event',
    level: 'error',
    message: ({ type }) =>
      type === undefined ? 'handles leak' : `handles leak, left open by task '${type}'`,
    fields: ({ kind, type, count, growthPerSecond, sites }) => ({
      kind,
      type,
      count,
      growthPerSecond,
      sites,
    }),
  },
  'millrace:janitor:failed': {
    kind: 'event',
    level: 'warn',
    message: () => 'a round of forgetting old records failed; the next one makes it good',
    fields: causeFields,
  },
  'millrace:node:reaped': {
    kind: 'event',
    level: 'info',
    message: () => 'what a node had left that is gone for good was cleared away',
    fields: ({ node, subscriptions }) => ({ node, subscriptions }),
  },
  'millrace:session:granted': {
    kind: 'event',
    level: 'info',
    message: () => 'the session has a lease',
    fields: ({ leaseId, ttlMs }) => ({ leaseId, ttlMs }),
  },
  'millrace:session:fenced': {
    kind: 'event',
    level: 'warn',
    message: () => 'the store is silent; nothing acts under the lease',
    fields: ({ leaseId, silentMs }) => ({ leaseId, silentMs }),
  },
  'millrace:session:lifted': {
    kind: 'event',
    level: 'info',
    message: () => 'the lease was alive all along',
    fields: ({ leaseId }) => ({ leaseId }),
  },
  'millrace:session:lost': {
    kind: 'event',
    level: 'error',
    message: () => 'the lease is over; what hung on it is gone',
    fields: ({ leaseId, cause }, redaction) => ({ leaseId, err: errorFields(cause, redaction) }),
  },
  'millrace:shard:acquired': {
    kind: 'event',
    level: 'info',
    message: () => 'this process owns a shard',
    fields: shardFields,
  },
  'millrace:shard:released': {
    kind: 'event',
    level: 'info',
    message: () => 'this process gave a shard up',
    fields: shardFields,
  },
  'millrace:shard:lost': {
    kind: 'event',
    level: 'warn',
    message: () => 'a shard was taken from this process',
    fields: (payload, redaction) => ({
      ...shardFields(payload),
      err: errorFields(payload.cause, redaction),
    }),
  },
  'millrace:supervisor:elected': {
    kind: 'event',
    level: 'info',
    message: () => "this process looks after the other members' heartbeats",
    fields: ({ node }) => ({ node }),
  },
  'millrace:supervisor:failed': {
    kind: 'event',
    level: 'warn',
    message: () => 'a round of looking after heartbeats failed; nobody is judged by it',
    fields: causeFields,
  },
  'millrace:member:late': {
    kind: 'event',
    level: 'warn',
    message: () => 'a member is late; it gets fewer new tasks',
    fields: silenceFields,
  },
  'millrace:member:silent': {
    kind: 'event',
    level: 'warn',
    message: () => 'two heartbeats of a member are missing; it gets no new tasks',
    fields: silenceFields,
  },
  'millrace:member:compared': {
    kind: 'event',
    level: ({ notStored, notSaid }) => (notStored.length + notSaid.length > 0 ? 'warn' : 'info'),
    message: () => 'what a silent member said last, against what is stored of it',
    fields: ({ node, silentMs, notStored, notSaid, runningSaid, runningStored, isComplete }) => ({
      node,
      silentMs,
      notStored: notStored.length,
      notSaid: notSaid.length,
      runningSaid,
      runningStored,
      isComplete,
    }),
  },
  'millrace:member:evicting': {
    kind: 'event',
    level: 'error',
    message: () => 'three heartbeats of a member are missing; its lease is revoked',
    fields: ({ node, leaseId, silentMs }) => ({ node, leaseId, silentMs }),
  },
  'millrace:member:evicted': {
    kind: 'event',
    level: 'warn',
    message: () => 'the lease of a member is revoked',
    fields: ({ node, leaseId, shards }) => ({ node, leaseId, shards }),
  },
  'millrace:member:reassigned': {
    kind: 'event',
    level: ({ orphaned }) => (orphaned > 0 ? 'warn' : 'info'),
    message: () => "an evicted member's shards have other owners",
    fields: ({ node, owners, orphaned, elapsedMs }) => ({
      node,
      shards: owners.length,
      owners: [...new Set(owners.map((owner) => owner.node))],
      orphaned,
      elapsedMs,
    }),
  },
  'millrace:member:recovered': {
    kind: 'event',
    level: 'info',
    message: () => "a late member's heartbeat is back",
    fields: ({ node, silentMs, stage }) => ({ node, silentMs, stage }),
  },
  'millrace:lock:acquired': {
    kind: 'heartbeat',
    level: 'debug',
    message: () => 'a lock was granted',
    fields: ({ name, token, waitMs, isHandOff }) => ({
      lock: name,
      token: String(token),
      waitMs,
      isHandOff,
    }),
  },
  'millrace:lock:released': {
    kind: 'heartbeat',
    level: ({ isLost }) => (isLost ? 'warn' : 'debug'),
    message: ({ isLost }) =>
      isLost ? 'a holder is done that had lost its lock before' : 'a lock was released',
    fields: ({ name, token, heldMs }) => ({ lock: name, token: String(token), heldMs }),
  },
  'millrace:lock:held-long': {
    kind: 'event',
    level: 'warn',
    message: () => 'a lock has been held for as long as a lease lives',
    fields: ({ name, token, heldMs }) => ({ lock: name, token: String(token), heldMs }),
  },
  'millrace:store:server': {
    kind: 'event',
    level: ({ bugs }) => (bugs.length > 0 ? 'warn' : 'info'),
    message: ({ bugs }) =>
      bugs.length > 0
        ? 'a server of the store has a version with known bugs'
        : 'a server of the store answered',
    fields: ({ endpoint, version, bugs }) => ({ endpoint, version, bugs }),
  },
  'millrace:store:connected': {
    kind: 'event',
    level: 'info',
    message: () => 'a connection to the store takes calls',
    fields: ({ endpoint, role, isResumed }) => ({ endpoint, role, isResumed }),
  },
  'millrace:compaction:done': {
    kind: 'event',
    level: 'info',
    message: () => 'the history of the store was compacted',
    fields: ({ revision, elapsedMs }) => ({ revision, elapsedMs }),
  },
  'millrace:compaction:failed': {
    kind: 'event',
    level: 'warn',
    message: () => "a round of looking after the store's history failed",
    fields: causeFields,
  },
  'millrace:store:pressure': {
    kind: 'event',
    level: ({ pressure }) => (pressure === 'none' ? 'info' : 'warn'),
    message: ({ pressure }) =>
      pressure === 'none' ? 'the store has room again' : 'the store fills up',
    fields: ({ pressure, bytes, bytesMax }) => ({ pressure, bytes, bytesMax }),
  },
  'millrace:metadata:gap': {
    kind: 'event',
    level: 'warn',
    message: () =>
      'a write to a tenant was missed; what is cached of it is compared with the store',
    fields: ({ key, known, told }) => ({ key, known, told }),
  },
  'millrace:metadata:unpublished': {
    kind: 'event',
    level: 'warn',
    message: () => 'others could not be told of a write; they find it with their next re-check',
    fields: ({ key, cause }, redaction) => ({ key, err: errorFields(cause, redaction) }),
  },
  'millrace:config:invalid': {
    kind: 'event',
    level: 'error',
    key: ({ name }) => name,
    message: () => 'a configuration value is not valid; the last good one stays',
    fields: ({ name, tenant, cause }, redaction) => ({
      name,
      tenant,
      err: errorFields(cause, redaction),
    }),
  },
  'millrace:store:corrupt': {
    kind: 'event',
    level: 'error',
    message: () => 'a stored record did not decode; it was set aside',
    fields: ({ key, cause }, redaction) => ({ key, err: errorFields(cause, redaction) }),
  },
};

function causeFields(payload: { readonly cause: unknown }, redaction: Redaction): object {
  return { err: errorFields(payload.cause, redaction) };
}

/** An error as pino writes them, without secrets. It may be plain data already, as results carry it. */
function errorFields(error: unknown, redaction: Redaction): object {
  const { name, cause, ...rest } = toWire(error);
  return redaction.of(
    cause === undefined ? { type: name, ...rest } : { type: name, ...rest, cause: shortly(cause) },
  ) as object;
}

/** What caused an error, without its stack: the one above it shows the way. */
function shortly({ name, message, code, cause }: WireError): object {
  return {
    type: name,
    message,
    ...(code !== undefined && { code }),
    ...(cause !== undefined && { cause: shortly(cause) }),
  };
}
