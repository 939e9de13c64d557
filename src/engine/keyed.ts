/**
 * Idempotency keys: same key, same task. One nested transaction creates keyed tasks that share a segment, or tells which
 * tasks have their keys already:
 *
 *   if    of no task this window, the one before or the next holds the key
 *   then  put each key -> task id, put the segment
 *   else  get each key from all three
 *
 * The next window has begun on a node whose clock is ahead, and on this one before its clock was set back. A key is thus
 * known for at least one window's width after its first use, and for at most two.
 *
 * All of a segment's tasks come into being, or none: those whose keys nobody holds are submitted again when others in the
 * segment were found. After the second time each goes alone (keyed-queue.ts), so that strangers cannot hold it up for ever. Several
 * in a segment halve what the store does for each (docs/decisions/0020-keyed-tasks-share-segments.md).
 */
import { MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { parseTaskId, type TaskId, taskId } from '../core/ids.js';
import type { Entry, Key, Operation, OperationResult, Store } from '../core/store.js';
import { type ClosedFrame, CREATED, type Decision, type Gate } from './closed-frame.js';
import { idempotencyKey, inWindows } from './keys.js';

/** Of a task: what is compared with nothing, and what is read otherwise. */
const WINDOWS = 3;
/** In compares and reads for each window, and in one put. */
const KEY_COPIES = 2 * WINDOWS + 1;
const TASK_ID_BYTES = 48;

/** Names a keyed task. */
export interface KeyedTask {
  /** Keys of different task types do not meet. */
  readonly type: string;
  readonly key: string;
}

/** What a key adds to a commit, about. */
export function keyedBytes({ type, key }: KeyedTask): number {
  return KEY_COPIES * idempotencyKey(0, type, key).length + TASK_ID_BYTES;
}

/** So many keyed tasks fit into a nested transaction of so many operations. */
export function keyedIn(operations: number): number {
  return Math.floor(operations / WINDOWS);
}

export class KeyGate implements Gate {
  readonly operations: number;
  readonly bytes: number;
  /** Of each task: this window, in which a new one is put, the one before, and the next. */
  readonly #keys: readonly (readonly [Key, Key, Key])[];

  /**
   * @param tasks - those of the frame, in its order; no two with the same name
   * @param at.nowMs - wall clock
   */
  constructor(
    tasks: readonly KeyedTask[],
    at: { readonly nowMs: number; readonly windowMs: number },
  ) {
    this.operations = WINDOWS * tasks.length;
    this.bytes = tasks.reduce((bytes, task) => bytes + keyedBytes(task), 0);
    this.#keys = tasks.map(({ type, key }) =>
      inWindows(at, (window) => idempotencyKey(window, type, key)),
    );
  }

  operation(closed: ClosedFrame): Operation {
    const all = this.#keys.flat();
    return {
      type: 'txn',
      txn: {
        compares: all.map((key) => ({ target: 'create', key, operator: '=', operand: 0 })),
        success: [
          ...this.#keys.map(([key], index): Operation => {
            return { type: 'put', key, value: Buffer.from(taskId(closed.ref, index)) };
          }),
          closed.operation,
        ],
        failure: all.map((key) => ({ type: 'get', key })),
      },
    };
  }

  async outcome(
    store: Store,
    frame: ClosedFrame,
    result: OperationResult | undefined,
  ): Promise<readonly Decision[]> {
    if (result?.type === 'txn' && result.succeeded) return this.#keys.map(() => CREATED);
    const holders =
      result?.type === 'txn' ? this.#holdersIn(result.results) : await this.#holders(store);
    // Somebody has one of the keys, or it would not have been refused: unless all have gone since.
    const isNobody = holders.every((holder) => holder === undefined);
    const decisions = holders.map((holder, i): Decision => {
      if (holder === undefined && !isNobody) return { kind: 'open' };
      const id = holder && utf8(holder.value);
      const place = parseTaskId(id);
      if (place === undefined) return { kind: 'refused', cause: this.#namesNoTask(i, id) };
      return place.segment === frame.ref ? CREATED : { kind: 'found', task: id as TaskId };
    });
    // All or none: the keys of ours that are found stand for those that are not.
    return decisions.includes(CREATED) ? decisions.map(() => CREATED) : decisions;
  }

  /** Who has each key, by the results of the reads. */
  #holdersIn(results: readonly OperationResult[]): (Entry | undefined)[] {
    return this.#keys.map((_, i) => {
      const found = results.slice(WINDOWS * i, WINDOWS * (i + 1));
      return found.flatMap((read) => (read.type === 'get' ? (read.entry ?? []) : []))[0];
    });
  }

  async #holders(store: Store): Promise<(Entry | undefined)[]> {
    const holders: (Entry | undefined)[] = [];
    for (const keys of this.#keys) {
      let holder: Entry | undefined;
      for (const key of keys) holder ??= await store.get(key);
      holders.push(holder);
    }
    return holders;
  }

  #namesNoTask(index: number, value: string | undefined): MillraceError {
    const [key] = this.#keys[index]!;
    return new MillraceError(
      'ERR_MILLRACE_STORE_CORRUPT',
      `idempotency key ${key} does not name a task`,
      { details: { key, value } },
    );
  }
}
