/**
 * Forgets what has been kept long enough: finished tasks by age and by bytes, dead letters and idempotency keys by
 * age. It works in windows, oldest first, so that forgetting a million tasks is a handful of range deletes.
 *
 * The janitor writes beside the commit lane: what it deletes nobody writes any more, so the order does not matter
 * and a lost answer is made good by the next round.
 */
import { publish } from '../core/channels.js';
import type { Clock, WakeUp } from '../core/clock.js';
import { isMillraceError } from '../core/errors.js';
import { FrameKind, openFrame } from '../core/frame.js';
import type { SegmentRef } from '../core/ids.js';
import { readState } from '../core/records.js';
import { BaseService } from '../core/service.js';
import { type KeyRange, keyAfter, type Store } from '../core/store.js';
import { deadLetterFiledAtMs } from './finished.js';
import {
  ALL_DEAD_LETTERS,
  ALL_FINISHED,
  finishedWindow,
  finishedWindowRange,
  idempotencyKeysBefore,
  windowOfFinishedKey,
} from './keys.js';

/** What is kept, and for how long. */
export interface RetentionMs {
  /** How long ended tasks and their results are kept; 0 keeps none. */
  readonly completedMs: number;
  readonly completedBytesMax: number;
  /** How long dead letters are kept. */
  readonly failedMs: number;
  /** How long an idempotency key is known, at least; at most twice as long. */
  readonly idempotencyMs: number;
}

/** How often it looks; retention is a matter of minutes at the finest. */
const ROUND_MS = 60_000;
/** Every so many rounds it also reads all dead letters, to find the old ones. */
const DEAD_LETTER_ROUNDS = 60;
const PAGE_ENTRIES = 512;

/** Finished tasks of one queue and window. */
interface FinishedWindow {
  readonly queue: string;
  readonly startMs: number;
  bytes: number;
  /** When the last task was filed there; a window is as old as its youngest task. */
  newestAtMs: number;
}

export class Janitor extends BaseService {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #retention: RetentionMs;
  readonly #windows = new Map<string, FinishedWindow>();
  #wakeUp: WakeUp | undefined;
  #round: Promise<void> = Promise.resolve();
  #roundCount = 0;

  constructor(store: Store, clock: Clock, retention: RetentionMs) {
    super();
    this.#store = store;
    this.#clock = clock;
    this.#retention = retention;
  }

  /** This process is about to file so many bytes of finished tasks of a segment. */
  noteFiled(segment: SegmentRef, bytes: number, atMs: number): void {
    const queue = segment.slice(0, segment.indexOf('.'));
    this.#tally(queue, finishedWindow(segment), bytes, atMs);
  }

  protected async onStart(): Promise<void> {
    this.#arm();
  }

  protected async onStop(): Promise<void> {
    this.#wakeUp?.cancel();
    await this.#round;
  }

  #arm(): void {
    this.#wakeUp = this.#clock.wakeIn(ROUND_MS, () => {
      this.#round = this.#sweep().then(() => {
        if (!this.isStopping) this.#arm();
      });
    });
  }

  async #sweep(): Promise<void> {
    try {
      if (this.#roundCount === 0) await this.#tallyStored();
      await this.#sweepFinished();
      if (this.#roundCount % DEAD_LETTER_ROUNDS === 0) await this.#sweepDeadLetters();
      const oldest = this.#clock.wallMs() - 2 * this.#retention.idempotencyMs;
      if (oldest > 0) await this.#delete(idempotencyKeysBefore(oldest));
      this.#roundCount++;
    } catch (thrown) {
      // The store is in trouble or closing; the next round starts over.
      if (!isMillraceError(thrown)) throw thrown;
      publish('millrace:janitor:failed', () => ({ cause: thrown }));
    }
  }

  #tally(queue: string, startMs: number, bytes: number, atMs: number): void {
    const name = `${queue}/${startMs}`;
    let window = this.#windows.get(name);
    if (window === undefined) {
      window = { queue, startMs, bytes: 0, newestAtMs: 0 };
      this.#windows.set(name, window);
    }
    window.bytes += bytes;
    window.newestAtMs = Math.max(window.newestAtMs, atMs);
  }

  /** Counts what earlier processes left; what this one filed has been counted as it was. */
  async #tallyStored(): Promise<void> {
    this.#windows.clear();
    await this.#eachEntry(ALL_FINISHED, (key, value) => {
      const atMs = filedAtMs(key, () => readState(openFrame(value, FrameKind.STATES), 0).atMs);
      this.#tally(key.split('/')[1]!, windowOfFinishedKey(key), key.length + value.length, atMs);
    });
  }

  async #sweepFinished(): Promise<void> {
    const oldestFirst = [...this.#windows].sort(([, a], [, b]) => a.startMs - b.startMs);
    let bytes = oldestFirst.reduce((sum, [, window]) => sum + window.bytes, 0);
    const expiredBeforeMs = this.#clock.wallMs() - this.#retention.completedMs;
    for (const [name, window] of oldestFirst) {
      const isOld = window.newestAtMs < expiredBeforeMs;
      if (!isOld && bytes <= this.#retention.completedBytesMax) continue;
      await this.#delete(finishedWindowRange(window.queue, window.startMs));
      this.#windows.delete(name);
      bytes -= window.bytes;
    }
  }

  async #sweepDeadLetters(): Promise<void> {
    const expiredBeforeMs = this.#clock.wallMs() - this.#retention.failedMs;
    const expired: string[] = [];
    await this.#eachEntry(ALL_DEAD_LETTERS, (key, value) => {
      const atMs = filedAtMs(key, () => deadLetterFiledAtMs(value));
      if (atMs < expiredBeforeMs) expired.push(key);
    });
    const groupSize = this.#store.limits.operationsMax;
    for (let at = 0; at < expired.length; at += groupSize) {
      const success = expired
        .slice(at, at + groupSize)
        .map((key) => ({ type: 'delete', key }) as const);
      await this.#store.txn({ compares: [], success });
    }
  }

  async #eachEntry(
    range: KeyRange,
    visit: (key: string, value: Uint8Array) => void,
  ): Promise<void> {
    for (let from = range.from; ; ) {
      const page = await this.#store.range({ from, to: range.to }, { limit: PAGE_ENTRIES });
      for (const entry of page.entries) visit(entry.key, entry.value);
      const last = page.entries.at(-1);
      if (!page.more || last === undefined) return;
      from = keyAfter(last.key);
    }
  }

  async #delete(range: KeyRange): Promise<void> {
    await this.#store.txn({ compares: [], success: [{ type: 'deleteRange', range }] });
  }
}

/** When a record was filed; one that does not decode is reported and counts as old, or it would stay for ever. */
function filedAtMs(key: string, read: () => number): number {
  try {
    return read();
  } catch (cause) {
    if (!isMillraceError(cause)) throw cause;
    publish('millrace:store:corrupt', () => ({ key, cause }));
    return 0;
  }
}
