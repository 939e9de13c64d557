/**
 * The composition root: the only file that knows every part.
 *
 * `createRuntime` checks options, loads the tasks module, opens the store, builds pools and engine, and hands out a
 * `Runtime`. `createClient` does the same with contracts only, so that nothing runs here.
 */
import { getRandomValues } from 'node:crypto';
import { hostname } from 'node:os';
import { type Client, type ClientOptions, checkClientOptions } from './client.js';
import { Coordination } from './coordination/coordination.js';
import { type QueueShards, shardRecord } from './coordination/shard-map.js';
import { outside } from './core/async-context.js';
import type { Clock } from './core/clock.js';
import { MillraceError } from './core/errors.js';
import { type Incarnation, newIncarnation } from './core/ids.js';
import { invalidOption } from './core/options.js';
import type { Pool } from './core/pool.js';
import { type Random, seededRandom } from './core/random.js';
import type { Store } from './core/store.js';
import {
  type AnyTask,
  hasHandler,
  type TaskModule,
  type TaskSpec,
  tasksByName,
  tasksOfModule,
  withoutHandler,
} from './core/task.js';
import { Engine } from './engine/engine.js';
import type { EngineOptions } from './engine/engine-options.js';
import { Engines } from './engines.js';
import { lookEveryMs } from './healing/degradation.js';
import { Observation } from './observation.js';
import type { Timers } from './pool/deadlines.js';
import { DirectPool } from './pool/direct-pool.js';
import { InlinePool } from './pool/inline-pool.js';
import { moduleUrl } from './pool/module-url.js';
import { sharePool } from './pool/pool-share.js';
import { Runtime } from './runtime.js';
import { RuntimeChildren } from './runtime-children.js';
import { type ResolvedOptions, type RuntimeOptions, resolveOptions } from './runtime-options.js';
import { memoryStore } from './store/index.js';
import { createHooks } from './telemetry/handler-tracing.js';
import { TracedPool } from './telemetry/traced-pool.js';
import type { Tracing } from './telemetry/tracing.js';
import { Metadata } from './tenancy/metadata.js';
import { WatchBus } from './tenancy/watch-bus.js';
import { systemClock } from './timing/system-clock.js';
import { createTimers } from './timing/timers.js';

/** The world a runtime lives in; tests bring their own. */
export interface World {
  readonly clock: Clock;
  readonly random: Random;
  /** Keeps the process alive until the returned function is called. */
  readonly holdProcess?: () => () => void;
}

/** Names the lane of the one node of a local store. */
const LOCAL_NODE = 'local';
/** Of every queue, for ever: the number of a task's shard is in its id. More nodes than that would have nothing to do. */
const SHARDS_PER_QUEUE = 64;
const KEEP_ALIVE_MS = 2 ** 30;
/** Loaded by worker threads while tracing is on. */
const HANDLER_TRACING = new URL('./telemetry/handler-tracing.js', import.meta.url).href;
/** Loaded by them while leaks are looked for. */
const HANDLER_HANDLES = new URL('./healing/handler-handles.js', import.meta.url).href;
/** Of ended volatile tasks, which are kept in memory. */
const VOLATILE_BYTES = { completedBytesMax: 16_777_216, failedBytesMax: 16_777_216 };

/**
 * Starts a runtime: opens the store, takes up what it holds, starts the threads.
 *
 * @throws ERR_MILLRACE_INVALID_OPTION, ERR_MILLRACE_INVALID_DURATION for options
 * @throws ERR_MILLRACE_TASKS_MODULE when the module does not load or exports no tasks
 * @throws ERR_MILLRACE_STORE_LOCKED, _NOT_WRITABLE, _FORMAT, _CORRUPT when the store cannot be used
 */
export function createRuntime(options: RuntimeOptions): Promise<Runtime> {
  const seed = getRandomValues(new Uint32Array(4));
  const world = { clock: systemClock, random: seededRandom(seed), holdProcess };
  return outside(() => createRuntimeIn(world, options));
}

/**
 * Opens a store for handing tasks in, waiting for their ends and cancelling them. Nothing runs here, and no thread is
 * started: who runs them is a runtime on the same store.
 *
 * @throws as {@link createRuntime}
 */
export async function createClient(options: ClientOptions): Promise<Client> {
  const { tasks, ...rest } = checkClientOptions(options);
  const contracts = tasks.map(withoutHandler);
  const byName = Object.fromEntries(contracts.map((contract) => [contract.name, contract]));
  return createRuntime({ ...rest, tasks: { tasks: byName } });
}

