/**
 * A fire of a cron entry as a gate: its task comes into being in the transaction that moves the entry's cursor past it.
 *
 *   if    mod revision of e/<queue>/<shard>/<name> == as it was read
 *   then  put the entry with the fire behind its cursor, put the segment
 *
 * So a fire happens once, whoever tries: a node that has lost the shard and does not know it yet, or one whose answer was lost,
 * finds the entry moved.
 */
import { MillraceError } from '../../core/errors.js';
import { taskId } from '../../core/ids.js';
import type { Key, Operation, OperationResult, Revision, Store } from '../../core/store.js';
import { type ClosedFrame, CREATED, type Decision, type Gate } from '../closed-frame.js';
import { inboxKey, segmentKey } from '../keys.js';
import { type CronEntry, type CronState, encodeEntry } from './entry.js';

/** What an entry has beside its payload, about. */
const ENTRY_BYTES = 512;

export interface Fire {
  readonly key: Key;
  readonly modRevision: Revision;
  readonly entry: CronEntry;
  readonly atMs: number;
  /** After the fire, without its task. */
  readonly state: CronState;
}

export class FireGate implements Gate {
  /** The entry, the segment. */
  readonly operations = 2;
  readonly bytes: number;
  readonly #fire: Fire;

  constructor(fire: Fire) {
    this.#fire = fire;
    this.bytes = ENTRY_BYTES + fire.key.length + fire.entry.definition.payload.length;
  }

  operation(closed: ClosedFrame): Operation {
    const { key, modRevision, entry, state, atMs } = this.#fire;
    const last = { task: taskId(closed.ref, 0), atMs };
    const value = encodeEntry({ definition: entry.definition, ...state, last });
    return {
      type: 'txn',
      txn: {
        compares: [{ target: 'mod', key, operator: '=', operand: modRevision }],
        success: [{ type: 'put', key, value }, closed.operation],
        failure: [],
      },
    };
  }

  /** @throws ERR_MILLRACE_STALE_REVISION when the entry has moved on without it */
  async outcome(
    store: Store,
    frame: ClosedFrame,
    result: OperationResult | undefined,
  ): Promise<readonly Decision[]> {
    if (result?.type === 'txn') {
      if (result.succeeded) return [CREATED];
    } else {
      // The answer was lost. Nobody but this node touches the segment before it has taken it up; or the shard is another's
      // by now, who finds there what was put.
      const { ref, home } = frame;
      const segment = await store.get(home.isInbox ? inboxKey(ref) : segmentKey(ref));
      if (segment !== undefined) return [CREATED];
    }
    const { key, atMs } = this.#fire;
    throw new MillraceError('ERR_MILLRACE_STALE_REVISION', `cron entry ${key} has moved on`, {
      details: { key, atMs },
    });
  }
}
