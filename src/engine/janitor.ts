/**
 * Forgets what has been kept long enough: finished tasks and dead letters by age and by bytes, idempotency keys by
 * age. It works in windows, oldest first, so that forgetting a million finished tasks is a handful of range deletes.
 *
 * Dead letters are few and lie by id, for whoever looks for one: to find the old ones, all are read. That happens once
 * an hour, and when this process has filed enough of them to pass the bound on bytes. A first reading tallies bytes
 * by the minute of filing and finds from which minute on they fit; a second one deletes what is older, if there is any.
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
import { type Entry, type KeyRange, keyAfter, type Store } from '../core/store.js';
import { deadLetterFiledAtMs } from './finished.js';
import {
  ALL_DEAD_LETTERS,
  ALL_FINISHED,
  debounceKeysBefore,
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
  readonly failedBytesMax: number;
  /** How long an idempotency key is known, at least; at most twice as long. */
  readonly idempotencyMs: number;
}

/** How often it looks; retention is a matter of minutes at the finest. */
const ROUND_MS = 60_000;
/** Every so many rounds it also reads all dead letters, to find the old ones. */
const DEAD_LETTER_ROUNDS = 60;
/** Dead letters go by windows of this length. */
const DEAD_LETTER_WINDOW_MS = 60_000;
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
  /** Of all dead letters as last read, and of those that this process has filed since. */
  #deadLetterBytes = 0;

  constructor(store: Store, clock: Clock, retention: RetentionMs) {
    super();
    this.#store = store;
    this.#clock = clock;
    this.#retention = retention;
  }

  /** This process is about to file so many bytes of finished tasks of a segment. */
  noteFiled(segment: SegmentRef, bytes: number): void {
    const queue = segment.slice(0, segment.indexOf('.'));
    this.#tally(queue, finishedWindow(segment), bytes, this.#clock.wallMs());
  }

  /** This process is about to file a dead letter of so many bytes. */
  noteDeadLetter(bytes: number): void {
    this.#deadLetterBytes += bytes;
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
      const isOver = this.#deadLetterBytes > this.#retention.failedBytesMax;
      if (isOver || this.#roundCount % DEAD_LETTER_ROUNDS === 0) await this.#sweepDeadLetters();
      const oldest = this.#clock.wallMs() - 2 * this.#retention.idempotencyMs;
      if (oldest > 0) {
        await this.#delete(idempotencyKeysBefore(oldest));
        await this.#delete(debounceKeysBefore(oldest));
      }
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
    await this.#eachEntry(ALL_FINISHED, ({ key, value }) => {
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
    const bytesByWindow = new Map<number, number>();
    this.#deadLetterBytes = 0;
    let oldestAtMs = Number.POSITIVE_INFINITY;
    await this.#eachEntry(ALL_DEAD_LETTERS, ({ key, value }) => {
      const atMs = filedAtMs(key, () => deadLetterFiledAtMs(value));
      const startMs = Math.floor(atMs / DEAD_LETTER_WINDOW_MS) * DEAD_LETTER_WINDOW_MS;
      const bytes = (bytesByWindow.get(startMs) ?? 0) + key.length + value.length;
      bytesByWindow.set(startMs, bytes);
      oldestAtMs = Math.min(oldestAtMs, atMs);
    });
    const expiredBeforeMs = this.#clock.wallMs() - this.#retention.failedMs;
    const keptFromMs = Math.max(expiredBeforeMs, this.#deadLettersFitFromMs(bytesByWindow));
    if (oldestAtMs >= keptFromMs) return;
    await this.#eachPage(ALL_DEAD_LETTERS, async (entries) => {
      const doomed = entries.filter(
        ({ key, value }) => filedAtMs(key, () => deadLetterFiledAtMs(value)) < keptFromMs,
      );
      await this.#deleteKeys(doomed.map(({ key }) => key));
    });
  }

  /** Newest windows first, as many as there is room for. @returns when the oldest of them begins */
  #deadLettersFitFromMs(bytesByWindow: ReadonlyMap<number, number>): number {
    for (const [startMs, bytes] of [...bytesByWindow].sort(([a], [b]) => b - a)) {
      const isTooMuch = this.#deadLetterBytes + bytes > this.#retention.failedBytesMax;
      if (isTooMuch) return startMs + DEAD_LETTER_WINDOW_MS;
      this.#deadLetterBytes += bytes;
    }
    return 0;
  }

  #eachEntry(range: KeyRange, visit: (entry: Entry) => void): Promise<void> {
    return this.#eachPage(range, (entries) => entries.forEach(visit));
  }

  async #eachPage(
    range: KeyRange,
    visit: (entries: readonly Entry[]) => Promise<void> | void,
  ): Promise<void> {
    for (let from = range.from; ; ) {
      const page = await this.#store.range({ from, to: range.to }, { limit: PAGE_ENTRIES });
      await visit(page.entries);
      const last = page.entries.at(-1);
      if (!page.more || last === undefined) return;
      from = keyAfter(last.key);
    }
  }

  async #deleteKeys(keys: readonly string[]): Promise<void> {
    const groupSize = this.#store.limits.operationsMax;
    for (let at = 0; at < keys.length; at += groupSize) {
      const group = keys.slice(at, at + groupSize);
      const success = group.map((key) => ({ type: 'delete', key }) as const);
      await this.#store.txn({ compares: [], success });
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
