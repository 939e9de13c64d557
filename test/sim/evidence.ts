/**
 * What the parts of the oracle share: what is known of tasks, executions and submissions, and how a violation is told.
 */
import { utf8 } from '../../src/core/frame.js';
import type { SegmentRef, TaskId } from '../../src/core/ids.js';
import type { Revision, Txn } from '../../src/core/store.js';
import type { Law } from './law.js';
import type { PlannedTask, TypeName } from './plan.js';
import type { SimNode } from './sim-node.js';
import { type Run, StoredTasks } from './stored-tasks.js';

const VIOLATIONS_MAX = 20;

/** What a submitter was told. */
export interface Submission {
  readonly task: PlannedTask;
  readonly node: SimNode;
  readonly dueMonoMs: number;
  readonly submittedMonoMs: number;
  answer: 'none' | 'accepted' | 'refused' | 'unclear';
  /** Of the task that stands for it. */
  id?: TaskId;
}

/** A transaction, and whose it was. */
export interface AppliedBy {
  readonly node: SimNode;
  readonly revision: Revision;
  readonly txn: Txn;
}

/** What of the plan changes what may be expected. */
export interface Circumstances {
  /** Wall clocks jump: then keys may have left their window, and due times of the wall mean little. */
  readonly hasJumps: boolean;
  /** Processes stand still for a while: then nothing is answered in time. */
  readonly hasPauses: boolean;
  /** Wall clocks may jump further than ended tasks are kept. */
  readonly mayForget: boolean;
}

export class Evidence {
  readonly violations: string[] = [];
  /** What happened how often: proves that a run tested something. */
  readonly seen = new Map<string, number>();
  readonly tasks = new StoredTasks();
  /** By label. */
  readonly submissions = new Map<number, Submission>();
  /** By number. */
  readonly runs: Run[] = [];
  /** In which version each dead letter in the store has failed. */
  readonly letters = new Map<TaskId, number>();
  /** Types that rest, by the store. */
  resting: ReadonlySet<TypeName> = new Set();
  readonly law: Law;
  readonly trace: (line: string) => void;
  readonly circumstances: Circumstances;
  readonly #firedBy: (label: number) => PlannedTask | undefined;

  /** @param firedBy - what the fires of a cron entry do */
  constructor(
    trace: (line: string) => void,
    law: Law,
    circumstances: Circumstances,
    firedBy: (label: number) => PlannedTask | undefined,
  ) {
    this.trace = trace;
    this.law = law;
    this.circumstances = circumstances;
    this.#firedBy = firedBy;
  }

  count(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
  }

  readonly violate = (rule: string, what: string): void => {
    const line = `${rule}: ${what}`;
    this.trace(`VIOLATION ${line}`);
    if (this.violations.length < VIOLATIONS_MAX) this.violations.push(line);
  };

  plannedOf(label: number): PlannedTask {
    return this.submissions.get(label)?.task ?? this.#firedBy(label)!;
  }

  /** How often a task has been redriven. */
  versionOf(id: TaskId): number {
    return this.tasks.get(id)?.version ?? 0;
  }
}

/** `<kind>/<queue>/<shard>/<due>/<seg>` */
export function refOf(key: string): SegmentRef {
  return key.slice(2).replaceAll('/', '.') as SegmentRef;
}

export function labelIn(payload: Uint8Array): number {
  return (JSON.parse(utf8(payload)) as { readonly label: number }).label;
}

/** Keys of different types do not meet. */
export function keyOf({ type, key }: PlannedTask): string | undefined {
  return key && `${type} ${key}`;
}
