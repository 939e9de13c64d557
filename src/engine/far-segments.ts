/**
 * FarSegments: what one shard has in the store only, because it is due beyond the horizon.
 *
 *    due   0 ----------- now ------------------- loaded until ------------------------------->
 *          |  in the table, all of it            |  in the store; one that is visited, in both
 *
 * Keys of segments are in the order of their first due time, so what comes within the horizon is a range, and no task is due
 * before its segment's first. Memory follows the horizon and not the backlog:
 *
 *   put        a segment that is committed with a due time beyond goes out of the table with its acknowledgement
 *   load       when the next one comes near, everything up to the horizon is read, in one piece
 *   visit      whoever wants to change a task beyond (cancel) brings its segment in; it goes again when that is written
 *   early      a task beyond has been rescheduled: a note says until when its segment is to be loaded, or kept (reschedules.ts)
 *   await      whoever waits for the end of a task beyond waits for its segment to be held, by its name
 *
 * Nobody else writes segments and overlays of the shard, and this node only writes those that it holds. So what is read is
 * the truth, unless it was held meanwhile: what goes out of the table while something is being read is remembered until that is
 * over, and then not taken from it. The bound moves before a load begins: what is put from then on is kept.
 *
 * Invariants: (1) a stored segment of the shard that is due before `loaded until` is in the table, or a load is under way;
 * (2) none is ingested twice, or after it was dropped.
 */
import { hasCode, isMillraceError } from '../core/errors.js';
import { type SegmentRef, segmentDueAtMs } from '../core/ids.js';
import { TaskState } from '../core/states.js';
import type { Entry, KeyRange, Store } from '../core/store.js';
import type { SegmentHandle, TaskTable } from '../timing/task-table.js';
import { FarCount, tasksOf } from './far-count.js';
import {
  earlyOfKey,
  overlayKey,
  refOfKey,
  type ShardPlace,
  shardDueRange,
  shardRange,
} from './keys.js';
import { entriesOf } from './recovery.js';
import { storedSegment, storedState } from './stored-task.js';

/** How whoever owns the shard takes its segments in, and lets go of them. */
export interface FarPorts {
  readonly store: Store;
  readonly table: TaskTable;
  /** Takes a stored segment into the table, held; undefined: it is there already, or does not decode. */
  take(entry: Entry, overlay: Uint8Array | undefined): SegmentHandle | undefined;
  /** Starts it. */
  resume(segment: SegmentHandle): void;
  /** Lets go of it; it stays in the store. @returns how many of its tasks are open */
  release(segment: SegmentHandle): number;
  /** Waits before the next try. */
  pause(): Promise<void>;
  /** Something is to be loaded at another time than before, or to be let go of. */
  onChanged(): void;
}

type Tell = (isHeld: boolean) => void;

export class FarSegments {
  readonly at: ShardPlace;
  readonly #ports: FarPorts;
  #loadedUntilMs = 0;
  /** Up to where that has been done. */
  #readUntilMs = 0;
  #nextDueMs = Number.POSITIVE_INFINITY;
  readonly #count: FarCount;
  readonly #awaited = new Map<SegmentRef, Tell[]>();
  /** Segments beyond that somebody wanted, and how many still do. */
  readonly #visits = new Map<SegmentRef, number>();
  /** Segments beyond that are held because a task of theirs is due before the bound. */
  readonly #early = new Set<SegmentRef>();
  #reads = 0;
  /** What went out of the table while something was read. */
  readonly #goneMeanwhile = new Set<SegmentRef>();
  #isClosed = false;

