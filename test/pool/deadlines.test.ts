import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { timeoutSpec } from '../../src/core/timeouts.js';
import { DeadlineWatch, Limits, type Timers, type Watched } from '../../src/pool/deadlines.js';
import { RunTimes } from '../../src/pool/run-times.js';

/** Time that a test moves. */
class HandTimers implements Timers {
  nowMs = 1_000;
  wakeUps = 0;
  #due: { atMs: number; wake: () => void }[] = [];

  monoMs(): number {
    return this.nowMs;
  }

  wakeIn(delayMs: number, wake: () => void): { cancel: () => void } {
    const entry = { atMs: this.nowMs + delayMs, wake };
    this.#due.push(entry);
    return {
      cancel: () => {
        this.#due = this.#due.filter((it) => it !== entry);
      },
    };
  }

  get pending(): number {
    return this.#due.length;
  }

  to(atMs: number): void {
    for (;;) {
      this.#due.sort((a, b) => a.atMs - b.atMs);
      const next = this.#due[0];
      if (next === undefined || next.atMs > atMs) break;
      this.#due.shift();
      this.nowMs = Math.max(this.nowMs, next.atMs);
      this.wakeUps++;
      next.wake();
    }
    this.nowMs = atMs;
  }
}

/** A batch whose marks the test sets; `told` is what the watch did, with the time. */
function batch(timers: HandTimers, timeouts: readonly number[], limitMs: number) {
  const marks = timeouts.map(() => 0);
  const told: string[] = [];
  const items: ({ timeoutMs: number } | undefined)[] = timeouts.map((timeoutMs) => ({ timeoutMs }));
  const watched: Watched = {
    items,
    limitMs,
    overdue: undefined,
    batch: {
      startedAtMs: (index) => marks[index]!,
      cancel: (slot, _reason, isTimeout) => told.push(`${timers.nowMs} abort ${slot} ${isTimeout}`),
      kill: () => told.push(`${timers.nowMs} kill`),
    },
  };
  return { watched, marks, items, told };
}

