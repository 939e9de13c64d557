import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Autoscaler, type Load, ScalePolicy } from '../../src/pool/autoscaler.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';

const MB = 1_024 ** 2;
const QUIET: Load = {
  cpu: 0.3,
  busy: 0.3,
  memory: 0.3,
  queue: 0,
  freeBytes: 4_096 * MB,
  threadBytes: 40 * MB,
};

/** A pool of threads that grows and shrinks, on virtual time; one look per second. */
class Run {
  readonly policy: ScalePolicy;
  threads: number;
  nowMs = 0;
  /** Second, threads, reason. */
  readonly changes: { readonly s: number; readonly threads: number; readonly reason: string }[] =
    [];

  constructor(threads: number, options: { min?: number; max?: number } = {}) {
    this.threads = threads;
    this.policy = new ScalePolicy({ min: options.min ?? 1, max: options.max ?? 16 });
  }

  look(load: Partial<Load>): string {
    this.nowMs += 1_000;
    const { threads, reason } = this.policy.step({ ...QUIET, ...load }, this.threads, this.nowMs);
    if (threads !== this.threads) this.changes.push({ s: this.nowMs / 1_000, threads, reason });
    this.threads = threads;
    return reason;
  }

  for(seconds: number, load: Partial<Load>): this {
    for (let i = 0; i < seconds; i++) this.look(load);
    return this;
  }

  /** Changes of direction. */
  get turns(): number {
    const steps = this.changes.map(({ threads }, i) =>
      Math.sign(threads - (this.changes[i - 1]?.threads ?? 0)),
    );
    return steps.slice(2).filter((step, i) => step !== steps[i + 1]).length;
  }
}

describe('ScalePolicy', () => {
  it('grows by one thread when the mean of a whole window is high, and judges each step anew', () => {
    const run = new Run(2).for(40, { cpu: 1, busy: 1, queue: 1, memory: 0.3 });
    assert.deepEqual(
      run.changes.map(({ threads, reason }) => `${threads} ${reason}`),
      ['3 high', '4 high', '5 high'],
    );
    for (const [i, { s }] of run.changes.entries()) {
      assert.ok(s - (run.changes[i - 1]?.s ?? 0) >= 10, `a step after ${s} s`);
    }
  });

  it('a burst shorter than the window changes nothing', () => {
    const run = new Run(4)
      .for(60, { busy: 0.8 })
      .for(4, { cpu: 1, busy: 1, queue: 1 })
      .for(60, { busy: 0.8 });
    assert.deepEqual(run.changes, []);
  });

  it('shrinks one at a time, each after the delay', () => {
    const run = new Run(4).for(200, { cpu: 0.1, busy: 0.1, memory: 0.2 });
    assert.deepEqual(
      run.changes.map(({ threads }) => threads),
      [3, 2, 1],
    );
    assert.ok(run.changes[0]!.s >= 30);
    assert.ok(run.changes[1]!.s - run.changes[0]!.s >= 30);
  });

  it('does not shrink when the others could not take the work', () => {
    // Low by the watermark, but one thread of two would be at 120 %.
    const run = new Run(2).for(600, { cpu: 0.2, busy: 0.6, memory: 0.2 });
    assert.deepEqual(run.changes, []);
  });

  it('all three full: a fifth more at once, at least one, and no more within a window', () => {
    const full = { cpu: 0.9, memory: 0.92, queue: 0.9 };
    const large = new Run(10, { max: 64 }).for(11, {}).for(1, full);
    assert.deepEqual(large.changes, [{ s: 12, threads: 12, reason: 'saturated' }]);
    large.for(8, full);
    assert.equal(large.threads, 12);
    assert.deepEqual(new Run(2).for(11, {}).for(1, full).threads, 3);
    assert.equal(new Run(16).for(60, full).threads, 16);
  });

  it('memory and queue full: a tenth more', () => {
    const run = new Run(20, { max: 64 }).for(11, {}).for(1, { memory: 0.95, queue: 0.9 });
    assert.deepEqual(run.changes, [{ s: 12, threads: 22, reason: 'starved' }]);
  });

  it('sheds instead of growing when less is free than a thread takes, and grows no more than fits', () => {
    const full = { cpu: 0.95, memory: 0.99, queue: 1 };
    const run = new Run(10, { max: 64 }).for(11, {});
    assert.equal(run.look({ ...full, freeBytes: 39 * MB }), 'shed');
    assert.equal(run.threads, 10);
    assert.equal(run.look({ ...full, freeBytes: 41 * MB }), 'saturated');
    assert.equal(run.threads, 11);
    assert.equal(new Run(4).for(60, { ...full, memory: 0.5, freeBytes: 1 }).threads, 4);
  });

  it('CPU alone: 15 s of it, then one thread less', () => {
    const run = new Run(4).for(11, {}).for(14, { cpu: 0.95 });
    assert.deepEqual(run.changes, []);
    run.for(3, { cpu: 0.95 });
    assert.deepEqual(
      run.changes.map(({ threads, reason }) => `${threads} ${reason}`),
      ['3 cpu-alone'],
    );
    const broken = new Run(4)
      .for(11, {})
      .for(14, { cpu: 0.95 })
      .for(1, { cpu: 0.5 })
      .for(14, { cpu: 0.95 });
    assert.deepEqual(broken.changes, []);
  });

  it('stays between min and max', () => {
    assert.equal(new Run(3, { min: 3 }).for(300, { cpu: 0, busy: 0, memory: 0 }).threads, 3);
    assert.equal(new Run(4, { max: 4 }).for(300, { cpu: 1, busy: 1, queue: 1 }).threads, 4);
  });

  it('a shrink that was regretted makes it more patient', () => {
    const run = new Run(2);
    const shrinks: number[] = [];
    for (let round = 0; round < 4; round++) {
      const before = run.nowMs;
      while (run.threads > 1) run.look({ busy: 0.1, cpu: 0.1 });
      shrinks.push((run.nowMs - before) / 1_000);
      while (run.threads < 2) run.look({ busy: 1, cpu: 1, queue: 1 });
    }
    assert.ok(shrinks[1]! >= 60 && shrinks[2]! >= 120 && shrinks[3]! >= 240, `${shrinks}`);
  });
});

