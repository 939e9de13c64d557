/**
 * A fleet for a test: nodes as processes of their own on one etcd, and a workload in the test's process that keeps
 * books of what it was promised.
 *
 *   Fleet      starts nodes, kills, stops and continues them
 *   Workload   submits without pause; each acknowledgement and each result goes into its books
 *   reconcile  compares the books with the effects that the handlers left in a file, and with what the store has filed
 */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { FrameKind, openFrame } from '../../../src/core/frame.js';
import { readState } from '../../../src/core/records.js';
import { prefixRange, type Store } from '../../../src/core/store.js';
import {
  createRuntime,
  defineTask,
  defineTasks,
  type Runtime,
  type TaskContract,
} from '../../../src/index.js';
import { etcdStore } from '../../../src/store/etcd/index.js';
import { systemClock } from '../../../src/timing/system-clock.js';
import type { EtcdCluster } from '../../support/etcd/index.js';
import { freshNamespace } from '../../support/etcd/store.js';
import { killAtEnd } from '../../support/guardian.js';
import { soon, until } from '../../support/limit.js';
import type { FromNode, NodeOrder } from './node.js';
import { type Effect, effectsIn, type WorkInput, type WorkResult } from './tasks.js';

const NODE = fileURLToPath(new URL('./node.js', import.meta.url));
export const TASKS: string = new URL('./tasks.js', import.meta.url).href;
type Contract = TaskContract<WorkInput, WorkResult>;
export const work: Contract = defineTask<WorkInput, WorkResult>({ name: 'work' });
export const inline: Contract = defineTask<WorkInput, WorkResult>({
  name: 'work.inline',
  exec: 'inline',
});

/** The shortest that etcd grants with an election timeout of 500 ms or less. */
export const TTL_MS = 2_000;
/** Generous: what is late is not lost. */
const LIMIT_MS = 60_000;

export interface NodeProcess {
  readonly pid: number;
  /** Among the members. */
  readonly name: string;
  /** Whether others may have taken its tasks: it was killed or stopped, or its session was lost. */
  readonly mayBeReplaced: boolean;
  /** Types of tasks that it has told to have no handlers of. */
  readonly unhandled: ReadonlySet<string>;
  kill(): Promise<void>;
  stop(): void;
  cont(): void;
  /** SIGTERM. @returns its exit code */
  end(): Promise<number | null>;
}

export interface Fleet {
  readonly namespace: string;
  /** The file that handlers write to. */
  readonly effects: string;
  readonly nodes: readonly NodeProcess[];
  join(options?: { readonly tasks?: string; readonly softMs?: number }): Promise<NodeProcess>;
  /** A runtime in this process that has the contracts and no handlers. */
  producer(): Promise<Runtime>;
  /** Opens the store beside them. */
  store(): Promise<Store>;
  /** Whether every shard has an owner, and none of them is one of these. */
  isOwnedWithout(...nodes: readonly NodeProcess[]): Promise<boolean>;
  seen(): Effect[];
}

export function fleet(t: TestContext, etcd: EtcdCluster): Fleet {
  const namespace = freshNamespace();
  const folder = mkdtempSync(path.join(tmpdir(), 'millrace-fleet-'));
  const effects = path.join(folder, 'effects');
  const nodes: (NodeProcess & { readonly child: ChildProcess })[] = [];
  const stores: Store[] = [];
  const runtimes: Runtime[] = [];
  t.after(async () => {
    await Promise.all(nodes.map((node) => node.kill()));
    await Promise.all(runtimes.map((runtime) => runtime.close()));
    await Promise.all(stores.map((store) => store.close()));
    rmSync(folder, { recursive: true });
  });
  return {
    namespace,
    effects,
    nodes,
    async join({ tasks = TASKS, softMs = 10_000 } = {}) {
      const { endpoints } = etcd;
      const node = startNode({ endpoints, namespace, ttlMs: TTL_MS, tasks, softMs });
      nodes.push(node);
      await soon('a node is ready', node.ready, LIMIT_MS);
      return node;
    },
    async producer() {
      const runtime = await createRuntime({
        tasks: defineTasks({ work, inline }),
        store: etcdStore({ endpoints: etcd.endpoints, namespace }),
        session: { ttl: TTL_MS },
      });
      runtimes.push(runtime);
      return runtime;
    },
    async store() {
      const factory = etcdStore({ endpoints: etcd.endpoints, namespace });
      const store = await factory.open({ clock: systemClock });
      stores.push(store);
      return store;
    },
    async isOwnedWithout(...others) {
      const [store = await this.store()] = stores;
      const { entries } = await store.range(prefixRange('o/'));
      const owners = entries.map(({ value }) => Buffer.from(value).toString());
      return owners.length === 64 && !others.some(({ name }) => owners.includes(name));
    },
    seen: () => effectsIn(effects),
  };
}

