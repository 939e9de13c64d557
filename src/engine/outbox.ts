/**
 * Operations of a commit beside tasks: commands and mail on their way out, and those that are dealt with to be deleted.
 *
 * They go in the order in which they were posted, as far as each may: what deletes a command waits until the state
 * that the command led to is written, in the same commit at the latest; else a crash between the two would lose it.
 */
import type { MillraceError } from '../core/errors.js';
import type { Key } from '../core/store.js';
import type { SegmentHandle, TaskTable } from '../timing/task-table.js';
import type { Shard } from './shard.js';

export interface Letter {
  readonly key: Key;
  /** Undefined: the key is deleted. */
  readonly value: Uint8Array | undefined;
  /** Only as long as this shard is ours; it is dropped with the shard. */
  readonly shard?: Shard;
  /** What these segments have to say goes first. */
  readonly after?: readonly SegmentHandle[];
  /** It is durable. */
  readonly onSent?: () => void;
  /** It will never be. */
  readonly onDropped?: (cause: MillraceError) => void;
}

export class Outbox {
  #letters: Letter[] = [];
  /** Keys whose deletion was posted and is not durable: a key may be read twice, and is deleted once. */
  readonly #deleting = new Set<Key>();

  get isEmpty(): boolean {
    return this.#letters.length === 0;
  }

  post(letter: Letter): void {
    if (letter.value === undefined) {
      if (this.#deleting.has(letter.key)) return;
      this.#deleting.add(letter.key);
    }
    this.#letters.push(letter);
  }

  /** Whether a key is about to be deleted: what it says has been dealt with. */
  isDeleting(key: Key): boolean {
    return this.#deleting.has(key);
  }

  /** They are durable. */
  sent(letters: readonly Letter[]): void {
    for (const { key, value, onSent } of letters) {
      if (value === undefined) this.#deleting.delete(key);
      onSent?.();
    }
  }

  /** Whether anything is left to do for a shard. */
  hasOf(shard: Shard): boolean {
    return this.#letters.some((letter) => letter.shard === shard);
  }

  /**
   * Takes letters that may go now.
   *
   * @param fits - asked for each in turn; the first that does not fit ends it
   */
  take(table: TaskTable, fits: (letter: Letter) => boolean): Letter[] {
    const taken: Letter[] = [];
    const kept: Letter[] = [];
    let isFull = false;
    for (const letter of this.#letters) {
      const mayGo: boolean = !isFull && !isWaiting(letter, table);
      if (mayGo && fits(letter)) taken.push(letter);
      else {
        isFull ||= mayGo;
        kept.push(letter);
      }
    }
    this.#letters = kept;
    return taken;
  }

  /** They were not sent after all; they go first next time. */
  putBack(letters: readonly Letter[]): void {
    this.#letters = [...letters, ...this.#letters];
  }

  /** The shard is not ours any more: its commands are for the next owner. */
  dropOf(shard: Shard): void {
    for (const letter of this.#letters) {
      if (letter.shard === shard) this.#deleting.delete(letter.key);
    }
    this.#letters = this.#letters.filter((letter) => letter.shard !== shard);
  }

  /** Nothing is sent any more. */
  dropAll(cause: MillraceError): void {
    for (const letter of this.#letters.splice(0)) letter.onDropped?.(cause);
  }
}

function isWaiting({ after = [] }: Letter, table: TaskTable): boolean {
  return after.some((segment) => table.segmentInfo(segment)?.isDirty === true);
}
