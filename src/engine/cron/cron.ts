/**
 * Cron: tasks that come again and again, fired once in the cluster.
 *
 *   e/  ──follow──> entries by name ──agenda──> due? ours? ──step──> transaction: task + cursor  ──> e/ ...
 *
 * Every node knows all entries, which are few beside tasks; the owner of an entry's shard fires it. That is a matter of who
 * tries: the transaction compares the entry (fire-gate.ts), so a fire happens once, also while ownership moves. What
 * another node has not fired yet is looked at again when a shard becomes ours.
 *
 * Fires follow the wall clock of the node that has the shard. It is looked at every few seconds while anything is on the
 * agenda, so a clock that jumps, or a machine that slept, delays nothing for longer.
 */
import { Backoff } from '../../core/backoff.js';
import { publish } from '../../core/channels.js';
import { type Clock, sleep, type WakeUp } from '../../core/clock.js';
import { hasCode, isMillraceError, MillraceError } from '../../core/errors.js';
import { type TaskId, taskId } from '../../core/ids.js';
import { keepFollowing } from '../../core/keep-following.js';
import type { Random } from '../../core/random.js';
import { BaseService } from '../../core/service.js';
import type { Entry, Key, Operation, Revision, Store, WatchEvent } from '../../core/store.js';
import type { Accepted, NewTask } from '../intake.js';
import { ALL_CRON, cronKey, placeOfCronKey, type ShardPlace } from '../keys.js';
import { entriesOf } from '../recovery.js';
import { Agenda } from './agenda.js';
import {
  type CronDefinition,
  type CronEntry,
  type CronState,
  decodeEntry,
  encodeEntry,
  isSameDefinition,
  shardOfEntry,
} from './entry.js';
import { FireGate } from './fire-gate.js';
import { Schedule } from './schedule.js';
import { jitterOf, nextLookMs, nextStep, type Step } from './step.js';

/** The clock may have jumped. */
const LOOK_MS = 5_000;
/** After a transaction that did not come to an end. */
const RETRY_MS = 1_000;
/** Entries that are taken up before the event loop has a turn: a calendar takes some 10 us. */
const ENTRIES_PER_TURN = 200;
const FOREVER = Number.POSITIVE_INFINITY;

/** What the engine does for it. */
export interface CronPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly store: Store;
  /** Of each queue. */
  readonly shardCount: number;
  /** Whether tasks of a shard are this node's to start. */
  isOurs(place: ShardPlace): boolean;
  /** Puts a task; room in the queue is taken whatever there is. */
  submit(task: NewTask): Promise<Accepted>;
  isOpen(task: TaskId): Promise<boolean>;
  /** Resolves when the task has ended, or is not known any more. */
  untilEnded(task: TaskId): Promise<void>;
  cancel(task: TaskId, reason: string): Promise<void>;
}

/** An entry as this node knows it. */
interface Known {
  readonly key: Key;
  readonly place: ShardPlace;
  readonly schedule: Schedule;
  entry: CronEntry;
  modRevision: Revision;
  /** A step is being taken. */
  isBusy: boolean;
  /** The task that its queue waits for. */
  waitsFor: TaskId | undefined;
}

/** An entry as it stands. */
export interface KnownEntry extends CronEntry {
  readonly schedule: Schedule;
}