/** A runtime at work keeps its process alive, as a listening server does; close() lets go. */
function holdProcess(): () => void {
  const alive = setInterval(() => {}, KEEP_ALIVE_MS);
  return () => clearInterval(alive);
}

/** {@link createRuntime} in a world of the caller's. */
export async function createRuntimeIn(world: World, options: RuntimeOptions): Promise<Runtime> {
  const resolved = resolveOptions(options);
  const random = world.random.fork('engine');
  const incarnation = newIncarnation(() => random.u32());
  const observation = await Observation.start(world.clock, incarnation, resolved.observation);
  try {
    return await startRuntime(world, resolved, { random, incarnation, observation });
  } catch (error) {
    await observation.stop();
    throw error;
  }
}

async function startRuntime(
  world: World,
  resolved: ResolvedOptions,
  parts: {
    /** The engine's. */
    readonly random: Random;
    readonly incarnation: Incarnation;
    readonly observation: Observation;
  },
): Promise<Runtime> {
  const { random, incarnation, observation } = parts;
  const tasks = await loadTasks(resolved.tasks);
  const { tracing } = observation;
  const children = new RuntimeChildren();
  const built = traced(
    await buildPools(world, { options: resolved, tasks, incarnation, children }),
    tracing,
  );
  const pools = resolved.off.has('batching') ? withoutBatching(built) : built;
  const store = await resolved.store.open({ clock: world.clock, off: resolved.off });
  try {
    const isShared = store.lockSpace !== undefined;
    // What has no handler here is for other nodes: this one only submits it.
    const specs = [...tasks.values()].filter(hasHandler).map(({ spec }) => spec);
    const shared = specs.filter(({ durability }) => durability === 'stored');
    const queues = queuesOf(shared);
    const coordination = new Coordination(
      { clock: world.clock, random: world.random.fork('coordination'), store },
      {
        ttlMs: resolved.session.ttlMs,
        node: isShared ? incarnation : LOCAL_NODE,
        label: `${hostname()}:${process.pid}`,
        record: {
          host: hostname(),
          pid: process.pid,
          ...shardRecord(
            queues,
            resolved.session.weight,
            shared.map(({ name }) => name),
          ),
        },
        isMember: isShared || store.usage !== undefined,
        locking: resolved.off.has('locks') ? 'single-key' : 'queueing',
        canaryEveryMs: lookEveryMs(resolved.observation.healing?.watchDelay),
      },
    );
    const { session, members, supervisor } = coordination;
    const engines = await buildEngines(
      world,
      {
        random,
        incarnation,
        store,
        node: isShared ? incarnation : LOCAL_NODE,
        ...(isShared && {
          cluster: { session, members, supervisor, queues, shardCount: SHARDS_PER_QUEUE },
        }),
        weights: resolved.weights,
        rate: resolved.rate,
        retention: resolved.retention,
        ...(resolved.off.has('batching') && { segmentTasksMax: 1 }),
      },
      { pools, specs },
    );
    const runtime = new Runtime({
      clock: world.clock,
      holdProcess: world.holdProcess,
      options: resolved,
      tasks,
      store,
      engines,
      coordination,
      children,
      metadata: newMetadata(world, store, resolved.cacheBytes),
      threads: pools.thread,
      observation,
      host: `${hostname()}:${process.pid}`,
    });
    await runtime.start();
    return runtime;
  } catch (error) {
    await Promise.all(Object.values(pools).map((pool) => pool.stop()));
    await store.close();
    throw error;
  }
}

/** The engine of the stored tasks, and one for volatile ones where there are any. */
async function buildEngines(
  { clock, random }: World,
  stored: Omit<EngineOptions, 'clock' | 'timers' | 'pools' | 'specs'>,
  { pools, specs }: { readonly pools: Pools; readonly specs: readonly TaskSpec[] },
): Promise<Engines> {
  const timers = wheelTimers(clock);
  const isVolatile = ({ durability }: TaskSpec): boolean => durability === 'volatile';
  const lasting = specs.filter((spec) => !isVolatile(spec));
  if (lasting.length === specs.length) {
    return new Engines(new Engine({ ...stored, clock, timers, pools, specs }));
  }
  const [forStored, forVolatile] = shareAll(pools);
  const memory = await memoryStore().open({ clock });
  return new Engines(
    new Engine({ ...stored, clock, timers, pools: forStored, specs: lasting }),
    new Engine({
      clock,
      timers,
      random: random.fork('volatile'),
      incarnation: stored.incarnation,
      store: memory,
      node: LOCAL_NODE,
      pools: forVolatile,
      specs: specs.filter(isVolatile),
      weights: stored.weights!,
      rate: stored.rate,
      retention: { ...stored.retention, ...VOLATILE_BYTES },
    }),
  );
}

