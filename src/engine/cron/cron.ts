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
import { publish } from '../../core/channels.js';
import { type Clock, sleep, type WakeUp } from '../../core/clock.js';
import { hasCode, isMillraceError } from '../../core/errors.js';
import { type TaskId, taskId } from '../../core/ids.js';
import { keepFollowing } from '../../core/keep-following.js';
import type { Random } from '../../core/random.js';
import { BaseService } from '../../core/service.js';
import type { Entry, Key, Revision, Store, WatchEvent } from '../../core/store.js';
import { ALL_CRON, placeOfCronKey, type ShardPlace } from '../keys.js';
import type { ShardHolder } from '../shard-holder.js';
import type { Accepted, NewTask } from '../submission.js';
import { Agenda } from './agenda.js';
import { CronDefinitions } from './definitions.js';
import { type CronDefinition, type CronEntry, type CronState, encodeEntry } from './entry.js';
import { FireGate } from './fire-gate.js';
import { type KnownEntry, readEntry } from './known-entry.js';
import type { Schedule } from './schedule.js';
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
  readonly holder: Pick<ShardHolder, 'startsIn'>;
  readonly tasks: CronTasks;
}

/** What it does with the tasks of its fires. One that is not known any more has ended. */
export interface CronTasks {
  /** Puts a task; room in the queue is taken whatever there is. */
  submit(task: NewTask): Promise<Accepted>;
  isOpen(task: TaskId): Promise<boolean>;
  /** Resolves when the task has ended. */
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

export class Cron extends BaseService {
  readonly #ports: CronPorts;
  readonly #definitions: CronDefinitions;
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
    this.#definitions = new CronDefinitions({
      ...ports,
      isListed: this.#isListed,
      ending: this.#ending.signal,
      keyOf: (name) => this.#byName.get(name)?.key,
    });
  }

  protected async onStart(): Promise<void> {
    this.#following = this.#follow();
  }

  protected async onStop(): Promise<void> {
    this.#ending.abort();
    // Whoever waits for the first list hears that none comes.
    this.#listed?.();
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

  /** See `CronDefinitions.define`. */
  define(definition: CronDefinition): Promise<void> {
    return this.#definitions.define(definition);
  }

  /** See `CronDefinitions.remove`. */
  remove(definition: Pick<CronDefinition, 'name' | 'queue'>): Promise<boolean> {
    return this.#definitions.remove(definition);
  }

  /** See `CronDefinitions.list`. */
  list(): Promise<KnownEntry[]> {
    return this.#definitions.list();
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
    if (!this.#ports.holder.startsIn(known.place)) {
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
    const lastIsOpen =
      entry.last !== undefined && (await this.#ports.tasks.isOpen(entry.last.task));
    if (this.isStopping || known.entry !== entry) return;
    const step = nextStep(entry, known.schedule, { nowMs: clock.wallMs(), lastIsOpen });
    if (step === undefined) {
      if (lastIsOpen && entry.queued.length > 0) this.#awaitEnd(known, entry.last!.task);
      return;
    }
    if (step.replaces) {
      await this.#ports.tasks.cancel(entry.last!.task, 'replaced by the next fire');
      // The step is one from the entry as it was: another node may have taken it meanwhile.
      if (this.isStopping || known.entry !== entry) return;
    }
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
    this.#ports.tasks.untilEnded(task).then(onEnded, (error: unknown) => {
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
    const { segment, index } = await this.#ports.tasks.submit({
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
