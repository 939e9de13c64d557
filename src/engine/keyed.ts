/**
 * What a keyed submission came to: the transaction's answer says it, or, when that was lost, the keys themselves.
 */
import { MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { parseTaskId, type TaskId } from '../core/ids.js';
import type { Entry, OperationResult, Store } from '../core/store.js';
import type { KeyedFrame } from './intake.js';

/**
 * The id of the earlier task that has the key, or undefined when the submission created its task.
 *
 * @param result - of the submission's nested transaction; undefined when its answer was lost but it was applied
 * @throws ERR_MILLRACE_STORE_CORRUPT when the key does not name a task
 */
export async function existingTask(
  store: Store,
  frame: KeyedFrame,
  result: OperationResult | undefined,
): Promise<TaskId | undefined> {
  if (result?.type === 'txn' && result.succeeded) return undefined;
  const holder =
    result?.type === 'txn'
      ? result.results.flatMap((found) => (found.type === 'get' ? (found.entry ?? []) : []))[0]
      : await holderOf(store, frame);
  const id = holder && utf8(holder.value);
  const place = parseTaskId(id);
  if (holder === undefined || place === undefined) {
    throw new MillraceError(
      'ERR_MILLRACE_STORE_CORRUPT',
      `idempotency key ${frame.keys[0]} does not name a task`,
      { details: { key: frame.keys[0], value: id } },
    );
  }
  return place.segment === frame.ref ? undefined : (id as TaskId);
}

async function holderOf(store: Store, frame: KeyedFrame): Promise<Entry | undefined> {
  for (const key of frame.keys) {
    const entry = await store.get(key);
    if (entry !== undefined) return entry;
  }
  return undefined;
}
