/**
 * What `createRuntime` takes, and the same with every default filled in. Checked once, here.
 */
import { DEFAULT_PAYLOAD_LIMITS, type PayloadLimits } from './core/codec.js';
import { type Duration, durationMs } from './core/durations.js';
import { invalidOption, knownOptions, oneOf, wholeNumber } from './core/options.js';
import { type RateOptions, type RateSpec, rateSpec } from './core/rate.js';
import { type Size, sizeBytes } from './core/sizes.js';
import type { TaskModule } from './core/task.js';
import type { RetentionMs } from './engine/janitor.js';
import {
  OBSERVATION_OPTIONS,
  type ObservationOptions,
  type ResolvedObservation,
  resolveObservation,
} from './observation-options.js';
import { fileStore, type StoreFactory } from './store/index.js';
import { type CacheOptions, cacheBytes } from './tenancy/options.js';

export interface RuntimeOptions extends ObservationOptions {
  /**
   * The module whose default export is `defineTasks({ ... })`, e.g. `new URL('./tasks.js', import.meta.url)`: worker
   * threads load it too. A module's value itself also does, when all its handlers are `exec: 'inline'`.
   */
  readonly tasks: URL | string | TaskModule;
  /** Where tasks are kept. @defaultValue fileStore('.millrace') */
  readonly store?: StoreFactory;
  readonly threads?: {
    /** Never fewer worker threads, whatever `auto` comes to. At most `max`. @defaultValue 1 */
    readonly min?: number;
    /** Worker threads; `auto` is one per core the process may use. @defaultValue 'auto' */
    readonly max?: number | 'auto';
  };
  /** How much may be accepted and not yet ended. */
  readonly queue?: {
    /** @defaultValue 1_000_000 */
    readonly maxTasks?: number;
    /** Encoded inputs together. @defaultValue '1GB' */
    readonly maxBytes?: Size;
    /**
     * What submit() does when it is full: `wait` until there is room, or `reject` with ERR_MILLRACE_QUEUE_FULL.
     * @defaultValue 'wait'
     */
    readonly onFull?: 'wait' | 'reject';
  };
  /** Limits of one encoded input. */
  readonly payload?: {
    /** At most 512KB. @defaultValue '256KB' */
    readonly maxBytes?: Size;
    /** Nested arrays and objects. @defaultValue 64 */
    readonly maxDepth?: number;
  };
  /** How tenants share what runs here. */
  readonly fairness?: {
    /**
     * How much of it a tenant gets in relation to others whose tasks are due with the same priority, from 0.000001 to
     * 1 000 000. @defaultValue 1 for each
     */
    readonly weights?: Readonly<Record<string, number>>;
  };
  /**
   * How many executions may begin in how much time, on all nodes together: by `task`, of each type that has no `rate` of its
   * own; by `tenant`, of each tenant, whatever the types. @defaultValue no limit
   */
  readonly rate?: RateOptions;
  /** Of `runtime.metadata` and `runtime.config`. */
  readonly metadata?: { readonly cache?: CacheOptions };
  readonly retention?: {
    /** Ended tasks with their results; whichever bound comes first, oldest first. @defaultValue 1h, 256MB */
    readonly completed?: { readonly age?: Duration; readonly bytes?: Size };
    /** Dead letters, likewise. @defaultValue 7d, 256MB */
    readonly failed?: { readonly age?: Duration; readonly bytes?: Size };
    /** An idempotency key is known at least so long, and at most twice as long. @defaultValue '24h' */
    readonly idempotency?: Duration;
  };
  /** What close() allows: running tasks finish within `soft`, are aborted then, and killed at `hard`. */
  readonly shutdown?: {
    /** @defaultValue '20s' */
    readonly soft?: Duration;
    /** @defaultValue '25s' */
    readonly hard?: Duration;
  };
  /** This node among those that share its store. Without effect where nobody does. */
  readonly session?: {
    /**
     * How long others wait for a node that is silent before they take its tasks over, from 1s to 1h. Shorter: a dead
     * node is replaced sooner, and shorter pauses and outages count as a death. etcd grants at least 2s. @defaultValue '15s'
     */
    readonly ttl?: Duration;
    /** Its share of the work in relation to the other nodes', from 0.000001 to 1 000 000. @defaultValue 1 */
    readonly weight?: number;
  };
  /** Close on SIGINT and SIGTERM. @defaultValue false */
  readonly signals?: boolean;
  /** For measuring what a mechanism is worth; not for production. */
  readonly experimental?: {
    /**
     * Replaces mechanisms by the naive way of doing the same: `batching` by one task per message, a queue without
     * bound in front of the threads, and a key per task in the store (of single submits), `locks` by one key that is polled, `logs` by every line, written at once, `leakchecks` by none, and `breaker` by none, and no degradation; on etcd,
     * `client` by a connection per call, and `tls` by a whole handshake each time. @defaultValue none
     */
    readonly off?: readonly Switch[];
  };
}

