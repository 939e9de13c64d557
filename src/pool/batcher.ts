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
 * Invariants: (1) each item ends exactly once; (2) an item is in the queue, in flight, or ended; (3) permits are
 * not handled here: `onEnded` says how many items and bytes have left.
 */
import { fromWire } from '../core/error-wire.js';
import { MillraceError } from '../core/errors.js';
import type { Pool, RunningBatch } from '../core/pool.js';
import { Outcome } from '../core/states.js';
import { ItemFrameWriter, readResults } from './item-frames.js';

/** Where an item is. */
export const ItemStage = { NEW: 0, QUEUED: 1, RUNNING: 2, ENDED: 3 } as const;
export type ItemStage = (typeof ItemStage)[keyof typeof ItemStage];

/** One item on its way. Everything but the callbacks and the datum is the batcher's. */
export interface Item {
  readonly json: string;
  readonly byteLength: number;
  stage: ItemStage;
  /** Nobody waits for it any more. */
  isDropped: boolean;
  /** While it runs. */
  flight: Flight | undefined;
  slot: number;
  onValue(value: unknown): void;
  onError(error: unknown): void;
}

interface Flight {
  readonly items: (Item | undefined)[];
  running: RunningBatch | undefined;
}

export interface BatcherOptions {
  readonly max: number;
  readonly lingerMs: number;
}

export interface BatcherCounts {
  completed: number;
  failed: number;
  lost: number;
  batches: number;
  batchedItems: number;
}

/** Work in one batch, by the measured time per item. */
const BATCH_MS = 10;
/** Of a new measurement in the mean time per item. */
const EWMA_SHARE = 0.05;

export class Batcher {
  readonly counts: BatcherCounts = {
    completed: 0,
    failed: 0,
    lost: 0,
    batches: 0,
    batchedItems: 0,
  };
  readonly #pool: Pool;
  readonly #options: BatcherOptions;
  readonly #onEnded: (items: number, bytes: number) => void;
  readonly #writer = new ItemFrameWriter();
  #queue: Item[] = [];
  /** Items before it have left; they are cut off now and then. */
  #head = 0;
  #inFlight = 0;
  #isSendPlanned = false;
  #meanRunMs = 0;

  constructor(
    pool: Pool,
    options: BatcherOptions,
    onEnded: (items: number, bytes: number) => void,
  ) {
    this.#pool = pool;
    this.#options = options;
    this.#onEnded = onEnded;
    pool.onFree = () => this.send();
  }

  /** Items that wait for a place. */
  get queued(): number {
    return this.#queue.length - this.#head;
  }

  get running(): number {
    return this.#inFlight;
  }

  /** Mean time per item; 0 until one has been measured. */
  get meanRunMs(): number {
    return this.#meanRunMs;
  }

