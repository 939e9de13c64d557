/**
 * OperatorDesk: a runtime as operators see it. What its engines hold they explain; the rest is read from the store.
 */
import type {
  Control,
  ListRequest,
  NodeOverview,
  Overview,
  RedriveOutcome,
} from './admin/control.js';
import { StoreControl } from './admin/store-control.js';
import type { Clock } from './core/clock.js';
import { hasCode } from './core/errors.js';
import { requireTaskId, type TaskId } from './core/ids.js';
import type { Store } from './core/store.js';
import type { Engine } from './engine/engine.js';
import type { Explanation } from './engine/explanation.js';
import type { TaskInspection } from './engine/inspection.js';
import { NOT_HELD } from './engine/task-desk.js';
import type { TaskPage } from './engine/task-list.js';
import type { Engines } from './engines.js';

/** What it asks of its runtime. */
export interface OperatedRuntime {
  stats(): {
    readonly open: number;
    readonly delayed: number;
    readonly ended: number;
    readonly waiting: number;
  };
  health(): { readonly reasons: readonly string[] };
}

export class OperatorDesk implements Control {
  readonly #engines: Engines;
  readonly #runtime: OperatedRuntime;
  readonly #stored: StoreControl;
  /** Of this process, where the store tells of none. */
  readonly #self: Pick<NodeOverview, 'node' | 'host' | 'queues'>;

  constructor(
    clock: Clock,
    store: Store,
    parts: {
      readonly engines: Engines;
      readonly runtime: OperatedRuntime;
      readonly self: Pick<NodeOverview, 'node' | 'host' | 'queues'>;
    },
  ) {
    this.#engines = parts.engines;
    this.#runtime = parts.runtime;
    this.#self = parts.self;
    this.#stored = new StoreControl(store, () => clock.wallMs());
  }

  list(request: ListRequest): Promise<TaskPage> {
    return this.#stored.list(request);
  }

  async inspect(id: string): Promise<TaskInspection> {
    return (await this.#find(id)).task;
  }

  async explain(id: string): Promise<Explanation> {
    const { engine, task } = await this.#find(id);
    return engine.explain(task);
  }

  async cancel(id: string, reason: string | undefined): ReturnType<Control['cancel']> {
    const { engine } = await this.#find(id);
    const { segment, index } = requireTaskId(id);
    return engine.cancel({ segment, index, task: NOT_HELD }, reason);
  }

  async redrive(ids: readonly string[]): Promise<readonly RedriveOutcome[]> {
    for (const id of ids) requireTaskId(id);
    const outcomes = new Map<string, RedriveOutcome>();
    const groups = new Map<string, { readonly engine: Engine; readonly ids: TaskId[] }>();
    for (const id of new Set(ids) as Set<TaskId>) {
      const found = await this.#engines.find(id).catch(unlessGone);
      if (found?.task.deadLetter !== true) {
        outcomes.set(id, outcomeOf(found?.task));
        continue;
      }
      // Each goes to the owner of its shard.
      const shard = `${found.task.queue}.${found.task.shard}`;
      const group = groups.get(shard);
      if (group === undefined) groups.set(shard, { engine: found.engine, ids: [id] });
      else group.ids.push(id);
    }
    const redriven = [...groups.values()].map(({ engine, ids: some }) => engine.redrive(some));
    for (const id of (await Promise.all(redriven)).flat()) outcomes.set(id, 'redriven');
    return ids.map((id) => outcomes.get(id) ?? 'gone');
  }

  async overview(): Promise<Overview> {
    const stored = await this.#stored.overview();
    const { open, delayed, ended, waiting } = this.#runtime.stats();
    const { reasons } = this.#runtime.health();
    // A store that nobody shares has no members.
    const { room: _, endedPerSecond: __, ...load } = this.#engines.stored.load;
    const own: NodeOverview = { ...this.#self, ...load, open, shards: 1 };
    return {
      ...stored,
      nodes: stored.nodes.length === 0 ? [own] : stored.nodes,
      self: { delayed, ended, waiting, reasons },
    };
  }

  #find(id: string) {
    requireTaskId(id);
    return this.#engines.find(id as TaskId);
  }
}

function unlessGone(cause: unknown): undefined {
  if (!hasCode(cause, 'ERR_MILLRACE_TASK_GONE')) throw cause;
}

/** Of what is no dead letter. */
function outcomeOf(task: TaskInspection | undefined): RedriveOutcome {
  if (task === undefined) return 'gone';
  return task.status === 'pending' || task.status === 'running' ? 'open' : 'ended';
}
