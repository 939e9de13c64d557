/**
 * Debounced submissions: of those with one key, made shortly after one another, the last one runs, once things are quiet.
 *
 *   u/<window>/<type>/<key>    { format, task, dueAtMs, firstAtMs, replaced }      which task stands for the key, and since when
 *
 *   if    mod(u/...) == as read, in this window, the one before and the next
 *   then  put u/... anew, put the task's own segment, due `wait` from now, and put a command to the owner of the one before:
 *         supersede, if that was not due yet
 *
 * So which of two submissions is the later one is decided by the store, and the earlier one is replaced in the same
 * transaction that takes the later: whoever owns its shard ends it as cancelled, unless it has begun. Where nobody shares the store
 * there are no commands: this node ends it itself, also at its next start, should it have died in between.
 *
 * Submissions of one key in this process go one after another, and those that wait meanwhile become one: a burst of
 * thousands costs a few commits. Once the task is due by the submitter's clock, the next submission begins anew.
 */
import type { Clock } from '../core/clock.js';
import { hasCode, isMillraceError, MillraceError } from '../core/errors.js';
import { utf8 } from '../core/frame.js';
import { parseTaskId, type TaskId, taskId } from '../core/ids.js';
import type { Compare, Entry, Key, Operation, OperationResult, Store } from '../core/store.js';
import { type ClosedFrame, CREATED, type Decision, type Gate } from './closed-frame.js';
import { ALL_DEBOUNCES, debounceKey, inWindows } from './keys.js';
import { entriesOf } from './recovery.js';
import { storedSegment } from './stored-task.js';
import type { Accepted, NewTask } from './submission.js';

export interface DebouncePorts {
  readonly clock: Clock;
  readonly store: Store;
  /** Keys are filed in windows this wide; no wait is longer. */
  readonly windowMs: number;
  /** Puts a task that has a gate into the store. */
  submit(task: NewTask): Promise<Accepted>;
  /** A command to the owner of a task's shard: it is replaced; undefined: nobody shares the store. */
  supersedeBy(task: TaskId, by: TaskId): Operation | undefined;
  /** Ends a task that waits here; does nothing with one that has begun. */
  supersede(task: TaskId, by: TaskId): Promise<void>;
}

/** Which task stands for a key. */
interface Standing {
  readonly task: TaskId;
  /** By the clock of who submitted it; epoch ms. */
  readonly dueAtMs: number;
  readonly firstAtMs: number;
  /** The task that it stands in for. */
  readonly replaced?: TaskId;
}

interface Waiter {
  readonly task: NewTask;
  readonly accept: (accepted: Accepted) => void;
  readonly reject: (cause: MillraceError) => void;
}

const FORMAT = 1;

export class Debounces {
  readonly #ports: DebouncePorts;
  /** Those that wait until the one before them is stored, by type and key. */
  readonly #waiting = new Map<string, Waiter[]>();

  constructor(ports: DebouncePorts) {
    this.#ports = ports;
  }

  /**
   * @param accept - called when it is durable. Of those that became one, the last has created the task
   * @param reject - as `Engine.submit`
   */
  submit(task: NewTask, accept: Waiter['accept'], reject: Waiter['reject']): void {
    const name = `${task.type}\n${task.debounce!.key}`;
    const waiting = this.#waiting.get(name);
    if (waiting !== undefined) {
      waiting.push({ task, accept, reject });
      return;
    }
    this.#waiting.set(name, [{ task, accept, reject }]);
    void this.#work(name);
  }

  /** Ends what was replaced when the process before this one died. REQUIRES: nobody shares the store. */
  async recover(): Promise<void> {
    for await (const entry of entriesOf(this.#ports.store, ALL_DEBOUNCES)) {
      const { task, replaced } = decode(entry) ?? {};
      if (task !== undefined && replaced !== undefined) {
        await this.#ports.supersede(replaced, task);
      }
    }
  }

  async #work(name: string): Promise<void> {
    for (;;) {
      const waiters = this.#waiting.get(name)!;
      if (waiters.length === 0) break;
      this.#waiting.set(name, []);
      const last = waiters.at(-1)!;
      try {
        const accepted = await this.#store(last.task);
        for (const waiter of waiters) {
          waiter.accept(waiter === last ? accepted : { ...accepted, isCreated: false });
        }
      } catch (cause) {
        for (const { reject } of waiters) reject(cause as MillraceError);
        if (!isMillraceError(cause)) throw cause;
      }
    }
    this.#waiting.delete(name);
  }

