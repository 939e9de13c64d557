/**
 * Reschedules: pending tasks that shall be due at another time, under the same id.
 *
 * The task stays in its segment, and the overlay says when it is due. That is all where the segment is in the table. One beyond
 * the horizon is found by the due time in its name (far-segments.ts), so a task in it that becomes due earlier leaves a note,
 * written with the overlay, of when its segment is to be loaded:
 *
 *   one commit     put s/<segment>: PENDING, due then     put f/<queue>/<shard>/<due>/<segment>, if that is before its name
 *
 * Whether a task still waits is decided in the table, by the owner of its shard alone: whoever claims it first has it.
 */
import { type Clock, instantOf } from '../core/clock.js';
import { requireTaskId, type SegmentRef, segmentDueAtMs, type TaskId } from '../core/ids.js';
import type { Operation } from '../core/store.js';
import type { TaskTable } from '../timing/task-table.js';
import type { FarSegments } from './far-segments.js';
import { earlyKey } from './keys.js';
import type { SegmentAdditions } from './segment-additions.js';

/** When a task is to be due. */
export interface NewDue {
  /** Epoch ms. */
  readonly dueAtMs: number;
  /** Whether that is a moment of the wall clock, and not the end of a delay. */
  readonly isByDate: boolean;
}

/**
 * `running`, `ended`: it waits no more; `gone`: this node does not hold it; `moved`: its shard is somebody else's by now.
 */
export type RescheduleAnswer = 'rescheduled' | 'running' | 'ended' | 'gone' | 'moved';

export interface ReschedulePorts {
  readonly clock: Clock;
  readonly table: TaskTable;
  readonly additions: SegmentAdditions;
  /** Whether something new may be begun in the shard that a segment is in. */
  mayBeginIn(segment: SegmentRef): boolean;
  /** Where a segment of ours may be beyond the horizon. */
  farOf(segment: SegmentRef): FarSegments | undefined;
  /** Tasks of a segment in the table wait for moments of the wall clock. */
  onDated(segment: SegmentRef): void;
  /** There is something to write, and perhaps to wait for or to claim. */
  onChanged(): void;
}

interface Wanted {
  readonly id: TaskId;
  readonly due: NewDue;
  readonly answer: (answer: RescheduleAnswer) => void;
}

/** One commit takes so many, so that there is room for the rest. */
const PER_COMMIT_MAX = 32;
const KEY_BYTES = 128;

export class Reschedules {
  readonly #ports: ReschedulePorts;
  readonly #wanted: Wanted[] = [];
  #isClosed = false;

  constructor(ports: ReschedulePorts) {
    this.#ports = ports;
  }

  /** Of a task that this node holds. Resolves when it is durable, or cannot be. */
  reschedule(id: TaskId, due: NewDue): Promise<RescheduleAnswer> {
    if (this.#isClosed) return Promise.resolve('moved');
    return new Promise((resolve) => {
      this.#wanted.push({ id, due, answer: resolve });
      this.#ports.onChanged();
    });
  }

  /** Changes what is wanted, as far as one commit goes. REQUIRES: no commit is under way. */
  beforeCut(): void {
    for (let left = PER_COMMIT_MAX; left > 0 && this.#wanted.length > 0; left--) {
      if (!this.#ports.additions.hasRoom) return;
      this.#change(this.#wanted.shift()!);
    }
  }

  /** Some have been written. */
  onWritten(): void {
    if (this.#wanted.length > 0) this.#ports.onChanged();
  }

  /** Nothing is written any more. */
  close(): void {
    this.#isClosed = true;
    for (const { answer } of this.#wanted.splice(0)) answer('moved');
  }

  #change({ id, due, answer }: Wanted): void {
    const { clock, table, additions, mayBeginIn, onDated } = this.#ports;
    const { segment: ref, index } = requireTaskId(id);
    if (!mayBeginIn(ref)) return answer('moved');
    const segment = table.findSegment(ref);
    const now = instantOf(clock);
    const { dueAtMs, isByDate } = due;
    const monoMs = now.monoMs + (dueAtMs - now.wallMs);
    const done = table.reschedule(
      table.taskAt(segment, index),
      { wallMs: dueAtMs, monoMs, isByDate },
      now,
    );
    if (done !== 'rescheduled') return answer(done);
    if (isByDate) onDated(ref);
    const far = dueAtMs < segmentDueAtMs(ref) ? this.#ports.farOf(ref) : undefined;
    const note: Operation[] =
      far?.isFar(ref) === true
        ? [{ type: 'put', key: earlyKey(ref, dueAtMs), value: Buffer.from(ref) }]
        : [];
    additions.add(segment, {
      operations: note,
      bytes: note.length * KEY_BYTES,
      settle: (outcome) => {
        if (outcome === 'written' && note.length > 0) far?.noteEarly(ref, dueAtMs);
        answer(outcome === 'written' ? 'rescheduled' : 'moved');
      },
    });
  }
}
