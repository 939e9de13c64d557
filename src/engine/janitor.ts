/**
 * Forgets what has been kept long enough: finished tasks and dead letters by age and by bytes, idempotency keys by
 * age.
 *
 * Finished tasks go by the hour when they are old, by ten seconds when there is too much (finished-tally.ts), the oldest first.
 * A store is busy for seconds when a million keys go at once, and commits would wait for that: so they go a page after
 * the other. What was filed in the last half minute stays, whatever it takes and whoever filed it: whoever submitted the task
 * may be asking for it just now.
 *
 * The bounds on bytes are the store's. Nodes that share it do not tell each other what they file, so each keeps its share of what
 * may be filed, as if all filed alike; what others left is counted once, a minute after the start. So there may be twice as much as the bound,
 * however many nodes there are.
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
import {
  type Entry,
  type KeyRange,
  keyAfter,
  type RangeOptions,
  type Revision,
  type Store,
} from '../core/store.js';
import { deadLetterFiledAtMs } from './finished.js';
import {
  type FinishedBounds,
  type FinishedPart,
  FinishedTally,
  SLICE_MS,
} from './finished-tally.js';
import {
  ALL_DEAD_LETTERS,
  ALL_FINISHED,
  debounceKeysBefore,
  FINISHED_WINDOW_MS,
  finishedDueRange,
  finishedWindowRange,
  idempotencyKeysBefore,
  PAUSES_KEY,
  refOfFinishedKey,
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
/** How often it looks at finished tasks while some are filed. */
const LOOK_MS = 5_000;
/** What was filed so recently stays. */
const KEPT_AT_LEAST_MS = 30_000;
/** Every so many rounds it also reads all dead letters, to find the old ones. */
const DEAD_LETTER_ROUNDS = 60;
/** Dead letters go by windows of this length. */
const DEAD_LETTER_WINDOW_MS = 60_000;
const PAGE_ENTRIES = 512;

/** What is left of a part: nothing; what others filed just now; nobody knows. */
type Left = 'nothing' | 'new' | 'unknown';

/** Which revision the store had when: what it had then is as old as that. */
interface Mark {
  readonly monoMs: number;
  readonly wallMs: number;
  readonly revision: Revision;
}

export class Janitor extends BaseService {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #retention: RetentionMs;
  readonly #nodeCount: () => number;
  readonly #finished = new FinishedTally();
  /** Of the last half minute, and the newest before it; oldest first. */
  readonly #marks: Mark[] = [];
  /** When it looks next, on the monotonic clock; undefined while it does. */
  #next: { readonly atMs: number; readonly wakeUp: WakeUp } | undefined;
  #round: Promise<void> = Promise.resolve();
  #roundCount = 0;
  #nextRoundAtMs = 0;
  /** Of all dead letters as last read. */
  #deadLetterBytes = 0;
  /** Of those that this process has filed since. */
  #newDeadLetterBytes = 0;

  /** @param nodeCount - how many nodes file what ends in this store, this one among them; at least 1 */
  constructor(store: Store, clock: Clock, retention: RetentionMs, nodeCount: () => number) {
    super();
    this.#store = store;
    this.#clock = clock;
    this.#retention = retention;
    this.#nodeCount = nodeCount;
  }

  /** This process is about to file so many bytes of finished tasks of a segment. */
  noteFiled(segment: SegmentRef, bytes: number): void {
    this.#finished.note(segment, { bytes, atMs: this.#clock.wallMs(), byUs: true });
    this.#lookSoon();
  }

  /** This process is about to file a dead letter of so many bytes. */
  noteDeadLetter(bytes: number): void {
    this.#newDeadLetterBytes += bytes;
  }

  protected async onStart(): Promise<void> {
    this.#nextRoundAtMs = this.#clock.monoMs() + ROUND_MS;
    this.#wake(this.#nextRoundAtMs);
  }

  protected async onStop(): Promise<void> {
    this.#next?.wakeUp.cancel();
    await this.#round;
  }

  get #bounds(): FinishedBounds {
    const bytesMax = this.#retention.completedBytesMax;
    return { bytesMax, ourBytesMax: bytesMax / this.#nodeCount() };
  }

