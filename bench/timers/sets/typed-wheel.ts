/**
 * A timing wheel in plain JavaScript without an object per timer: everything is in typed arrays.
 *
 * This is the honest rival of a native core, so it is written as well as we can: what is read or written one after the
 * other lies side by side, a schedule or a cancel touches no cold memory, and empty time is skipped.
 *
 * ```
 * slots     this window and the next, a slot per millisecond; then a slot per window of 4096 ms for 18 hours, in a
 *           ring; then one for each later window that has timers, by a map
 *           [0] position of the first entry  [1] position after the last; both 0 when empty
 * entries   [0] record  [1] generation  [2] ms into the window
 *           85 of them and the position of the next chunk make a chunk of 256 words, 256 chunks a segment
 * records   [0] generation, negative when free  [1] token, or the next free record; 16 384 make a segment
 * ```
 *
 * Segments are allocated when needed and stay: to grow one large array costs more than the timers that go into it.
 *
 * A window's slot is spread over milliseconds when the window before it begins, so it comes before whatever is
 * scheduled then for the same millisecond: that keeps the order of scheduling. It happens at once, not in small steps
 * as in the native core.
 *
 * Cancelling frees the record and leaves the entry, which then has an old generation. When there are three of those for
 * each timer, all slots are swept, at once too.
 */
import { Occupancy } from './occupancy.js';
import type { TimerSet } from './timer-set.js';

const WINDOW_BITS = 12;
const WINDOW = 2 ** WINDOW_BITS;
const WINDOW_MASK = WINDOW - 1;
const NEAR = 2 * WINDOW;
const NEAR_MASK = NEAR - 1;
const RING = 16_384;
const RING_MASK = RING - 1;
const SLOTS = NEAR + RING;

const CHUNK_WORDS = 256;
const ENTRY_WORDS = 3;
/** Where a chunk has the position of the next one; an entry that would begin there goes into that one. */
const LINK = CHUNK_WORDS - 1;
const SEGMENT_BITS = 16;
const SEGMENT_MASK = 2 ** SEGMENT_BITS - 1;
const RECORD_BITS = 14;
const RECORD_MASK = 2 ** RECORD_BITS - 1;

/** A handle is generation * 2^27 + record, as in millrace. */
const RECORD_RANGE = 2 ** 27;
const GENERATION_MAX = 2 ** 26 - 1;

/** So many entries of cancelled timers are kept for each pending one. Fewer cost more time than they save memory. */
const STALE_SHARE = 3;
const STALE_MIN = 65_536;

export class TypedWheel implements TimerSet<number> {
  readonly #records = [new Int32Array(2 ** RECORD_BITS * 2)];
  /** Records that were in use at some time; record 0 never is. */
  #used = 1;
  #free = 0;
  #slots = new Int32Array((SLOTS + 64) * 2);
  #slotCount = SLOTS;
  readonly #freeSlots: number[] = [];
  /** Slots of windows beyond the ring, by window. */
  readonly #far = new Map<number, number>();
  readonly #near = new Occupancy(NEAR);
  readonly #ring = new Occupancy(RING);
  readonly #entries = [new Int32Array(2 ** SEGMENT_BITS)];
  /** Where chunks were never used; the first one never is, so that position 0 means none. */
  #entriesEnd = CHUNK_WORDS;
  #freeChunk = 0;
  #now = 0;
  #windowStart = 0;
  /** Place of the present window in the ring. */
  #ringIndex = 0;
  #size = 0;
  #stale = 0;

  get size(): number {
    return this.#size;
  }

