/**
 * Reading dead letters: tasks that failed for good, as they are filed (finished.ts).
 */
import { publish } from '../core/channels.js';
import { isMillraceError } from '../core/errors.js';
import { FrameKind, openFrame } from '../core/frame.js';
import type { TaskId } from '../core/ids.js';
import { readState, readTask, type StateRecord, type TaskRecord } from '../core/records.js';
import type { Entry, Store } from '../core/store.js';
import { deadLetterState, deadLetterTask } from './finished.js';
import { deadLettersIn } from './keys.js';
import { entriesOf } from './recovery.js';

export interface StoredDeadLetter {
  readonly id: TaskId;
  readonly type: string;
  readonly task: TaskRecord;
  readonly state: StateRecord;
}

/**
 * All dead letters of a queue, by id, a page at a time. One that does not decode is left out, with an event.
 *
 * @throws ERR_MILLRACE_STORE_UNAVAILABLE
 */
export async function* readDeadLetters(
  store: Store,
  queue: string,
): AsyncGenerator<StoredDeadLetter> {
  for await (const entry of entriesOf(store, deadLettersIn(queue))) {
    const letter = decodeDeadLetter(entry);
    if (letter !== undefined) yield letter;
  }
}

/** Undefined, with an event, when it does not decode. */
export function decodeDeadLetter({ key, value }: Entry): StoredDeadLetter | undefined {
  try {
    const task = readTask(openFrame(deadLetterTask(value), FrameKind.TASKS), 0);
    const state = readState(openFrame(deadLetterState(value), FrameKind.STATES), 0);
    return { id: key.slice(key.lastIndexOf('/') + 1) as TaskId, type: task.type, task, state };
  } catch (cause) {
    if (!isMillraceError(cause)) throw cause;
    publish('millrace:store:corrupt', () => ({ key, cause }));
    return undefined;
  }
}
