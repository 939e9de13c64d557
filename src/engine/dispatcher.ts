/**
 * From ready to running and back: claims batches for a pool, hands them over once the claim is durable, and gives
 * what comes back to the policies (settler.ts).
 *
 *   claim()    inside a cut: the table picks tasks and marks them RUNNING, the pool's places are reserved
 *   launch()   the commit is done: batch frames with the commit's revision as fencing token run
 *   unclaim()  the commit failed: back to ready, as if nothing had been
 *
 * What was claimed under a lease that has ended is not launched: the node is dead to others, who run it by now, or are about to.
 * If its claim stands all the same, whoever owns the task by then is told that it has not been started (`putBackStale`).
 *
 * A result counts only for the claim that runs: the table knows each batch, and each slot answers once. While a batch
 * runs, its tasks are held to their limits (deadlines.ts).
 *
 * Suspects run alone: those that lost two threads or processes, and those that overlapped when a thread hung. One at a
 * time on the whole node, in the pool's thread in reserve, claimed only when that is free. So a thread that dies
 * there blames one task, a process that dies finds at most one claim of a task with two losses in the store, and the
 * other threads go on with everything else meanwhile.
 */
import { hasSubscribers, publish } from '../core/channels.js';
import { type Clock, instantOf } from '../core/clock.js';
import type { MillraceError } from '../core/errors.js';
import { FrameKind, openFrame, utf8 } from '../core/frame.js';
import type { Incarnation, SegmentRef, TaskId } from '../core/ids.js';
import type { BatchListener, Pool } from '../core/pool.js';
import { readBatchEntry } from '../core/records.js';
import { Outcome } from '../core/states.js';
import type { LeaseId, Revision } from '../core/store.js';
import { isUnavailable } from '../core/unavailable.js';
import type { Timers } from '../pool/deadlines.js';
import { type Death, deathOf } from '../pool/loss-policy.js';
import {
  type BatchHandle,
  type Claimed,
  type ClaimMode,
  type CutHandle,
  Place,
  STALE,
  type TaskHandle,
  type TaskTable,
} from '../timing/task-table.js';
import { ClaimLead } from './claim-lead.js';
import { type Flight, TaskDeadlines, type TimedTask } from './deadlines.js';
import { Idleness } from './idleness.js';
import type { Report } from './letters.js';
import type { Settler } from './settler.js';
import type { TaskTypes } from './task-types.js';

/**
 * Tasks of a batch at most. A thread gets a batch with one message, and its death makes suspects of those that ran; on the main thread
 * there is neither, and only what a batch costs by itself counts.
 */
const BATCH_TASKS_MAX = { [Place.THREAD]: 64, [Place.INLINE]: 256 } as const;
/** About so much work per batch: enough to pay for the message, little enough to keep places coming free. */
const BATCH_WORK_MS = 10;
/** A payload-heavy batch is closed early. */
const BATCH_BYTES_MAX = 1_048_576;

/** What a commit has room for; the claim takes from it. */
export interface ClaimRoom {
  /** Segments that it may touch newly. */
  readonly segmentsMax: number;
  note(claimed: { readonly segments: number; readonly segmentTasks: number }): void;
}

/** What a claim stands on. */
export interface ClaimTerms {
  /** The commit's revision. */
  readonly token: Revision;
  /** Of this node when it claimed; undefined where nobody shares the store. */
  readonly leaseId: LeaseId | undefined;
}

interface ClaimedBatch extends ClaimTerms {
  readonly batch: BatchHandle;
}

export interface DispatcherEvents {
  /** Whether anything may be started now; `resume()` follows when that changes. */
  mayStart(): boolean;
  /** Of this node now; undefined: it has none, or nobody shares the store. */
  leaseId(): LeaseId | undefined;
  /** A batch reports or ends: before anything of it is settled. */
  beforeReport(): void;
  /** Something changed that a commit has to write. */
  onChanged(): void;
  /** There may be something to claim. */
  onFree(): void;
  /** A running task says how far it is. */
  onProgress(task: TaskId, json: string): void;
  /** Nothing of what these tasks said holds any more. */
  onProgressOver(tasks: Iterable<TaskId>): void;
  /** What a task came to that belongs to another node by now; it is RUNNING and in no batch. */
  onOrphan(task: TaskHandle, report: Report): void;
}

