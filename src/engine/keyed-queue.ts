/**
 * KeyedQueue: submissions with idempotency keys, until a cut takes them.
 *
 * Those that may share a segment wait together, and go together as far as there is room. One that is there already refuses the others:
 * they come again, and the third time alone. Of those with one key the first goes, and the others join it: they hear what it hears.
 */
import { Fifo } from '../core/fifo.js';
import { type KeyedTask, keyedBytes, keyedIn } from './keyed.js';
import { recordBytes, type Submission } from './submission.js';

/** In one segment. Twice as many cost the store the same for each, a half 6 % more. */
const TOGETHER_MAX = 16;
/** So often one goes with others, which may be there already. */
const ROUNDS_TOGETHER = 2;

/** What a segment may have. */
export interface SegmentLimits {
  readonly tasksMax: number;
  /** A single task may have more. */
  readonly bytesMax: number;
}

/** What there is in a commit for a segment that goes as a nested transaction. */
export interface NestedRoom {
  readonly bytesMax: number;
  /** In one list of the nested transaction. */
  readonly operationsMax: number;
}

export class KeyedQueue {
  readonly #limits: SegmentLimits;
  /** By queue and class of due time, like open frames. */
  readonly #waiting = new Map<string, Fifo<Submission>>();
  /** By scope and key: of those in the lane, what came later. */
  readonly #joined = new Map<string, Submission[]>();

  constructor(limits: SegmentLimits) {
    this.#limits = limits;
  }

  /** Whether none waits. */
  get isEmpty(): boolean {
    return this.#waiting.size === 0;
  }

  /** @param frameKey - those with the same may share a segment */
  add(submission: Submission, frameKey: string): void {
    const joinKey = joinKeyOf(submission);
    const joined = this.#joined.get(joinKey);
    if (joined !== undefined) {
      joined.push(submission);
      return;
    }
    this.#joined.set(joinKey, []);
    this.again(submission, frameKey);
  }

  /** One that was taken waits once more. What joined it has joined it still. */
  again(submission: Submission, frameKey: string): void {
    let waiting = this.#waiting.get(frameKey);
    if (waiting === undefined) {
      waiting = new Fifo<Submission>();
      this.#waiting.set(frameKey, waiting);
    }
    waiting.push(submission);
  }

  /** The next ones that share a segment; none when nothing waits that fits. */
  take(room: NestedRoom): Submission[] {
    const [next] = this.#waiting;
    if (next === undefined) return [];
    const [frameKey, waiting] = next;
    const submissions = this.#takeTogether(waiting, room);
    if (submissions.length === 0) return submissions;
    // Others have their turn.
    this.#waiting.delete(frameKey);
    if (waiting.length > 0) this.#waiting.set(frameKey, waiting);
    return submissions;
  }

  /** One has its answer; these hear the same. */
  takeJoined(first: Submission): readonly Submission[] {
    const joinKey = joinKeyOf(first);
    const joined = this.#joined.get(joinKey) ?? [];
    this.#joined.delete(joinKey);
    return joined;
  }

  /** All that wait, without what joined them. */
  takeAll(): Submission[] {
    const all = [...this.#waiting.values()].flatMap((waiting) => waiting.takeAll());
    this.#waiting.clear();
    return all;
  }

  #takeTogether(waiting: Fifo<Submission>, { bytesMax, operationsMax }: NestedRoom): Submission[] {
    const tasksMax = Math.min(TOGETHER_MAX, this.#limits.tasksMax, keyedIn(operationsMax));
    const submissions: Submission[] = [];
    let bytes = 0;
    for (let next = waiting.peek(); next !== undefined; next = waiting.peek()) {
      const isFirst = submissions.length === 0;
      const isAlone = next.rounds >= ROUNDS_TOGETHER;
      bytes += recordBytes(next.task) + keyedBytes(keyedTask(next));
      if (submissions.length >= tasksMax || bytes > bytesMax) break;
      if (!isFirst && (isAlone || bytes > this.#limits.bytesMax)) break;
      submissions.push(waiting.shift()!);
      if (isAlone) break;
    }
    return submissions;
  }
}

/** REQUIRES: it has a key. */
export function keyedTask({ task }: Submission): KeyedTask {
  return { type: task.type, key: task.idempotencyKey! };
}

function joinKeyOf({ task }: Submission): string {
  return `${task.type}\n${task.idempotencyKey}`;
}
