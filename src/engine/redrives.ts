/**
 * Redrives: dead letters that run again, under the same id, in another version.
 *
 * A task's id says where it is: so it comes back to its place. Where its segment still is in the table, since others of it are
 * open, the task moves FAILED -> PENDING there. Where the segment is gone, it is put anew, under the old name, with all of
 * its dead letters, each at its index; what stands between them is filling, and the overlay says that everything has ended.
 *
 *   one commit     put t/<segment>, if it was gone     put s/<segment>: PENDING, version + 1     delete d/<task>
 *
 * All three in one, by the owner of the shard alone, and decided while no commit is under way: so a task is either a dead letter
 * or open, never both and never neither; whoever asks twice is told that it is open. Attempts and losses begin anew, and a
 * ttl is over: it was for the first start.
 */
import { setMaxListeners } from 'node:events';
import { type Clock, type Instant, instantOf } from '../core/clock.js';
import { FrameKind, FrameWriter } from '../core/frame.js';
import { requireTaskId, type SegmentRef, type TaskId } from '../core/ids.js';
import { writeState, writeTask } from '../core/records.js';
import { TaskState } from '../core/states.js';
import type { Operation, Revision, Store } from '../core/store.js';
import { unlessAborted } from '../core/unless-aborted.js';
import type { SegmentHandle, TaskTable } from '../timing/task-table.js';
import { decodeDeadLetter, type StoredDeadLetter } from './dead-letters.js';
import { deadLetterKey, deadLettersOf, segmentKey } from './keys.js';
import type { SegmentAdditions } from './segment-additions.js';
import { storedSegment } from './stored-task.js';

/** One commit takes so many, so that there is room for the rest. */
const PER_COMMIT_MAX = 16;
const BYTES_PER_COMMIT_MAX = 262_144;
const KEY_BYTES = 64;

/** `gone`: no dead letter; `open`: it waits or runs already; `moved`: its shard is somebody else's by now. */
export type RedriveAnswer = 'redriven' | 'open' | 'gone' | 'moved';

export interface RedrivePorts {
  readonly clock: Clock;
  readonly store: Store;
  readonly table: TaskTable;
  readonly additions: SegmentAdditions;
  /** The ownership under which something may be begun in the shard that a segment is in; undefined: nothing may. */
  epochOf(segment: SegmentRef): Revision | undefined;
  /** A segment that was put anew is in the table, held: it is this node's, and to be started. */
  adopt(segment: SegmentHandle, ref: SegmentRef): void;
  /** One more task is open, of so many bytes. */
  onOpened(payloadBytes: number): void;
  /** So many of a segment run again, durably. */
  onRedriven(segment: SegmentRef, tasks: number): void;
  /** There is something to write. */
  onChanged(): void;
}

interface Wanted {
  readonly id: TaskId;
  /** All dead letters of its segment, as they were just read. */
  readonly letters: readonly StoredDeadLetter[];
  /** Whether the store had the segment just before. */
  readonly isStored: boolean;
  /** How many segments had come back here before it was read. */
  readonly readAfter: number;
  /** The ownership of its shard under which it was read. */
  readonly epoch: Revision;
  readonly answer: (answer: RedriveAnswer | 'again') => void;
}

export class Redrives {
  readonly #ports: RedrivePorts;
  readonly #wanted: Wanted[] = [];
  /** Of each that comes back with the next commit, or the one under way: whoever else asked for it. */
  readonly #joined = new Map<TaskId, Wanted['answer'][]>();
  /** Written and not told of: how many, by segment. */
  readonly #redriven = new Map<SegmentRef, number>();
  /** Segments that have come back, each by its number: what was read before is not so any more. Kept while anybody asks. */
  readonly #back = new Map<SegmentRef, number>();
  #backCount = 0;
  #askingCount = 0;
  readonly #closing = new AbortController();

