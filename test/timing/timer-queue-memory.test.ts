import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { TimerQueue } from '../../src/timing/index.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const MIB = 2 ** 20;
const WINDOW_MS = 4096;

function drain(queue: TimerQueue, nowMs: number, out: Uint32Array): number {
  let fired = 0;
  for (;;) {
    const count = queue.advance(nowMs, out);
    fired += count;
    if (count < out.length) return fired;
  }
}

/** Due times that look random and are the same in every run. */
function* delays(spanMs: number): Generator<number, never> {
  for (let state = 1; ; ) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield 1 + Math.floor((state / 2 ** 32) * spanMs);
  }
}

test('a pending timer takes at most 32 bytes, wherever time is', () => {
  const queue = new TimerQueue();
  const out = new Uint32Array(4096);
  const delay = delays(60_000);
  const live = 500_000;
  for (let i = 0; i < live; i++) queue.schedule(delay.next().value, i);
  for (let now = 0; now < 20_000; now += 100) {
    for (let count = out.length; count === out.length; ) {
      count = queue.advance(now, out);
      for (const token of out.subarray(0, count)) queue.schedule(now + delay.next().value, token);
    }
    const each = queue.stats().bytes / live;
    assert.ok(each <= 32, `${each} bytes per timer at ${now} ms`);
  }
  drain(queue, 100_000, out);
  assert.equal(queue.size, 0);
  assert.ok(queue.stats().bytes < MIB, `${queue.stats().bytes} bytes when empty`);
});

test('with 95 % cancelled and replaced in every window, memory stays within twice that of the live set', () => {
  const queue = new TimerQueue();
  const fresh = new TimerQueue();
  const out = new Uint32Array(4096);
  const delay = delays(60_000);
  const live = 200_000;
  const handles = new Float64Array(live);
  const tokens = Uint32Array.from(handles, (_, i) => i);
  const schedule = (token: number, now: number): void => {
    handles[token] = queue.schedule(now + delay.next().value, token);
  };
  for (const token of tokens) schedule(token, 0);
  for (const token of tokens) fresh.schedule(delay.next().value, token);
  const liveBytes = fresh.stats().bytes;
  let worst = 0;
  for (let round = 1; round <= 10; round++) {
    for (let part = 0; part < 16; part++) {
      const now = ((round - 1) * 16 + part + 1) * (WINDOW_MS / 16);
      for (let token = part; token < live; token += 16) {
        if (token % 20 !== 19 && queue.cancel(handles[token]!)) schedule(token, now);
      }
      for (let count = out.length; count === out.length; ) {
        count = queue.advance(now, out);
        for (const token of out.subarray(0, count)) schedule(token, now);
      }
      worst = Math.max(worst, queue.stats().bytes);
    }
  }
  assert.equal(queue.size, live);
  assert.ok(worst <= 2 * liveBytes, `${worst} bytes at worst, ${liveBytes} for the live set`);
});

test('when most of a crowd is cancelled at once, the space of their entries is given back', () => {
  const queue = new TimerQueue();
  const delay = delays(60_000);
  const handles = Array.from({ length: 500_000 }, (_, i) =>
    queue.schedule(1000 + delay.next().value, i),
  );
  const full = queue.stats().bytes;
  for (const [i, handle] of handles.entries()) if (i % 20 !== 0) queue.cancel(handle);
  // The last part of the sweep has no operations to ride on: it goes on as time does.
  const out = new Uint32Array(16);
  for (let now = 1; now < 500; now++) queue.advance(now, out);
  // Half of it is records, which stay as long as one in their chunk is in use.
  const { bytes, pending } = queue.stats();
  assert.equal(pending, 25_000);
  assert.ok(bytes < 0.6 * full, `${bytes} bytes of ${full}`);
});

test('rescheduling again and again does not fill memory', () => {
  const queue = new TimerQueue();
  const live = 10_000;
  const handles = Array.from({ length: live }, (_, i) => queue.schedule(1e6 + i, i));
  const before = queue.stats().bytes;
  const delay = delays(60_000);
  for (let round = 0; round < 50; round++) {
    for (const handle of handles) assert.equal(queue.reschedule(handle, delay.next().value), true);
  }
  const { bytes, stale, pending } = queue.stats();
  assert.equal(pending, live);
  assert.ok(stale <= 3 * live, `${stale} stale entries`);
  // Spread over 60 s rather than in three slots, entries take more room.
  assert.ok(bytes <= before + 2 * MIB, `${bytes} bytes, ${before} before`);
});

test('cancelled timers far in the future give their memory back', () => {
  const queue = new TimerQueue();
  const out = new Uint32Array(16);
  for (let round = 0; round < 20; round++) {
    const handles = Array.from({ length: 20_000 }, (_, i) => queue.schedule(2 ** 37 + i, i));
    for (const handle of handles) queue.cancel(handle);
    queue.advance(round, out);
  }
  assert.ok(queue.stats().bytes < MIB, `${queue.stats().bytes} bytes when empty`);
});

test('nothing pending holds less than 1 MiB, whether timers fired or were cancelled', () => {
  const out = new Uint32Array(4096);
  for (const end of ['fired', 'cancelled', 'cancelled backwards'] as const) {
    const queue = new TimerQueue();
    const delay = delays(20_000);
    const handles = Array.from({ length: 200_000 }, (_, i) =>
      queue.schedule(delay.next().value, i),
    );
    assert.ok(queue.stats().bytes > 4 * MIB);
    if (end === 'fired') assert.equal(drain(queue, 20_000, out), 200_000);
    else
      for (const handle of end === 'cancelled' ? handles : handles.reverse()) queue.cancel(handle);
    const { bytes } = queue.stats();
    assert.ok(bytes < MIB, `${bytes} bytes, all ${end}`);
  }
});

test('a pending timer takes nothing on the JavaScript heap', () => {
  const queue = new TimerQueue();
  const dues = Float64Array.from({ length: 100_000 }, (_, i) => i + 1);
  const tokens = new Uint32Array(dues.length);
  queue.scheduleBatch(dues, tokens);
  const heapBytes = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = heapBytes();
  for (let round = 0; round < 5; round++) queue.scheduleBatch(dues, tokens);
  const perTimer = (heapBytes() - before) / 500_000;
  assert.ok(perTimer < 1, `${perTimer} bytes of heap per timer`);
  assert.equal(queue.size, 600_000);
});
