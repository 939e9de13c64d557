/**
 * A cluster of your runtimes in one process, on virtual time: to see what becomes of your tasks when nodes die, freeze,
 * are cut off or have wrong clocks.
 *
 *   cluster(3, { tasks })     World      one queue of events, a process with a clock for each node
 *                             SimStore   the store they share, behind a network under control
 *                             Runtime    yours, as createRuntime makes it, with tasks on the main thread
 *
 * Time passes in `run` and `advance` only, from event to event, however long it takes: an hour costs what happens in it.
 * The same seed gives the same run, as long as handlers wait for nothing outside (see {@link Cluster.sleep}).
 */
import { type Duration, durationMs } from '../core/durations.js';
import { MillraceError } from '../core/errors.js';
import { invalidOption, knownOptions } from '../core/options.js';
import type { TaskModule } from '../core/task.js';
import { createRuntimeIn } from '../millrace.js';
import type { RuntimeOptions } from '../runtime-options.js';
import { ClusterNode } from './cluster-node.js';
import { type SimStore, simStore } from './sim-store.js';
import type { StoreFaults } from './store-faults.js';
import { World } from './world.js';

const NODES_MAX = 100;
/** Long enough for takeovers, retries and delays; virtual, so it costs little. */
const WITHIN_DEFAULT = '10m';

export interface ClusterOptions {
  /** Of every node, unless it joins with others; all with `exec: 'inline'`. */
  readonly tasks: TaskModule;
  /** Decides everything that is left to chance. @defaultValue 1 */
  readonly seed?: number;
  /** What the network does to calls, from the beginning on; see `store.setFaults`. @defaultValue a latency of 1 to 3 ms */
  readonly faults?: StoreFaults;
  /** Everything else that `createRuntime` takes. */
  readonly runtime?: Omit<RuntimeOptions, 'tasks' | 'store' | 'threads' | 'signals'>;
}

const OPTIONS: Readonly<Record<keyof ClusterOptions, true>> = {
  tasks: true,
  seed: true,
  faults: true,
  runtime: true,
};

/**
 * Starts a cluster.
 *
 * @param size - how many nodes, 0 to 100
 * @throws ERR_MILLRACE_INVALID_OPTION, and what `createRuntime` throws
 */
export async function cluster(size: number, options: ClusterOptions): Promise<Cluster> {
  if (!(Number.isInteger(size) && size >= 0 && size <= NODES_MAX)) {
    throw invalidOption('size', size, `a whole number from 0 to ${NODES_MAX}`);
  }
  knownOptions(options, '', OPTIONS);
  const started = new Cluster(options);
  for (let i = 0; i < size; i++) await started.join();
  return started;
}

/** Comes from {@link cluster}. */
export class Cluster {
  /** What the nodes share: set faults, forget history, look at what it holds. */
  readonly store: SimStore;
  readonly #options: ClusterOptions;
  readonly #world: World;
  readonly #nodes: ClusterNode[] = [];
  #joined = 0;

  constructor(options: ClusterOptions) {
    const { seed = 1, faults = { latency: { minMs: 1, maxMs: 3 } } } = options;
    this.#options = options;
    this.#world = new World(seed);
    this.store = simStore({ seed, faults, shared: true, clock: this.#world.clock });
  }

  /** Everybody who has joined, the dead included. */
  get nodes(): readonly ClusterNode[] {
    return this.#nodes;
  }

  /** Virtual ms since the beginning. */
  get nowMs(): number {
    return this.#world.nowMs;
  }

  /**
   * Starts one more node. Time passes meanwhile.
   *
   * @param options.tasks - its own, e.g. contracts without handlers for one that only submits
   * @throws what `createRuntime` throws
   */
  async join(options: { readonly tasks?: TaskModule } = {}): Promise<ClusterNode> {
    const name = `node ${++this.#joined}`;
    const process = this.#world.spawn(name);
    const opened = this.store.connections.length;
    const starting = createRuntimeIn(
      { clock: process.clock, random: this.#world.random.fork(name) },
      {
        ...this.#options.runtime,
        tasks: options.tasks ?? this.#options.tasks,
        store: this.store,
      },
    );
    const runtime = await this.run(starting);
    const connection = this.store.connections[opened]!;
    const node = new ClusterNode({ name, runtime, process, connection });
    this.#nodes.push(node);
    return node;
  }

  /**
   * Lets time pass until a promise settles, or a function that awaits what it likes has come to its end.
   *
   * @param options.within - of virtual time. @defaultValue '10m'
   * @returns what it comes to
   * @throws what it rejects with; ERR_MILLRACE_RESULT_TIMEOUT when it is still open by then
   */
  async run<T>(
    work: Promise<T> | (() => Promise<T>),
    options: { readonly within?: Duration } = {},
  ): Promise<T> {
    const withinMs = durationMs(options.within ?? WITHIN_DEFAULT, 'within');
    const promise = typeof work === 'function' ? work() : work;
    let isSettled = false;
    const settle = (): void => {
      isSettled = true;
    };
    promise.then(settle, settle);
    if (await this.#world.runUntil(() => isSettled, withinMs)) return promise;
    throw new MillraceError(
      'ERR_MILLRACE_RESULT_TIMEOUT',
      `what was run is still open after ${withinMs} ms of virtual time; a dead node answers nobody, else raise 'within'`,
      { details: { withinMs } },
    );
  }

  /** Lets so much time pass. */
  advance(time: Duration): Promise<void> {
    return this.#world.advance(durationMs(time, 'time'));
  }

  /** Resolves after so much virtual time, for handlers and inside `run`: what takes time in a test takes it so. */
  sleep(time: Duration): Promise<void> {
    const ms = durationMs(time, 'time');
    return new Promise((resolve) => this.#world.at(ms, resolve));
  }

  /** Ends all faults: the network is good again, paused nodes go on, those cut off are back. The dead stay dead. */
  heal(): void {
    this.store.setFaults({ latency: { minMs: 1, maxMs: 3 } });
    for (const node of this.#nodes) {
      node.heal();
      node.resume();
    }
  }

  /** Heals, and closes all nodes that live. */
  async close(): Promise<void> {
    this.heal();
    await this.run(() => Promise.all(this.#nodes.map((node) => node.close())));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
