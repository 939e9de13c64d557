/**
 * What is to be done about a cron entry now: a function of the entry, the time and whether the last task has ended.
 *
 *   due fires    those after the cursor, up to now
 *   caught up    `all`: each of them. `one`: the latest. `none`: the latest, unless it is older than a minute: a fire that
 *                is late because its node just died is late, not missed
 *   in line      what was queued, then what was caught up; the first one fires when the task before has ended
 *
 *   last task open and `skip`      the due fires are over; what is queued (caught up earlier) stays
 *   last task open and `queue`     the due fires wait in line
 *   last task open and `replace`   it is cancelled, and the latest fires
 *
 * One step is one transaction. Whoever takes it asks again afterwards.
 */
import { uniformOf } from '../../core/hash.js';
import type { CronEntry, CronState } from './entry.js';
import type { Schedule } from './schedule.js';

/** A fire this late is missed where nothing is to be caught up. */
const MISSED_AFTER_MS = 60_000;
/** Fires that wait in line; those beyond stay due. */
const QUEUED_MAX = 1_000;
/** Fires that are over without a task are counted up to here. */
const MISSED_COUNT_MAX = 100;

export interface Step {
  /** The moment whose task is to be put; undefined: only the state moves on. */
  readonly fireAtMs: number | undefined;
  /** Whether the last task is to be cancelled first. */
  readonly replaces: boolean;
  /** Without the new task, which is not known yet. */
  readonly state: CronState;
  /** Fires that are over without a task. */
  readonly skipped: { readonly missed: number; readonly overlapping: number };
}

/**
 * @param lastIsOpen - whether the last task has not ended
 * @returns undefined: nothing is to be done, before the next fire or the last task's end
 */
export function nextStep(
  entry: CronEntry,
  schedule: Schedule,
  { nowMs, lastIsOpen }: { readonly nowMs: number; readonly lastIsOpen: boolean },
): Step | undefined {
  const { definition, queued, last } = entry;
  const due = dueFires(entry, schedule, nowMs);
  const { caught, cursorMs = entry.cursorMs } = due;
  const isDue = due.cursorMs !== undefined;
  const move = (
    line: readonly number[],
    more: {
      readonly fireAtMs?: number;
      readonly replaces?: boolean;
      readonly overlapping?: number;
    },
  ): Step => ({
    fireAtMs: more.fireAtMs,
    replaces: more.replaces ?? false,
    state: { cursorMs, queued: line, last },
    skipped: { missed: due.missed, overlapping: more.overlapping ?? 0 },
  });
  if (lastIsOpen) {
    if (!isDue) return undefined;
    switch (definition.overlap) {
      case 'skip':
        return move(queued, { overlapping: caught.length });
      case 'queue':
        return move([...queued, ...caught], {});
      case 'replace': {
        const fireAtMs = caught.at(-1);
        if (fireAtMs === undefined) return move(queued, {});
        return move([], {
          fireAtMs,
          replaces: true,
          overlapping: queued.length + caught.length - 1,
        });
      }
    }
  }
  const [fireAtMs, ...rest] = [...queued, ...caught];
  if (fireAtMs !== undefined) return move(rest, { fireAtMs });
  return isDue ? move([], {}) : undefined;
}

/** When the entry is to be looked at again if nothing else happens. Epoch ms. */
export function nextLookMs({ cursorMs }: CronState, schedule: Schedule): number {
  return schedule.next(cursorMs);
}

/** How much later than its fire a task is due: the same on every node. */
export function jitterOf(name: string, atMs: number, jitterMs: number): number {
  return Math.floor(uniformOf(`${name}@${atMs}`) * (jitterMs + 1));
}

interface DueFires {
  /** Those that are made up for, oldest first. */
  readonly caught: readonly number[];
  /** Of those that are not, as far as they are counted. */
  readonly missed: number;
  /** Undefined: nothing is due. */
  readonly cursorMs: number | undefined;
}

function dueFires(
  { cursorMs, queued, definition }: CronEntry,
  schedule: Schedule,
  nowMs: number,
): DueFires {
  const first = schedule.next(cursorMs);
  if (first > nowMs) return { caught: [], missed: 0, cursorMs: undefined };
  if (definition.catchUp === 'all') {
    const caught: number[] = [];
    const room = QUEUED_MAX - queued.length;
    for (let at = first; at <= nowMs && caught.length < room; at = schedule.next(at))
      caught.push(at);
    return { caught, missed: 0, cursorMs: caught.at(-1) };
  }
  const latest = latestFire(first, schedule, nowMs);
  const isMissed = definition.catchUp === 'none' && nowMs - latest > MISSED_AFTER_MS;
  let missed = isMissed ? 1 : 0;
  for (let at = first; at < latest && missed < MISSED_COUNT_MAX; at = schedule.next(at)) missed++;
  return { caught: isMissed ? [] : [latest], missed, cursorMs: latest };
}

/** The last fire up to now, looked for from now back: a fire a second and a long absence are not to take minutes. */
function latestFire(first: number, schedule: Schedule, nowMs: number): number {
  let latest = first;
  for (let spanMs = 1_000; latest < nowMs - spanMs; spanMs *= 4) {
    const at = schedule.next(nowMs - spanMs);
    if (at > nowMs) continue;
    latest = at;
    break;
  }
  for (let at = schedule.next(latest); at <= nowMs; at = schedule.next(at)) latest = at;
  return latest;
}
