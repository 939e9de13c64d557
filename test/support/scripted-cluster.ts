/**
 * Several engines on one store, in virtual time, each with a pool whose threads the test plays.
 */
import type { TestContext } from 'node:test';
import { Coordination } from '../../src/coordination/coordination.js';
import { shardRecord } from '../../src/coordination/shard-map.js';
import { type Incarnation, newIncarnation, type TaskId, taskId } from '../../src/core/ids.js';
import { seededRandom } from '../../src/core/random.js';
import type { Store } from '../../src/core/store.js';
import { type ContractOptions, defineTask } from '../../src/core/task.js';
import { Engine } from '../../src/engine/engine.js';
import type { Accepted, NewTask } from '../../src/engine/submission.js';
import { memoryStore } from '../../src/store/index.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { FaultyStore } from './faulty-store.js';
import { within } from './runtime.js';
import { Outcome, type ScriptedBatch, ScriptedPool } from './scripted-pool.js';

export const CLUSTER_TTL_MS = 5_000;
const SHARDS = 4;

export interface ScriptedNode {
  readonly incarnation: Incarnation;
  readonly engine: Engine;
  readonly pool: ScriptedPool;
  readonly store: FaultyStore;
  readonly coordination: Coordination;
  /** Tasks open here, for the account that admission keeps. */
  readonly open: number;
  submit(task: NewTask): Promise<Accepted>;
  /** Nothing of it reaches the store any more, and nothing of the store reaches it. */
  die(): void;
  /** Ends gently, within 200 ms unless told otherwise. */
  close(hardMs?: number): Promise<void>;
}

export interface ScriptedCluster {
  readonly clock: VirtualClock;
  /** What the server has. */
  readonly store: Store;
  /** @param types - those that it has handlers for. @defaultValue `work` */
  join(types?: readonly string[], places?: number): Promise<ScriptedNode>;
  newTask(payload: string, changes?: Partial<NewTask>): NewTask;
  within<T>(promise: Promise<T>, limitMs?: number): Promise<T>;
  /** Waits until something holds, for at most `limitMs` of virtual time. */
  until(what: string, holds: () => boolean | Promise<boolean>, limitMs?: number): Promise<void>;
  /** Keys in the store that begin so. */
  keys(prefix: string): Promise<string[]>;
}

/**
 * @param contract - of all its types
 * @param options.operationsMax - of one transaction. @defaultValue the store's own
 * @param options.completedMs - how long what has ended well is kept. @defaultValue an hour
 * @param options.completedBytesMax - how much of it. @defaultValue 1 GB
 */