  /** REQUIRES: permits for the item are held. */
  submit(item: Item): void {
    item.stage = ItemStage.QUEUED;
    this.#queue.push(item);
    if (this.#isSendPlanned) return;
    this.#isSendPlanned = true;
    const send = (): void => {
      this.#isSendPlanned = false;
      this.send();
    };
    if (this.#options.lingerMs > 0) setTimeout(send, this.#options.lingerMs);
    else process.nextTick(send);
  }

  /** Fills the free places. */
  send(): void {
    while (this.queued > 0 && this.#pool.freePlaces > 0) {
      const items = this.#take(this.#batchSize());
      if (items.length > 0) this.#launch(items);
    }
  }

  /** Nobody waits for the item any more: it does not begin if that can still be helped, else its signal is aborted. */
  drop(item: Item, reason: string): void {
    if (item.isDropped || item.stage === ItemStage.ENDED) return;
    item.isDropped = true;
    if (item.stage === ItemStage.RUNNING) {
      item.flight!.running?.cancel(item.slot, reason);
    } else if (item.stage === ItemStage.QUEUED) {
      // It stays where it is and is skipped; its permit is free now.
      item.stage = ItemStage.ENDED;
      this.#onEnded(1, item.byteLength);
    }
  }

  /** Ends everything that waits for a place. */
  refuseQueued(error: MillraceError): void {
    const waiting = this.#take(this.queued);
    let bytes = 0;
    for (const item of waiting) {
      bytes += item.byteLength;
      item.stage = ItemStage.ENDED;
      item.onError(error);
    }
    if (waiting.length > 0) this.#onEnded(waiting.length, bytes);
  }

  #batchSize(): number {
    const share = Math.ceil(this.queued / Math.max(1, this.#pool.threadCount));
    const work = this.#meanRunMs > 0 ? Math.ceil(BATCH_MS / this.#meanRunMs) : this.#options.max;
    return Math.min(this.#options.max, share, work);
  }

  /** The next items that somebody still waits for. */
  #take(count: number): Item[] {
    const items: Item[] = [];
    while (items.length < count && this.#head < this.#queue.length) {
      const item = this.#queue[this.#head++]!;
      if (!item.isDropped) items.push(item);
    }
    if (this.#head === this.#queue.length) {
      this.#queue.length = 0;
      this.#head = 0;
    } else if (this.#head > 1_024 && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    return items;
  }

  #launch(items: Item[]): void {
    const flight: Flight = { items, running: undefined };
    for (let slot = 0; slot < items.length; slot++) {
      const item = items[slot]!;
      item.stage = ItemStage.RUNNING;
      item.flight = flight;
      item.slot = slot;
      this.#writer.add(item.json, item.byteLength);
    }
    this.counts.batches++;
    this.counts.batchedItems += items.length;
    this.#inFlight += items.length;
    flight.running = this.#pool.run(this.#writer.finish(), {
      onResults: (frame) => this.#onResults(flight, frame),
      onEnd: (loss) => this.#onEnd(flight, loss),
    });
  }

  #onResults(flight: Flight, frame: Uint8Array): void {
    let ended = 0;
    let bytes = 0;
    const again: Item[] = [];
    readResults(frame, (slot, outcome, runMs, json) => {
      const item = flight.items[slot];
      if (item === undefined) return;
      flight.items[slot] = undefined;
      item.flight = undefined;
      this.#inFlight--;
      if (outcome === Outcome.NOT_STARTED && !item.isDropped) {
        item.stage = ItemStage.QUEUED;
        again.push(item);
        return;
      }
      item.stage = ItemStage.ENDED;
      ended++;
      bytes += item.byteLength;
      if (runMs > 0) {
        this.#meanRunMs += (runMs - this.#meanRunMs) * (this.#meanRunMs > 0 ? EWMA_SHARE : 1);
      }
      if (!item.isDropped) this.#settle(item, outcome, json);
    });
    // To the front: they had their turn.
    if (again.length > 0) {
      this.#queue = [...again, ...this.#queue.slice(this.#head)];
      this.#head = 0;
    }
    if (ended > 0) this.#onEnded(ended, bytes);
    this.send();
  }

  #settle(item: Item, outcome: Outcome, json: string): void {
    if (outcome === Outcome.COMPLETED) {
      this.counts.completed++;
      item.onValue(json === '' ? undefined : JSON.parse(json));
      return;
    }
    this.counts.failed++;
    if (outcome === Outcome.CANCELLED) {
      const reason = String(JSON.parse(json));
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
      item.onError(fromWire(JSON.parse(json)));
    }
  }

  #onEnd(flight: Flight, loss: MillraceError | undefined): void {
    let ended = 0;
    let bytes = 0;
    for (const item of flight.items) {
      if (item === undefined) continue;
      item.stage = ItemStage.ENDED;
      item.flight = undefined;
      ended++;
      bytes += item.byteLength;
      this.counts.lost++;
      if (!item.isDropped) item.onError(loss);
    }
    this.#inFlight -= ended;
    if (ended > 0) this.#onEnded(ended, bytes);
    this.send();
  }
}