/** What `experimental.off` can switch off. */
export type Switch = 'batching' | 'breaker' | 'client' | 'leakchecks' | 'locks' | 'logs' | 'tls';

export interface ResolvedOptions {
  readonly tasks: URL | string | TaskModule;
  readonly store: StoreFactory;
  readonly threads: { readonly min: number; readonly max: number | 'auto' };
  readonly queue: {
    readonly tasksMax: number;
    readonly bytesMax: number;
    readonly onFull: 'wait' | 'reject';
  };
  readonly payload: PayloadLimits;
  /** By tenant. */
  readonly weights: ReadonlyMap<string, number>;
  readonly rate: RateSpec | undefined;
  /** Of the cache of tenant metadata. */
  readonly cacheBytes: number;
  readonly retention: RetentionMs;
  readonly shutdown: { readonly softMs: number; readonly hardMs: number };
  readonly session: { readonly ttlMs: number; readonly weight: number };
  readonly signals: boolean;
  readonly off: ReadonlySet<Switch>;
  readonly observation: ResolvedObservation;
}

/** Larger ones would not fit a store's request next to the rest of a commit. */
const PAYLOAD_BYTES_CEILING = 524_288;
const THREADS_CEILING = 1_024;
const TENANT_CHARS_MAX = 200;
const WEIGHT_MIN = 1e-6;
const WEIGHT_MAX = 1e6;
const SESSION_TTL_MS = 15_000;
const SESSION_TTL_MS_MIN = 1_000;
const SESSION_TTL_MS_MAX = 3_600_000;

const RUNTIME_OPTIONS: Readonly<Record<keyof RuntimeOptions, true>> = {
  tasks: true,
  store: true,
  threads: true,
  queue: true,
  payload: true,
  fairness: true,
  rate: true,
  metadata: true,
  retention: true,
  shutdown: true,
  session: true,
  signals: true,
  experimental: true,
  ...OBSERVATION_OPTIONS,
};
const SWITCHES: readonly Switch[] = [
  'batching',
  'breaker',
  'client',
  'leakchecks',
  'locks',
  'logs',
  'tls',
];
const KEPT_OPTIONS = { age: true, bytes: true } as const;
const QUEUE_OPTIONS = { maxTasks: true, maxBytes: true, onFull: true } as const;

/** @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION */
export function resolveOptions(options: RuntimeOptions): ResolvedOptions {
  if (typeof options !== 'object' || options === null) {
    throw invalidOption('createRuntime options', options, 'an object with `tasks`');
  }
  knownOptions(options, '', RUNTIME_OPTIONS);
  const threads = knownOptions(options.threads, 'threads.', { min: true, max: true });
  const queue = knownOptions(options.queue, 'queue.', QUEUE_OPTIONS);
  const payload = knownOptions(options.payload, 'payload.', { maxBytes: true, maxDepth: true });
  const { completed, failed, idempotency } = knownRetention(options.retention);
  const shutdown = knownOptions(options.shutdown, 'shutdown.', { soft: true, hard: true });
  const { tasks } = options;
  const isLocation = typeof tasks === 'string' || tasks instanceof URL;
  if (!isLocation && typeof tasks?.tasks !== 'object') {
    throw invalidOption('tasks', tasks, "a module's URL or path, or what defineTasks returned");
  }
  const store = options.store ?? fileStore('.millrace');
  if (typeof store?.open !== 'function') {
    throw invalidOption(
      'store',
      store,
      'fileStore(directory), memoryStore() or etcdStore({ endpoints })',
    );
  }
  const payloadBytesMax = sizeBytes(
    payload.maxBytes ?? DEFAULT_PAYLOAD_LIMITS.bytesMax,
    'payload.maxBytes',
  );
  if (payloadBytesMax > PAYLOAD_BYTES_CEILING) {
    throw invalidOption('payload.maxBytes', payload.maxBytes, 'at most 512KB');
  }
  const off = resolveSwitches(options.experimental);
  const softMs = durationMs(shutdown.soft ?? '20s', 'shutdown.soft');
  return {
    tasks,
    store,
    threads: resolveThreads(threads),
    queue: {
      tasksMax: wholeNumber(queue.maxTasks ?? 1_000_000, 'queue.maxTasks', 1, 1_000_000_000),
      bytesMax: sizeBytes(queue.maxBytes ?? '1GB', 'queue.maxBytes'),
      onFull: oneOf(queue.onFull ?? 'wait', 'queue.onFull', ['wait', 'reject']),
    },
    payload: {
      bytesMax: payloadBytesMax,
      depthMax: wholeNumber(
        payload.maxDepth ?? DEFAULT_PAYLOAD_LIMITS.depthMax,
        'payload.maxDepth',
        1,
        1_000,
      ),
    },
    weights: resolveWeights(options.fairness),
    rate: options.rate === undefined ? undefined : rateSpec(options.rate, 'rate'),
    cacheBytes: cacheBytes(knownOptions(options.metadata, 'metadata.', { cache: true }).cache),
    retention: {
      completedMs: durationMs(completed.age ?? '1h', 'retention.completed.age'),
      completedBytesMax: sizeBytes(completed.bytes ?? '256MB', 'retention.completed.bytes'),
      failedMs: durationMs(failed.age ?? '7d', 'retention.failed.age'),
      failedBytesMax: sizeBytes(failed.bytes ?? '256MB', 'retention.failed.bytes'),
      idempotencyMs: Math.max(1_000, durationMs(idempotency ?? '24h', 'retention.idempotency')),
    },
    shutdown: {
      softMs,
      hardMs: Math.max(softMs, durationMs(shutdown.hard ?? '25s', 'shutdown.hard')),
    },
    session: resolveSession(options.session),
    signals: options.signals ?? false,
    off,
    observation: resolveObservation(options, off),
  };
}

