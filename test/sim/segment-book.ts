/**
 * The part of the oracle that knows segments: what is put, comes back, and is deleted.
 *
 *   S1   a segment is deleted when all of it has ended, and one that comes back has its dead letters where they were
 *   S2   what was refused is not stored, a submission is stored once, a key once, for the tenant that submitted it
 */
import { FrameKind, type FrameReader, openFrame } from '../../src/core/frame.js';
import { type SegmentRef, type TaskId, taskId } from '../../src/core/ids.js';
import { readTask } from '../../src/core/records.js';
import type { Txn } from '../../src/core/store.js';
import { type Evidence, keyOf, labelIn, refOf, type Submission } from './evidence.js';
import type { StoredTask } from './stored-tasks.js';

export class SegmentBook {
  readonly #known: Evidence;

  constructor(known: Evidence) {
    this.#known = known;
  }

  /** @returns what fires of cron entries have put */
  onPut(key: string, value: Uint8Array, txn: Txn): StoredTask[] {
    const { tasks, law, submissions, violate } = this.#known;
    const ref = refOf(key);
    const frame = openFrame(value, FrameKind.TASKS);
    const before = tasks.tasksOf(ref);
    if (before !== undefined) {
      this.#onBack(ref, before, frame);
      return [];
    }
    const isInbox = key.startsWith('i/');
    const epoch = isInbox ? undefined : law.epochOf(txn, ref);
    const stored: StoredTask[] = [];
    const fired: StoredTask[] = [];
    for (let index = 0; index < frame.count; index++) {
      const { payload, attempt, losses, tenant } = readTask(frame, index);
      const label = labelIn(payload);
      if (tenant !== this.#known.plannedOf(label).tenant) {
        violate('S2', `${label} is stored as one of '${tenant}'`);
      }
      const id = taskId(ref, index);
      const submission = submissions.get(label);
      const taskKey = submission && keyOf(submission.task);
      if (submission !== undefined) this.#mustBeNew(id, label, submission, taskKey);
      const task = tasks.add({ id, label, key: taskKey, epoch, isInbox, attempt, losses });
      stored.push(task);
      if (submission === undefined) fired.push(task);
    }
    tasks.segmentPut(ref, stored);
    return fired;
  }

  #mustBeNew(id: TaskId, label: number, { answer }: Submission, key: string | undefined): void {
    const { tasks, circumstances, violate } = this.#known;
    if (answer === 'refused') violate('S2', `${label} refused, then stored`);
    const twin = tasks.ofLabel(label);
    if (twin !== undefined) violate('S2', `${label} stored twice: ${twin.id}, ${id}`);
    const other = key === undefined ? undefined : tasks.ofKey(key);
    if (other !== undefined && !circumstances.mayForget) {
      violate('S2', `key '${key}' twice: ${other.id}, ${id}`);
    }
  }

  /** A segment whose dead letters come back: each where it was. What stands between them has ended. */
  #onBack(ref: SegmentRef, before: readonly StoredTask[], frame: FrameReader): void {
    const { tasks, letters, violate } = this.#known;
    if (tasks.isInStore(ref)) violate('S2', `segment ${ref} is put twice`);
    const back = before.slice(0, frame.count);
    for (const [index, { id, label: was }] of back.entries()) {
      if (!letters.has(id)) continue;
      const label = labelIn(readTask(frame, index).payload);
      if (label !== was) violate('S1', `${id} was ${was}, and comes back as ${label}`);
    }
    this.#known.count('segment put anew');
    tasks.segmentPut(ref, back);
  }

  onDeleted(key: string): void {
    const { tasks, violate } = this.#known;
    const ref = refOf(key);
    tasks.segmentDeleted(ref);
    for (const { id, label, end } of tasks.tasksOf(ref) ?? []) {
      if (end === undefined) violate('S1', `${id} (${label}) deleted before its end`);
    }
  }
}