/**
 * A pool on a machine of 8 CPUs: `arrivals` items per second, each thread does 100. What waits is in the queue.
 */
function simulate(
  seconds: number,
  arrivals: (s: number) => number,
  threads = 4,
): Run & { maxQueue: number } {
  const run = Object.assign(new Run(threads, { max: 8 }), { maxQueue: 0 });
  let waiting = 0;
  for (let s = 0; s < seconds; s++) {
    const capacity = run.threads * 100;
    const work = waiting + arrivals(s);
    const done = Math.min(work, capacity);
    waiting = work - done;
    run.maxQueue = Math.max(run.maxQueue, waiting / capacity);
    run.look({
      cpu: done / 800,
      busy: done / capacity,
      memory: 0.35 + run.threads * 0.01,
      queue: Math.min(1, waiting / capacity),
    });
  }
  return run;
}

describe('load traces', () => {
  it('steps: up to what is needed, back down, and at rest in between', () => {
    const run = simulate(1_800, (s) => (s < 600 ? 150 : s < 1_200 ? 650 : 150));
    const at = (second: number): number =>
      run.changes.filter(({ s }) => s <= second).at(-1)!.threads;
    assert.ok(at(590) <= 3, `${at(590)} threads for 1.5`);
    assert.ok(at(1_190) >= 7, `${at(1_190)} threads for 6.5`);
    assert.ok(at(1_799) <= 4, `${at(1_799)} threads for 1.5 again`);
    assert.ok(run.turns <= 2, `${run.turns} turns: ${JSON.stringify(run.changes)}`);
    // At rest after it has found its size.
    assert.deepEqual(
      run.changes.filter(({ s }) => s > 900 && s < 1_200),
      [],
    );
  });

  it('a slow sine is followed, two turns per period at the most', () => {
    const run = simulate(4 * 1_200, (s) => 350 + 300 * Math.sin((s / 1_200) * 2 * Math.PI));
    assert.ok(run.changes.length > 4);
    assert.ok(run.turns <= 8, `${run.turns} turns: ${JSON.stringify(run.changes)}`);
  });

  it('a fast sine is not chased', () => {
    const run = simulate(1_800, (s) => 200 + 150 * Math.sin((s / 20) * 2 * Math.PI));
    assert.ok(run.turns <= 2, `${run.turns} turns: ${JSON.stringify(run.changes)}`);
    assert.deepEqual(
      run.changes.filter(({ s }) => s > 900),
      [],
    );
  });

  it('at the limit of the machine it tries fewer threads ever more rarely', () => {
    const run = simulate(7_200, () => 760, 8);
    const tries = run.changes.filter(({ reason }) => reason === 'cpu-alone').map(({ s }) => s);
    assert.ok(
      tries.length >= 1 && run.turns <= 16,
      `${run.turns} turns: ${JSON.stringify(run.changes)}`,
    );
    assert.ok(run.changes.filter(({ s }) => s > 3_600).length <= 4);
  });

  it('bursts now and then do not make it grow and shrink each time', () => {
    const run = simulate(3_600, (s) => (s % 120 < 5 ? 1_200 : 100));
    assert.ok(run.turns <= 4, `${run.turns} turns: ${JSON.stringify(run.changes)}`);
  });
});

describe('Autoscaler', () => {
  it('looks once a second, resizes, sheds, and stops', async () => {
    const clock = new VirtualClock();
    const load = { ...QUIET, cpu: 1, busy: 1, queue: 1 };
    const pool = {
      size: 2,
      sheds: [] as boolean[],
      resize: async (threads: number): Promise<void> => {
        pool.size = threads;
      },
      shed: (isShedding: boolean): void => {
        pool.sheds.push(isShedding);
      },
    };
    const scaler = new Autoscaler(clock, pool, () => load, { min: 1, max: 3 });
    await scaler.start();
    await clock.advance(60_000);
    assert.equal(pool.size, 3);
    assert.equal(pool.sheds.length, 60);
    assert.deepEqual(new Set(pool.sheds), new Set([false]));
    load.freeBytes = 0;
    await clock.advance(1_000);
    assert.equal(pool.sheds.at(-1), true);
    await Promise.all([scaler.stop(), scaler.stop()]);
    await clock.advance(60_000);
    assert.equal(pool.sheds.length, 61);
    const never = new Autoscaler(clock, pool, () => load, { min: 1, max: 3 });
    await never.stop();
    await never.start();
    assert.equal(clock.sleeping, 0);
  });
});