  schedule(dueMs: number, token: number): number {
    const due = Math.max(Math.ceil(dueMs), this.#now);
    let record = this.#free;
    if (record === 0) record = this.#newRecord();
    const records = this.#records[record >> RECORD_BITS]!;
    const at = (record & RECORD_MASK) * 2;
    const generation = 1 - records[at]!;
    this.#free = records[at + 1]!;
    records[at] = generation;
    records[at + 1] = token;
    const distance = due - this.#windowStart;
    if (distance < NEAR) {
      const slot = (((this.#ringIndex & 1) << WINDOW_BITS) + distance) & NEAR_MASK;
      if (this.#append(slot, record, generation, distance & WINDOW_MASK)) this.#near.set(slot);
    } else if (distance < RING * WINDOW) {
      const place = (this.#ringIndex + (distance >> WINDOW_BITS)) & RING_MASK;
      if (this.#append(NEAR + place, record, generation, distance & WINDOW_MASK)) {
        this.#ring.set(place);
      }
    } else {
      this.#append(this.#farSlot(due), record, generation, distance % WINDOW);
    }
    this.#size++;
    return generation * RECORD_RANGE + record;
  }

  cancel(handle: number): boolean {
    const generation = Math.floor(handle / RECORD_RANGE);
    const record = handle - generation * RECORD_RANGE;
    const records = this.#records[record >> RECORD_BITS];
    if (generation <= 0 || records?.[(record & RECORD_MASK) * 2] !== generation) return false;
    this.#release(record, generation);
    this.#size--;
    this.#stale++;
    if (this.#stale > this.#size * STALE_SHARE + STALE_MIN) this.#sweep();
    return true;
  }

  advance(nowMs: number, out: Uint32Array): number {
    const now = Math.floor(nowMs);
    if (now < this.#now) return 0;
    let count = 0;
    for (;;) {
      const slot = this.#nearSlot(this.#now);
      if (this.#slots[slot * 2 + 1] !== 0) {
        count = this.#drain(slot, out, count);
        if (this.#slots[slot * 2 + 1] !== 0) return count;
      }
      if (this.#now === now) return count;
      this.#step(now);
    }
  }

  nextDueMs(): number {
    if (this.#size === 0) return Number.POSITIVE_INFINITY;
    const windowEnd = this.#windowStart + WINDOW;
    for (const [fromMs, endMs] of [
      [this.#now, windowEnd],
      [windowEnd, windowEnd + WINDOW],
    ] as const) {
      for (let at = this.#nextNear(fromMs, endMs); at >= 0; at = this.#nextNear(at, endMs)) {
        if (this.#trim(this.#nearSlot(at))) return at;
      }
    }
    // None is near. Few timers then, or they are far away.
    let earliest = Number.POSITIVE_INFINITY;
    while (earliest === Number.POSITIVE_INFINITY) {
      const window = this.#firstLaterWindow();
      if (window === Number.POSITIVE_INFINITY) break;
      for (const slot of this.#slotsOf(window)) {
        earliest = Math.min(earliest, window * WINDOW + this.#earliestIn(slot));
      }
      if (earliest === Number.POSITIVE_INFINITY) this.#drop(window);
    }
    return earliest;
  }

  offHeapBytes(): number {
    const records = this.#records.length * 2 ** RECORD_BITS * 8;
    const entries = this.#entries.length * 2 ** SEGMENT_BITS * 4;
    return records + entries + this.#slots.byteLength + this.#near.bytes + this.#ring.bytes;
  }

  close(): void {
    this.#size = 0;
    this.#records.length = 0;
    this.#entries.length = 0;
  }

  /** A record never used, whose word for the next free one is 0: there is none. */
  #newRecord(): number {
    const record = this.#used++;
    if (record >> RECORD_BITS === this.#records.length) {
      this.#records.push(new Int32Array(2 ** RECORD_BITS * 2));
    }
    return record;
  }

  #release(record: number, generation: number): void {
    const records = this.#records[record >> RECORD_BITS]!;
    const at = (record & RECORD_MASK) * 2;
    records[at] = -generation;
    // A record whose generations are used up is never given again.
    if (generation === GENERATION_MAX) return;
    records[at + 1] = this.#free;
    this.#free = record;
  }

  /** Whether it is the first entry of the slot. */
  #append(slot: number, record: number, generation: number, ms: number): boolean {
    const slots = this.#slots;
    let position = slots[slot * 2 + 1]!;
    const isFirst = position === 0;
    if (isFirst || (position & LINK) === LINK) {
      const chunk = this.#newChunk();
      if (isFirst) slots[slot * 2] = chunk;
      else this.#entries[position >> SEGMENT_BITS]![position & SEGMENT_MASK] = chunk;
      position = chunk;
    }
    const entries = this.#entries[position >> SEGMENT_BITS]!;
    const at = position & SEGMENT_MASK;
    entries[at] = record;
    entries[at + 1] = generation;
    entries[at + 2] = ms;
    slots[slot * 2 + 1] = position + ENTRY_WORDS;
    return isFirst;
  }

  #newChunk(): number {
    const free = this.#freeChunk;
    if (free !== 0) {
      this.#freeChunk = this.#linkOf(free);
      return free;
    }
    const chunk = this.#entriesEnd;
    this.#entriesEnd += CHUNK_WORDS;
    if (chunk >> SEGMENT_BITS === this.#entries.length) {
      this.#entries.push(new Int32Array(2 ** SEGMENT_BITS));
    }
    return chunk;
  }

  /** Gives back the chunk that a position is in. */
  #releaseChunk(position: number): void {
    const link = position | LINK;
    this.#entries[link >> SEGMENT_BITS]![link & SEGMENT_MASK] = this.#freeChunk;
    this.#freeChunk = link - LINK;
  }

  /** The chunk after the one that a position is in. */
  #linkOf(position: number): number {
    const link = position | LINK;
    return this.#entries[link >> SEGMENT_BITS]![link & SEGMENT_MASK]!;
  }

  /**
   * The position of the entry after this one, whose chunk is given back when it is done with; 0 after the last.
   * REQUIRES: `position` is the first of its slot.
   */
  #after(position: number, end: number): number {
    const next = position + ENTRY_WORDS;
    return next !== end && (next & LINK) !== LINK ? next : this.#afterChunk(next, end);
  }

  /** The same when all entries of a chunk are done with; `chunkEnd` is after the last. */
  #afterChunk(chunkEnd: number, end: number): number {
    const following = chunkEnd === end ? 0 : this.#linkOf(chunkEnd);
    this.#releaseChunk(chunkEnd);
    return following;
  }

  /** Makes `position` the first of a slot; 0 leaves it empty. */
  #begin(slot: number, position: number): void {
    this.#slots[slot * 2] = position;
    if (position !== 0) return;
    this.#slots[slot * 2 + 1] = 0;
    if (slot < NEAR) this.#near.clear(slot);
    else if (slot < SLOTS) this.#ring.clear(slot - NEAR);
  }

  /** Takes the timers of a millisecond in order, chunk by chunk. Entries of cancelled ones go on the way. */
  #drain(slot: number, out: Uint32Array, start: number): number {
    const allRecords = this.#records;
    const limit = out.length;
    const end = this.#slots[slot * 2 + 1]!;
    let position = this.#slots[slot * 2]!;
    let free = this.#free;
    let count = start;
    let stale = 0;
    while (position !== 0 && count < limit) {
      const entries = this.#entries[position >> SEGMENT_BITS]!;
      const chunkEnd = chunkEndOf(position, end);
      let at = position & SEGMENT_MASK;
      const stop = at + chunkEnd - position;
      for (; at < stop && count < limit; at += ENTRY_WORDS) {
        const record = entries[at]!;
        const generation = entries[at + 1]!;
        const records = allRecords[record >> RECORD_BITS]!;
        const recordAt = (record & RECORD_MASK) * 2;
        if (records[recordAt] !== generation) {
          stale++;
          continue;
        }
        out[count++] = records[recordAt + 1]!;
        records[recordAt] = -generation;
        if (generation !== GENERATION_MAX) {
          records[recordAt + 1] = free;
          free = record;
        }
      }
      position = at < stop ? chunkEnd - (stop - at) : this.#afterChunk(chunkEnd, end);
    }
    this.#free = free;
    this.#stale -= stale;
    this.#size -= count - start;
    this.#begin(slot, position);
    return count;
  }

  /** Drops entries of cancelled timers from the front of a slot. Whether anything is left. */
  #trim(slot: number): boolean {
    const end = this.#slots[slot * 2 + 1]!;
    let position = this.#slots[slot * 2]!;
    while (position !== 0 && !this.#isLive(position)) {
      this.#stale--;
      position = this.#after(position, end);
    }
    this.#begin(slot, position);
    return position !== 0;
  }

  #isLive(position: number): boolean {
    const entries = this.#entries[position >> SEGMENT_BITS]!;
    const record = entries[position & SEGMENT_MASK]!;
    const records = this.#records[record >> RECORD_BITS]!;
    return records[(record & RECORD_MASK) * 2] === entries[(position & SEGMENT_MASK) + 1];
  }

  /** Drops the entries of cancelled timers from all slots. */
  #sweep(): void {
    for (let slot = 0; slot < this.#slotCount; slot++) {
      if (this.#slots[slot * 2 + 1] !== 0) this.#compact(slot);
    }
    this.#stale = 0;
  }

  /** Rewrites a slot in place, without the entries of cancelled timers. */
  #compact(slot: number): void {
    if (!this.#trim(slot)) return;
    const slots = this.#slots;
    const first = slots[slot * 2]!;
    const end = slots[slot * 2 + 1]!;
    let to = first;
    for (let from = first; ; ) {
      if (this.#isLive(from)) {
        if ((to & LINK) === LINK) to = this.#linkOf(to);
        if (to !== from) this.#copy(from, to);
        to += ENTRY_WORDS;
      }
      from += ENTRY_WORDS;
      if (from === end) break;
      if ((from & LINK) === LINK) from = this.#linkOf(from);
    }
    slots[slot * 2 + 1] = to;
    // The end of a full chunk is in that chunk.
    const lastKept = to & ~LINK;
    const last = end & ~LINK;
    for (let chunk = lastKept; chunk !== last; ) {
      const next = this.#linkOf(chunk);
      if (chunk !== lastKept) this.#releaseChunk(chunk);
      chunk = next;
    }
    if (last !== lastKept) this.#releaseChunk(last);
  }

  #copy(from: number, to: number): void {
    const source = this.#entries[from >> SEGMENT_BITS]!;
    const target = this.#entries[to >> SEGMENT_BITS]!;
    const sourceAt = from & SEGMENT_MASK;
    const targetAt = to & SEGMENT_MASK;
    target[targetAt] = source[sourceAt]!;
    target[targetAt + 1] = source[sourceAt + 1]!;
    target[targetAt + 2] = source[sourceAt + 2]!;
  }

  /** Moves time to the next millisecond with timers, the next window, or `now`. */
  #step(now: number): void {
    const windowEnd = this.#windowStart + WINDOW;
    const next = this.#nextNear(this.#now + 1, windowEnd);
    if (next >= 0) this.#now = Math.min(next, now);
    else if (now < windowEnd) this.#now = now;
    else this.#enter(windowEnd, now);
  }

