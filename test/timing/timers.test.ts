import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { test } from 'node:test';
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../../src/core/errors.js';
import { createTimers, type TimerHandle, type TimersOptions } from '../../src/timing/index.js';
import { HandClock } from './hand-clock.js';

/** Timers on a clock turned by hand, and a list of what was called. */
function setup(options: TimersOptions = {}, startMs = 0) {
  const clock = new HandClock(startMs);
  const timers = createTimers({ clock, ...options });
  const calls: unknown[] = [];
  const note = (name: unknown): void => {
    calls.push(name);
  };
  return { clock, timers, calls, note };
}

const invalid = (error: unknown): boolean => hasCode(error, 'ERR_MILLRACE_INVALID_OPTION');
const isClosed = (error: unknown): boolean => hasCode(error, 'ERR_MILLRACE_CLOSED');

test('a timer is called once, when its delay has passed and not before', () => {
  const { clock, timers, calls, note } = setup({}, 0.5);
  timers.setTimer(10, note, 'a');
  assert.equal(timers.size, 1);
  clock.advance(9.99);
  assert.deepEqual(calls, []);
  clock.advance(1);
  assert.deepEqual(calls, ['a']);
  clock.advance(1000);
  assert.deepEqual(calls, ['a']);
  assert.equal(timers.size, 0);
  assert.equal(clock.sleeping, 0);
});

test('timers are called by due time, those of one millisecond in the order of setting', () => {
  const { clock, timers, calls, note } = setup();
  for (const [name, delay] of [20, 5, 20, 1, '20ms', 5].entries()) {
    timers.setTimer(delay as number, note, name);
  }
  clock.advance(100);
  assert.deepEqual(calls, [3, 1, 5, 0, 2, 4]);
});

test('a callback gets the arguments it was given, and no others', () => {
  const { clock, timers, calls } = setup();
  function callback(this: unknown, ...args: unknown[]): void {
    assert.equal(this, undefined);
    calls.push(args);
  }
  const lists: unknown[][] = [[], [1], [undefined], [null], [1, 2], [undefined, undefined], [[3]]];
  for (const list of lists) timers.setTimer(1, callback, ...list);
  clock.advance(1);
  // And none is left over for the next timer that gets the same place.
  timers.setTimer(1, callback);
  clock.advance(1);
  assert.deepEqual(calls, [...lists, []]);
});

test('clear says whether the timer was pending, and a cleared one is not called', () => {
  const { clock, timers, calls, note } = setup();
  const kept = timers.setTimer(5, note, 'kept');
  const cleared = timers.setTimer(5, note, 'cleared');
  assert.equal(timers.clear(cleared), true);
  assert.equal(timers.clear(cleared), false);
  assert.equal(timers.clear(undefined), false);
  assert.equal(timers.size, 1);
  clock.advance(5);
  assert.deepEqual(calls, ['kept']);
  assert.equal(timers.clear(kept), false);
});

test('the handle of a timer that is over never means another one', () => {
  const { clock, timers, note } = setup();
  const over = new Set<TimerHandle>();
  for (let i = 0; i < 20_000; i++) {
    const handle = timers.setTimer(1, note, i);
    assert.ok(!over.has(handle), 'a handle was given out twice');
    if (i % 3 === 0) clock.advance(2);
    else timers.clear(handle);
    over.add(handle);
  }
  // More than a block, so that blocks are given up and come back.
  const crowd = Array.from({ length: 20_000 }, () => timers.setTimer(1e6, note, 0));
  for (const handle of crowd) timers.clear(handle);
  for (const handle of crowd) over.add(handle);
  const pending = Array.from({ length: 20_000 }, () => timers.setTimer(1e6, note, 0));
  for (const handle of pending) assert.ok(!over.has(handle), 'a handle was given out twice');
  for (const handle of over) {
    assert.equal(timers.clear(handle), false);
    assert.equal(timers.refresh(handle, 1), false);
    assert.equal(timers.ref(handle), false);
  }
  assert.equal(timers.size, pending.length);
});

test('refresh starts the delay anew, as often as wanted', () => {
  const { clock, timers, calls, note } = setup();
  const handle = timers.setTimer(100, note, 'timeout');
  for (let i = 0; i < 20; i++) {
    clock.advance(60);
    assert.equal(timers.refresh(handle), true);
  }
  assert.deepEqual(calls, []);
  clock.advance(99);
  assert.deepEqual(calls, []);
  clock.advance(1);
  assert.deepEqual(calls, ['timeout']);
  assert.equal(timers.refresh(handle), false);
});

