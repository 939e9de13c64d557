/**
 * TimerQueue against a model: a plain list of pending timers, sorted when time moves.
 *
 * The distances are chosen to sit on the borders of the wheel's windows (2^12, 2^24, 2^36 ms) and one beside
 * them, and the clocks to start near the powers of two at which other timers have failed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TimerQueue } from '../../src/timing/index.js';

interface Timer {
  readonly handle: number;
  readonly token: number;
  due: number;
  order: number;
}

/** The contract of TimerQueue in the fewest words. */
class Model {
  readonly pending: Map<number, Timer> = new Map();
  #order = 0;
  #now: number;

  constructor(now: number) {
    this.#now = now;
  }

  add(handle: number, due: number, token: number): void {
    this.pending.set(handle, { handle, token, due: Math.ceil(due), order: this.#order++ });
  }

  reschedule(handle: number, due: number): boolean {
    const timer = this.pending.get(handle);
    if (timer === undefined) return false;
    timer.due = Math.ceil(due);
    timer.order = this.#order++;
    return true;
  }

  advance(nowMs: number, room: number): number[] {
    const now = Math.floor(nowMs);
    if (now < this.#now) return [];
    this.#now = now;
    const due = [...this.pending.values()]
      .filter((timer) => timer.due <= now)
      .sort((a, b) => a.due - b.due || a.order - b.order)
      .slice(0, room);
    for (const timer of due) this.pending.delete(timer.handle);
    return due.map((timer) => timer.token);
  }

  earliest(): number {
    let earliest = Number.POSITIVE_INFINITY;
    for (const timer of this.pending.values()) earliest = Math.min(earliest, timer.due);
    return earliest;
  }
}

/** A queue and its model side by side; every call is made on both and compared. */
class Pair {
  readonly #queue: TimerQueue;
  readonly #model: Model;
  readonly #handles: number[] = [];
  readonly #seen: Set<number> = new Set();
  now: number;
  #token = 0;

  constructor(startMs: number) {
    this.#queue = new TimerQueue({ startMs });
    this.#model = new Model(startMs);
    this.now = startMs;
  }

  schedule(due: number): void {
    const token = this.#token++;
    const handle = this.#queue.schedule(due, token);
    assert.ok(Number.isSafeInteger(handle) && handle > 0, `handle ${handle}`);
    assert.ok(!this.#seen.has(handle), `handle ${handle} was given out before`);
    this.#seen.add(handle);
    this.#handles.push(handle);
    this.#model.add(handle, due, token);
  }

  scheduleBatch(dues: readonly number[]): void {
    const tokens = Uint32Array.from(dues, () => this.#token++);
    const handles = new Float64Array(dues.length);
    assert.equal(this.#queue.scheduleBatch(Float64Array.from(dues), tokens, handles), dues.length);
    for (const [i, handle] of handles.entries()) {
      assert.ok(!this.#seen.has(handle), `handle ${handle} was given out before`);
      this.#seen.add(handle);
      this.#handles.push(handle);
      this.#model.add(handle, dues[i]!, tokens[i]!);
    }
  }

  cancel(pick: number): void {
    const handle = this.#pick(pick);
    if (handle === undefined) return;
    assert.equal(this.#queue.cancel(handle), this.#model.pending.delete(handle));
  }

  reschedule(pick: number, due: number): void {
    const handle = this.#pick(pick);
    if (handle === undefined) return;
    assert.equal(this.#queue.reschedule(handle, due), this.#model.reschedule(handle, due));
  }

  advance(now: number, room: number): void {
    const out = new Uint32Array(room);
    const count = this.#queue.advance(now, out);
    assert.deepEqual([...out.subarray(0, count)], this.#model.advance(now, room));
    this.now = Math.max(this.now, Math.floor(now));
  }

  /**
   * Goes to the next due time, as a driver would. Every stop must be in the future or give something; but one for a
   * timer that was cancelled when its millisecond had begun may give nothing, once.
   */
  advanceToNext(room: number): void {
    const next = this.#queue.nextDueMs();
    if (next === Number.POSITIVE_INFINITY) return;
    const isEmptyStop = next <= this.now && this.#model.earliest() > this.now;
    this.advance(Math.max(next, this.now), room);
    if (!isEmptyStop) return;
    assert.ok(this.#queue.nextDueMs() > this.now, 'a stop that goes nowhere, twice');
  }

  check(): void {
    assert.equal(this.#queue.size, this.#model.pending.size);
    const next = this.#queue.nextDueMs();
    const earliest = this.#model.earliest();
    assert.ok(next <= earliest, `nextDueMs() is ${next}, the earliest deadline ${earliest}`);
    assert.equal(next === Number.POSITIVE_INFINITY, earliest === Number.POSITIVE_INFINITY);
  }

  finish(): void {
    this.check();
    while (this.#model.pending.size > 0) {
      this.advanceToNext(97);
      this.check();
    }
    assert.equal(this.#queue.stats().pending, 0);
    this.#queue.close();
  }

  #pick(pick: number): number | undefined {
    return this.#handles[Math.floor(pick * this.#handles.length)];
  }
}

const STARTS = [
  0,
  1,
  4095,
  4096,
  2 ** 24 - 5000,
  2 ** 31 - 3000,
  2 ** 32 - 10,
  2 ** 36 - 2 ** 24 - 1,
  2 ** 36 - 4097,
  2 ** 40 - 1,
  1.7e12,
];

const EDGES = [2 ** 12, 2 ** 13, 2 ** 24, 2 ** 25, 2 ** 36, 2 ** 37].flatMap((edge) => [
  edge - 1,
  edge,
  edge + 1,
]);

const distance = fc.oneof(
  fc.integer({ min: -20, max: 30 }),
  fc.integer({ min: 0, max: 9000 }),
  fc.integer({ min: 0, max: 70_000 }),
  fc.integer({ min: 0, max: 2 ** 26 }),
  fc.integer({ min: 0, max: 2 ** 38 }),
  fc.constantFrom(...EDGES),
  fc.double({ min: 0, max: 50, noNaN: true }),
);

const step = fc.oneof(
  { weight: 3, arbitrary: fc.constant(0) },
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 3 }) },
  { weight: 2, arbitrary: fc.integer({ min: -5, max: 9000 }) },
  { weight: 1, arbitrary: fc.constantFrom(...EDGES) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 2 ** 38 }) },
  { weight: 1, arbitrary: fc.double({ min: 0, max: 10, noNaN: true }) },
);

const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

/** A due time is relative to now, or to the window that now is in, so that both kinds of border are hit. */
const action: fc.Arbitrary<(pair: Pair) => void> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(distance, fc.boolean()).map(
      ([delay, aligned]) =>
        (pair: Pair) =>
          pair.schedule(from(pair, aligned) + delay),
    ),
  },
  {
    weight: 1,
    arbitrary: fc
      .array(distance, { maxLength: 20 })
      .map((delays) => (pair: Pair) => pair.scheduleBatch(delays.map((delay) => pair.now + delay))),
  },
  { weight: 2, arbitrary: share.map((pick) => (pair: Pair) => pair.cancel(pick)) },
  {
    weight: 2,
    arbitrary: fc.tuple(share, distance).map(
      ([pick, delay]) =>
        (pair: Pair) =>
          pair.reschedule(pick, pair.now + delay),
    ),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(step, fc.constantFrom(1, 2, 7, 1000), fc.boolean()).map(
      ([by, room, aligned]) =>
        (pair: Pair) =>
          pair.advance(from(pair, aligned) + by, room),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom(1, 3, 1000).map((room) => (pair: Pair) => pair.advanceToNext(room)),
  },
  { weight: 1, arbitrary: fc.constant((pair: Pair) => pair.check()) },
);

function from(pair: Pair, aligned: boolean): number {
  return aligned ? Math.floor(pair.now / 4096) * 4096 : pair.now;
}

test('any sequence of operations gives what a sorted list gives', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...STARTS),
      fc.array(action, { maxLength: 200, size: 'max' }),
      (startMs, actions) => {
        const pair = new Pair(startMs);
        for (const act of actions) act(pair);
        pair.finish();
      },
    ),
    { numRuns: 400 },
  );
});

test('a long dense run, most of it cancelled or moved, gives what a sorted list gives', () => {
  for (const startMs of STARTS) {
    const random = randomFrom(startMs + 7);
    const pair = new Pair(startMs);
    for (let round = 0; round < 60; round++) {
      for (let i = 0; i < 60; i++) {
        const kind = random();
        const spread = random() < 0.8 ? 12_000 : 40_000_000;
        if (kind < 0.5) pair.schedule(pair.now + Math.floor(random() * spread));
        else if (kind < 0.75) pair.cancel(random());
        else pair.reschedule(random(), pair.now + Math.floor(random() * spread));
      }
      pair.advance(pair.now + Math.floor(random() * 700), round % 3 === 0 ? 5 : 1000);
      if (round % 8 === 0) pair.check();
    }
    pair.finish();
  }
});

/** mulberry32: the same numbers for the same seed. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