  #lookSoon(): void {
    // While it looks, the end of that sees to the next time.
    if (this.#next === undefined || this.isStopping) return;
    const atMs = this.#clock.monoMs() + LOOK_MS;
    if (atMs >= this.#next.atMs) return;
    this.#next.wakeUp.cancel();
    this.#wake(atMs);
  }

  #wake(atMs: number): void {
    const wakeUp = this.#clock.wakeIn(Math.max(0, atMs - this.#clock.monoMs()), () => {
      this.#next = undefined;
      this.#round = this.#look().then(() => {
        if (this.isStopping) return;
        this.#wake(this.#nextRoundAtMs);
        if (this.#finished.isOver(this.#bounds)) this.#lookSoon();
      });
    });
    this.#next = { atMs, wakeUp };
  }

  async #look(): Promise<void> {
    try {
      await this.#sweep();
    } catch (thrown) {
      // The store is in trouble or closing; the next round starts over.
      if (!isMillraceError(thrown)) throw thrown;
      publish('millrace:janitor:failed', () => ({ cause: thrown }));
    }
  }

  async #sweep(): Promise<void> {
    const isRound = this.#clock.monoMs() >= this.#nextRoundAtMs;
    if (isRound) this.#nextRoundAtMs = this.#clock.monoMs() + ROUND_MS;
    await this.#mark();
    if (isRound && this.#roundCount === 0) await this.#tallyStored();
    await this.#sweepFinished();
    if (!isRound) return;
    const deadLetterBytes = this.#deadLetterBytes + this.#nodeCount() * this.#newDeadLetterBytes;
    const isOver = deadLetterBytes > this.#retention.failedBytesMax;
    if (isOver || this.#roundCount % DEAD_LETTER_ROUNDS === 0) await this.#sweepDeadLetters();
    const oldest = this.#clock.wallMs() - 2 * this.#retention.idempotencyMs;
    if (oldest > 0) {
      await this.#delete(idempotencyKeysBefore(oldest));
      await this.#delete(debounceKeysBefore(oldest));
    }
    this.#roundCount++;
  }

  /** Notes which revision the store has now. */
  async #mark(): Promise<void> {
    const monoMs = this.#clock.monoMs();
    const wallMs = this.#clock.wallMs();
    // Of one key: etcd goes through all keys of a range, whatever the limit.
    const { revision } = await this.#store.range({ from: PAUSES_KEY, to: keyAfter(PAUSES_KEY) });
    this.#marks.push({ monoMs, wallMs, revision });
    while ((this.#marks[1]?.monoMs ?? monoMs) <= monoMs - KEPT_AT_LEAST_MS) this.#marks.shift();
  }

  /** Counts what earlier processes left; what this one filed has been counted as it was. */
  async #tallyStored(): Promise<void> {
    this.#finished.clear();
    await this.#eachEntry(ALL_FINISHED, ({ key, value }) => {
      const atMs = filedAtMs(key, () => readState(openFrame(value, FrameKind.STATES), 0).atMs);
      const bytes = key.length + value.length;
      this.#finished.note(refOfFinishedKey(key), { bytes, atMs, byUs: false });
    });
  }

  async #sweepFinished(): Promise<void> {
    const [mark] = this.#marks;
    if (mark === undefined || mark.monoMs > this.#clock.monoMs() - KEPT_AT_LEAST_MS) return;
    const oldMs = Math.min(mark.wallMs, this.#clock.wallMs() - this.#retention.completedMs);
    for (const hour of this.#finished.old(oldMs)) {
      const left = await this.#deletePart(hour, mark.revision);
      // It is old the next time too.
      if (left === 'unknown') continue;
      this.#finished.forget(hour, oldMs);
      if (left === 'new') this.#finished.noteLeft(hour, this.#clock.wallMs());
    }
    for (const slice of this.#finished.excess(this.#bounds, mark.wallMs)) {
      const left = await this.#deletePart(slice, mark.revision);
      if (left === 'nothing') this.#finished.forget(slice, mark.wallMs);
    }
  }

  /** Deletes what was filed in a part up to a revision. @returns what is left of it */
  async #deletePart(part: FinishedPart, upTo: Revision): Promise<Left> {
    let left: Left = 'nothing';
    for (const range of rangesOf(part)) {
      if (this.isStopping) return 'unknown';
      await this.#eachPage(range, { keysOnly: true }, async (entries) => {
        const doomed = entries.filter(({ modRevision }) => modRevision <= upTo);
        if (left === 'nothing' && doomed.length < entries.length) left = 'new';
        if (!(await this.#deleteKeys(doomed.map(({ key }) => key)))) left = 'unknown';
      });
    }
    return left;
  }

  async #sweepDeadLetters(): Promise<void> {
    const bytesByWindow = new Map<number, number>();
    this.#deadLetterBytes = 0;
    this.#newDeadLetterBytes = 0;
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
    await this.#eachPage(ALL_DEAD_LETTERS, {}, async (entries) => {
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
    return this.#eachPage(range, {}, (entries) => entries.forEach(visit));
  }

  async #eachPage(
    range: KeyRange,
    options: Pick<RangeOptions, 'keysOnly'>,
    visit: (entries: readonly Entry[]) => Promise<void> | void,
  ): Promise<void> {
    for (let from = range.from; ; ) {
      const page = await this.#store.range(
        { from, to: range.to },
        { ...options, limit: PAGE_ENTRIES },
      );
      await visit(page.entries);
      const last = page.entries.at(-1);
      if (!page.more || last === undefined || this.isStopping) return;
      from = keyAfter(last.key);
    }
  }

  /** @returns whether it is certain that they are gone */
  async #deleteKeys(keys: readonly string[]): Promise<boolean> {
    const groupSize = this.#store.limits.operationsMax;
    let isCertain = true;
    for (let at = 0; at < keys.length; at += groupSize) {
      const group = keys.slice(at, at + groupSize);
      const success = group.map((key) => ({ type: 'delete', key }) as const);
      const { kind } = await this.#store.txn({ compares: [], success });
      isCertain &&= kind === 'done';
    }
    return isCertain;
  }

  async #delete(range: KeyRange): Promise<void> {
    await this.#store.txn({ compares: [], success: [{ type: 'deleteRange', range }] });
  }
}

/** Where the store has what a part names. Shard by shard: etcd goes through a whole range for each page of it. */
function rangesOf({ queue, hourMs, sliceMs, shards }: FinishedPart): KeyRange[] {
  const [fromMs, lengthMs] =
    sliceMs === undefined ? [hourMs, FINISHED_WINDOW_MS] : [sliceMs, SLICE_MS];
  const ranges = shards.map((shard) =>
    finishedDueRange({ queue, shard }, hourMs, fromMs, fromMs + lengthMs),
  );
  // What others have filed in shards that nobody knows of here.
  return sliceMs === undefined ? [...ranges, finishedWindowRange(queue, hourMs)] : ranges;
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