export async function scriptedCluster(
  t: TestContext,
  contract: Partial<ContractOptions> = {},
  options: {
    readonly operationsMax?: number;
    readonly completedMs?: number;
    readonly completedBytesMax?: number;
  } = {},
): Promise<ScriptedCluster> {
  const clock = new VirtualClock();
  const factory = memoryStore();
  const server = await factory.open({ clock });
  const nodes: ScriptedNode[] = [];
  t.after(async () => {
    const closing = Promise.all(nodes.map((node) => node.close().catch(() => {})));
    for (let i = 0; i < 8; i++) await clock.advance(5_000);
    await closing;
    await server.close();
  });
  const join: ScriptedCluster['join'] = async (types = ['work'], places = 2) => {
    const random = seededRandom(nodes.length + 1);
    const incarnation = newIncarnation(() => random.u32());
    const store = new FaultyStore(await factory.open({ clock }), clock);
    store.operationsMax = options.operationsMax;
    const specs = types.map((name) => defineTask({ name, ...contract, run: () => {} }).spec);
    const queues = types.length === 0 ? [] : [{ queue: 'default', shardCount: SHARDS }];
    const coordination = new Coordination(
      { clock, random: random.fork('coordination'), store },
      {
        ttlMs: CLUSTER_TTL_MS,
        node: incarnation,
        label: incarnation,
        record: shardRecord(queues, 1, types),
        isMember: true,
        locking: 'queueing',
      },
    );
    const pool = new ScriptedPool(places);
    const { session, members, supervisor } = coordination;
    const engine = new Engine({
      clock,
      random,
      incarnation,
      store,
      pools: types.length === 0 ? {} : { thread: pool },
      specs,
      node: incarnation,
      cluster: { session, members, supervisor, queues, shardCount: SHARDS },
      retention: {
        completedMs: options.completedMs ?? 3_600_000,
        completedBytesMax: options.completedBytesMax ?? 1e9,
        failedMs: 3_600_000,
        failedBytesMax: 1e9,
        idempotencyMs: 3_600_000,
      },
    });
    let open = 0;
    let isDead = false;
    engine.room.onRecovered = (_, tasks) => {
      open += tasks;
    };
    engine.room.onReleased = (_, tasks) => {
      open -= tasks;
    };
    await within(clock, 10_000, coordination.start());
    await within(clock, 10_000, engine.start());
    const node: ScriptedNode = {
      incarnation,
      engine,
      pool,
      store,
      coordination,
      get open() {
        return open;
      },
      submit: (task) =>
        new Promise((resolve, reject) => {
          open++;
          engine.submit(
            task,
            (accepted) => {
              if (!accepted.isCreated) open--;
              resolve(accepted);
            },
            (cause) => {
              open--;
              reject(cause);
            },
          );
        }),
      die() {
        isDead = true;
        store.isCut = true;
        store.readsFail = true;
        store.diesAfter = 0;
        store.watchGate = new Promise(() => {});
      },
      async close(hardMs = 200) {
        if (isDead) return;
        isDead = true;
        await within(clock, 60_000, engine.shutdown({ softMs: hardMs / 2, hardMs }));
        await within(clock, 60_000, engine.stop());
        await within(clock, 60_000, coordination.stop());
        await store.close();
      },
    };
    nodes.push(node);
    await clock.settle();
    return node;
  };
  return {
    clock,
    store: server,
    join,
    within: (promise, limitMs = 10_000) => within(clock, limitMs, promise),
    async until(what, holds, limitMs = 10_000) {
      const endMs = clock.monoMs() + limitMs;
      while (!(await holds())) {
        if (clock.monoMs() >= endMs) throw new Error(`${what}: not within ${limitMs} virtual ms`);
        await clock.advance(10);
      }
    },
    async keys(prefix) {
      const { entries } = await server.range({ from: prefix, to: `${prefix}\x7f` });
      return entries.map(({ key }) => key);
    },
    newTask: (payload, changes = {}) => ({
      type: 'work',
      queue: 'default',
      tenant: '',
      priority: 0,
      dueAtMs: clock.wallMs(),
      dueMonoMs: clock.monoMs(),
      submittedAtMs: clock.wallMs(),
      expiresAtMs: 0,
      attempt: 0,
      losses: 0,
      version: 0,
      payload,
      payloadBytes: payload.length,
      metadata: undefined,
      idempotencyKey: undefined,
      ...changes,
    }),
  };
}

export function idOf(accepted: Accepted): TaskId {
  return taskId(accepted.segment, accepted.index);
}

/** Completes whatever a pool has, now and later, with the payload as the value. */
export function completing(...nodes: readonly ScriptedNode[]): () => void {
  const done = new Set<ScriptedBatch>();
  return () => {
    for (const { pool } of nodes) {
      for (const batch of pool.batches) {
        if (done.has(batch)) continue;
        done.add(batch);
        batch.report(
          batch.tasks.map((_, slot) => slot),
          Outcome.COMPLETED,
          '"done"',
        );
        batch.end();
      }
    }
  };
}

/** One by one, so that they come into segments and shards of their own. */
export async function submitApart(
  cluster: ScriptedCluster,
  node: ScriptedNode,
  count: number,
): Promise<Accepted[]> {
  const all: Accepted[] = [];
  for (let i = 0; i < count; i++) {
    all.push(await cluster.within(node.submit(cluster.newTask(`${i}`))));
  }
  return all;
}