  constructor(at: ShardPlace, ports: FarPorts) {
    this.at = at;
    this.#ports = ports;
    const { store, table } = ports;
    this.#count = new FarCount(at, {
      store,
      isHere: (ref) => table.findSegment(ref) !== 0 || this.#goneMeanwhile.has(ref),
      isClosed: () => this.#isClosed,
    });
  }

  /** When the next segment beyond is due, by the wall clock; Infinity: there is none. */
  get nextDueMs(): number {
    return this.#isLoading ? this.#readUntilMs : this.#nextDueMs;
  }

  /** Tasks beyond that are open. Right once they have been counted. */
  get tasks(): number {
    return this.#count.tasks;
  }

  /** Whether the place of a segment is in the store, and not, or not yet, in the table. */
  mayHave(ref: SegmentRef): boolean {
    return segmentDueAtMs(ref) >= this.#readUntilMs;
  }

  /** Whether something is being read: then it has to hear what goes out of the table. */
  get isReading(): boolean {
    return this.#reads > 0;
  }

  /** Whether a segment is, by its name, to be in the store only. */
  isFar(ref: SegmentRef): boolean {
    return segmentDueAtMs(ref) >= this.#loadedUntilMs;
  }

  get #isLoading(): boolean {
    return this.#readUntilMs < this.#loadedUntilMs;
  }

  /** While something is read from the store, what goes out of the table meanwhile is remembered. */
  async reading<T>(work: () => Promise<T>): Promise<T> {
    this.#reads++;
    try {
      return await work();
    } finally {
      this.#reads--;
      if (this.#reads === 0) this.#goneMeanwhile.clear();
    }
  }

  // --- Loading -----------------------------------------------------------------------------------------------------

  /**
   * Takes in what is due before `untilMs`. To be called again when it fails; not twice at a time.
   *
   * @param onTaken - called with each segment, which is held
   * @throws what reads of the store throw
   */
  async load(untilMs: number, onTaken: (segment: SegmentHandle) => void = () => {}): Promise<void> {
    this.#loadedUntilMs = Math.max(untilMs, this.#loadedUntilMs);
    const boundMs = this.#loadedUntilMs;
    const { store } = this.#ports;
    await this.reading(async () => {
      this.#nextDueMs = Number.POSITIVE_INFINITY;
      // Few or none: read beside the rest.
      const notes = this.#readNotes();
      notes.catch(() => {});
      const part = (kind: 't' | 'i' | 's'): KeyRange =>
        shardDueRange(kind, this.at, this.#readUntilMs, boundMs);
      const overlays = new Map<SegmentRef, Uint8Array>();
      for await (const { key, value } of entriesOf(store, part('s'))) {
        overlays.set(refOfKey(key), value);
      }
      for (const kind of ['t', 'i'] as const) {
        for await (const entry of entriesOf(store, part(kind))) {
          if (this.#isClosed) return;
          const segment = this.#take(entry, overlays.get(refOfKey(entry.key)));
          if (segment !== undefined) onTaken(segment);
        }
        const beyond = { from: part(kind).to, to: shardRange(kind, this.at).to };
        const { entries } = await store.range(beyond, { limit: 1, keysOnly: true });
        for (const { key } of entries) this.#noteDue(segmentDueAtMs(refOfKey(key)));
      }
      await this.#loadEarly(await notes, boundMs, onTaken);
      this.#readUntilMs = boundMs;
    });
  }

  async #readNotes(): Promise<readonly Entry[]> {
    const notes: Entry[] = [];
    for await (const note of entriesOf(this.#ports.store, shardRange('f', this.at))) {
      notes.push(note);
    }
    return notes;
  }

  /** Takes in what is beyond by its name, and has a task that is due before the bound. */
  async #loadEarly(
    notes: readonly Entry[],
    boundMs: number,
    onTaken: (segment: SegmentHandle) => void,
  ): Promise<void> {
    const { store, table } = this.#ports;
    for (const { key, modRevision } of notes) {
      const { ref, dueAtMs } = earlyOfKey(key);
      if (dueAtMs >= boundMs) {
        this.#noteDue(dueAtMs);
        continue;
      }
      const isHeld = table.findSegment(ref) !== 0;
      const entry = isHeld || !this.isFar(ref) ? undefined : await storedSegment(store, ref);
      if (this.#isClosed) return;
      if (isHeld && this.isFar(ref)) this.#early.add(ref);
      if (entry === undefined) {
        if (!isHeld) await this.#forgetNote(key, modRevision);
        continue;
      }
      const overlay = await store.get(overlayKey(ref));
      const segment = this.#take(entry, overlay?.value);
      if (segment === undefined) continue;
      this.#early.add(ref);
      onTaken(segment);
    }
  }

  /**
   * Of a segment that is gone, or near by its name: for good, so that it does no harm when this is applied late.
   *
   * if mod(note) == as read  then delete it          whatever the answer: the next load finds it, if it is still there
   */
  async #forgetNote(key: string, modRevision: number): Promise<void> {
    await this.#ports.store.txn({
      compares: [{ target: 'mod', key, operator: '=', operand: modRevision }],
      success: [{ type: 'delete', key }],
    });
  }

  /** All that is stored of the shard is known, because there was nothing when this node began. */
  begin(untilMs: number): void {
    this.#loadedUntilMs = untilMs;
    this.#readUntilMs = untilMs;
  }

  /** Moves the bound as far as nothing is stored, and no further than `untilMs`. Cheap. */
  roll(untilMs: number): void {
    if (this.#isLoading) return;
    const boundMs = Math.min(untilMs, this.#nextDueMs);
    if (boundMs <= this.#loadedUntilMs) return;
    this.#loadedUntilMs = boundMs;
    this.#readUntilMs = boundMs;
  }

  /** Takes in and starts what is due before `untilMs`. */
  advance(untilMs: number): Promise<void> {
    return this.load(untilMs, (segment) => this.#start(segment));
  }

  /** Counts what lies beyond: after a start or a takeover only the keys of it are known. */
  async count(): Promise<void> {
    const { pause } = this.#ports;
    while (!this.#isClosed) {
      try {
        return await this.reading(() => this.#count.read(this.#loadedUntilMs));
      } catch (error) {
        if (!isMillraceError(error) || hasCode(error, 'ERR_MILLRACE_CLOSED')) throw error;
        await pause();
      }
    }
  }

  // --- What is put -------------------------------------------------------------------------------------------------

  /** Whether a segment that is put now stays in the store only; `untilMs` is where the horizon is now. */
  isBeyond(ref: SegmentRef, untilMs: number): boolean {
    this.roll(untilMs);
    return this.isFar(ref) && !this.#isClosed;
  }

  /** A segment beyond has been put, and is not in the table. */
  note(ref: SegmentRef, tasks: number): void {
    this.#count.add(ref, tasks);
    this.#noteDue(segmentDueAtMs(ref));
    this.#ports.onChanged();
  }

  /** Lets go of a segment beyond that has been put and is in the table. */
  letGo(segment: SegmentHandle, ref: SegmentRef): void {
    this.note(ref, this.#ports.release(segment));
  }

  /** A task of a segment beyond is due earlier than the segment's name says, and a note of that is stored. */
  noteEarly(ref: SegmentRef, dueAtMs: number): void {
    if (dueAtMs < this.#loadedUntilMs) this.#early.add(ref);
    else this.#noteDue(dueAtMs);
    this.#ports.onChanged();
  }

  #noteDue(dueAtMs: number): void {
    this.#nextDueMs = Math.min(this.#nextDueMs, dueAtMs);
  }

  /** The same, of which only the bytes are known. */
  noteStored(ref: SegmentRef, frame: Uint8Array): void {
    this.note(ref, tasksOf(frame));
  }

  /** Takes in and starts a segment that somebody else has put, unless it is there already. */
  takeNow(entry: Entry): SegmentHandle | undefined {
    const segment = this.#take(entry, undefined);
    if (segment !== undefined) this.#ports.resume(segment);
    return segment;
  }

  // --- Single ones -------------------------------------------------------------------------------------------------

  /**
   * Brings a segment into the table.
   *
   * @returns to be called when it may go again; undefined: it is not stored, or not ours any more
   */
  async visit(ref: SegmentRef): Promise<(() => void) | undefined> {
    const { store, table, pause } = this.#ports;
    while (!this.#isClosed) {
      if (table.findSegment(ref) !== 0) return this.#pin(ref);
      try {
        const answer = await this.reading(async () => {
          const overlay = await store.get(overlayKey(ref));
          const entry = await storedSegment(store, ref);
          if (this.#isClosed || entry === undefined) return 'gone';
          // Held meanwhile, and changed perhaps: what was read says nothing.
          if (this.#goneMeanwhile.has(ref)) return 'again';
          const segment = this.#take(entry, overlay?.value);
          if (segment !== undefined) this.#start(segment);
          // Whoever else has it in is as good; else it does not decode.
          return table.findSegment(ref) === 0 ? 'gone' : 'again';
        });
        if (answer === 'gone') return undefined;
      } catch (error) {
        if (!isMillraceError(error) || hasCode(error, 'ERR_MILLRACE_CLOSED')) throw error;
        await pause();
      }
    }
    return undefined;
  }

  /** Lets go of what was visited and is written. REQUIRES: no commit is under way. */
  settle(): void {
    const { table, release } = this.#ports;
    for (const [ref, pins] of this.#visits) {
      if (pins > 0) continue;
      const segment = table.findSegment(ref);
      if (table.segmentInfo(segment)?.isDirty) continue;
      this.#visits.delete(ref);
      if (segment === 0 || !this.isFar(ref) || this.#early.has(ref)) continue;
      this.note(ref, release(segment));
      this.dropped(ref);
    }
  }

  /** A segment has gone out of the table. */
  dropped(ref: SegmentRef): void {
    this.#early.delete(ref);
    if (this.isReading) this.#goneMeanwhile.add(ref);
  }

  /** Resolves when the segment of a task is in the table; false: the task has ended, or is not ours any more. */
  async untilHeld(ref: SegmentRef, index: number): Promise<boolean> {
    return new Promise((resolve) => {
      const tell = resolve;
      const others = this.#awaited.get(ref);
      if (others === undefined) this.#awaited.set(ref, [tell]);
      else others.push(tell);
      void this.#isOpen(ref, index).then((isOpen) => {
        if (isOpen) return;
        const left = (this.#awaited.get(ref) ?? []).filter((other) => other !== tell);
        if (left.length > 0) this.#awaited.set(ref, left);
        else this.#awaited.delete(ref);
        resolve(false);
      });
    });
  }

  /** The shard is somebody else's, or this node ends. */
  close(): void {
    this.#isClosed = true;
    for (const ref of [...this.#awaited.keys()]) this.#tell(ref, false);
  }

  // -----------------------------------------------------------------------------------------------------------------

  #pin(ref: SegmentRef): () => void {
    this.#visits.set(ref, (this.#visits.get(ref) ?? 0) + 1);
    return () => {
      this.#visits.set(ref, this.#visits.get(ref)! - 1);
      this.#ports.onChanged();
    };
  }

  #take(entry: Entry, overlay: Uint8Array | undefined): SegmentHandle | undefined {
    const ref = refOfKey(entry.key);
    if (this.#goneMeanwhile.has(ref)) return undefined;
    const segment = this.#ports.take(entry, overlay);
    if (segment !== undefined) this.#tell(ref, true);
    return segment;
  }

  #start(segment: SegmentHandle): void {
    if (this.#isClosed) return;
    const { table } = this.#ports;
    const open = table.segmentInfo(segment)?.open ?? 0;
    this.#count.subtract(table.segmentRef(segment) as SegmentRef, open);
    this.#ports.resume(segment);
  }

  #tell(ref: SegmentRef, isHeld: boolean): void {
    const waiting = this.#awaited.get(ref) ?? [];
    this.#awaited.delete(ref);
    for (const tell of waiting) tell(isHeld);
  }

  async #isOpen(ref: SegmentRef, index: number): Promise<boolean> {
    const { store, table, pause } = this.#ports;
    while (!this.#isClosed) {
      try {
        const state = await storedState(store, ref, index);
        return state <= TaskState.RUNNING;
      } catch (error) {
        if (hasCode(error, 'ERR_MILLRACE_TASK_GONE')) return table.findSegment(ref) !== 0;
        if (!isMillraceError(error)) throw error;
        if (!hasCode(error, 'ERR_MILLRACE_STORE_UNAVAILABLE')) return false;
        await pause();
      }
    }
    return false;
  }
}