test('extending a timer wakes nobody up more often than once per delay', () => {
  const { clock, timers, note } = setup();
  const handle = timers.setTimer(1000, note, 'never');
  for (let i = 0; i < 10_000; i++) {
    clock.advance(1);
    timers.refresh(handle);
  }
  assert.ok(clock.wakeCount <= 11, `${clock.wakeCount} wake-ups in ten delays`);
});

test('refresh takes another delay, shorter or longer, and keeps it', () => {
  const { clock, timers, calls, note } = setup();
  const handle = timers.setTimer('1h', note, 'a');
  assert.equal(timers.refresh(handle, '10ms'), true);
  clock.advance(9);
  assert.equal(timers.refresh(handle), true);
  clock.advance(9);
  assert.deepEqual(calls, []);
  assert.equal(timers.refresh(handle, 100), true);
  assert.equal(timers.refresh(handle, 50), true);
  clock.advance(49);
  assert.deepEqual(calls, []);
  clock.advance(1);
  assert.deepEqual(calls, ['a']);
});

test('a callback that refreshes its own timer is called again: an interval', () => {
  const { clock, timers, calls } = setup();
  const handle: TimerHandle = timers.setTimer(10, () => {
    calls.push(clock.monoMs());
    assert.equal(timers.size, 0);
    if (calls.length < 3) assert.equal(timers.refresh(handle), true);
    assert.equal(timers.size, calls.length < 3 ? 1 : 0);
  });
  clock.advance(1000);
  assert.deepEqual(calls, [10, 20, 30]);
  assert.equal(timers.refresh(handle), false);
});

test('a callback can clear itself, also after it has refreshed itself', () => {
  const { clock, timers, calls } = setup();
  const handle: TimerHandle = timers.setTimer(10, () => {
    calls.push('called');
    assert.equal(timers.clear(handle), false);
    assert.equal(timers.refresh(handle), true);
    assert.equal(timers.clear(handle), true);
    assert.equal(timers.clear(handle), false);
    assert.equal(timers.refresh(handle), false);
  });
  clock.advance(5);
  clock.advance(5);
  // Nothing is left to wake up for.
  assert.equal(clock.sleeping, 0);
  assert.deepEqual(calls, ['called']);
  assert.equal(timers.size, 0);
});

test('callbacks can clear, refresh and set timers that are due in the same turn', () => {
  const { clock, timers, calls, note } = setup();
  timers.setTimer(10, () => {
    calls.push('first');
    assert.equal(timers.size, 3);
    assert.equal(timers.clear(cleared), true);
    assert.equal(timers.clear(cleared), false);
    assert.equal(timers.refresh(cleared), false);
    assert.equal(timers.refresh(refreshed), true);
    assert.equal(timers.refresh(shortened, 3), true);
    // Takes the place of none that is still to be called.
    for (let i = 0; i < 100; i++) timers.setTimer(1, note, 'new');
    assert.equal(timers.size, 102);
  });
  const cleared = timers.setTimer(10, note, 'cleared');
  const refreshed = timers.setTimer(10, note, 'refreshed');
  const shortened = timers.setTimer(10, note, 'shortened');
  clock.advance(10);
  assert.deepEqual(calls, ['first']);
  clock.advance(1);
  assert.equal(calls.length, 101);
  clock.advance(2);
  assert.deepEqual(calls.slice(101), ['shortened']);
  clock.advance(7);
  assert.deepEqual(calls.slice(102), ['refreshed']);
});

test('a timer set to 0 ms by a callback has its turn later, so that no turn goes on for ever', () => {
  const { clock, timers } = setup();
  let count = 0;
  const again = (): void => {
    count++;
    timers.setTimer(0, again);
    timers.setTimer(-5, () => {});
  };
  timers.setTimer(-0, again);
  clock.advance(50);
  assert.equal(count, 50);
});

test('a callback that throws surfaces its error, and the other timers are called', () => {
  const { clock, timers, calls, note } = setup();
  const errors: unknown[] = [new Error('a'), null, undefined, 'text', 0];
  timers.setTimer(10, note, 'before');
  for (const error of errors) {
    timers.setTimer(10, () => {
      throw error;
    });
    timers.setTimer(10, note, `after ${error}`);
  }
  const surfaced: unknown[] = [];
  for (let i = 0; i < 20; i++) {
    try {
      clock.advance(i === 0 ? 10 : 0);
    } catch (error) {
      surfaced.push(error);
    }
  }
  assert.deepEqual(surfaced, errors);
  assert.deepEqual(calls, ['before', ...errors.map((error) => `after ${error}`)]);
  assert.equal(timers.size, 0);
});

