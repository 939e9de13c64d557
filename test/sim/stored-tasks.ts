/**
 * What the oracle knows of tasks: each as the store has it, with everything that ran of it.
 */
import type { SegmentRef, TaskId } from '../../src/core/ids.js';
import type { StateRecord } from '../../src/core/records.js';
import { type Outcome, TaskState } from '../../src/core/states.js';
import type { Revision } from '../../src/core/store.js';
import type { SimNode } from './sim-node.js';

/** One task of the store. */
export interface StoredTask {
  readonly id: TaskId;
  readonly label: number;
  readonly key: string | undefined;
  /** Under which its segment was put; undefined in an inbox, and where there is only one. */
  readonly epoch: Revision | undefined;
  readonly isInbox: boolean;
  state: TaskState;
  attempt: number;
  losses: number;
  /** Times redriven. */
  version: number;
  executor: string;
  /** What the store said of it at each revision at which it said that it runs. */
  readonly claims: Map<number, Claim>;
  /** Of all versions. */
  readonly runs: Run[];
  /** Of its version now. */
  end: End | undefined;
  /** Of the versions before, in order. */
  readonly earlierEnds: End[];
}

export interface End {
  readonly state: TaskState;
  readonly json: string;
}

export interface Claim
  extends Pick<StateRecord, 'executor' | 'attempt' | 'losses' | 'dueAtMs' | 'version'> {
  /** Of the shard, for whoever claimed. */
  readonly epoch: Revision | undefined;
  /** The membership of whoever claimed. */
  readonly session: Revision | undefined;
}

export interface Run {
  readonly number: number;
  readonly node: SimNode;
  readonly task: StoredTask;
  readonly token: number;
  readonly attempt: number;
  /** Of the task before it: a loss gives the attempt back, so only both name the execution. */
  readonly losses: number;
  readonly version: number;
  readonly epoch: Revision | undefined;
  /** The membership of its node when it was claimed. */
  readonly session: Revision | undefined;
  outcome?: Outcome | 'lost';
  endedAtMonoMs: number;
}

export class StoredTasks {
  readonly #byId = new Map<TaskId, StoredTask>();
  readonly #byLabel = new Map<number, StoredTask>();
  readonly #byKey = new Map<string, StoredTask>();
  /** Of segments that were ever put; by index. */
  readonly #segments = new Map<SegmentRef, readonly StoredTask[]>();
  readonly #inStore = new Set<SegmentRef>();
  #openCount = 0;

  /** Those that have not ended. */
  get openCount(): number {
    return this.#openCount;
  }

  get(id: TaskId): StoredTask | undefined {
    return this.#byId.get(id);
  }

  /** What a submission has become; of a cron entry the newest fire. */
  ofLabel(label: number): StoredTask | undefined {
    return this.#byLabel.get(label);
  }

  ofKey(key: string): StoredTask | undefined {
    return this.#byKey.get(key);
  }

  all(): Iterable<StoredTask> {
    return this.#byId.values();
  }

  *open(): Generator<StoredTask, void, undefined> {
    for (const task of this.#byId.values()) if (task.end === undefined) yield task;
  }

  /** By index; undefined: there was never such a segment. */
  tasksOf(ref: SegmentRef): readonly StoredTask[] | undefined {
    return this.#segments.get(ref);
  }

  isInStore(ref: SegmentRef): boolean {
    return this.#inStore.has(ref);
  }

  segmentPut(ref: SegmentRef, tasks: readonly StoredTask[]): void {
    this.#segments.set(ref, tasks);
    this.#inStore.add(ref);
  }

  segmentDeleted(ref: SegmentRef): void {
    this.#inStore.delete(ref);
  }

  add(
    given: Pick<StoredTask, 'id' | 'label' | 'key' | 'epoch' | 'isInbox' | 'attempt' | 'losses'>,
  ): StoredTask {
    const task: StoredTask = {
      ...given,
      state: TaskState.PENDING,
      version: 0,
      executor: '',
      claims: new Map(),
      runs: [],
      end: undefined,
      earlierEnds: [],
    };
    this.#byId.set(task.id, task);
    this.#byLabel.set(task.label, task);
    if (task.key !== undefined) this.#byKey.set(task.key, task);
    this.#openCount++;
    return task;
  }

  ended(task: StoredTask, end: End): void {
    task.end = end;
    this.#openCount--;
  }

  /** It runs again, as if it never had. */
  redriven(task: StoredTask): void {
    task.earlierEnds.push(task.end!);
    task.end = undefined;
    task.version++;
    task.state = TaskState.PENDING;
    task.attempt = 0;
    task.losses = 0;
    task.executor = '';
    this.#openCount++;
  }
}

/** The execution with the highest token, of the task's version now. */
export function lastRun(task: StoredTask): Run | undefined {
  let last: Run | undefined;
  for (const run of task.runs) {
    if (run.version === task.version && (last === undefined || run.token > last.token)) last = run;
  }
  return last;
}

/** Of the last claim that the store has seen, as a revision; 0: none. */
export function newestClaim({ claims }: StoredTask): number {
  return Math.max(0, ...claims.keys());
}

/** What it ended with in a version, or any later one. */
export function endsSince(task: StoredTask | undefined, version: number): End[] {
  if (task === undefined) return [];
  const ends = task.earlierEnds.slice(version);
  return task.end === undefined ? ends : [...ends, task.end];
}