/** Whose turn it is to run alone: one batch on the node, whatever its place. */
export interface AloneTurn {
  holder: BatchHandle | undefined;
}

export interface DispatcherOptions {
  readonly place: Place;
  readonly pool: Pool;
  readonly table: TaskTable;
  readonly types: TaskTypes;
  readonly settler: Settler;
  readonly clock: Clock;
  /** For deadlines; same time as the clock's. */
  readonly timers: Timers;
  /** Shared by the dispatchers of a node. */
  readonly turn: AloneTurn;
  readonly events: DispatcherEvents;
  /** Of the engine; what is published says so. */
  readonly incarnation: Incarnation;
}

export class Dispatcher {
  readonly #place: Place;
  readonly #batchTasksMax: number;
  readonly #pool: Pool;
  readonly #table: TaskTable;
  readonly #types: TaskTypes;
  readonly #settler: Settler;
  readonly #clock: Clock;
  readonly #turn: AloneTurn;
  readonly #events: DispatcherEvents;
  readonly #deadlines: TaskDeadlines;
  /** Whether what is ready is spread over the free places, and not put together as far as it goes. */
  readonly #spreads: boolean;
  /** What every event of this dispatcher says. */
  readonly #origin: { readonly incarnation: Incarnation; readonly pool: 'thread' | 'inline' };
  readonly #idleness = new Idleness();
  readonly #lead: ClaimLead;
  /** Batches for ordinary places, claimed by a commit that is not done. */
  #claimedCount = 0;
  /** Claimed for good, until the pool has a place. */
  #waiting: ClaimedBatch[] = [];
  /** The one that runs alone, claimed for good, until the thread in reserve is free. */
  #waitingAlone: ClaimedBatch | undefined;
  /** Claimed for good under a lease that has ended. */
  #stale: BatchHandle[] = [];
  readonly #flights = new Map<BatchHandle, Flight>();
  #isClosing = false;
  #isHeld = false;

