import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../src/core/errors.js';
import { TimerQueue, type TimerQueueOptions } from '../../src/timing/index.js';

/** A queue, and a way to read what it fires as a plain array. */
function setup(options?: TimerQueueOptions, room = 64) {
  const queue = new TimerQueue(options);
  const out = new Uint32Array(room);
  const fire = (nowMs: number): number[] => [...out.subarray(0, queue.advance(nowMs, out))];
  return { queue, out, fire };
}

const invalid = (error: unknown): boolean => hasCode(error, 'ERR_MILLRACE_INVALID_OPTION');
const isClosed = (error: unknown): boolean => hasCode(error, 'ERR_MILLRACE_CLOSED');
const isFull = (error: unknown): boolean => hasCode(error, 'ERR_MILLRACE_QUEUE_FULL');

test('a timer fires at its due time and not before', () => {
  const { queue, fire } = setup();
  queue.schedule(10, 7);
  assert.deepEqual(fire(9), []);
  assert.deepEqual(fire(9.999), []);
  assert.deepEqual(fire(10), [7]);
  assert.deepEqual(fire(11), []);
});

test('a fraction of a millisecond is rounded up, so a timer is never early', () => {
  const { queue, fire } = setup();
  queue.schedule(10.001, 1);
  assert.equal(queue.nextDueMs(), 11);
  assert.deepEqual(fire(10.5), []);
  assert.deepEqual(fire(11), [1]);
});

test('equal fractions count as equal: the one scheduled first comes first', () => {
  const { queue, fire } = setup();
  queue.schedule(5.9, 1);
  queue.schedule(5.1, 2);
  queue.schedule(6, 3);
  assert.deepEqual(fire(6), [1, 2, 3]);
});

test('what is in the past is due at once, ordered like the rest', () => {
  const { queue, fire } = setup({ startMs: 1000 });
  queue.schedule(1000, 1);
  queue.schedule(-5, 2);
  queue.schedule(990, 3);
  queue.schedule(-5, 4);
  queue.schedule(-0, 5);
  assert.equal(queue.nextDueMs(), -5);
  assert.deepEqual(fire(1000), [2, 4, 5, 3, 1]);
});

test('one advance over a long time hands out by due time, then by order of scheduling', () => {
  const { queue, fire } = setup();
  queue.schedule(50_000, 1);
  queue.schedule(20, 2);
  queue.schedule(5_000_000, 3);
  queue.schedule(20, 4);
  queue.schedule(50_000, 5);
  queue.schedule(19, 6);
  assert.deepEqual(fire(10_000_000), [6, 2, 4, 1, 5, 3]);
});

