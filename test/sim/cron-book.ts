/**
 * The part of the oracle that knows cron entries: each fire happens once, in its turn, with its task.
 *
 *   S1   no fire is left out, where all are to be made up for        S4   an entry's cursor never goes back, nor its definition
 *   S2   a task of an entry comes with its fire, and a fire with it  S5   no fire while the task before it is open
 *   S3   no moment fires twice, whoever has the shard                S7   no fire before its moment
 */
import type { TaskId } from '../../src/core/ids.js';
import type { Key } from '../../src/core/store.js';
import {
  type CronDefinition,
  type CronEntry,
  decodeEntry,
  isSameDefinition,
} from '../../src/engine/cron/entry.js';
import type { Write } from './law.js';
import type { Oracle } from './oracle.js';
import type { PlannedCron, PlannedTask } from './plan.js';
import type { SimNode } from './sim-node.js';
import type { StoredTask } from './stored-tasks.js';

/** An entry as the store has it. */
interface Entry {
  readonly cron: PlannedCron;
  readonly definition: CronDefinition;
  readonly cursorMs: number;
  readonly last: TaskId | undefined;
  /** Moments that have fired. */
  readonly fired: Set<number>;
  /** Moments up to the cursor that are still to fire; kept where none may be left out. */
  readonly line: readonly number[];
}

export interface Fires {
  readonly node: SimNode;
  /** Tasks of cron entries that came with the same transaction. */
  readonly tasks: readonly StoredTask[];
  /** Whether a task has not ended, in the version that was fired. */
  isOpen(task: TaskId): boolean;
}

export class CronBook {
  readonly #crons: readonly PlannedCron[];
  readonly #violate: Oracle['violate'];
  readonly #hasJumps: boolean;
  readonly #entries = new Map<Key, Entry>();

  constructor(crons: readonly PlannedCron[], violate: Oracle['violate'], hasJumps: boolean) {
    this.#crons = crons;
    this.#violate = violate;
    this.#hasJumps = hasJumps;
  }

  /** What the fires of an entry do; undefined: the label is none of theirs. */
  taskOf(label: number): PlannedTask | undefined {
    return this.#crons.find(({ task }) => task.label === label)?.task;
  }

  /** Judges what a transaction writes of entries. */
  judge(writes: readonly Write[], fires: Fires): void {
    const named = new Set<TaskId>();
    for (const { key, value } of writes) {
      if (!key.startsWith('e/')) continue;
      if (value === undefined) this.#entries.delete(key);
      else this.#onEntry(key, value, fires, named);
    }
    for (const { id } of fires.tasks) {
      if (!named.has(id)) this.#violate('S2', `${id} comes without its fire`);
    }
  }

  /** Whether every entry has dealt with its fires up to a moment. */
  isUpTo(wallMs: number): boolean {
    return [...this.#entries.values()].every(
      ({ cursorMs, cron }) => cursorMs + cron.periodMs > wallMs,
    );
  }

  get isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  #onEntry(key: Key, value: Uint8Array, fires: Fires, named: Set<TaskId>): void {
    const entry = decodeEntry(key, value);
    const { definition, cursorMs, queued, last } = entry;
    const before = this.#before(key, entry);
    const cron = this.#crons.find(({ name }) => name === definition.name)!;
    let line = before?.line ?? [];
    const fired = before?.fired ?? new Set();
    if (before !== undefined) {
      if (cursorMs < before.cursorMs) this.#violate('S4', `${key} goes back to ${cursorMs}`);
      line = keepsAll(cron) ? [...line, ...moments(before.cursorMs, cursorMs, cron)] : [];
    }
    if (last !== undefined && last.task !== before?.last) {
      named.add(last.task);
      this.#onFire({ key, cron, last, expected: line[0], fired, lastBefore: before?.last }, fires);
      line = line.slice(1);
    }
    if (keepsAll(cron) && String(queued) !== String(line)) {
      this.#violate('S1', `${key} has ${queued} in line, and ${line} have not fired`);
    }
    this.#entries.set(key, { cron, definition, cursorMs, last: last?.task, fired, line });
  }

  /** What an entry was before, as far as it goes on: another definition counts from when it was put. */
  #before(key: Key, { definition, queued, last }: CronEntry): Entry | undefined {
    const before = this.#entries.get(key);
    if (before === undefined || isSameDefinition(before.definition, definition)) return before;
    if (last === undefined && queued.length === 0) return undefined;
    this.#violate('S4', `${key} is as it was defined before`);
    return before;
  }

  #onFire(
    fire: {
      readonly key: Key;
      readonly cron: PlannedCron;
      readonly last: { readonly task: TaskId; readonly atMs: number };
      readonly expected: number | undefined;
      readonly fired: Set<number>;
      readonly lastBefore: TaskId | undefined;
    },
    { node, tasks, isOpen }: Fires,
  ): void {
    const { key, cron, last, expected, fired, lastBefore } = fire;
    node.count('cron fire');
    const { task, atMs } = last;
    if (fired.has(atMs)) this.#violate('S3', `${key} fires twice for ${atMs}`);
    fired.add(atMs);
    if (!tasks.some(({ id }) => id === task)) this.#violate('S2', `${key} fires without ${task}`);
    if (keepsAll(cron) && atMs !== expected) {
      this.#violate('S1', `${key} fires for ${atMs}, and ${expected} is due before`);
    }
    if (lastBefore !== undefined && cron.overlap !== 'replace' && isOpen(lastBefore)) {
      this.#violate('S5', `${key} fires, and ${lastBefore} has not ended`);
    }
    if (!this.#hasJumps && node.process.clock.wallMs() < atMs) {
      this.#violate('S7', `${key} fires before ${atMs}`);
    }
  }
}

/**
 * What a service defines when it starts.
 *
 * @param release - of the service: each release gives what the entry fires a priority of its own
 */
export function definitionOf(
  { name, periodMs, overlap, catchUp, task }: PlannedCron,
  release: number,
) {
  return {
    name,
    expression: `*/${periodMs / 1_000} * * * * *`,
    timeZone: 'UTC',
    jitterMs: 0,
    overlap,
    catchUp,
    type: task.type,
    queue: 'default',
    tenant: task.tenant,
    priority: release,
    ttlMs: 0,
    payload: JSON.stringify({ label: task.label }),
  } satisfies CronDefinition;
}

/** Whether none of its fires may be left out. */
function keepsAll({ overlap, catchUp }: PlannedCron): boolean {
  return overlap === 'queue' && catchUp === 'all';
}

/** Fires after `fromMs`, up to `toMs`. */
function moments(fromMs: number, toMs: number, { periodMs }: PlannedCron): number[] {
  const found: number[] = [];
  const firstMs = (Math.floor(fromMs / periodMs) + 1) * periodMs;
  for (let atMs = firstMs; atMs <= toMs; atMs += periodMs) found.push(atMs);
  return found;
}
