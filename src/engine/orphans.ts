/**
 * Orphans: executions here whose tasks are other nodes' by now, because their shard has gone. They go on, and what they come to is
 * reported to the new owner. It asks for them too, by probes: what this node knows nothing of is lost.
 *
 * An orphan is one until its report is durable: so long nobody is told that it is lost.
 */
import { utf8 } from '../core/frame.js';
import type { Incarnation, TaskId } from '../core/ids.js';
import { isEnded, TaskState } from '../core/states.js';
import type { SegmentHandle, TaskHandle, TaskTable } from '../timing/task-table.js';
import { type ExecutionRef, executionOf, nameOfExecution } from './execution-ref.js';
import { placeOfTask, type Report, reportOfEnd } from './letters.js';
import type { RemoteEnds } from './remote-ends.js';
import type { Shards } from './shards.js';

export interface OrphanPorts {
  readonly table: TaskTable;
  readonly incarnation: Incarnation;
  readonly shards: Pick<Shards, 'untilOver'>;
  readonly remote: RemoteEnds;
  /** Aborted when no commit comes any more. */
  readonly closing: AbortSignal;
  /** Aborts the signal of an execution here. */
  abort(task: TaskHandle, reason: string): void;
  /** There is something to write. */
  onChanged(): void;
}

export class Orphans {
  readonly #ports: OrphanPorts;
  /** By execution. */
  readonly #tasks = new Map<string, TaskHandle>();

  constructor(ports: OrphanPorts) {
    this.#ports = ports;
  }

  /** An execution here has become one. */
  add(task: TaskHandle): void {
    this.#tasks.set(nameOfExecution(executionOf(this.#ports.table, task)), task);
  }

  /** Sends on what one came to. */
  report(task: TaskHandle, report: Report): void {
    this.#send(task, report);
    this.#ports.table.forget(task);
    this.#ports.onChanged();
  }

  /** What ran here to its end, in a shard that was lost before that could be written, is for the next owner to record. */
  reportUnwritten(segment: SegmentHandle): void {
    const { table, incarnation } = this.#ports;
    const info = table.segmentInfo(segment);
    if (info?.isDirty !== true) return;
    for (let index = 0; index < info.tasks; index++) {
      const task = table.taskAt(segment, index);
      const state = table.inspect(task)?.state ?? TaskState.PENDING;
      if (!isEnded(state) || table.executorOf(task) !== incarnation) continue;
      const report = reportOfEnd({ state, json: utf8(table.endOf(task)!) });
      if (report !== undefined) this.#send(task, report);
    }
  }

  /** The owner of a task asks it to end. */
  abort(id: TaskId, reason: string): void {
    for (const [name, orphan] of this.#tasks) {
      if (name.startsWith(`${id}:`)) this.#ports.abort(orphan, reason);
    }
  }

  /** Somebody takes this execution to be ours. */
  async onProbe(execution: ExecutionRef): Promise<void> {
    const { shards, remote, closing, onChanged } = this.#ports;
    // We may not have let go of the shard yet; then it becomes an orphan in a moment.
    await shards.untilOver(placeOfTask(execution.task));
    if (closing.aborted || this.#tasks.has(nameOfExecution(execution))) return;
    remote.report({
      ...execution,
      report: { kind: 'lost', death: { reason: 'exit', begun: 1 } },
      onSent: () => {},
    });
    onChanged();
  }

  #send(task: TaskHandle, report: Report): void {
    const { table, remote } = this.#ports;
    const execution = executionOf(table, task);
    const name = nameOfExecution(execution);
    this.#tasks.set(name, task);
    remote.report({ ...execution, report, onSent: () => this.#tasks.delete(name) });
  }
}