  constructor(options: DispatcherOptions) {
    const { place, pool, table, types, timers } = options;
    this.#place = place;
    this.#batchTasksMax = BATCH_TASKS_MAX[place];
    this.#lead = new ClaimLead(this.#batchTasksMax);
    this.#pool = pool;
    this.#table = table;
    this.#types = types;
    this.#settler = options.settler;
    this.#clock = options.clock;
    this.#turn = options.turn;
    this.#events = options.events;
    this.#origin = {
      incarnation: options.incarnation,
      pool: place === Place.THREAD ? 'thread' : 'inline',
    };
    this.#deadlines = new TaskDeadlines(timers, (type) => types.timesOf(type));
    // On the main thread there is nobody to share with.
    this.#spreads = !types.isBatched(place, place === Place.INLINE ? 'some' : 'every');
    pool.onFree = () => {
      this.#launchWaiting();
      this.#events.onFree();
    };
    pool.onReserve = () => {
      this.#launchAlone();
      this.#events.onFree();
    };
    // A kill then costs no cold start. The net for everybody is not worth a thread.
    if (types.isLimited(place)) pool.keepReserve();
  }

  /** Whether claim() would find a task and a place. */
  get canClaim(): boolean {
    if (this.#isClosing || this.#isHeld) return false;
    const isReady = this.#freePlaces > 0 && this.#table.takeable(this.#place, 1) > 0;
    return isReady || this.#canClaimAlone();
  }

  /** Batches that may be claimed now; the ones beyond the pool's free places wait their turn, claimed. */
  get #freePlaces(): number {
    return this.#freeNow + this.#lead.batches(this.#pool.threadCount);
  }

  /** Batches that would find a place in the pool; negative: so many wait for one. */
  get #freeNow(): number {
    return this.#pool.freePlaces - this.#claimedCount - this.#waiting.length;
  }

  #canClaimAlone(): boolean {
    if (this.#turn.holder !== undefined || this.#table.takeable(this.#place, 1, true) === 0) {
      return false;
    }
    this.#pool.keepReserve();
    return this.#pool.isReserveFree;
  }

  /**
   * Claims ready tasks for every free place.
   *
   * @returns the batches; each must end in `launch` or `unclaim`
   */
  claim(cut: CutHandle, room: ClaimRoom): BatchHandle[] {
    if (this.#isClosing || this.#isHeld) return [];
    const batches = this.#claimAll(cut, room);
    if (batches.length > 0) this.#types.noteClaims();
    this.#idleness.noteClaim(batches.length > 0);
    return batches;
  }

  #claimAll(cut: CutHandle, room: ClaimRoom): BatchHandle[] {
    const batches: BatchHandle[] = [];
    if (this.#canClaimAlone()) {
      const claimed = this.#claim(cut, room, { tasksMax: 1, mode: 'alone' });
      if (claimed !== undefined) batches.push(claimed.batch);
      this.#turn.holder = claimed?.batch;
    }
    const places = this.#freePlaces;
    if (places <= 0) return batches;
    const takeable = this.#table.takeable(this.#place, places * this.#batchTasksMax);
    if (takeable === 0) return batches;
    // The threads share what there is evenly; only what is left over goes ahead.
    const shares = this.#spreads ? Math.max(1, Math.min(places, this.#pool.freePlaces)) : 1;
    const tasksMax = Math.min(Math.max(1, Math.ceil(takeable / shares)), this.#batchTasksMax);
    const freeNow = this.#freeNow;
    for (let place = 0; place < places; place++) {
      const mode = place < freeNow ? 'now' : 'ahead';
      const claimed = this.#claim(cut, room, { tasksMax, mode });
      if (claimed === undefined) break;
      batches.push(claimed.batch);
      this.#claimedCount++;
      if (!claimed.isMoreLikely) break;
    }
    return batches;
  }

  #claim(
    cut: CutHandle,
    room: ClaimRoom,
    { tasksMax, mode }: { readonly tasksMax: number; readonly mode: ClaimMode },
  ): Claimed | undefined {
    const limits = {
      place: this.#place,
      tasksMax,
      segmentsMax: Math.max(0, room.segmentsMax),
      bytesMax: BATCH_BYTES_MAX,
      workMsMax: BATCH_WORK_MS,
      mode,
    };
    const claimed = this.#table.claim(cut, limits, instantOf(this.#clock));
    if (claimed !== undefined) room.note(claimed);
    return claimed;
  }

  /** The claim is durable: runs the batches, each task with `token`. */
  launch(batches: readonly BatchHandle[], terms: ClaimTerms): void {
    if (this.#isClosing) return this.unclaim(batches);
    for (const batch of batches) {
      if (batch === this.#turn.holder) {
        this.#waitingAlone = { ...terms, batch };
      } else {
        this.#claimedCount--;
        this.#waiting.push({ ...terms, batch });
      }
    }
    this.#launchAlone();
    this.#launchWaiting();
  }

  /** The claim is not in the store, or shall not be used: the tasks are ready again. */
  unclaim(batches: readonly BatchHandle[]): void {
    for (const batch of batches) if (batch !== this.#turn.holder) this.#claimedCount--;
    this.#putBack(batches);
  }

  /** Starts nothing of what was claimed under a lease that has ended. REQUIRES: its shards have been let go of. */
  putBackStale(): void {
    this.#setStaleAside();
    this.#putBack(this.#stale.splice(0));
  }

  /** Whether batches may be claimed before there is a place for them. */
  allowClaimsAhead(isAllowed: boolean): void {
    this.#lead.isAllowed = isAllowed;
  }

  /** Whether a batch of ours is in the pool. */
  isRunning(batch: BatchHandle): boolean {
    return this.#flights.has(batch);
  }

  /** How long there has been something to claim and a place for it, and nothing was claimed; ms. */
  stalledMs(): number {
    return this.#idleness.stalledMs(this.canClaim, this.#clock.monoMs());
  }

  /** Asks a claimed or running task to end. */
  cancel(task: TaskHandle, reason: string): void {
    const place = this.#table.placeOf(task);
    if (place === undefined) return;
    this.#settler.cancelReasons.set(task, reason);
    this.#flights.get(place.batch)?.batch.cancel(place.slot, reason);
  }

  /** Claims nothing from here on. */
  stopClaiming(): void {
    this.#isClosing = true;
    const waiting = this.#waiting.splice(0);
    if (this.#waitingAlone !== undefined) waiting.push(this.#waitingAlone);
    this.#waitingAlone = undefined;
    this.#putBack([...this.#stale.splice(0), ...waiting.map(({ batch }) => batch)]);
  }

  /** Aborts the signal of everything that runs. */
  interruptAll(reason: string): void {
    for (const [batch, flight] of this.#flights) {
      for (const slot of this.#table.unreported(batch)) flight.batch.cancel(slot, reason);
    }
  }

  /** Ends the deadlines. REQUIRES: nothing runs. */
  close(): void {
    this.#deadlines.close();
  }

  #putBack(batches: readonly BatchHandle[]): void {
    for (const batch of batches) {
      for (const task of this.#table.unclaim(batch, instantOf(this.#clock))) {
        if (this.#isOrphan(task)) {
          this.#events.onOrphan(task, { kind: 'outcome', outcome: Outcome.NOT_STARTED, json: '' });
        } else this.#settler.cancel(task);
      }
      this.#endTurn(batch);
    }
    if (batches.length > 0) this.#events.onChanged();
  }

  #endTurn(batch: BatchHandle): void {
    if (this.#turn.holder === batch) this.#turn.holder = undefined;
  }

  /** Whether nothing is claimed or launched; what is claimed waits. */
  hold(isHeld: boolean): void {
    this.#isHeld = isHeld;
    if (!isHeld) this.resume();
  }

  /** Things may be started again. */
  resume(): void {
    this.#launchAlone();
    this.#launchWaiting();
  }

  #isOrphan(task: TaskHandle): boolean {
    return this.#table.inspect(task)?.isReleased === true;
  }

  #setStaleAside(): void {
    const leaseId = this.#events.leaseId();
    const isStale = (claimed: ClaimedBatch): boolean => claimed.leaseId !== leaseId;
    if (this.#waiting.some(isStale)) {
      this.#stale.push(...this.#waiting.filter(isStale).map(({ batch }) => batch));
      this.#waiting = this.#waiting.filter((claimed) => !isStale(claimed));
    }
    if (this.#waitingAlone === undefined || !isStale(this.#waitingAlone)) return;
    this.#stale.push(this.#waitingAlone.batch);
    this.#waitingAlone = undefined;
  }

  #launchWaiting(): void {
    if (this.#isHeld || !this.#events.mayStart()) return;
    this.#setStaleAside();
    while (this.#waiting.length > 0 && this.#pool.freePlaces > 0) {
      this.#run(this.#waiting.shift()!);
    }
  }

  #launchAlone(): void {
    if (this.#waitingAlone === undefined || !this.#pool.isReserveFree) return;
    if (this.#isHeld || !this.#events.mayStart()) return;
    this.#setStaleAside();
    const claimed = this.#waitingAlone;
    if (claimed === undefined) return;
    this.#waitingAlone = undefined;
    this.#run(claimed, { isAlone: true });
  }

  #run(
    { batch, token }: ClaimedBatch,
    { isAlone }: { readonly isAlone: boolean } = { isAlone: false },
  ): void {
    const limits = this.#deadlines.limits(this.#table.typesOf(batch));
    const frame = this.#table.launch(batch, token);
    if (hasSubscribers('millrace:batch:launched')) this.#tellLaunched(frame, limits);
    const heard = new Set<TaskId>();
    const listener: BatchListener = {
      onResults: (results) => this.#onResults(batch, results),
      onProgress: ({ taskId: task, json }) => {
        heard.add(task as TaskId);
        this.#events.onProgress(task as TaskId, json);
      },
      onEnd: (loss) => {
        this.#events.onProgressOver(heard);
        this.#onEnd(batch, loss);
      },
    };
    const running = isAlone
      ? this.#pool.runAlone(frame, listener)
      : this.#pool.run(frame, listener);
    this.#flights.set(batch, this.#deadlines.watch(running, limits));
    for (const [task, reason] of this.#settler.cancelReasons) {
      const place = this.#table.placeOf(task);
      if (place?.batch === batch) running.cancel(place.slot, reason);
    }
  }

  #onResults(batch: BatchHandle, frame: Uint8Array): void {
    this.#events.beforeReport();
    const verdicts = this.#table.applyResults(batch, frame, instantOf(this.#clock));
    const flight = this.#flights.get(batch);
    if (verdicts === undefined || flight === undefined) return;
    this.#lead.note(flight.note(frame));
    publish('millrace:batch:reported', () => ({ ...this.#origin, ...flight.columns(frame) }));
    const { tasks, outcomes, slots, attempts, offsets, lengths } = verdicts;
    for (let i = 0; i < verdicts.count; i++) {
      const slot = slots[i]!;
      if (outcomes[i] === STALE) {
        const attempt = attempts[i]!;
        publish('millrace:result:stale', () => ({ taskId: `slot ${slot}`, attempt }));
        continue;
      }
      const task = tasks[i] as TaskHandle;
      const bytes = frame.subarray(offsets[i]!, offsets[i]! + lengths[i]!);
      const outcome = outcomes[i] as Outcome;
      const overranMs = flight.overranMs(slot);
      const { adaptive } = flight.items[slot]!;
      if (adaptive !== undefined) {
        if (saysTooMuch(outcome, bytes, overranMs)) adaptive.noteOverloaded();
        else if (outcome !== Outcome.COMPLETED) adaptive.noteEnded();
      }
      if (this.#isOrphan(task)) {
        const overran = overranMs === undefined ? {} : { overranMs };
        this.#events.onOrphan(task, { kind: 'outcome', outcome, json: utf8(bytes), ...overran });
      } else this.#settler.settle(task, outcome, bytes, overranMs);
    }
    this.#types.adapt(instantOf(this.#clock));
    this.#events.onChanged();
  }

  /** One task stands for its batch: looking all of them up would cost more than starting them. */
  #tellLaunched(batch: Uint8Array, items: readonly TimedTask[]): void {
    const { segment, index } = readBatchEntry(openFrame(batch, FrameKind.BATCH), 0);
    const found = this.#table.findSegment(segment as SegmentRef);
    const info = this.#table.inspect(this.#table.taskAt(found, index));
    if (info === undefined) return;
    publish('millrace:batch:launched', () => ({
      ...this.#origin,
      tasks: items.length,
      queue: items[0]!.spec.queue,
      waitMs: Math.max(0, this.#clock.wallMs() - info.dueAtMs),
    }));
  }

  #onEnd(batch: BatchHandle, loss: MillraceError | undefined): void {
    this.#events.beforeReport();
    const flight = this.#flights.get(batch);
    this.#flights.delete(batch);
    if (flight !== undefined) this.#deadlines.end(flight);
    this.#settler.forgetReasons();
    const slots = flight?.overdue === undefined ? [] : this.#table.unreported(batch);
    const lost = this.#table.loseBatch(batch);
    const death: Death = deathOf(loss) ?? { reason: 'killed', begun: lost.length };
    for (const [i, task] of lost.entries()) {
      const overranMs = slots.length > 0 ? flight?.overranMs(slots[i]!) : undefined;
      if (overranMs !== undefined) flight?.items[slots[i]!]?.adaptive?.noteOverloaded();
      if (this.#isOrphan(task)) {
        this.#events.onOrphan(task, reportOfLoss(death, overranMs));
      } else if (death.reason === 'shutdown') {
        this.#settler.runAgain(task);
      } else {
        this.#settler.lose(task, death, { overranMs, cause: loss });
      }
    }
    this.#endTurn(batch);
    this.#types.adapt(instantOf(this.#clock));
    if (lost.length > 0) this.#events.onChanged();
    this.#events.onFree();
  }
}

/** Whether an outcome says that what the handler calls gets more than it bears. */
function saysTooMuch(outcome: Outcome, bytes: Uint8Array, overranMs: number | undefined): boolean {
  if (outcome === Outcome.COMPLETED || outcome === Outcome.SNOOZED) return false;
  if (overranMs !== undefined) return true;
  const isFailure = outcome === Outcome.FAILED || outcome === Outcome.FAILED_FOR_GOOD;
  return isFailure && isUnavailable(JSON.parse(utf8(bytes)));
}

/** What the owner of a task is told whose thread died here. */
function reportOfLoss(death: Death, overranMs: number | undefined): Report {
  // Interrupted by this node's end: it spends no attempt, and nothing is held against it.
  if (death.reason === 'shutdown') {
    return { kind: 'outcome', outcome: Outcome.NOT_STARTED, json: '' };
  }
  return { kind: 'lost', death, ...(overranMs !== undefined && { overranMs }) };
}
