/**
 * Packs single items into batches and hands each its own end.
 *
 *   submit -> [ queue ] --places free--> batch of 1..max -> pool -> results -> item.onValue / item.onError
 *                 ^----- not started ------'
 *
 * When to send: as soon as a place is free. The queue is looked at once the code that submits has run to its end,
 * so a lone item leaves at once and a loop's items leave together; while all places are busy, items pile up and
 * the next batch is larger. No timer is needed for that; `lingerMs` adds one for those who prefer fewer messages.
 *
 * How many: what waits, shared among the threads, up to `max`, and no more than about BATCH_MS of work by the
 * measured time per item, so that a batch neither hides its first result for long nor ties work to a busy thread.
 *
 * A thread that dies gives back what had not begun, at the front of the queue. What had begun is judged
 * (loss-policy.ts): it runs again, or in a batch of its own in the thread in reserve, or ends with an error.
 *
 * Invariants: (1) each item ends exactly once; (2) an item is in one of both queues, in flight, or ended; (3) permits
 * are not handled here: `onEnded` says how many items and bytes have left.
 */
import { fromWire, type WireError } from '../core/error-wire.js';
import { MillraceError } from '../core/errors.js';
import type { RunningBatch, TaskProgress } from '../core/pool.js';
import { Outcome } from '../core/states.js';
import { DeadlineWatch, type Limits, overran, type Timers, type Watched } from './deadlines.js';
import { type ItemPayload, ItemResults, itemFrame } from './item-frames.js';
import { type Death, deathOf, judge, type LossRecord } from './loss-policy.js';
import { RunTimes } from './run-times.js';
import type { ThreadPool } from './thread-pool.js';

/** Where an item is. */
export const ItemStage = { NEW: 0, QUEUED: 1, RUNNING: 2, ENDED: 3 } as const;
export type ItemStage = (typeof ItemStage)[keyof typeof ItemStage];

/** One item on its way. Everything but the callbacks and the datum is the batcher's. */
export interface Item extends ItemPayload {
  /** How long it may run; 0 means what the pool's items may. */
  readonly timeoutMs: number;
  stage: ItemStage;
  /** Nobody waits for it any more. */
  isDropped: boolean;
  /** While it runs. */
  flight: Flight | undefined;
  slot: number;
  /** Hears how far its handler is. */
  readonly onProgress?: ((value: unknown) => void) | undefined;
  onValue(value: unknown): void;
  onError(error: unknown): void;
}

interface Flight extends Watched {
  readonly items: (Item | undefined)[];
  /** Items in it. */
  left: number;
  batch: RunningBatch | undefined;
}

/** How items are packed; may change at any time, and holds for what is packed from then on. */
export interface Packing {
  readonly max: number;
  readonly lingerMs: number;
}

export interface BatcherOptions {
  readonly packing: Packing;
  readonly limits: Limits;
  /** For items whose thread died under them. */
  readonly onLost: 'retry' | 'fail';
}

export interface BatcherCounts {
  completed: number;
  failed: number;
  timedOut: number;
  lost: number;
  batches: number;
  batchedItems: number;
}

/** Work in one batch, by the measured time per item. */
const BATCH_MS = 10;
/** Measured work that a thread has before it, where small batches make that possible. */
const AHEAD_MS = 0.5;
/** Room for waiting items that stays when there are none. */
const QUEUE_KEPT = 4_096;
const PLACES_MIN = 2;
const PLACES_MAX = 8;