  /** Until nobody else is faster. @throws ERR_MILLRACE_CLOSED, _STORE_FULL, _STORE_UNAVAILABLE and the like */
  async #store(task: NewTask): Promise<Accepted> {
    const { clock, store, windowMs } = this.#ports;
    const { key, waitMs, maxMs } = task.debounce!;
    for (;;) {
      const nowMs = clock.wallMs();
      const keys = inWindows({ nowMs, windowMs }, (window) => debounceKey(window, task.type, key));
      const found = await Promise.all(keys.map((name) => store.get(name)));
      const newest = found.reduce((a, b) =>
        (a?.modRevision ?? 0) > (b?.modRevision ?? 0) ? a : b,
      );
      const before = newest && decode(newest);
      const isWaiting = before !== undefined && before.dueAtMs > nowMs;
      const firstAtMs = isWaiting ? before.firstAtMs : nowMs;
      const delayMs = Math.max(0, Math.min(waitMs, firstAtMs + maxMs - nowMs));
      const dueAtMs = nowMs + delayMs;
      const replaced = isWaiting ? before.task : undefined;
      const gate = new DebounceGate(keys, found, {
        standing: { dueAtMs, firstAtMs, ...(replaced !== undefined && { replaced }) },
        supersedeBy: (by) => replaced && this.#ports.supersedeBy(replaced, by),
        onStored: async (by) => replaced && this.#ports.supersede(replaced, by),
      });
      const ttlMs = task.expiresAtMs === 0 ? 0 : task.expiresAtMs - task.dueAtMs;
      const timed = {
        ...task,
        dueAtMs,
        dueMonoMs: clock.monoMs() + delayMs,
        expiresAtMs: ttlMs === 0 ? 0 : dueAtMs + ttlMs,
        gate,
      };
      try {
        return await this.#ports.submit(timed);
      } catch (cause) {
        // Somebody else has submitted with this key meanwhile: ours is the later one now.
        if (!hasCode(cause, 'ERR_MILLRACE_CLAIM_LOST')) throw cause;
      }
    }
  }
}

interface Next {
  readonly standing: Omit<Standing, 'task'>;
  readonly supersedeBy: (by: TaskId) => Operation | undefined;
  /** It stands for the key, also where nobody waits to hear of it any more. */
  readonly onStored: (by: TaskId) => Promise<unknown>;
}

class DebounceGate implements Gate {
  /** Three compares; the key, the segment and the command. */
  readonly operations = 3;
  readonly bytes = 1_024;
  readonly #keys: readonly Key[];
  readonly #compares: readonly Compare[];
  readonly #next: Next;

  /** @param found - what the keys held when it was decided; the first key is put */
  constructor(keys: readonly Key[], found: readonly (Entry | undefined)[], next: Next) {
    this.#keys = keys;
    this.#compares = keys.map((key, i) => {
      return { target: 'mod', key, operator: '=', operand: found[i]?.modRevision ?? 0 };
    });
    this.#next = next;
  }

  operation(closed: ClosedFrame): Operation {
    const task = taskId(closed.ref, 0);
    const { standing, supersedeBy } = this.#next;
    const value = encode({ task, ...standing });
    const command = supersedeBy(task);
    return {
      type: 'txn',
      txn: {
        compares: this.#compares,
        success: [
          { type: 'put', key: this.#keys[0]!, value },
          closed.operation,
          ...(command === undefined ? [] : [command]),
        ],
      },
    };
  }

  /** @throws ERR_MILLRACE_CLAIM_LOST when somebody else was faster */
  async outcome(
    store: Store,
    frame: ClosedFrame,
    result: OperationResult | undefined,
  ): Promise<readonly Decision[]> {
    const isStored =
      result?.type === 'txn'
        ? result.succeeded
        : (await this.#isStanding(store, frame)) || (await storedSegment(store, frame.ref));
    if (isStored) {
      await this.#next.onStored(taskId(frame.ref, 0));
      return [CREATED];
    }
    throw new MillraceError(
      'ERR_MILLRACE_CLAIM_LOST',
      'another submission with the same debounce key was faster',
    );
  }

  async #isStanding(store: Store, { ref }: ClosedFrame): Promise<boolean> {
    const entry = await store.get(this.#keys[0]!);
    const standing = entry && decode(entry);
    return standing !== undefined && parseTaskId(standing.task)?.segment === ref;
  }
}

function encode(standing: Standing): Uint8Array {
  return Buffer.from(JSON.stringify({ format: FORMAT, ...standing }));
}

/** What does not decode stands for nothing: the next submission puts it anew. */
function decode({ value }: Entry): Standing | undefined {
  try {
    const { format, task, dueAtMs, firstAtMs, replaced } = JSON.parse(utf8(value)) as Record<
      string,
      unknown
    >;
    if (format !== FORMAT || parseTaskId(task) === undefined) return undefined;
    if (typeof dueAtMs !== 'number' || typeof firstAtMs !== 'number') return undefined;
    const standing = { task: task as TaskId, dueAtMs, firstAtMs };
    return parseTaskId(replaced) === undefined
      ? standing
      : { ...standing, replaced: replaced as TaskId };
  } catch {
    return undefined;
  }
}
