/**
 * SharedCuts: what commits stand on where nodes share the store, and who hears of letters and of broken guards.
 */
import type { SegmentRef } from '../core/ids.js';
import type { LeaseId } from '../core/store.js';
import type { SegmentHandle, TaskTable } from '../timing/task-table.js';
import type { Cluster } from './cluster.js';
import type { AnyGuard, Guard, ModGuard } from './commit-lane.js';
import type { SharedContext } from './cut.js';
import type { Letter } from './outbox.js';
import type { Pauses } from './pauses.js';

export interface SharedCutParts {
  readonly cluster: Cluster;
  readonly pauses: Pauses;
  readonly table: TaskTable;
}

export class SharedCuts implements SharedContext {
  readonly #parts: SharedCutParts;

  constructor(parts: SharedCutParts) {
    this.#parts = parts;
  }

  get mayStart(): boolean {
    return this.#parts.cluster.mayStart && this.#parts.pauses.isKnown;
  }

  get leaseId(): LeaseId | undefined {
    return this.#parts.cluster.leaseId;
  }

  get pauses(): ModGuard {
    return this.#parts.pauses.guard!;
  }

  guardsOf(segment: SegmentHandle): readonly Guard[] {
    return this.#parts.cluster.shards.guardsOf(segment);
  }

  keyOf(segment: SegmentHandle, ref: SegmentRef): string {
    return this.#parts.cluster.shards.keyOf(segment, ref);
  }

  takeLetters(fits: (letter: Letter) => boolean): readonly Letter[] {
    return this.#parts.cluster.outbox.take(this.#parts.table, fits);
  }

  onLettersSent(letters: readonly Letter[]): void {
    this.#parts.cluster.outbox.sent(letters);
  }

  onLettersFailed(letters: readonly Letter[]): void {
    this.#parts.cluster.outbox.putBack(letters);
  }

  onDropped(segment: SegmentHandle): void {
    this.#parts.cluster.shards.dropped(segment);
  }

  onBroken(broken: readonly AnyGuard[]): void {
    const { pauses, cluster } = this.#parts;
    if (broken.some((guard) => 'modRevision' in guard)) pauses.onBroken();
    cluster.onBroken(broken.filter((guard) => 'createRevision' in guard));
  }
}