function startNode(order: NodeOrder) {
  const child = fork(NODE, [JSON.stringify(order)]);
  const callOff = killAtEnd(child.pid!);
  const exited = once(child, 'exit').then(([code]) => {
    callOff();
    return code as number | null;
  });
  const unhandled = new Set<string>();
  let mayBeReplaced = false;
  let name = '';
  const ready = new Promise<void>((resolve, reject) => {
    child.on('message', (message: FromNode) => {
      if (message.kind === 'ready') {
        name = message.node;
        resolve();
      }
      if (message.kind === 'session-lost') mayBeReplaced = true;
      if (message.kind === 'unhandled') unhandled.add(message.type);
    });
    void exited.then((code) => reject(new Error(`a node ended with ${code}`)));
  });
  return {
    child,
    ready,
    pid: child.pid!,
    unhandled,
    get name() {
      return name;
    },
    get mayBeReplaced() {
      return mayBeReplaced;
    },
    async kill() {
      mayBeReplaced = true;
      child.kill('SIGKILL');
      await exited;
    },
    stop() {
      mayBeReplaced = true;
      child.kill('SIGSTOP');
    },
    cont: () => void child.kill('SIGCONT'),
    end() {
      child.kill('SIGTERM');
      return soon('a node ends', exited, LIMIT_MS);
    },
  };
}

/** What was acknowledged, and what came of it. */
interface Entry {
  readonly name: string;
  result?: WorkResult;
}

export class Workload {
  /** By task id. */
  readonly books = new Map<string, Entry>();
  /** Submits without an acknowledgement. */
  refused = 0;
  readonly #runtime: Runtime;
  readonly #fleet: Fleet;
  readonly #submitting: Promise<void>;
  readonly #results: Promise<void>[] = [];
  #resultCount = 0;
  #isOver = false;

  private constructor(runtime: Runtime, fleet: Fleet) {
    this.#runtime = runtime;
    this.#fleet = fleet;
    this.#submitting = this.#submitAll();
  }

  static async start(t: TestContext, fleet: Fleet): Promise<Workload> {
    const workload = new Workload(await fleet.producer(), fleet);
    t.after(async () => {
      workload.#isOver = true;
      await workload.#submitting;
    });
    return workload;
  }