test('a callback that refreshes its timer and throws is called again', () => {
  const { clock, timers } = setup();
  let count = 0;
  const handle: TimerHandle = timers.setTimer(10, () => {
    count++;
    timers.refresh(handle);
    throw null;
  });
  for (let i = 1; i <= 3; i++) {
    assert.throws(
      () => clock.advance(10),
      (error) => error === null,
    );
    assert.equal(count, i);
  }
  assert.equal(timers.size, 1);
});

test('a callback that turns the clock itself starts no turn within its own', () => {
  const { clock, timers, calls, note } = setup();
  for (let i = 0; i < 20; i++) {
    timers.setTimer(10, () => {
      note(i);
      clock.advance(1);
      clock.advance(10);
      note(i);
    });
  }
  timers.setTimer(15, note, 'later');
  clock.advance(300);
  assert.deepEqual(calls, [...Array.from({ length: 40 }, (_, i) => i >> 1), 'later']);
});

test('close drops every timer, in the middle of a turn too', () => {
  const { clock, timers, calls, note } = setup();
  const closing: TimerHandle = timers.setTimer(10, () => {
    calls.push('closes');
    timers.refresh(closing);
    timers.close();
    timers.close();
  });
  const other = timers.setTimer(10, note, 'other');
  timers.setTimer(20, note, 'later');
  clock.advance(100);
  assert.deepEqual(calls, ['closes']);
  assert.equal(timers.size, 0);
  assert.equal(clock.sleeping, 0);
  // Cleaning up after the end is no error; setting is one.
  assert.equal(timers.clear(other), false);
  assert.equal(timers.refresh(other), false);
  assert.equal(timers.ref(other), false);
  assert.throws(() => timers.setTimer(1, note, 'x'), isClosed);
});

test('a callback that closes and throws surfaces its error, and nothing else happens', () => {
  const { clock, timers, note, calls } = setup();
  timers.setTimer(1, () => {
    timers.close();
    throw null;
  });
  timers.setTimer(1, note, 'other');
  assert.throws(
    () => clock.advance(5),
    (error) => error === null,
  );
  clock.advance(100);
  assert.deepEqual(calls, []);
});

test('timers are disposed of with `await using`', async () => {
  const { clock, timers, note, calls } = setup();
  timers.setTimer(1, note, 'x');
  await timers[Symbol.asyncDispose]();
  clock.advance(10);
  assert.deepEqual(calls, []);
});

test('when the budget is spent, I/O has its turn, and the rest is called after it, in order', () => {
  const { clock, timers, calls } = setup({ budget: 3 });
  const handles = Array.from({ length: 1000 }, (_, i) =>
    timers.setTimer(1, () => {
      calls.push(i);
      clock.pass(1);
    }),
  );
  const cleared = new Set<number>();
  clock.onTurn = () => {
    // What is due and not yet called can be cleared between turns.
    const last = calls.at(-1) as number;
    if (timers.clear(handles[last + 20])) cleared.add(last + 20);
  };
  clock.advance(1);
  assert.ok(clock.soonCount >= 1000 / 16 - 2, `${clock.soonCount} turns`);
  assert.ok(cleared.size > 30, `${cleared.size} cleared`);
  const expected = handles.map((_, i) => i).filter((i) => !cleared.has(i));
  assert.deepEqual(calls, expected);
  assert.equal(timers.size, 0);
});

test('delays of any length are kept exactly, 30 days and 300 years too', () => {
  const day = 86_400_000;
  const { clock, timers, calls, note } = setup({}, 2 ** 32 - 7);
  const delays = [2 ** 31 - 1, 2 ** 31, 30 * day, 300 * 365 * day];
  for (const delay of delays) timers.setTimer(delay, note, delay);
  timers.setTimer(2 ** 53, note, 'never');
  timers.setTimer(Number.MAX_VALUE, note, 'never');
  let passed = 0;
  for (const [i, delay] of delays.entries()) {
    clock.advance(delay - 1 - passed);
    assert.deepEqual(calls, delays.slice(0, i));
    clock.advance(1);
    assert.deepEqual(calls, delays.slice(0, i + 1));
    passed = delay;
  }
  assert.equal(timers.size, 2);
});

test('a delay beyond what Node takes does not make it wake at once', async () => {
  const timers = createTimers({ keepAlive: false });
  const warnings: unknown[] = [];
  const onWarning = (warning: unknown): void => {
    warnings.push(warning);
  };
  process.on('warning', onWarning);
  timers.setTimer('30d', () => assert.fail('called'));
  await sleep(20);
  process.off('warning', onWarning);
  assert.deepEqual(warnings, []);
  assert.equal(timers.size, 1);
  timers.close();
});