test('timers of one millisecond keep their order however early each was scheduled', () => {
  const due = 2 ** 37;
  const { queue, fire } = setup();
  // One in each level, from the overflow heap down to the next millisecond.
  const distances = [
    2 ** 36 + 2 ** 25,
    2 ** 36 - 5,
    2 ** 25,
    2 ** 24 - 1,
    9000,
    8000,
    4096,
    4095,
    1,
  ];
  for (const [token, distance] of distances.entries()) {
    assert.deepEqual(fire(due - distance), []);
    queue.schedule(due, token);
  }
  assert.deepEqual(fire(due), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
});

test('a full out means more: the same time again gives the rest, also of one millisecond', () => {
  const { queue, fire } = setup({}, 3);
  for (let token = 0; token < 8; token++) queue.schedule(5, token);
  assert.deepEqual(fire(5), [0, 1, 2]);
  assert.equal(queue.nextDueMs(), 5);
  assert.deepEqual(fire(5), [3, 4, 5]);
  assert.deepEqual(fire(5), [6, 7]);
  assert.deepEqual(fire(5), []);
});

test('between two halves of one advance, a timer can be added, moved and cancelled', () => {
  const { queue, fire } = setup({}, 2);
  const handles = [10, 10, 10, 20, 30].map((due, token) => queue.schedule(due, token));
  assert.deepEqual(fire(1000), [0, 1]);
  assert.equal(queue.cancel(handles[2]!), true);
  assert.equal(queue.reschedule(handles[4]!, 2000), true);
  queue.schedule(15, 5);
  queue.schedule(3, 6);
  assert.deepEqual(fire(1000), [6, 5]);
  assert.deepEqual(fire(1000), [3]);
  assert.deepEqual(fire(2000), [4]);
});

test('a time before the last one fires nothing and loses nothing', () => {
  const { queue, fire } = setup({ startMs: 100 });
  queue.schedule(50, 1);
  queue.schedule(200, 2);
  assert.deepEqual(fire(99), []);
  assert.deepEqual(fire(-1), []);
  assert.deepEqual(fire(150), [1]);
  assert.deepEqual(fire(120), []);
  queue.schedule(110, 3);
  assert.deepEqual(fire(149), []);
  assert.deepEqual(fire(200), [3, 2]);
});

test('cancel says whether the timer was pending', () => {
  const { queue, fire } = setup();
  const kept = queue.schedule(5, 1);
  const dropped = queue.schedule(5, 2);
  assert.equal(queue.cancel(dropped), true);
  assert.equal(queue.cancel(dropped), false);
  assert.deepEqual(fire(5), [1]);
  assert.equal(queue.cancel(kept), false);
  assert.equal(queue.size, 0);
});

test('a reschedule moves the timer, keeps handle and token, and counts as scheduled now', () => {
  const { queue, fire } = setup();
  const moved = queue.schedule(5, 1);
  queue.schedule(20, 2);
  assert.equal(queue.reschedule(moved, 20), true);
  queue.schedule(20, 3);
  assert.deepEqual(fire(19), []);
  assert.deepEqual(fire(20), [2, 1, 3]);
  assert.equal(queue.reschedule(moved, 30), false);
});

test('moved away and back, a timer stands behind those scheduled in between', () => {
  const { queue, fire } = setup();
  const moved = queue.schedule(20, 1);
  queue.schedule(20, 2);
  queue.nextDueMs();
  queue.reschedule(moved, 40);
  queue.nextDueMs();
  queue.reschedule(moved, 20);
  assert.deepEqual(fire(20), [2, 1]);
  assert.deepEqual(fire(40), []);
});

test('a reschedule into the past is due at once', () => {
  const { queue, fire } = setup();
  const handle = queue.schedule(1e9, 1);
  fire(100);
  assert.equal(queue.reschedule(handle, 5), true);
  assert.deepEqual(fire(100), [1]);
});

test('a stale handle is refused, also when its record serves another timer', () => {
  const { queue, out } = setup({}, 4096);
  const stale = new Set<number>();
  // More schedulings than a chunk has records, one pending at a time: every record is used several times.
  for (let i = 0; i < 50_000; i++) {
    const handle = queue.schedule(i + 1, i);
    assert.ok(!stale.has(handle), 'a handle was given out twice');
    if (i % 2 === 0) assert.equal(queue.cancel(handle), true);
    else assert.equal(queue.advance(i + 1, out), 1);
    stale.add(handle);
  }
  const pending = [1, 2, 3].map((token) => queue.schedule(60_000, token));
  for (const handle of stale) {
    assert.equal(queue.cancel(handle), false);
    assert.equal(queue.reschedule(handle, 1), false);
  }
  assert.equal(queue.size, pending.length);
});

test('a stale handle is refused after its chunk of records was given up and came back', () => {
  const { queue } = setup();
  const fill = (): number[] => Array.from({ length: 50_000 }, (_, i) => queue.schedule(1e6, i));
  const first = fill();
  for (const handle of first) queue.cancel(handle);
  const bytes = queue.stats().bytes;
  assert.ok(bytes < 2 ** 20, `${bytes} bytes are held for nothing`);
  const second = fill();
  assert.equal(new Set([...first, ...second]).size, 100_000);
  for (const handle of first) assert.equal(queue.cancel(handle), false);
  assert.equal(queue.size, 50_000);
});

test('numbers that are no handles of pending timers are refused without harm', () => {
  const { queue, fire } = setup();
  const handle = queue.schedule(10, 1);
  queue.cancel(queue.schedule(10, 2));
  // Guesses: the next generation of a free record, the header of a chunk, a chunk that does not exist.
  for (const guess of [
    0,
    1,
    2,
    -0,
    handle + 1,
    handle + 2,
    handle + 2 ** 27,
    2 ** 27,
    2 ** 53 - 1,
  ]) {
    assert.equal(queue.cancel(guess), false, `cancel(${guess})`);
    assert.equal(queue.reschedule(guess, 5), false, `reschedule(${guess})`);
  }
  const bad: unknown[] = [
    Number.NaN,
    -1,
    -handle,
    -(2 ** 27) * 2 - 4,
    1.5,
    handle + 0.5,
    2 ** 53,
    Infinity,
  ];
  for (const guess of [...bad, '1', `${handle}`, null, undefined, 1n, Symbol('x'), {}, [handle]]) {
    assert.throws(() => queue.cancel(guess as number), invalid, `cancel(${String(guess)})`);
    assert.throws(() => queue.reschedule(guess as number, 5), invalid);
  }
  assert.deepEqual(fire(10), [1]);
});

test('a due time has to be a finite number of at most 2^53 - 1', () => {
  const { queue, fire } = setup();
  const handle = queue.schedule(1, 1);
  for (const bad of [
    Number.NaN,
    Infinity,
    -Infinity,
    2 ** 53,
    -(2 ** 53),
    '5',
    null,
    undefined,
    5n,
    {},
  ]) {
    assert.throws(() => queue.schedule(bad as number, 1), invalid);
    assert.throws(() => queue.reschedule(handle, bad as number), invalid);
    assert.throws(() => queue.advance(bad as number, new Uint32Array(1)), invalid);
  }
  assert.equal(queue.size, 1);
  queue.schedule(2 ** 53 - 1, 2);
  assert.deepEqual(fire(2 ** 53 - 2), [1]);
  assert.equal(queue.nextDueMs(), 2 ** 53 - 1);
  assert.deepEqual(fire(2 ** 53 - 1), [2]);
});

test('a token has to be a whole number below 2^32', () => {
  const { queue, fire } = setup();
  for (const bad of [Number.NaN, -1, 0.5, 2 ** 32, '1', null, undefined, 1n, Symbol('x'), {}]) {
    assert.throws(() => queue.schedule(1, bad as number), invalid);
  }
  queue.schedule(1, 2 ** 32 - 1);
  queue.schedule(1, 2 ** 31);
  queue.schedule(1, -0);
  assert.deepEqual(fire(1), [2 ** 32 - 1, 2 ** 31, 0]);
});

test('out has to be a Uint32Array with room', () => {
  const { queue } = setup();
  queue.schedule(1, 1);
  const detached = new Uint32Array(4);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const bad = [
    detached,
    new Uint32Array(0),
    new Int32Array(4),
    [0, 0],
    Buffer.alloc(8),
    null,
    undefined,
  ];
  for (const out of bad) assert.throws(() => queue.advance(1, out as Uint32Array), invalid);
  assert.equal(queue.size, 1);
  const part = new Uint32Array(new SharedArrayBuffer(16), 8, 1);
  assert.equal(queue.advance(1, part), 1);
  assert.deepEqual([...part], [1]);
});

test('options out of range are refused', () => {
  for (const startMs of [Number.NaN, -1, Infinity, 2 ** 53, '0', null]) {
    assert.throws(() => new TimerQueue({ startMs: startMs as number }), invalid);
  }
  for (const timersMax of [Number.NaN, 0, -1, 1.5, Infinity, '9']) {
    assert.throws(() => new TimerQueue({ timersMax: timersMax as number }), invalid);
  }
  assert.equal(new TimerQueue({ startMs: 10.9 }).size, 0);
});

test('nextDueMs is Infinity when empty, and the earliest deadline otherwise, near or far', () => {
  const { queue, fire } = setup({ startMs: 4000 });
  assert.equal(queue.nextDueMs(), Infinity);
  for (const due of [
    2 ** 50,
    2 ** 40,
    2 ** 36,
    2 ** 25,
    2 ** 24,
    100_000,
    9000,
    8191,
    4096,
    4001,
  ]) {
    queue.schedule(due, 1);
    assert.equal(queue.nextDueMs(), due);
  }
  for (const due of [
    4001,
    4096,
    8191,
    9000,
    100_000,
    2 ** 24,
    2 ** 25,
    2 ** 36,
    2 ** 40,
    2 ** 50,
  ]) {
    assert.equal(queue.nextDueMs(), due);
    assert.equal(fire(due).length, 1);
  }
  assert.equal(queue.nextDueMs(), Infinity);
});

test('nextDueMs sees what has not been moved down yet', () => {
  const { queue, out, fire } = setup();
  // Window 2 is emptied into level 0 while time is in window 1: start with the late ones, so that some are
  // already down when the earliest is still up.
  for (let i = 0; i < 1000; i++) queue.schedule(8192 + 4000 - i, i);
  queue.advance(4096, out);
  queue.advance(5000, out);
  assert.equal(queue.nextDueMs(), 8192 + 4000 - 999);
  assert.deepEqual(fire(8192 + 4000 - 999), [999]);
});

test('nextDueMs after cancelling the earliest never goes past the next one', () => {
  const { queue, fire } = setup();
  for (const base of [100, 50_000, 2 ** 26, 2 ** 38]) {
    const first = queue.schedule(base, 1);
    queue.schedule(base + 10, 2);
    queue.nextDueMs();
    queue.cancel(first);
    const next = queue.nextDueMs();
    assert.ok(next <= base + 10, `${next}`);
    assert.deepEqual(fire(base + 10), [2]);
    assert.equal(queue.nextDueMs(), Infinity);
  }
});

test('a driver that goes from nextDueMs to nextDueMs always comes forward', () => {
  const { queue, fire } = setup();
  const handles = Array.from({ length: 300 }, (_, i) => queue.schedule(20_000 + i * 37, i));
  queue.nextDueMs();
  for (const handle of handles.slice(0, 299)) queue.cancel(handle);
  let now = 0;
  let stops = 0;
  for (let fired = 0; fired === 0; stops++) {
    const next = queue.nextDueMs();
    assert.ok(next > now);
    now = next;
    fired = fire(now).length;
  }
  assert.ok(stops < 10, `${stops} stops for one timer`);
});

test('quietUntilMs tells when advance has timers to fire or to move, and is never later than a deadline', () => {
  const { queue, fire } = setup();
  assert.equal(queue.quietUntilMs(), Infinity);
  const near = queue.schedule(300, 1);
  assert.equal(queue.quietUntilMs(), 300);
  queue.cancel(near);
  queue.schedule(20_000, 2);
  // Looked at every window; then, while the window before its own passes, at every tick.
  let stops = 0;
  for (let now = queue.quietUntilMs(); now <= 20_000; now = queue.quietUntilMs()) {
    assert.ok(now <= queue.nextDueMs());
    const isDue = now === 20_000;
    assert.deepEqual(fire(now), isDue ? [2] : []);
    stops++;
    if (isDue) break;
  }
  assert.ok(stops > 4 && stops < 10, `${stops} stops`);
  queue.schedule(5, 3);
  assert.equal(queue.quietUntilMs() <= 20_000, true);
});

test('a batch is scheduled in order, and gives handles', () => {
  const { queue, fire } = setup();
  queue.schedule(5, 100);
  const handles = new Float64Array(4);
  assert.equal(
    queue.scheduleBatch(Float64Array.of(5, 4.5, 3, 5), Uint32Array.of(1, 2, 3, 4), handles),
    4,
  );
  assert.equal(queue.cancel(handles[3]!), true);
  assert.deepEqual(fire(5), [3, 100, 1, 2]);
  assert.equal(queue.scheduleBatch(new Float64Array(0), new Uint32Array(0)), 0);
});

test('a batch larger than a chunk of records, into used and unused ones, equals single schedulings', () => {
  const batch = setup({}, 100_000);
  const single = setup({}, 100_000);
  for (let round = 0; round < 3; round++) {
    const dues = Float64Array.from(
      { length: 40_000 },
      (_, i) => round * 1000 + ((i * 7919) % 1000) + 0.5,
    );
    const tokens = Uint32Array.from(dues, (_, i) => round * 40_000 + i);
    const handles = new Float64Array(dues.length);
    assert.equal(batch.queue.scheduleBatch(dues, tokens, handles), dues.length);
    const singles = Array.from(dues, (due, i) => single.queue.schedule(due, tokens[i]!));
    assert.equal(new Set(handles).size, dues.length);
    for (let i = round; i < dues.length; i += 3) {
      assert.equal(batch.queue.cancel(handles[i]!), true);
      assert.equal(single.queue.cancel(singles[i]!), true);
    }
    const now = round * 1000 + 600;
    assert.deepEqual(batch.fire(now), single.fire(now));
  }
  assert.equal(batch.queue.size, single.queue.size);
  assert.deepEqual(batch.fire(1e4), single.fire(1e4));
});

test('a batch with one bad element or array schedules nothing', () => {
  const { queue } = setup();
  const dues = Float64Array.of(1, 2);
  const tokens = Uint32Array.of(1, 2);
  const detached = new Float64Array(2);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const detachedTokens = new Uint32Array(2);
  structuredClone(detachedTokens.buffer, { transfer: [detachedTokens.buffer] });
  for (const args of [
    [Float64Array.of(1, Number.NaN), tokens],
    [Float64Array.of(Infinity, 1), tokens],
    [dues, Uint32Array.of(1)],
    [Float64Array.of(1, 2 ** 53), tokens],
    [detached, tokens],
    [dues, detachedTokens],
    [new Float32Array(2), tokens],
    [dues, new Int32Array(2)],
    [null, null],
    [undefined, undefined],
    [[1, 2], tokens],
    [dues, [1, 2]],
    [dues, tokens, new Float64Array(1)],
    [dues, tokens, detached],
    [dues, tokens, [0, 0]],
  ]) {
    assert.throws(
      () => queue.scheduleBatch(...(args as unknown as [Float64Array, Uint32Array])),
      invalid,
    );
  }
  assert.equal(queue.size, 0);
});

test('timersMax refuses one more, until there is room again', () => {
  const { queue, fire } = setup({ timersMax: 3 });
  const first = queue.schedule(10, 1);
  queue.schedule(20, 2);
  queue.schedule(30, 3);
  assert.throws(() => queue.schedule(40, 4), isFull);
  assert.equal(queue.reschedule(first, 15), true);
  queue.cancel(first);
  queue.schedule(40, 4);
  assert.throws(() => queue.scheduleBatch(Float64Array.of(1), Uint32Array.of(1)), isFull);
  assert.deepEqual(fire(20), [2]);
  const handles = new Float64Array(2);
  assert.equal(queue.scheduleBatch(Float64Array.of(50, 60), Uint32Array.of(5, 6), handles), 1);
  assert.ok(handles[0]! > 0 && handles[1] === 0);
  assert.deepEqual(fire(100), [3, 4, 5]);
});

test('a closed queue refuses everything but another close', async () => {
  const { queue, out } = setup();
  const handle = queue.schedule(1, 1);
  queue.close();
  queue.close();
  await queue[Symbol.asyncDispose]();
  const uses: (() => unknown)[] = [
    () => queue.schedule(1, 1),
    () => queue.scheduleBatch(Float64Array.of(1), Uint32Array.of(1)),
    () => queue.scheduleBatch(new Float64Array(0), new Uint32Array(0)),
    () => queue.cancel(handle),
    () => queue.reschedule(handle, 1),
    () => queue.advance(1, out),
    () => queue.nextDueMs(),
    () => queue.quietUntilMs(),
    () => queue.stats(),
    () => queue.size,
  ];
  for (const use of uses) assert.throws(use, isClosed, String(use));
});

test('queues do not know of one another', () => {
  const a = setup();
  const b = setup({ startMs: 2 ** 40 });
  a.queue.schedule(1, 1);
  b.queue.schedule(2 ** 40 + 1, 2);
  a.queue.close();
  assert.deepEqual(b.fire(2 ** 40 + 1), [2]);
});

test('a clock that starts at 0 and jumps to the present time keeps all timers, in order', () => {
  const { queue, fire } = setup();
  const now = 1_760_000_000_000;
  for (let i = 0; i < 10; i++) queue.schedule(now + 100 - i * 10, i);
  assert.deepEqual(fire(now), []);
  queue.schedule(now + 50, 99);
  assert.deepEqual(fire(now + 100), [9, 8, 7, 6, 5, 99, 4, 3, 2, 1, 0]);
});