export class Cron extends BaseService {
  readonly #ports: CronPorts;
  readonly #byKey = new Map<Key, Known>();
  readonly #byName = new Map<string, Known>();
  readonly #agenda = new Agenda<Known>();
  /** Due, and another node's to fire. */
  readonly #foreign = new Set<Known>();
  readonly #steps = new Set<Promise<void>>();
  readonly #ending = new AbortController();
  #following: Promise<void> = Promise.resolve();
  #listed: (() => void) | undefined;
  readonly #isListed = new Promise<void>((resolve) => {
    this.#listed = resolve;
  });
  #wakeUp: WakeUp | undefined;
  /** What it is armed for. */
  #armedMs = FOREVER;

  constructor(ports: CronPorts) {
    super();
    this.#ports = ports;
  }

  protected async onStart(): Promise<void> {
    this.#following = this.#follow();
  }

  protected async onStop(): Promise<void> {
    this.#ending.abort();
    this.#wakeUp?.cancel();
    await this.#following;
    await Promise.all(this.#steps);
  }

  /** Shards have come, or something may be started again. */
  onShardsChanged(): void {
    if (this.#foreign.size === 0) return;
    for (const known of [...this.#foreign]) {
      this.#foreign.delete(known);
      this.#look(known);
    }
  }

  /**
   * Makes an entry be as defined. One that is, is left alone; another definition of the same name replaces it, and counts
   * from now.
   *
   * @param definition - with an expression and a zone that make a {@link Schedule}
   * @throws ERR_MILLRACE_STORE_UNAVAILABLE, _STORE_FULL
   */
  async define(definition: CronDefinition): Promise<void> {
    const key = this.#keyOf(definition);
    await this.#change(definition.name, key, (before) => {
      const there = before.find((entry) => entry.key === key);
      if (there !== undefined && before.length === 1) {
        const old = readEntry(there);
        if (old !== undefined && isSameDefinition(old.definition, definition)) return undefined;
      }
      const state = { cursorMs: this.#ports.clock.wallMs(), queued: [], last: undefined };
      const others = before.filter((entry) => entry.key !== key);
      return [
        { type: 'put', key, value: encodeEntry({ definition, ...state }) },
        ...others.map((entry) => ({ type: 'delete', key: entry.key }) as const),
      ];
    });
  }

  /** @returns whether there was one of this name */
  async remove(definition: Pick<CronDefinition, 'name' | 'queue'>): Promise<boolean> {
    let isThere = false;
    await this.#change(definition.name, this.#keyOf(definition), (before) => {
      isThere = before.length > 0;
      if (!isThere) return undefined;
      return before.map(({ key }) => ({ type: 'delete', key }) as const);
    });
    return isThere;
  }

  /** All entries as they are stored now, by name. @throws ERR_MILLRACE_STORE_UNAVAILABLE */
  async list(): Promise<KnownEntry[]> {
    const found: KnownEntry[] = [];
    for await (const stored of entriesOf(this.#ports.store, ALL_CRON)) {
      const entry = readEntry(stored);
      if (entry !== undefined) found.push(entry);
    }
    return found.sort((a, b) => (a.definition.name < b.definition.name ? -1 : 1));
  }

  // --- Definitions -------------------------------------------------------------------------------------------------

  /**
   * @param key - where the entry would be
   * @param decide - what is to be written, from all entries of a name; undefined: nothing
   */
  async #change(
    name: string,
    key: Key,
    decide: (before: readonly Entry[]) => Operation[] | undefined,
  ): Promise<void> {
    const { store, clock, random } = this.#ports;
    await this.#isListed;
    const backoff = new Backoff(clock, random);
    for (;;) {
      if (this.isStopping) throw new MillraceError('ERR_MILLRACE_CLOSED', 'the runtime is closed');
      const before = await this.#entriesOf(name, key);
      const success = decide(before);
      if (success === undefined) return;
      const keys = new Set([
        ...before.map(({ key }) => key),
        ...success.flatMap((operation) => ('key' in operation ? [operation.key] : [])),
      ]);
      const compares = [...keys].map((key) => {
        const operand = before.find((entry) => entry.key === key)?.modRevision ?? 0;
        return { target: 'mod', key, operator: '=', operand } as const;
      });
      const outcome = await store.txn({ compares, success });
      if (outcome.kind === 'done') return;
      // Somebody was faster, or it may have been applied: what is there now decides.
      await backoff.pause(this.#ending.signal).catch(() => {});
    }
  }

  #keyOf({ name, queue }: Pick<CronDefinition, 'name' | 'queue'>): Key {
    return cronKey({ queue, shard: shardOfEntry(name, this.#ports.shardCount) }, name);
  }

  /** What the store has of a name: where it would be, and where it has been seen. */
  async #entriesOf(name: string, key: Key): Promise<Entry[]> {
    const keys = new Set([key, this.#byName.get(name)?.key ?? key]);
    const found = await Promise.all([...keys].map((one) => this.#ports.store.get(one)));
    return found.filter((entry) => entry !== undefined);
  }

  // --- Following ---------------------------------------------------------------------------------------------------

  async #follow(): Promise<void> {
    const options = { signal: this.#ending.signal, class: 'control' } as const;
    try {
      for await (const { events, kind } of keepFollowing(this.#ports, ALL_CRON, options)) {
        await this.#onEvents(events, kind !== 'change');
      }
    } catch (error) {
      if (!hasCode(error, 'ERR_MILLRACE_CLOSED')) throw error;
    }
  }

  /** @param isList - whether the events are all there is, or what has changed since the last list */
  async #onEvents(events: readonly WatchEvent[], isList: boolean): Promise<void> {
    let taken = 0;
    for (const event of events) {
      if (event.type === 'put') this.#onEntry(event.entry);
      else this.#forget(event.key);
      if (++taken % ENTRIES_PER_TURN === 0) await this.#turn();
    }
    if (isList) this.#listed?.();
    this.#arm();
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => this.#ports.clock.wakeSoon(resolve));
  }

  #onEntry({ key, value, modRevision }: Entry): void {
    const before = this.#byKey.get(key);
    if (before !== undefined && before.modRevision >= modRevision) return;
    const entry = readEntry({ key, value }, before);
    if (entry === undefined) return this.#forget(key);
    if (before !== undefined && before.schedule === entry.schedule) {
      before.entry = entry;
      before.modRevision = modRevision;
      return this.#look(before);
    }
    const known: Known = {
      key,
      place: placeOfCronKey(key),
      schedule: entry.schedule,
      entry,
      modRevision,
      isBusy: false,
      waitsFor: undefined,
    };
    this.#forget(key);
    this.#byKey.set(key, known);
    this.#look(known);
    this.#dropOlder(known);
  }

  /** Two nodes that defined a name for different queues at the same time: the later one holds. */
  #dropOlder(known: Known): void {
    const { name } = known.entry.definition;
    const same = this.#byName.get(name);
    this.#byName.set(name, known);
    if (same === undefined || same.key === known.key || this.#byKey.get(same.key) !== same) return;
    const older = same.modRevision < known.modRevision ? same : known;
    if (older === known) this.#byName.set(name, same);
    this.#forget(older.key);
    const { key, modRevision } = older;
    this.#ports.store
      .txn({
        compares: [{ target: 'mod', key, operator: '=', operand: modRevision }],
        success: [{ type: 'delete', key }],
      })
      .catch((error: unknown) => {
        // It is found again at the next list.
        if (!isMillraceError(error)) throw error;
      });
  }

  #forget(key: Key): void {
    const known = this.#byKey.get(key);
    if (known === undefined) return;
    this.#byKey.delete(key);
    const { name } = known.entry.definition;
    if (this.#byName.get(name) === known) this.#byName.delete(name);
    this.#agenda.delete(known);
    this.#foreign.delete(known);
  }

  // --- Firing ------------------------------------------------------------------------------------------------------

  /** REQUIRES: what was set for earlier than now has been looked at. */
  #arm(): void {
    const nextMs = this.#agenda.nextMs;
    if (nextMs >= this.#armedMs || this.isStopping) return;
    this.#wakeUp?.cancel();
    this.#armedMs = nextMs;
    const waitMs = Math.max(0, nextMs - this.#ports.clock.wallMs());
    this.#wakeUp = this.#ports.clock.wakeIn(Math.min(waitMs, LOOK_MS), () => {
      this.#armedMs = FOREVER;
      const nowMs = this.#ports.clock.wallMs();
      for (let due = this.#agenda.take(nowMs); due !== undefined; due = this.#agenda.take(nowMs)) {
        this.#onDue(due);
      }
      this.#arm();
    });
  }

  /** Puts an entry on the agenda again: now, if something waits in its queue. */
  #look(known: Known): void {
    const { entry, schedule } = known;
    this.#foreign.delete(known);
    const isQueued = entry.queued.length > 0;
    this.#agenda.set(known, isQueued ? 0 : nextLookMs(entry, schedule));
    this.#arm();
  }

  #onDue(known: Known): void {
    if (known.isBusy) return;
    if (!this.#ports.isOurs(known.place)) {
      this.#foreign.add(known);
      return;
    }
    known.isBusy = true;
    const step = this.#take(known)
      .catch((error: unknown) => this.#onTrouble(known, error))
      .finally(() => {
        known.isBusy = false;
        this.#steps.delete(step);
        if (this.#byKey.get(known.key) === known && !this.isStopping) this.#lookAfter(known);
      });
    this.#steps.add(step);
  }

  /** Something has been done about it, or could not: the entry says when it is to be looked at. */
  #lookAfter(known: Known): void {
    const { entry, waitsFor } = known;
    if (waitsFor === undefined || entry.last?.task !== waitsFor) return this.#look(known);
    // Its queue waits for a task, whose end brings it back; the next fire joins the queue in time.
    this.#agenda.set(known, nextLookMs(entry, known.schedule));
    this.#arm();
  }

  async #take(known: Known): Promise<void> {
    const { entry } = known;
    const { clock } = this.#ports;
    const lastIsOpen = entry.last !== undefined && (await this.#ports.isOpen(entry.last.task));
    if (this.isStopping || known.entry !== entry) return;
    const step = nextStep(entry, known.schedule, { nowMs: clock.wallMs(), lastIsOpen });
    if (step === undefined) {
      if (lastIsOpen && entry.queued.length > 0) this.#awaitEnd(known, entry.last!.task);
      return;
    }
    if (step.replaces) await this.#ports.cancel(entry.last!.task, 'replaced by the next fire');
    if (step.fireAtMs === undefined) await this.#move(known, step.state);
    else await this.#fire(known, step, step.fireAtMs);
    await this.#refresh(known);
    // Not applied, for whatever reason: not again at once.
    if (known.entry === entry) await this.#pause();
    else this.#tellSkipped(entry.definition, step);
  }

  /** The entry's queue is looked at again when a task has ended. */
  #awaitEnd(known: Known, task: TaskId): void {
    if (known.waitsFor === task) return;
    known.waitsFor = task;
    const onEnded = (): void => {
      if (known.waitsFor === task) known.waitsFor = undefined;
      const isThere = this.#byKey.get(known.key) === known;
      if (isThere && !known.isBusy && !this.isStopping) this.#look(known);
    };
    // One that nobody can tell of is asked for again.
    this.#ports.untilEnded(task).then(onEnded, (error: unknown) => {
      if (!isMillraceError(error)) throw error;
      onEnded();
    });
  }

  async #fire(known: Known, { state }: Step, atMs: number): Promise<void> {
    const { key, modRevision, entry } = known;
    const { definition } = entry;
    const { clock } = this.#ports;
    const nowMs = clock.wallMs();
    const dueAtMs = Math.max(nowMs, atMs + jitterOf(definition.name, atMs, definition.jitterMs));
    const { segment, index } = await this.#ports.submit({
      type: definition.type,
      queue: definition.queue,
      tenant: definition.tenant,
      priority: definition.priority,
      dueAtMs,
      dueMonoMs: clock.monoMs() + (dueAtMs - nowMs),
      isDueByDate: true,
      submittedAtMs: nowMs,
      expiresAtMs: definition.ttlMs > 0 ? dueAtMs + definition.ttlMs : 0,
      attempt: 0,
      losses: 0,
      version: 0,
      payload: definition.payload,
      payloadBytes: Buffer.byteLength(definition.payload),
      metadata: undefined,
      idempotencyKey: undefined,
      gate: new FireGate({ key, modRevision, entry, atMs, state }),
    });
    publish('millrace:cron:fired', () => ({
      name: definition.name,
      queue: definition.queue,
      taskId: taskId(segment, index),
      atMs,
      lateMs: nowMs - atMs,
    }));
  }

  /** Moves the state on without a task. An unknown outcome is read afterwards, like every other. */
  async #move({ key, modRevision, entry }: Known, state: CronState): Promise<void> {
    const value = encodeEntry({ definition: entry.definition, ...state });
    await this.#ports.store.txn({
      compares: [{ target: 'mod', key, operator: '=', operand: modRevision }],
      success: [{ type: 'put', key, value }],
    });
  }

  /** Reads an entry: what its watch tells may come later than the next fire. */
  async #refresh(known: Known): Promise<void> {
    const entry = await this.#ports.store.get(known.key);
    if (this.#byKey.get(known.key) !== known) return;
    if (entry === undefined) this.#forget(known.key);
    else this.#onEntry(entry);
  }

  async #onTrouble(known: Known, error: unknown): Promise<void> {
    if (!isMillraceError(error)) throw error;
    if (hasCode(error, 'ERR_MILLRACE_CLOSED')) return;
    const { name, queue } = known.entry.definition;
    if (!hasCode(error, 'ERR_MILLRACE_STALE_REVISION')) {
      publish('millrace:cron:failed', () => ({ name, queue, cause: error }));
      await this.#pause();
    }
    await this.#refresh(known).catch((cause: unknown) => {
      if (!isMillraceError(cause)) throw cause;
    });
  }

  #pause(): Promise<void> {
    return sleep(this.#ports.clock, RETRY_MS, this.#ending.signal).catch(() => {});
  }

  #tellSkipped({ name, queue }: CronDefinition, { skipped }: Step): void {
    for (const [reason, fires] of Object.entries(skipped)) {
      if (fires === 0) continue;
      publish('millrace:cron:skipped', () => ({
        name,
        queue,
        reason: reason as keyof Step['skipped'],
        fires,
      }));
    }
  }
}

/**
 * What is stored under a key; undefined when it cannot be read, of which an event tells.
 *
 * @param before - the schedule of the same definition is used again: most news of an entry is that it has fired
 */
function readEntry(
  { key, value }: Pick<Entry, 'key' | 'value'>,
  before?: Pick<Known, 'entry' | 'schedule'>,
): KnownEntry | undefined {
  try {
    const entry = decodeEntry(key, value);
    const { definition } = entry;
    const isSame = before !== undefined && isSameDefinition(before.entry.definition, definition);
    const { expression, timeZone } = definition;
    return { ...entry, schedule: isSame ? before.schedule : new Schedule(expression, timeZone) };
  } catch (cause) {
    if (!isMillraceError(cause)) throw cause;
    publish('millrace:store:corrupt', () => ({ key, cause }));
    return undefined;
  }
}