test('no timer is early by the clock of the process', async () => {
  const timers = createTimers();
  await new Promise<void>((resolve) => {
    let left = 2000;
    for (let i = 0; i < 2000; i++) {
      const delay = (i * 7.3) % 60;
      const dueAt = performance.now() + delay;
      timers.setTimer(delay, () => {
        const now = performance.now();
        assert.ok(now >= dueAt, `early by ${dueAt - now} ms`);
        if (--left === 0) resolve();
      });
    }
  });
  timers.close();
});

test('a burst leaves I/O its turns', async () => {
  const timers = createTimers({ budget: 0 });
  const turnsOfCalls = new Set<number>();
  let turn = 0;
  let left = 2000;
  for (let i = 0; i < 2000; i++) {
    timers.setTimer(1, () => {
      turnsOfCalls.add(turn);
      left--;
    });
  }
  for (; left > 0; turn++) await immediate();
  // 16 calls fit between looks at the clock; a wake-up by time and the one after it may share a turn.
  assert.ok(turnsOfCalls.size > 60, `calls in ${turnsOfCalls.size} turns, of 2000 callbacks`);
  timers.close();
});

test('callbacks run in the async context in which the timers were made', async () => {
  const storage = new AsyncLocalStorage<string>();
  const timers = storage.run('maker', () => createTimers());
  const seen = await new Promise<unknown[]>((resolve) => {
    const stores: unknown[] = [];
    const note = (): void => {
      if (stores.push(storage.getStore()) === 3) resolve(stores);
    };
    storage.run('first, who arms the wake-up', () => timers.setTimer(2, note));
    storage.run('second', () => timers.setTimer(1, note));
    storage.run('bound', () => timers.setTimer(3, AsyncLocalStorage.bind(note)));
  });
  assert.deepEqual(seen, ['maker', 'maker', 'bound']);
  timers.close();
});

test('a crowd due seconds from now is moved closer in many small steps', () => {
  const { clock, timers, note } = setup();
  for (let i = 0; i < 20_000; i++) timers.setTimer(15_000 + (i % 4000), note, i);
  clock.advance(14_000);
  assert.ok(clock.wakeCount > 200, `${clock.wakeCount} wake-ups`);
  timers.close();
  // A few timers are not worth waking up for.
  const few = setup();
  for (let i = 0; i < 100; i++) few.timers.setTimer(15_000, few.note, i);
  few.clock.advance(14_000);
  assert.equal(few.clock.wakeCount, 0);
});

test('a limit on pending timers refuses one more, until one is over', () => {
  const { clock, timers, note } = setup({ timersMax: 2 });
  const first = timers.setTimer(1, note, 1);
  timers.setTimer(1, note, 2);
  const isFull = (error: unknown): boolean => hasCode(error, 'ERR_MILLRACE_QUEUE_FULL');
  assert.throws(() => timers.setTimer(1, note, 3), isFull);
  timers.clear(first);
  timers.setTimer(1, note, 3);
  assert.throws(() => timers.setTimer(1, note, 4), isFull);
  clock.advance(1);
  timers.setTimer(1, note, 4);
  assert.equal(timers.size, 1);
});

test('arguments of the wrong kind are refused, and change nothing', () => {
  const { clock, timers, calls, note } = setup();
  const handle = timers.setTimer(10, note, 'a');
  const invalidDelay = (error: unknown): boolean =>
    invalid(error) || hasCode(error, 'ERR_MILLRACE_INVALID_DURATION');
  const delays = [Number.NaN, Infinity, -Infinity, '5', '', null, 5n, {}, Symbol('x'), [5]];
  for (const delay of delays) {
    assert.throws(() => timers.setTimer(delay as number, note, 'x'), invalidDelay);
    assert.throws(() => timers.refresh(handle, delay as number), invalidDelay);
    assert.throws(() => timers.refresh(0 as TimerHandle, delay as number), invalidDelay);
  }
  assert.throws(() => timers.setTimer(undefined as unknown as number, note, 'x'), invalidDelay);
  for (const callback of [undefined, null, 'code', {}, 1]) {
    assert.throws(() => timers.setTimer(1, callback as () => void), invalid);
  }
  const noHandles = [Number.NaN, -1, 1.5, handle + 0.5, 2 ** 53, Infinity, '1', null, 1n, {}];
  for (const bad of [...noHandles, Symbol('x'), [handle]] as TimerHandle[]) {
    assert.throws(() => timers.clear(bad), invalid, `clear(${String(bad)})`);
    assert.throws(() => timers.refresh(bad), invalid);
    assert.throws(() => timers.ref(bad), invalid);
    assert.throws(() => timers.unref(bad), invalid);
  }
  for (const guess of [0, -0, 1, handle + 1, handle + 2 ** 27, handle - 2 ** 27, 2 ** 53 - 1]) {
    assert.equal(timers.clear(guess as TimerHandle), false, `clear(${guess})`);
    assert.equal(timers.refresh(guess as TimerHandle), false);
  }
  for (const options of [
    { budget: -1 },
    { budget: 'soon' },
    { timersMax: 0 },
    { timersMax: 1.5 },
    { keepAlive: 1 },
  ]) {
    assert.throws(() => createTimers(options as TimersOptions), invalidDelay);
  }
  clock.advance(10);
  assert.deepEqual(calls, ['a']);
});

