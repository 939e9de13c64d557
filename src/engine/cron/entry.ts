/**
 * A cron entry as it is stored: what is to be done when, and how far it has come.
 *
 *   e/<queue>/<shard>/<name>  ->  JSON { format, definition, cursorMs, queued, last }
 *
 * The definition changes only when somebody defines the entry anew. The rest is its state: every fire up to the cursor has
 * been dealt with, and those that wait for the one before them to end are in `queued`.
 */
import { MillraceError } from '../../core/errors.js';
import { utf8 } from '../../core/frame.js';
import { hash32 } from '../../core/hash.js';
import { parseTaskId, type TaskId } from '../../core/ids.js';
import type { Key } from '../../core/store.js';

/** Entries of another format are not read. */
const FORMAT = 1;

/** What happens to a fire while the task of the one before it has not ended. */
export const OVERLAPS = ['skip', 'queue', 'replace'] as const;
export type Overlap = (typeof OVERLAPS)[number];

/** Which fires are made up for that nobody could fire in time. */
export const CATCH_UPS = ['none', 'one', 'all'] as const;
export type CatchUp = (typeof CATCH_UPS)[number];

/** What somebody wants to happen again and again. */
export interface CronDefinition {
  readonly name: string;
  readonly expression: string;
  readonly timeZone: string;
  /** A fire's task is due at a moment of its own within so many ms. */
  readonly jitterMs: number;
  readonly overlap: Overlap;
  readonly catchUp: CatchUp;
  readonly type: string;
  readonly queue: string;
  readonly tenant: string;
  readonly priority: number;
  /** From when a task is due; 0: it does not expire. */
  readonly ttlMs: number;
  /** JSON. */
  readonly payload: string;
}

/** How far an entry has come. */
export interface CronState {
  /** Every fire up to here has been dealt with. Epoch ms. */
  readonly cursorMs: number;
  /** Fires up to the cursor that wait for the task before them, oldest first. Epoch ms. */
  readonly queued: readonly number[];
  /** The task of the last fire. */
  readonly last: { readonly task: TaskId; readonly atMs: number } | undefined;
}

export interface CronEntry extends CronState {
  readonly definition: CronDefinition;
}

/** The shard whose owner fires an entry. */
export function shardOfEntry(name: string, shardCount: number): number {
  return hash32(name) % shardCount;
}

export function isSameDefinition(a: CronDefinition, b: CronDefinition): boolean {
  return JSON.stringify(inOrder(a)) === JSON.stringify(inOrder(b));
}

export function encodeEntry({ definition, cursorMs, queued, last }: CronEntry): Uint8Array {
  const entry = { format: FORMAT, definition: inOrder(definition), cursorMs, queued, last };
  return Buffer.from(JSON.stringify(entry));
}

/** @throws ERR_MILLRACE_STORE_CORRUPT, ERR_MILLRACE_STORE_FORMAT */
export function decodeEntry(key: Key, value: Uint8Array): CronEntry {
  let given: Partial<CronEntry & { format: number }>;
  try {
    given = JSON.parse(utf8(value));
  } catch {
    throw corrupt(key, 'no JSON');
  }
  if (typeof given !== 'object' || given === null) throw corrupt(key, 'no object');
  if (given.format !== FORMAT) {
    throw new MillraceError(
      'ERR_MILLRACE_STORE_FORMAT',
      `cron entry ${key} has format ${String(given.format)}; this version reads ${FORMAT}`,
      { details: { key, format: given.format } },
    );
  }
  const { definition, cursorMs, queued, last } = given;
  if (typeof cursorMs !== 'number' || !Number.isFinite(cursorMs)) throw corrupt(key, 'no cursor');
  if (!Array.isArray(queued) || !queued.every(Number.isFinite)) throw corrupt(key, 'a bad queue');
  if (last !== undefined && !(parseTaskId(last.task) && Number.isFinite(last.atMs))) {
    throw corrupt(key, 'a bad last task');
  }
  if (!isDefinition(definition)) throw corrupt(key, 'a bad definition');
  return { definition: inOrder(definition), cursorMs, queued, last };
}

function isDefinition(given: CronDefinition | undefined): given is CronDefinition {
  if (typeof given !== 'object' || given === null) return false;
  const texts = [given.name, given.expression, given.timeZone, given.type, given.queue];
  const numbers = [given.jitterMs, given.priority, given.ttlMs];
  return (
    texts.every((text) => typeof text === 'string' && text !== '') &&
    typeof given.tenant === 'string' &&
    typeof given.payload === 'string' &&
    numbers.every(Number.isFinite) &&
    OVERLAPS.includes(given.overlap) &&
    CATCH_UPS.includes(given.catchUp)
  );
}

/** One spelling for one definition, whatever it was made of. */
function inOrder(definition: CronDefinition): CronDefinition {
  const { name, expression, timeZone, jitterMs, overlap, catchUp } = definition;
  const { type, queue, tenant, priority, ttlMs, payload } = definition;
  return {
    name,
    expression,
    timeZone,
    jitterMs,
    overlap,
    catchUp,
    type,
    queue,
    tenant,
    priority,
    ttlMs,
    payload,
  };
}

function corrupt(key: Key, why: string): MillraceError {
  return new MillraceError('ERR_MILLRACE_STORE_CORRUPT', `cron entry ${key} is damaged: ${why}`, {
    details: { key },
  });
}