  constructor(ports: RedrivePorts) {
    this.#ports = ports;
    // Every redrive that reads listens: that is no leak.
    setMaxListeners(0, this.#closing.signal);
  }

  /**
   * Makes a dead letter of a shard of ours run again. Resolves when that is durable, or cannot be.
   *
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE; nothing has changed then
   */
  async redrive(id: TaskId): Promise<RedriveAnswer> {
    this.#askingCount++;
    try {
      return await this.#redrive(id);
    } finally {
      if (--this.#askingCount === 0) this.#back.clear();
    }
  }

  async #redrive(id: TaskId): Promise<RedriveAnswer> {
    const { store, epochOf, onChanged } = this.#ports;
    const { segment } = requireTaskId(id);
    const { signal } = this.#closing;
    for (;;) {
      const epoch = epochOf(segment);
      const readAfter = this.#backCount;
      const read = await unlessAborted(readLetters(store, segment), signal).catch((error) => {
        if (!signal.aborted) throw error;
      });
      // A store that has gone silent is not waited for.
      if (read === undefined) return 'moved';
      const { letters, isStored } = read;
      if (!letters.some((letter) => letter.id === id)) return 'gone';
      if (epoch === undefined) return 'moved';
      const answer = await new Promise<RedriveAnswer | 'again'>((resolve) => {
        this.#wanted.push({ id, letters, isStored, readAfter, epoch, answer: resolve });
        onChanged();
      });
      if (answer !== 'again') return answer;
    }
  }

  /** Brings back what is wanted, as far as one commit goes. REQUIRES: no commit is under way. */
  beforeCut(): void {
    const { additions } = this.#ports;
    while (this.#wanted.length > 0 && additions.hasRoom) {
      if (additions.operations >= PER_COMMIT_MAX || additions.bytes >= BYTES_PER_COMMIT_MAX) return;
      this.#bringBack(this.#wanted.shift()!);
    }
  }

  /** Tells of what has been written. */
  onWritten(): void {
    const { onRedriven, onChanged } = this.#ports;
    for (const [ref, tasks] of this.#redriven) onRedriven(ref, tasks);
    this.#redriven.clear();
    if (this.#wanted.length > 0) onChanged();
  }

  /** Nothing is written any more. */
  close(): void {
    this.#closing.abort();
    for (const { answer } of this.#wanted.splice(0)) answer('moved');
  }

  #bringBack({ id, letters, isStored, readAfter, epoch, answer }: Wanted): void {
    const { table, epochOf } = this.#ports;
    const { segment: ref, index } = requireTaskId(id);
    const epochNow = epochOf(ref);
    if (epochNow === undefined) return answer('moved');
    // Whoever had the shard meanwhile may have let some of them run, to another end.
    if (epochNow !== epoch) return answer('again');
    const joined = this.#joined.get(id);
    // It is open in memory only: who hears so has to be right after a crash.
    if (joined !== undefined) return void joined.push(answer);
    let segment = table.findSegment(ref);
    let put: Operation | undefined;
    if (segment === 0) {
      // It was written or let go of while we looked; or it has come back since, and is gone once more.
      if (isStored || (this.#back.get(ref) ?? 0) > readAfter) return answer('again');
      const frame = segmentOf(letters);
      segment = this.#takeIn(frame, ref, letters);
      put = { type: 'put', key: segmentKey(ref), value: frame };
    }
    const task = table.taskAt(segment, index);
    const info = table.inspect(task);
    if (info === undefined) return answer('again');
    if (!table.redrive(task, instantOf(this.#ports.clock))) {
      // One that has ended otherwise since the letter was read is none any more.
      return answer(info.isSettled ? 'again' : 'open');
    }
    this.#ports.onOpened(info.payloadBytes);
    const operations: Operation[] = [{ type: 'delete', key: deadLetterKey(id) }];
    if (put !== undefined) operations.push(put);
    const answers = [answer];
    this.#joined.set(id, answers);
    this.#ports.additions.add(segment, {
      operations,
      bytes: KEY_BYTES + (put?.type === 'put' ? put.value.length : 0),
      settle: (outcome) => {
        if (outcome === 'written') this.#redriven.set(ref, (this.#redriven.get(ref) ?? 0) + 1);
        this.#joined.delete(id);
        for (const tell of answers) tell(outcome === 'written' ? 'redriven' : 'moved');
      },
    });
  }

  /** A segment of which everything has ended, into the table. */
  #takeIn(frame: Uint8Array, ref: SegmentRef, letters: readonly StoredDeadLetter[]): SegmentHandle {
    const { table } = this.#ports;
    const segment = table.ingest(frame, ref, instantOf(this.#ports.clock), { hold: true });
    table.applyOverlay(segment, endedOverlay(letters, instantOf(this.#ports.clock)));
    this.#ports.adopt(segment, ref);
    this.#back.set(ref, ++this.#backCount);
    return segment;
  }
}

/**
 * Whether the store has a segment, and then all its dead letters: of one that was gone all tasks had ended by then, so that no
 * letter is missing.
 */
async function readLetters(store: Store, segment: SegmentRef) {
  const isStored = (await storedSegment(store, segment)) !== undefined;
  const { entries } = await store.range(deadLettersOf(segment));
  return { letters: entries.flatMap((entry) => decodeDeadLetter(entry) ?? []), isStored };
}

/** Dead letters at their indexes, with filling between them. */
function segmentOf(letters: readonly StoredDeadLetter[]): Uint8Array<ArrayBuffer> {
  const byIndex = new Map(letters.map(({ id, task }) => [requireTaskId(id).index, task]));
  const count = Math.max(...byIndex.keys()) + 1;
  const writer = new FrameWriter(FrameKind.TASKS, { records: count });
  const filling = { ...letters[0]!.task, payload: '', payloadBytes: 0, metadata: undefined };
  for (let index = 0; index < count; index++) {
    const task = byIndex.get(index);
    const metadata = task === undefined || task.metadata.length === 0 ? undefined : task.metadata;
    writeTask(
      writer,
      task === undefined ? filling : { ...task, payloadBytes: task.payload.length, metadata },
    );
  }
  return writer.finish();
}

function endedOverlay(
  letters: readonly StoredDeadLetter[],
  { wallMs }: Instant,
): Uint8Array<ArrayBuffer> {
  const dead = new Set(letters.map(({ id }) => requireTaskId(id).index));
  const count = Math.max(...dead) + 1;
  const writer = new FrameWriter(FrameKind.STATES, { records: count });
  for (let index = 0; index < count; index++) {
    writeState(writer, {
      index,
      state: dead.has(index) ? TaskState.FAILED : TaskState.COMPLETED,
      attempt: 0,
      losses: 0,
      dueAtMs: wallMs,
      atMs: wallMs,
      executor: '',
      version: 0,
      bytes: new Uint8Array(),
    });
  }
  return writer.finish();
}