  /** Waits until so many more results have come. */
  async progress(count = 40): Promise<void> {
    const enough = this.#resultCount + count;
    await until(`${count} more results`, () => this.#resultCount >= enough, LIMIT_MS);
  }

  /** Submits no more, and waits for the result of everything that was acknowledged. */
  async finish(): Promise<void> {
    this.#isOver = true;
    await this.#submitting;
    await soon('results of all that was acknowledged', Promise.all(this.#results), LIMIT_MS);
  }

  async #submitAll(): Promise<void> {
    for (let i = 0; !this.#isOver; i++) {
      const names = Array.from({ length: 4 }, (_, n) => `${i}.${n}`);
      await Promise.all(names.map((name, n) => this.#submit(name, n)));
      // A pace that the machine keeps up with also while two of three nodes are away.
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  /** So many tasks of this length beside the others. Resolves when all of them run. */
  async runLong(count: number, ms: number): Promise<void> {
    const names = Array.from({ length: count }, (_, i) => `long.${i}`);
    await Promise.all(names.map((name) => this.#submit(name, 3, ms)));
    const begun = (): number =>
      this.#fleet.seen().filter(({ kind, name }) => kind === 'begin' && names.includes(name))
        .length;
    await until('the long ones run', () => begun() >= count, LIMIT_MS);
  }

  async #submit(name: string, n: number, ms = n === 3 ? 300 : 5): Promise<void> {
    const input: WorkInput = { effects: this.#fleet.effects, name, ms };
    const options = {
      ...(n === 1 && { delay: 100 }),
      ...(n === 2 && { idempotencyKey: name }),
    };
    try {
      const handle = await this.#runtime.submit(n === 0 ? inline : work, input, options);
      const entry: Entry = { name };
      this.books.set(handle.id, entry);
      const result = handle.result().then((value) => {
        entry.result = value;
        this.#resultCount++;
      });
      // A test that fails before it asks for it has said enough.
      result.catch(() => {});
      this.#results.push(result);
    } catch {
      // Not acknowledged: it may be stored all the same, but nobody was promised anything.
      this.refused++;
    }
  }
}

/** One run of a task. */
interface Run {
  readonly token: bigint;
  readonly pid: number;
  readonly attempt: number;
  readonly beginMs: number;
  /** Infinity: it did not end. */
  endMs: number;
}

/**
 * Holds the books against effects and store.
 *
 * @returns how many executions each acknowledged task had
 */
export async function reconcile(fleet: Fleet, { books }: Workload): Promise<number[]> {
  const runs = runsOf(fleet.seen());
  const replaced = new Set(
    fleet.nodes.filter(({ mayBeReplaced }) => mayBeReplaced).map(({ pid }) => pid),
  );
  for (const [task, { name, result }] of books) {
    const ran = runs.get(task);
    assert.ok(ran, `${task} was acknowledged and never ran`);
    assert.equal(result?.name, name, `${task} has the result of another task`);
    // Whoever recorded it was the last to claim the task: a zombie's token is lower than its successor's.
    const accepted = BigInt(result!.token);
    assert.ok(
      ran.every(({ token }) => token <= accepted),
      `${task}: the result is not the last claim's`,
    );
  }
  for (const [task, ran] of runs) {
    assert.equal(new Set(ran.map(({ token }) => token)).size, ran.length, `${task}: a token twice`);
    for (const [i, run] of ran.entries()) {
      const before = ran.slice(0, i);
      for (const { pid, token, endMs } of before) {
        // Only who was taken for dead may still be at it, or come late.
        if (replaced.has(pid) || replaced.has(run.pid)) continue;
        assert.ok(token < run.token, `${task}: token ${run.token} after ${token}`);
        assert.ok(endMs <= run.beginMs, `${task}: executions ${token} and ${run.token} overlap`);
      }
    }
  }
  const filed = await filedEnds(await fleet.store());
  for (const task of books.keys()) {
    assert.equal(filed.get(task), 1, `${task}: ends that are filed`);
  }
  for (const [task, count] of filed) assert.equal(count, 1, `${task}: ends that are filed`);
  return [...books.keys()].map((task) => runs.get(task)!.length);
}

/** In the order in which they began. */
function runsOf(effects: readonly Effect[]): Map<string, Run[]> {
  const runs = new Map<string, Run[]>();
  for (const { kind, task, token, pid, attempt, atMs } of effects) {
    const ran = runs.get(task) ?? [];
    runs.set(task, ran);
    if (kind === 'begin') {
      ran.push({ token: BigInt(token), pid, attempt, beginMs: atMs, endMs: Infinity });
    } else ran.find((run) => run.token === BigInt(token))!.endMs = atMs;
  }
  for (const ran of runs.values()) ran.sort((a, b) => a.beginMs - b.beginMs);
  return runs;
}

/** How often the end of each task is filed. */
async function filedEnds(store: Store): Promise<Map<string, number>> {
  const filed = new Map<string, number>();
  const { entries } = await store.range(prefixRange('z/'));
  for (const { key, value } of entries) {
    const [, queue, , segment] = key.split('/');
    const frame = openFrame(value, FrameKind.STATES);
    for (let i = 0; i < frame.count; i++) {
      const index = readState(frame, i).index.toString(36).padStart(2, '0');
      const task = `${queue}.${segment}.${index}`;
      filed.set(task, (filed.get(task) ?? 0) + 1);
    }
  }
  return filed;
}