function shareAll({ thread, inline }: Pools): readonly [Pools, Pools] {
  const threads = thread && sharePool(thread);
  const inlines = inline && sharePool(inline);
  const share = (user: 0 | 1): Pools => ({
    ...(threads && { thread: threads[user] }),
    ...(inlines && { inline: inlines[user] }),
  });
  return [share(0), share(1)];
}

function queuesOf(specs: readonly TaskSpec[]): QueueShards[] {
  const names = new Set(specs.map(({ queue }) => queue));
  return [...names].map((queue) => ({ queue, shardCount: SHARDS_PER_QUEUE }));
}

/** Follows the store from its first use on: a service without metadata has no watch for it. */
function newMetadata({ clock, random }: World, store: Store, cacheBytes: number): Metadata {
  const own = random.fork('metadata');
  const bus = new WatchBus(clock, own.fork('bus'), store);
  return new Metadata({ clock, random: own, store, bus, cacheBytes });
}

/** Deadlines of tasks wait in the native wheel, as delayed tasks do. */
function wheelTimers(clock: Clock): Timers {
  const wheel = createTimers({ keepAlive: false, ...(clock !== systemClock && { clock }) });
  return {
    monoMs: () => clock.monoMs(),
    wakeIn(delayMs, wake) {
      const timer = wheel.setTimer(delayMs, wake);
      return { cancel: () => wheel.clear(timer) };
    },
  };
}

interface Pools {
  readonly thread?: Pool;
  readonly inline?: Pool;
}

async function loadTasks(tasks: URL | string | TaskModule): Promise<ReadonlyMap<string, AnyTask>> {
  if (typeof tasks === 'object' && !(tasks instanceof URL)) {
    return tasksByName(Object.values(tasks.tasks));
  }
  const location = moduleUrl(tasks);
  let module: Record<string, unknown>;
  try {
    module = (await import(location)) as Record<string, unknown>;
  } catch (cause) {
    throw new MillraceError(
      'ERR_MILLRACE_TASKS_MODULE',
      `${location} does not load: ${cause instanceof Error ? cause.message : String(cause)}`,
      { details: { location }, cause },
    );
  }
  return tasksOfModule(module, location);
}

/** With spans, where they are asked for. */
function traced({ thread, inline }: Pools, tracing: Tracing | undefined): Pools {
  return {
    ...(thread && { thread: tracing ? new TracedPool(thread, tracing) : thread }),
    ...(inline && { inline: tracing ? new TracedPool(inline, tracing) : inline }),
  };
}

function withoutBatching({ thread, inline }: Pools): Pools {
  return {
    ...(thread && { thread: new DirectPool(thread) }),
    ...(inline && { inline: new DirectPool(inline) }),
  };
}

async function buildPools(
  world: World,
  parts: {
    readonly options: ResolvedOptions;
    readonly tasks: ReadonlyMap<string, AnyTask>;
    readonly incarnation: Incarnation;
    readonly children: RuntimeChildren;
  },
): Promise<Pools> {
  const { options, tasks, incarnation, children } = parts;
  // Contracts run elsewhere.
  const handled = [...tasks.values()].filter(hasHandler);
  const execs = new Set(handled.map(({ spec }) => spec.exec));
  const common = { executor: incarnation, limits: options.payload, children: children.desk };
  const isTraced = options.observation.tracing !== undefined;
  const inline = execs.has('inline')
    ? new InlinePool(world.clock, tasks, {
        ...common,
        ...(isTraced && { hooks: [await createHooks()] }),
      })
    : undefined;
  if (!execs.has('thread')) return inline ? { inline } : {};
  const location = options.tasks;
  if (typeof location === 'object' && !(location instanceof URL)) {
    throw invalidOption(
      'tasks',
      'a value',
      "the module's URL, since worker threads load it too (or make every task exec: 'inline')",
    );
  }
  // Loaded only when threads are needed: an inline service starts without Piscina.
  const { ThreadPool } = await import('./pool/thread-pool.js');
  const thread = new ThreadPool({
    ...common,
    tasks: moduleUrl(location),
    threads: options.threads,
    preload: [
      ...(isTraced ? [HANDLER_TRACING] : []),
      ...(options.observation.healing?.leaks !== undefined ? [HANDLER_HANDLES] : []),
    ],
  });
  return inline ? { thread, inline } : { thread };
}
