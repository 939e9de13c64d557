/**
 * The contenders of the timer benches promise the same as millrace's TimerQueue; a bench would otherwise compare
 * promises. Each goes through the same random operations next to a sorted array.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { timerSetKind } from '../../bench/timers/sets/kinds.js';
import type { TimerSet, TimerSetKind } from '../../bench/timers/sets/timer-set.js';
import { randomUint32 } from '../../bench/timers/workload.js';

const NAMES = ['millrace', 'js-heap', 'js-object-wheel', 'js-typed-wheel'];
const STEPS = 60_000;

function kindOf(name: string): TimerSetKind<unknown> {
  return timerSetKind(name) as TimerSetKind<unknown>;
}

/** Pending timers in the order they are due. */
class Model {
  readonly #timers: { readonly due: number; readonly token: number }[] = [];

  get size(): number {
    return this.#timers.length;
  }

  get nextDueMs(): number {
    return this.#timers[0]?.due ?? Number.POSITIVE_INFINITY;
  }

  schedule(due: number, token: number): void {
    // Behind all that are due at the same time.
    let low = 0;
    let high = this.#timers.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#timers[middle]!.due <= due) low = middle + 1;
      else high = middle;
    }
    this.#timers.splice(low, 0, { due, token });
  }

  cancel(token: number): boolean {
    const index = this.#timers.findIndex((timer) => timer.token === token);
    if (index < 0) return false;
    this.#timers.splice(index, 1);
    return true;
  }

  advance(now: number, limit: number): number[] {
    let count = 0;
    while (count < limit && count < this.size && this.#timers[count]!.due <= now) count++;
    return this.#timers.splice(0, count).map(({ token }) => token);
  }
}

/** Delays as they come: mostly near, some in the next windows, some far, some past. */
function delayOf(next: () => number): number {
  switch (next() % 10) {
    case 0:
      return 0;
    case 1:
      return next() % 5;
    case 2:
      return 60_000 + (next() % 100_000);
    case 3:
      return next() % 2_000_000_000;
    default:
      return next() % 5_000;
  }
}

/** Steps of time: mostly small, sometimes across windows. */
function stepOf(next: () => number): number {
  switch (next() % 50) {
    case 0:
      return 65_536;
    case 1:
      return next() % 300_000;
    case 2:
      return next() % 20 === 0 ? next() % 3_000_000_000 : 0;
    default:
      return next() % 40;
  }
}

for (const name of NAMES) {
  test(`${name} behaves as a sorted array through random operations`, () => {
    for (const seed of [1, 2, 3]) {
      const next = randomUint32(seed);
      const set: TimerSet<unknown> = kindOf(name).make();
      const model = new Model();
      const handles = new Map<number, unknown>();
      const out = new Uint32Array(32);
      let now = 0;
      for (let token = 0; token < STEPS; token++) {
        const choice = next() % 100;
        if (choice < 45 && model.size < 3_000) {
          const due = now + delayOf(next);
          handles.set(token, set.schedule(due, token));
          model.schedule(due, token);
        } else if (choice < 75) {
          // Any earlier one: pending, fired or cancelled.
          const chosen = next() % (token + 1);
          if (handles.has(chosen)) {
            assert.equal(set.cancel(handles.get(chosen)), model.cancel(chosen), `cancel ${chosen}`);
          }
        } else {
          if (next() % 2 === 0) now += stepOf(next);
          const tokens = [...out.subarray(0, set.advance(now, out))];
          assert.deepEqual(tokens, model.advance(now, out.length), `advance to ${now}`);
        }
        assert.equal(set.size, model.size);
        if (token % 7 === 0 && name !== 'millrace') {
          assert.equal(set.nextDueMs(), model.nextDueMs, `next due at ${now}`);
        }
      }
      set.close();
    }
  });
}

test('the typed wheel sweeps entries of cancelled timers and keeps the rest', () => {
  const set = kindOf('js-typed-wheel').make();
  const next = randomUint32(9);
  const out = new Uint32Array(1_024);
  const kept: number[] = [];
  for (let token = 0; token < 400_000; token++) {
    const due = 1 + (next() % 100_000);
    const handle = set.schedule(due, token);
    if (token % 20 === 0) kept[token / 20] = due;
    else assert.equal(set.cancel(handle), true);
  }
  assert.equal(set.size, kept.length);
  assert.ok(set.offHeapBytes() < 12_000_000, `${set.offHeapBytes()} bytes`);
  const dues: number[] = [];
  for (let now = 0; now <= 100_000; now += 10) {
    for (let full = true; full; ) {
      const fired = set.advance(now, out);
      for (let i = 0; i < fired; i++) dues.push(kept[out[i]! / 20]!);
      full = fired === out.length;
    }
  }
  assert.deepEqual(
    dues,
    [...kept].sort((a, b) => a - b),
  );
});