describe('DeadlineWatch', () => {
  it('aborts at the limit and kills after the grace period, counted from the call of the handler', () => {
    const timers = new HandTimers();
    const watch = new DeadlineWatch(timers, 50);
    const { watched, marks, told } = batch(timers, [0, 0], 100);
    watch.add(watched, 100);
    timers.to(1_030);
    marks[0] = 1_030;
    timers.to(5_000);
    assert.deepEqual(told, ['1130 abort 0 true', '1180 kill']);
  });

  it('is exact for a task that begins between two looks', () => {
    const timers = new HandTimers();
    const watch = new DeadlineWatch(timers, 50);
    const { watched, marks, told } = batch(timers, [0, 0], 100);
    watch.add(watched, 100);
    marks[0] = 1_001;
    timers.to(1_070);
    marks[0] = -1;
    marks[1] = 1_070;
    timers.to(1_200);
    assert.deepEqual(told, ['1170 abort 1 true']);
  });

  it('leaves alone what has ended, what has not begun, and what has no limit', () => {
    const timers = new HandTimers();
    const watch = new DeadlineWatch(timers, 50);
    const { watched, marks, items, told } = batch(
      timers,
      [0, 20, 30, 40],
      Number.POSITIVE_INFINITY,
    );
    watch.add(watched, 20);
    marks[0] = 1_000;
    marks[1] = -1;
    marks[2] = 1_000;
    items[2] = undefined;
    timers.to(9_000);
    assert.deepEqual(told, []);
    assert.ok(timers.wakeUps < 300, `${timers.wakeUps} looks`);
  });

  it('a task that ends in its grace period is not killed', () => {
    const timers = new HandTimers();
    const watch = new DeadlineWatch(timers, 50);
    const { watched, marks, told } = batch(timers, [10], 100);
    watch.add(watched, 10);
    marks[0] = 1_000;
    timers.to(1_020);
    marks[0] = -1;
    timers.to(9_000);
    assert.deepEqual(told, ['1010 abort 0 true']);
    assert.equal(timers.pending, 0);
  });

  it('aborts exactly those that run over their limit, exactly then, and kills at the first that stays', () => {
    const task = fc.record({
      startMs: fc.integer({ min: 1_001, max: 3_000 }),
      runMs: fc.integer({ min: 0, max: 600 }),
      ownMs: fc.constantFrom(0, 40, 120, 333),
    });
    fc.assert(
      fc.property(fc.array(task, { minLength: 1, maxLength: 12 }), (tasks) => {
        const timers = new HandTimers();
        const watch = new DeadlineWatch(timers, 50);
        const told: string[] = [];
        let isKilled = false;
        const watched: Watched = {
          items: tasks.map(({ ownMs }) => ({ timeoutMs: ownMs })),
          limitMs: 200,
          overdue: undefined,
          batch: {
            startedAtMs(index) {
              const { startMs, runMs } = tasks[index]!;
              if (isKilled || timers.nowMs >= startMs + runMs) return -1;
              return timers.nowMs < startMs ? 0 : startMs;
            },
            cancel: (slot) => told.push(`${timers.nowMs} ${slot}`),
            kill: () => {
              isKilled = true;
              told.push(`${timers.nowMs} kill`);
            },
          },
        };
        watch.add(watched, Math.min(...tasks.map(({ ownMs }) => ownMs || 200)));
        timers.to(10_000);

        const overAtMs = tasks.map(({ startMs, ownMs }) => startMs + (ownMs || 200));
        const outlives = (slot: number, atMs: number): boolean =>
          tasks[slot]!.startMs + tasks[slot]!.runMs > atMs;
        const killAtMs = Math.min(
          ...overAtMs.map((atMs, slot) =>
            outlives(slot, atMs + 50) ? atMs + 50 : Number.POSITIVE_INFINITY,
          ),
        );
        const aborts = overAtMs.flatMap((atMs, slot) =>
          outlives(slot, atMs) && atMs < killAtMs ? [`${atMs} ${slot}`] : [],
        );
        // At the moment of the kill others may or may not have been told before.
        const before = told.filter((it) => !it.startsWith(`${killAtMs} `));
        assert.deepEqual(before.sort(), aborts.sort());
        assert.equal(told.includes(`${killAtMs} kill`), killAtMs < Number.POSITIVE_INFINITY);
        assert.equal(timers.pending, 0);
      }),
    );
  });

  it('has one wake-up at a time, none when nothing is watched, and none after close', () => {
    const timers = new HandTimers();
    const watch = new DeadlineWatch(timers, 50);
    const all = [300, 100, 200].map((limitMs) => ({ limitMs, ...batch(timers, [0], limitMs) }));
    for (const { watched, limitMs } of all) watch.add(watched, limitMs);
    assert.equal(timers.pending, 1);
    for (const { watched } of all) watch.remove(watched);
    assert.equal(watch.size, 0);
    timers.to(1_500);
    assert.equal(timers.pending, 0);
    watch.add(all[0]!.watched, 300);
    watch.close();
    assert.equal(timers.pending, 0);
  });
});

describe('Limits', () => {
  const measured = (ms: number, count: number): RunTimes => {
    const times = new RunTimes();
    for (let i = 0; i < count; i++) times.add(ms);
    return times;
  };

  it('are what was asked for when fixed', () => {
    assert.equal(new Limits(undefined).limitMs(measured(5, 100)), Number.POSITIVE_INFINITY);
    assert.equal(new Limits(undefined).isLimited, false);
    assert.equal(new Limits(timeoutSpec('2s')).limitMs(measured(5, 100)), 2_000);
    assert.equal(new Limits(timeoutSpec(70)).isLimited, true);
    assert.equal(new Limits(timeoutSpec({ adaptive: false, max: 9 })).limitMs(new RunTimes()), 9);
  });

  it('adaptive: three times the mean or half again the 99.9th percentile, between floor and cap', () => {
    const adaptive = new Limits(timeoutSpec('adaptive'));
    assert.equal(adaptive.limitMs(measured(1, 19)), 300_000);
    assert.equal(adaptive.limitMs(measured(1, 20)), 1_000);
    assert.equal(adaptive.limitMs(measured(1_000, 50)), 3_000);
    assert.equal(adaptive.limitMs(measured(1e6, 50)), 300_000);
    assert.equal(
      new Limits(timeoutSpec({ adaptive: 5, min: 1 })).limitMs(measured(1_000, 50)),
      5_000,
    );
    const rare = measured(100, 1_000);
    for (let i = 0; i < 5; i++) rare.add(10_000);
    for (let i = 0; i < 400; i++) rare.add(100);
    const limitMs = adaptive.limitMs(rare);
    assert.ok(limitMs >= 15_000 && limitMs <= 16_900, `${limitMs}`);
  });
});