/** By tenant. @throws ERR_MILLRACE_INVALID_OPTION */
export function resolveWeights(options: RuntimeOptions['fairness']): ReadonlyMap<string, number> {
  const { weights = {} } = knownOptions(options, 'fairness.', { weights: true });
  if (typeof weights !== 'object' || weights === null || Array.isArray(weights)) {
    throw invalidOption('fairness.weights', weights, 'weights by tenant, such as { pro: 4 }');
  }
  for (const [tenant, weight] of Object.entries(weights)) {
    if (tenant.length < 1 || tenant.length > TENANT_CHARS_MAX) {
      throw invalidOption(
        'fairness.weights',
        tenant,
        `tenants of 1 to ${TENANT_CHARS_MAX} characters`,
      );
    }
    checkWeight(weight, `fairness.weights.${tenant}`);
  }
  return new Map(Object.entries(weights));
}

function resolveSession(options: RuntimeOptions['session']): ResolvedOptions['session'] {
  const { ttl, weight = 1 } = knownOptions(options, 'session.', { ttl: true, weight: true });
  const ttlMs = ttl === undefined ? SESSION_TTL_MS : durationMs(ttl, 'session.ttl');
  if (ttlMs < SESSION_TTL_MS_MIN || ttlMs > SESSION_TTL_MS_MAX) {
    throw invalidOption('session.ttl', ttl, 'a duration from 1s to 1h');
  }
  checkWeight(weight, 'session.weight');
  return { ttlMs, weight };
}

function checkWeight(weight: unknown, name: string): void {
  if (typeof weight === 'number' && weight >= WEIGHT_MIN && weight <= WEIGHT_MAX) return;
  throw invalidOption(name, weight, `a number from ${WEIGHT_MIN} to ${WEIGHT_MAX}`);
}

function resolveSwitches(options: RuntimeOptions['experimental']): ReadonlySet<Switch> {
  const { off = [] } = knownOptions(options, 'experimental.', { off: true });
  if (!Array.isArray(off))
    throw invalidOption('experimental.off', off, "a list, such as ['locks']");
  return new Set(off.map((name) => oneOf(name, 'experimental.off', SWITCHES)));
}

function knownRetention(options: RuntimeOptions['retention']) {
  const retention = knownOptions(options, 'retention.', {
    completed: true,
    failed: true,
    idempotency: true,
  });
  return {
    completed: knownOptions(retention.completed, 'retention.completed.', KEPT_OPTIONS),
    failed: knownOptions(retention.failed, 'retention.failed.', KEPT_OPTIONS),
    idempotency: retention.idempotency,
  };
}

function resolveThreads({
  min = 1,
  max = 'auto',
}: NonNullable<RuntimeOptions['threads']>): ResolvedOptions['threads'] {
  const most = max === 'auto' ? max : wholeNumber(max, 'threads.max', 1, THREADS_CEILING);
  const ceiling = most === 'auto' ? THREADS_CEILING : most;
  return { min: wholeNumber(min, 'threads.min', 0, ceiling), max: most };
}
