/**
 * Idempotency keys: same key, same task. One nested transaction creates a keyed task, or tells which task has the key
 * already:
 *
 *   if    neither this window nor the one before nor the next holds the key
 *   then  put the key -> task id, put the segment
 *   else  get the key from all three
 *
 * The next window has begun on a node whose clock is ahead, and on this one before its clock was set back. A key is thus
 * known for at least one window's width after its first use, and for at most two.
 */
import { MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { parseTaskId, type TaskId, taskId } from '../core/ids.js';
import type { Entry, Key, Operation, OperationResult, Store } from '../core/store.js';
import type { ClosedFrame, Gate } from './closed-frame.js';
import { idempotencyKey, inWindows } from './keys.js';

export class KeyGate implements Gate {
  /** This window, in which a new one is put, the one before, and the next. */
  readonly #keys: readonly [Key, Key, Key];

  /**
   * @param type - keys of different task types do not meet
   * @param at.nowMs - wall clock
   */
  constructor(
    type: string,
    key: string,
    at: { readonly nowMs: number; readonly windowMs: number },
  ) {
    this.#keys = inWindows(at, (window) => idempotencyKey(window, type, key));
  }

  operation(closed: ClosedFrame): Operation {
    const id = taskId(closed.ref, 0);
    return {
      type: 'txn',
      txn: {
        compares: this.#keys.map((key) => ({ target: 'create', key, operator: '=', operand: 0 })),
        success: [{ type: 'put', key: this.#keys[0], value: Buffer.from(id) }, closed.operation],
        failure: this.#keys.map((key) => ({ type: 'get', key })),
      },
    };
  }

  /** @throws ERR_MILLRACE_STORE_CORRUPT when the key does not name a task */
  async outcome(
    store: Store,
    frame: ClosedFrame,
    result: OperationResult | undefined,
  ): Promise<TaskId | undefined> {
    if (result?.type === 'txn' && result.succeeded) return undefined;
    const holder =
      result?.type === 'txn'
        ? result.results.flatMap((found) => (found.type === 'get' ? (found.entry ?? []) : []))[0]
        : await this.#holder(store);
    const id = holder && utf8(holder.value);
    const place = parseTaskId(id);
    if (holder === undefined || place === undefined) {
      throw new MillraceError(
        'ERR_MILLRACE_STORE_CORRUPT',
        `idempotency key ${this.#keys[0]} does not name a task`,
        { details: { key: this.#keys[0], value: id } },
      );
    }
    return place.segment === frame.ref ? undefined : (id as TaskId);
  }

  async #holder(store: Store): Promise<Entry | undefined> {
    for (const key of this.#keys) {
      const entry = await store.get(key);
      if (entry !== undefined) return entry;
    }
    return undefined;
  }
}
