/**
 * What the next commit that writes of a segment has to write besides, and who is to hear that it has: a dead letter that comes
 * back is deleted with the overlay that says PENDING (redrives.ts), a task that is due earlier leaves a note for whoever
 * loads its shard (reschedules.ts).
 *
 * All of it goes with the next commit, or that commit could write nothing of these segments: so no more is taken in than it has
 * room for, also while commits are refused.
 */
import type { Operation } from '../core/store.js';
import type { SegmentHandle, TaskTable } from '../timing/task-table.js';

/** Of a commit's operations; each of its own lets an overlay be written as well, and what has ended is filed beside. */
const COMMIT_SHARE = 1 / 3;
/** The most that one has. */
const OPERATIONS_MAX = 2;

export interface Addition {
  /** At most two. */
  readonly operations: readonly Operation[];
  readonly bytes: number;
  /** `moved`: it was not written, and the segment is not ours any more. */
  readonly settle: (outcome: 'written' | 'moved') => void;
}

export interface AdditionPorts {
  readonly table: TaskTable;
  /** Whether what has changed in a segment is this node's to write: until it lets go of the shard. */
  stillWrites(segment: SegmentHandle): boolean;
  /** Some have been written, and are told. */
  onWritten(): void;
}

export class SegmentAdditions {
  readonly #ports: AdditionPorts;
  readonly #bySegment = new Map<SegmentHandle, Addition[]>();
  #operations = 0;
  #operationsMax = 0;
  #bytes = 0;

  constructor(ports: AdditionPorts) {
    this.#ports = ports;
  }

  /** What they add to the next commit, at most. */
  get operations(): number {
    return this.#operations;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether the next commit has room for one more. */
  get hasRoom(): boolean {
    return this.#operations + OPERATIONS_MAX <= this.#operationsMax;
  }

  /** One more. The segment has changed. REQUIRES: no commit is under way, and there is room. */
  add(segment: SegmentHandle, addition: Addition): void {
    const others = this.#bySegment.get(segment);
    if (others === undefined) this.#bySegment.set(segment, [addition]);
    else others.push(addition);
    this.#operations += addition.operations.length;
    this.#bytes += addition.bytes;
  }

  /**
   * Lets go of what is of segments that are not ours any more. A shard that is being left is still written: the overlay of a
   * segment must not go without what belongs to it. REQUIRES: no commit is under way.
   *
   * @param operationsMax - of the next commit
   */
  beforeCut(operationsMax: number): void {
    this.#operationsMax = Math.floor(operationsMax * COMMIT_SHARE);
    const { table, stillWrites } = this.#ports;
    for (const segment of this.#bySegment.keys()) {
      const ref = table.segmentRef(segment);
      const isHere = ref !== undefined && table.findSegment(ref) === segment;
      if (!(isHere && stillWrites(segment))) this.#settle(segment, 'moved');
    }
  }

  /** What goes into a commit that writes of a segment. */
  takeOperations(segment: SegmentHandle): readonly Operation[] {
    return this.#bySegment.get(segment)?.flatMap(({ operations }) => operations) ?? [];
  }

  /** A commit that wrote of these segments is done. */
  onWritten(segments: Iterable<SegmentHandle>): void {
    if (this.#bySegment.size === 0) return;
    for (const segment of segments) this.#settle(segment, 'written');
    this.#ports.onWritten();
  }

  /** Nothing is written any more. */
  close(): void {
    for (const segment of [...this.#bySegment.keys()]) this.#settle(segment, 'moved');
  }

  #settle(segment: SegmentHandle, outcome: 'written' | 'moved'): void {
    const additions = this.#bySegment.get(segment) ?? [];
    this.#bySegment.delete(segment);
    for (const { operations, bytes, settle } of additions) {
      this.#operations -= operations.length;
      this.#bytes -= bytes;
      settle(outcome);
    }
  }
}