export class Batcher {
  readonly counts: BatcherCounts = {
    completed: 0,
    failed: 0,
    timedOut: 0,
    lost: 0,
    batches: 0,
    batchedItems: 0,
  };
  readonly times: RunTimes = new RunTimes();
  packing: Packing;
  readonly #pool: ThreadPool;
  readonly #options: BatcherOptions;
  readonly #onEnded: (items: number, bytes: number) => void;
  readonly #watch: DeadlineWatch;
  #queue: (Item | undefined)[] = [];
  /** The queue is between these two; what is outside is undefined, and room for more. */
  #head = 0;
  #tail = 0;
  /** Items that run with nothing beside them. */
  #alone: Item[] = [];
  /** Of items that lost a thread. */
  readonly #records = new Map<Item, LossRecord>();
  #inFlight = 0;
  #isSendPlanned = false;
  readonly #sendPlanned = (): void => {
    this.#isSendPlanned = false;
    this.send();
  };

  constructor(
    timers: Timers,
    pool: ThreadPool,
    options: BatcherOptions,
    onEnded: (items: number, bytes: number) => void,
  ) {
    this.#pool = pool;
    this.#options = options;
    this.packing = options.packing;
    this.#onEnded = onEnded;
    this.#watch = new DeadlineWatch(timers, options.limits.graceMs);
    pool.onFree = () => this.send();
    pool.onReserve = () => this.#sendAlone();
    if (options.limits.isLimited) pool.keepReserve();
  }

  /** Items that wait for a place. */
  get queued(): number {
    return this.#tail - this.#head + this.#alone.length;
  }

  get running(): number {
    return this.#inFlight;
  }

  /** REQUIRES: permits for the item are held. */
  submit(item: Item): void {
    item.stage = ItemStage.QUEUED;
    if (item.timeoutMs > 0) this.#pool.keepReserve();
    this.#queue[this.#tail++] = item;
    if (this.#isSendPlanned) return;
    this.#isSendPlanned = true;
    const { lingerMs } = this.packing;
    if (lingerMs > 0) setTimeout(this.#sendPlanned, lingerMs);
    else process.nextTick(this.#sendPlanned);
  }

  /** Fills the free places. */
  send(): void {
    if (this.#head === this.#tail) return;
    this.#pool.places = this.#places();
    // Shared out once: halving what is left again and again would end in batches of one.
    const size = this.#batchSize();
    while (this.#head < this.#tail && this.#pool.freePlaces > 0) {
      const items = this.#take(size);
      if (items.length > 0) this.#launch(items);
    }
  }

  /** Batches a thread has at once: two, or as many more as keep a thread busy while this one does something else. */
  #places(): number {
    const { meanMs } = this.times;
    if (meanMs === 0) return PLACES_MIN;
    const batches = Math.ceil(AHEAD_MS / (meanMs * this.packing.max));
    return Math.min(PLACES_MAX, Math.max(PLACES_MIN, batches));
  }

  /** Nobody waits for the item any more: it does not begin if that can still be helped, else its signal is aborted. */
  drop(item: Item, reason: string): void {
    if (item.isDropped || item.stage === ItemStage.ENDED) return;
    item.isDropped = true;
    if (item.stage === ItemStage.RUNNING) {
      item.flight!.batch?.cancel(item.slot, reason);
    } else if (item.stage === ItemStage.QUEUED) {
      // It stays where it is and is skipped; its permit is free now.
      item.stage = ItemStage.ENDED;
      this.#records.delete(item);
      this.#onEnded(1, item.byteLength);
    }
  }

  /** Ends everything that waits for a place. */
  refuseQueued(error: MillraceError): void {
    const waiting = [...this.#take(this.queued), ...this.#alone.filter((item) => !item.isDropped)];
    this.#alone = [];
    let bytes = 0;
    for (const item of waiting) {
      bytes += item.byteLength;
      item.stage = ItemStage.ENDED;
      this.#records.delete(item);
      item.onError(error);
    }
    if (waiting.length > 0) this.#onEnded(waiting.length, bytes);
  }

  #batchSize(): number {
    const { meanMs } = this.times;
    const queued = this.#tail - this.#head;
    const share = Math.ceil(queued / Math.max(1, this.#pool.threadCount));
    const work = meanMs > 0 ? Math.ceil(BATCH_MS / meanMs) : this.packing.max;
    return Math.min(this.packing.max, share, work);
  }

  /** The next items that somebody still waits for. */
  #take(count: number): Item[] {
    const items: Item[] = [];
    while (items.length < count && this.#head < this.#tail) {
      const item = this.#queue[this.#head]!;
      this.#queue[this.#head++] = undefined;
      if (!item.isDropped) items.push(item);
    }
    if (this.#head === this.#tail) {
      // Its room is kept, for growing it again would cost every item.
      if (this.#tail > QUEUE_KEPT) this.#queue = [];
      this.#head = 0;
      this.#tail = 0;
    } else if (this.#head > QUEUE_KEPT && this.#head * 2 > this.#tail) {
      this.#queue = this.#queue.slice(this.#head, this.#tail);
      this.#tail -= this.#head;
      this.#head = 0;
    }
    return items;
  }

  #launch(items: Item[], isAlone = false): void {
    const limitMs = this.#options.limits.limitMs(this.times);
    const flight: Flight = {
      items,
      left: items.length,
      batch: undefined,
      limitMs,
      overdue: undefined,
    };
    let shortestMs = limitMs;
    for (let slot = 0; slot < items.length; slot++) {
      const item = items[slot]!;
      item.stage = ItemStage.RUNNING;
      item.flight = flight;
      item.slot = slot;
      if (item.timeoutMs > 0) shortestMs = Math.min(shortestMs, item.timeoutMs);
    }
    this.counts.batches++;
    this.counts.batchedItems += items.length;
    this.#inFlight += items.length;
    const frame = itemFrame(items);
    const listener = {
      onResults: (results: Uint8Array) => this.#onResults(flight, results),
      onProgress: (progress: TaskProgress) => this.#onProgress(flight, progress),
      onEnd: (loss: MillraceError | undefined) => this.#onEnd(flight, loss),
    };
    flight.batch = isAlone ? this.#pool.runAlone(frame, listener) : this.#pool.run(frame, listener);
    if (shortestMs < Number.POSITIVE_INFINITY) this.#watch.add(flight, shortestMs);
  }

  /** One at a time, in the thread that is kept for them. */
  #sendAlone(): void {
    while (this.#alone.length > 0 && this.#pool.isReserveFree) {
      const item = this.#alone.shift()!;
      if (!item.isDropped) this.#launch([item], true);
    }
  }

  #onResults(flight: Flight, frame: Uint8Array): void {
    let ended = 0;
    let bytes = 0;
    let again: Item[] | undefined;
    const results = new ItemResults(frame);
    for (let index = 0; index < results.count; index++) {
      const slot = results.slot(index);
      const item = flight.items[slot];
      if (item === undefined) continue;
      flight.items[slot] = undefined;
      flight.left--;
      item.flight = undefined;
      this.#inFlight--;
      const outcome = results.outcome(index);
      if (outcome === Outcome.NOT_STARTED && !item.isDropped) {
        again ??= [];
        again.push(item);
        continue;
      }
      item.stage = ItemStage.ENDED;
      ended++;
      bytes += item.byteLength;
      const runMs = results.runMs(index);
      if (runMs > 0) this.times.add(runMs);
      if (this.#records.size > 0) this.#records.delete(item);
      if (item.isDropped) continue;
      if (outcome === Outcome.COMPLETED) {
        this.counts.completed++;
        item.onValue(results.value(index));
      } else if (outcome === Outcome.CANCELLED && flight.overdue?.has(slot)) {
        this.#timeOut(item, flight);
      } else {
        this.#failed(item, outcome, results.value(index));
      }
    }
    if (again !== undefined) this.#requeue(again);
    if (ended > 0) this.#onEnded(ended, bytes);
    this.send();
  }

  #onProgress(flight: Flight, { slot, json }: TaskProgress): void {
    const item = flight.items[slot];
    if (item?.onProgress === undefined || item.isDropped) return;
    try {
      item.onProgress(JSON.parse(json));
    } catch (error) {
      this.drop(item, 'onProgress threw');
      item.onError(error);
    }
  }

  #timeOut(item: Item, flight: Flight): void {
    this.counts.failed++;
    this.counts.timedOut++;
    item.onError(overran(item.timeoutMs || flight.limitMs));
  }

  /** To the front: they had their turn. */
  #requeue(items: readonly Item[]): void {
    if (items.length === 0) return;
    const shared: Item[] = [];
    for (const item of items) {
      item.stage = ItemStage.QUEUED;
      (this.#records.get(item)?.mustBeAlone ? this.#alone : shared).push(item);
    }
    if (shared.length > 0) {
      this.#queue = [...shared, ...this.#queue.slice(this.#head, this.#tail)];
      this.#head = 0;
      this.#tail = this.#queue.length;
    }
    if (this.#alone.length > 0) {
      this.#pool.keepReserve();
      this.#sendAlone();
    }
  }

  #failed(item: Item, outcome: Outcome, value: unknown): void {
    this.counts.failed++;
    if (outcome === Outcome.CANCELLED) {
      const reason = String(value);
      item.onError(
        new MillraceError('ERR_MILLRACE_TASK_CANCELLED', `the item was cancelled: ${reason}`, {
          details: { reason },
        }),
      );
    } else if (outcome === Outcome.SNOOZED) {
      item.onError(
        new MillraceError(
          'ERR_MILLRACE_TASK_FAILED',
          'a BatchPool cannot run an item again later; snooze belongs to tasks of a runtime',
        ),
      );
    } else {
      item.onError(fromWire(value as WireError));
    }
  }

  #onEnd(flight: Flight, loss: MillraceError | undefined): void {
    this.#watch.remove(flight);
    // All have been told; the usual end.
    if (flight.left === 0) {
      this.send();
      return;
    }
    const death = deathOf(loss);
    const again: Item[] = [];
    let ended = 0;
    let bytes = 0;
    for (const [slot, item] of flight.items.entries()) {
      if (item === undefined) continue;
      item.flight = undefined;
      this.#inFlight--;
      if (!this.#endsWith(item, { flight, slot, loss, death })) {
        again.push(item);
        continue;
      }
      item.stage = ItemStage.ENDED;
      this.#records.delete(item);
      ended++;
      bytes += item.byteLength;
    }
    this.#requeue(again);
    if (ended > 0) this.#onEnded(ended, bytes);
    this.send();
  }

  /** What comes of an item that had begun when its batch ended. Returns whether it ends too, and told so. */
  #endsWith(
    item: Item,
    {
      flight,
      slot,
      loss,
      death,
    }: {
      readonly flight: Flight;
      readonly slot: number;
      readonly loss: MillraceError | undefined;
      readonly death: Death | undefined;
    },
  ): boolean {
    if (item.isDropped) return true;
    if (death === undefined) {
      this.counts.failed++;
      item.onError(loss);
      return true;
    }
    const record = this.#records.get(item) ?? { losses: 0, mustBeAlone: false };
    const isOverdue = flight.overdue?.has(slot) ?? false;
    const verdict = judge(record, death, { isOverdue, onLost: this.#options.onLost });
    if (verdict === 'again') {
      this.#records.set(item, record);
      return false;
    }
    if (verdict === 'blame') {
      this.#timeOut(item, flight);
    } else {
      this.counts.lost++;
      item.onError(loss);
    }
    return true;
  }

  /** Watches no more. REQUIRES: nothing is in flight. */
  close(): void {
    this.#watch.close();
  }
}
