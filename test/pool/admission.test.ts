import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Admission, type AdmissionLimits } from '../../src/pool/admission.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';

/** Which of these promises have resolved by now. */
async function admitted(asked: readonly Promise<void>[]): Promise<number[]> {
  const done: number[] = [];
  asked.forEach((promise, index) => {
    promise.then(
      () => done.push(index),
      () => {},
    );
  });
  await new Promise((resolve) => setImmediate(resolve));
  return done;
}

function admissionOf(limits: Omit<AdmissionLimits, 'nowMs'>): Admission {
  return new Admission({ ...limits, nowMs: () => 0 });
}

describe('Admission', () => {
  it('admits up to either limit', () => {
    const admission = admissionOf({ tasksMax: 3, bytesMax: 100 });
    assert.equal(admission.tryAcquire(60), true);
    assert.equal(admission.tryAcquire(50), false);
    assert.equal(admission.tryAcquire(40), true);
    assert.equal(admission.tryAcquire(0), true);
    assert.equal(admission.tryAcquire(0), false);
    assert.deepEqual([admission.pendingTasks, admission.pendingBytes], [3, 100]);
  });

  it('lets waiters in again below the low watermark only, and then as many as fit', async () => {
    const admission = admissionOf({ tasksMax: 10, bytesMax: 1_000, lowWatermark: 0.5 });
    for (let i = 0; i < 10; i++) await admission.acquire(1);
    const asked = Array.from({ length: 7 }, () => admission.acquire(1));
    for (let i = 0; i < 4; i++) admission.release(1);
    assert.deepEqual(await admitted(asked), []);
    admission.release(1);
    assert.deepEqual(await admitted(asked), [0, 1, 2, 3, 4]);
    assert.equal(admission.waiting, 2);
    assert.equal(admission.pendingTasks, 10);
  });

  it('once full it refuses too until the low watermark is reached', () => {
    const admission = admissionOf({ tasksMax: 10, bytesMax: 1_000, lowWatermark: 0.5 });
    assert.equal(admission.tryAcquire(10, 10), true);
    // Full, but nobody has been refused: room is room.
    admission.release(1, 1);
    assert.equal(admission.tryAcquire(1), true);
    assert.equal(admission.tryAcquire(1), false);
    admission.release(4, 4);
    assert.equal(admission.tryAcquire(1), false);
    admission.release(1, 1);
    assert.equal(admission.tryAcquire(1), true);
    assert.equal(admission.pendingTasks, 6);
  });

  it('a request too large for what is left shuts nobody out while there is plenty', () => {
    const admission = admissionOf({ tasksMax: 10, bytesMax: 1_000, lowWatermark: 0.5 });
    assert.equal(admission.tryAcquire(100), true);
    assert.equal(admission.tryAcquire(950), false);
    assert.equal(admission.tryAcquire(100), true);
  });

  it('says when to come back: the time to the low watermark at the present rate', async () => {
    const clock = new VirtualClock();
    const admission = new Admission({
      ...{ tasksMax: 1_000, bytesMax: 1e9, lowWatermark: 0.9 },
      nowMs: () => clock.monoMs(),
    });
    admission.occupy(100_000, 1_000);
    assert.equal(admission.retryAfterMs, 100);
    // One task per 10 ms.
    for (let i = 0; i < 100; i++) {
      await clock.advance(10);
      admission.release(100);
      admission.occupy(100);
    }
    const { code, details } = admission.full('items', 'wait');
    assert.equal(code, 'ERR_MILLRACE_QUEUE_FULL');
    const { retryAfterMs } = details as { retryAfterMs: number };
    assert.ok(Math.abs(retryAfterMs - 1_000) < 60, `${retryAfterMs} ms`);
    assert.deepEqual(details, { pendingTasks: 1_000, pendingBytes: 100_000, retryAfterMs });
    // A pause is no rate.
    admission.release(100, 1);
    await clock.advance(3_600_000);
    admission.release(100, 1);
    assert.ok(Math.abs(admission.retryAfterMs - 980) < 60, `${admission.retryAfterMs} ms`);
    // By bytes, where those are what is full.
    const heavy = new Admission({
      ...{ tasksMax: 1e6, bytesMax: 1_000, lowWatermark: 0.5 },
      nowMs: () => clock.monoMs(),
    });
    heavy.occupy(1_000, 10);
    await clock.advance(1_000);
    heavy.release(100, 1);
    assert.equal(heavy.retryAfterMs, 4_000);
  });

  it('nobody overtakes, also not a small request a large one', async () => {
    const admission = admissionOf({ tasksMax: 10, bytesMax: 100 });
    await admission.acquire(80);
    const asked = [admission.acquire(50), admission.acquire(1)];
    assert.equal(admission.tryAcquire(1), false);
    assert.deepEqual(await admitted(asked), []);
    admission.release(80);
    assert.deepEqual(await admitted(asked), [0, 1]);
  });

  it('a request above the limits is admitted when it is alone', async () => {
    const admission = admissionOf({ tasksMax: 2, bytesMax: 10 });
    await admission.acquire(1);
    const asked = [admission.acquire(1_000), admission.acquire(1)];
    admission.release(1);
    assert.deepEqual(await admitted(asked), [0]);
    admission.release(1_000);
    assert.deepEqual(await admitted(asked), [0, 1]);
  });

  it('an aborted waiter leaves without permits, and without blocking those behind it', async () => {
    const admission = admissionOf({ tasksMax: 10, bytesMax: 100 });
    await admission.acquire(50);
    const abort = new AbortController();
    const large = admission.acquire(90, 1, abort.signal);
    const small = admission.acquire(10);
    assert.deepEqual(await admitted([small]), []);
    const reason = new Error('changed my mind');
    abort.abort(reason);
    await assert.rejects(large, reason);
    await small;
    assert.deepEqual([admission.pendingTasks, admission.pendingBytes], [2, 60]);
    await assert.rejects(admission.acquire(1, 1, AbortSignal.abort(reason)), reason);
    assert.equal(admission.waiting, 0);
  });

  it('counts what exists already, beyond its limits', () => {
    const admission = admissionOf({ tasksMax: 2, bytesMax: 10 });
    admission.occupy(100, 5);
    assert.equal(admission.tryAcquire(1), false);
    admission.release(100, 5);
    assert.equal(admission.tryAcquire(1), true);
  });

  it('refuses what was released but never taken', () => {
    const admission = admissionOf({ tasksMax: 2, bytesMax: 10 });
    assert.throws(() => admission.release(1), /admission-released-twice/);
  });

  it('refuses unusable limits', () => {
    assert.throws(() => admissionOf({ tasksMax: 0, bytesMax: 10 }), /tasksMax is 0/);
    assert.throws(() => admissionOf({ tasksMax: 1, bytesMax: Number.NaN }), /bytesMax is NaN/);
  });

  /** The same rules over a plain array. */
  it('never leaks a permit and keeps the order, whatever happens', async () => {
    const step = fc.oneof(
      fc.record({
        kind: fc.constantFrom('acquire' as const, 'try' as const),
        bytes: fc.integer({ min: 0, max: 60 }),
        tasks: fc.integer({ min: 1, max: 5 }),
      }),
      fc.record({ kind: fc.constant('release' as const), pick: fc.nat() }),
      fc.record({ kind: fc.constant('abort' as const), pick: fc.nat() }),
    );
    const limits = fc.record({
      tasksMax: fc.integer({ min: 1, max: 12 }),
      bytesMax: fc.integer({ min: 1, max: 100 }),
      lowWatermark: fc.constantFrom(0, 0.5, 0.9, 1),
    });
    await fc.assert(
      fc.asyncProperty(limits, fc.array(step, { maxLength: 80 }), async (limit, steps) => {
        const admission = admissionOf(limit);
        const held: { bytes: number; tasks: number }[] = [];
        const waiting: { bytes: number; tasks: number; abort: AbortController }[] = [];
        const expected: number[] = [];
        const seen: number[] = [];
        let name = 0;
        const names = new Map<object, number>();
        const total = (key: 'bytes' | 'tasks'): number =>
          held.reduce((sum, it) => sum + it[key], 0);
        const fits = (it: { bytes: number; tasks: number }): boolean =>
          held.length === 0 ||
          (total('bytes') === 0 && total('tasks') === 0) ||
          (total('bytes') + it.bytes <= limit.bytesMax &&
            total('tasks') + it.tasks <= limit.tasksMax);
        let isShut = false;
        const isLow = (): boolean =>
          total('tasks') <= Math.floor(limit.tasksMax * limit.lowWatermark) &&
          total('bytes') <= Math.floor(limit.bytesMax * limit.lowWatermark);
        const canHave = (it: { bytes: number; tasks: number }): boolean => {
          if (waiting.length > 0 || isShut) return false;
          if (!fits(it)) isShut = !isLow();
          return fits(it);
        };
        const admitWaiters = (): void => {
          if (!isLow()) return;
          isShut = false;
          while (waiting.length > 0 && fits(waiting[0]!)) {
            const first = waiting.shift()!;
            held.push(first);
            expected.push(names.get(first)!);
          }
          if (waiting.length > 0) isShut = !isLow();
        };
        for (const it of steps) {
          if (it.kind === 'try') {
            const isAdmitted = canHave(it);
            assert.equal(admission.tryAcquire(it.bytes, it.tasks), isAdmitted);
            if (isAdmitted) held.push(it);
          } else if (it.kind === 'acquire') {
            const request = { bytes: it.bytes, tasks: it.tasks, abort: new AbortController() };
            const mine = name++;
            names.set(request, mine);
            admission.acquire(it.bytes, it.tasks, request.abort.signal).then(
              () => seen.push(mine),
              () => {},
            );
            if (canHave(request)) {
              held.push(request);
              expected.push(mine);
            } else {
              waiting.push(request);
            }
          } else if (it.kind === 'release' && held.length > 0) {
            const [gone] = held.splice(it.pick % held.length, 1);
            admission.release(gone!.bytes, gone!.tasks);
            admitWaiters();
          } else if (it.kind === 'abort' && waiting.length > 0) {
            const [gone] = waiting.splice(it.pick % waiting.length, 1);
            gone!.abort.abort();
            admitWaiters();
          }
          assert.equal(admission.pendingTasks, total('tasks'));
          assert.equal(admission.pendingBytes, total('bytes'));
          assert.equal(admission.waiting, waiting.length);
        }
        while (held.length > 0) {
          const gone = held.shift()!;
          admission.release(gone.bytes, gone.tasks);
          admitWaiters();
        }
        await new Promise((resolve) => setImmediate(resolve));
        assert.deepEqual(seen, expected);
        assert.equal(admission.waiting, 0);
        assert.equal(admission.pendingTasks, 0);
        assert.equal(admission.pendingBytes, 0);
      }),
      { numRuns: 300 },
    );
  });
});