  #enter(windowStart: number, now: number): void {
    let start = windowStart;
    if (this.#nextNear(windowStart, windowStart + WINDOW) < 0) {
      // Nothing is near: the windows before the first later one are empty.
      const empty = Math.min(Math.floor(now / WINDOW), this.#firstLaterWindow() - 1);
      start = Math.max(start, empty * WINDOW);
    }
    this.#now = start;
    this.#windowStart = start;
    this.#ringIndex = (start / WINDOW) % RING;
    const next = start / WINDOW + 1;
    for (const slot of this.#slotsOf(next)) this.#spread(slot, next);
    this.#drop(next);
  }

  /** Moves the entries of a window to their milliseconds. */
  #spread(slot: number, window: number): void {
    const base = (window & 1) << WINDOW_BITS;
    const end = this.#slots[slot * 2 + 1]!;
    let position = this.#slots[slot * 2]!;
    while (position !== 0) {
      const entries = this.#entries[position >> SEGMENT_BITS]!;
      const chunkEnd = chunkEndOf(position, end);
      const start = position & SEGMENT_MASK;
      for (let at = start; at < start + chunkEnd - position; at += ENTRY_WORDS) {
        const ms = entries[at + 2]!;
        const target = base + ms;
        if (this.#append(target, entries[at]!, entries[at + 1]!, ms)) this.#near.set(target);
      }
      position = this.#afterChunk(chunkEnd, end);
    }
    this.#begin(slot, 0);
  }

  /** Slots with timers of a later window: what was scheduled from afar comes first. */
  #slotsOf(window: number): readonly number[] {
    const far = this.#far.get(window);
    const ring = NEAR + (window % RING);
    const slots: number[] = [];
    if (far !== undefined && this.#slots[far * 2 + 1] !== 0) slots.push(far);
    const isInRing = window - this.#windowStart / WINDOW < RING;
    if (isInRing && this.#slots[ring * 2 + 1] !== 0) slots.push(ring);
    return slots;
  }

  /** Empties the slots of a window in which no timer is left. */
  #drop(window: number): void {
    for (const slot of this.#slotsOf(window)) this.#trim(slot);
    const far = this.#far.get(window);
    if (far === undefined) return;
    this.#far.delete(window);
    this.#freeSlots.push(far);
  }

  #farSlot(due: number): number {
    const window = Math.floor(due / WINDOW);
    const known = this.#far.get(window);
    if (known !== undefined) return known;
    const slot = this.#freeSlots.pop() ?? this.#slotCount++;
    if (slot * 2 >= this.#slots.length) this.#slots = doubled(this.#slots);
    this.#far.set(window, slot);
    return slot;
  }

  /** REQUIRES: the time is in this window or the next. */
  #nearSlot(ms: number): number {
    return (((this.#ringIndex & 1) << WINDOW_BITS) + (ms - this.#windowStart)) & NEAR_MASK;
  }

  /** The first millisecond with entries in `[fromMs, endMs)`, -1 if there is none. REQUIRES: `endMs` ends a window. */
  #nextNear(fromMs: number, endMs: number): number {
    if (fromMs >= endMs) return -1;
    const windowStart = endMs - WINDOW;
    const base = this.#nearSlot(windowStart);
    const slot = this.#near.next(base + (fromMs - windowStart), base + WINDOW);
    return slot < 0 ? -1 : windowStart + (slot - base);
  }

  /** The first window after the next that has entries; Infinity if there is none. */
  #firstLaterWindow(): number {
    const window = this.#windowStart / WINDOW;
    let first = Number.POSITIVE_INFINITY;
    let place = this.#ring.next((this.#ringIndex + 1) & RING_MASK, RING);
    if (place < 0) place = this.#ring.next(0, RING);
    if (place >= 0) first = window + ((place - this.#ringIndex) & RING_MASK);
    for (const [far, slot] of this.#far) {
      if (far < first && this.#slots[slot * 2 + 1] !== 0) first = far;
    }
    return first;
  }

  /** The first millisecond of a window in which a timer is pending; Infinity if there is none. */
  #earliestIn(slot: number): number {
    const end = this.#slots[slot * 2 + 1]!;
    let earliest = Number.POSITIVE_INFINITY;
    for (let position = this.#slots[slot * 2]!; ; ) {
      if (this.#isLive(position)) {
        const entries = this.#entries[position >> SEGMENT_BITS]!;
        earliest = Math.min(earliest, entries[(position & SEGMENT_MASK) + 2]!);
      }
      position += ENTRY_WORDS;
      if (position === end) return earliest;
      if ((position & LINK) === LINK) position = this.#linkOf(position);
    }
  }
}

/** The end of the entries in the chunk of a position. */
function chunkEndOf(position: number, end: number): number {
  return (position & ~LINK) === (end & ~LINK) ? end : position | LINK;
}

function doubled(words: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(words.length * 2);
  larger.set(words);
  return larger;
}