test('a pending timer takes less than 80 bytes besides what it refers to', () => {
  const { timers } = setup();
  const count = 200_000;
  const callback = (): void => {};
  const taken = (): number => {
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = taken();
  for (let i = 0; i < count; i++) timers.setTimer(60_000 + (i % 60_000), callback);
  // Entries are native memory: 12 bytes, and a few for chunks that are not full.
  const each = (taken() - before) / count + 16;
  assert.ok(each < 80, `${each} bytes`);
});

test('timers do what a plain list of them does, whatever is called in which order', () => {
  for (let seed = 1; seed <= 30; seed++) playAgainstModel(seed);
});

interface Model {
  dueMs: number;
  delayMs: number;
}

/** Random operations, from outside and from callbacks, with some that throw, against a map. */
function playAgainstModel(seed: number): void {
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const { clock, timers } = setup({ budget: random(3) }, random(2) * (2 ** 32 - 2000));
  const model = new Map<TimerHandle, Model>();
  const handles: TimerHandle[] = [0 as TimerHandle];
  const delay = (): number => random([3, 50, 5000, 100_000][random(4)]!) + random(2) / 2;
  const dueIn = (ms: number): number => Math.ceil(clock.monoMs() + Math.max(1, ms));
  const operate = (): void => {
    const handle = handles[random(handles.length)]!;
    const known = model.get(handle);
    const ms = delay();
    switch (random(4)) {
      case 0: {
        const made: TimerHandle = timers.setTimer(ms, (key: number) => called(key), handles.length);
        handles.push(made);
        model.set(made, { dueMs: dueIn(ms), delayMs: ms });
        break;
      }
      case 1:
        assert.equal(timers.clear(handle), model.delete(handle));
        break;
      case 2:
        assert.equal(timers.refresh(handle), known !== undefined);
        if (known !== undefined) known.dueMs = dueIn(known.delayMs);
        break;
      default:
        assert.equal(timers.refresh(handle, ms), known !== undefined);
        if (known !== undefined) model.set(handle, { dueMs: dueIn(ms), delayMs: ms });
    }
    assert.equal(timers.size, model.size);
  };
  const called = (key: number): void => {
    const handle = handles[key]!;
    const known = model.get(handle);
    assert.ok(known !== undefined, `seed ${seed}: called though it is over`);
    assert.ok(known.dueMs <= clock.monoMs(), `seed ${seed}: early`);
    model.delete(handle);
    assert.equal(timers.size, model.size);
    if (random(8) === 0) {
      assert.equal(timers.refresh(handle), true);
      model.set(handle, { dueMs: dueIn(known.delayMs), delayMs: known.delayMs });
    }
    for (let i = random(3); i > 0; i--) operateOnOthers(handle);
    if (random(8) === 0) clock.pass(random(5));
    if (random(8) === 0) throw null;
  };
  // The model knows no running timer, so callbacks leave themselves alone but for the refresh above.
  const operateOnOthers = (self: TimerHandle): void => {
    const at = handles.indexOf(self);
    handles[at] = 0 as TimerHandle;
    operate();
    handles[at] = self;
  };
  for (let step = 0; step < 400; step++) {
    for (let i = random(5); i > 0; i--) operate();
    const ms = random([2, 100, 5000][random(3)]!);
    advanceThrough(clock, ms);
    for (const [handle, { dueMs }] of model) {
      assert.ok(dueMs > clock.monoMs(), `seed ${seed}: ${handle} should have been called`);
    }
  }
  timers.close();
}

/** Moves a clock on, through callbacks that throw null. */
function advanceThrough(clock: HandClock, ms: number): void {
  for (let left = ms; ; left = 0) {
    try {
      clock.advance(left);
      // Time that callbacks took may have made more of them due.
      if (clock.dueCount === 0) return;
    } catch (error) {
      if (error !== null) throw error;
    }
  }
}
