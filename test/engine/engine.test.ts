import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode, isMillraceError, NonRetryableError } from '../../src/core/errors.js';
import { defineTask, defineTasks, type ExecutionContext } from '../../src/core/task.js';
import type { Runtime } from '../../src/runtime.js';
import type { StoreFactory } from '../../src/store/index.js';
import { type TestBed, testBed, within } from '../support/runtime.js';

interface Run {
  readonly input: unknown;
  readonly atMs: number;
  readonly ctx: ExecutionContext;
}

/** A bed with a few inline tasks that record every run. */
function setup() {
  const runs: Run[] = [];
  /** Handlers of `held` wait for these. */
  const gates: { release: (value: unknown) => void; ctx: ExecutionContext }[] = [];
  const note = (input: unknown, ctx: ExecutionContext): void => {
    runs.push({ input, atMs: bed.clock.monoMs(), ctx });
  };
  const inline = { exec: 'inline' } as const;
  const echo = defineTask({
    ...inline,
    name: 'echo',
    run(input: unknown, ctx) {
      note(input, ctx);
      return input;
    },
  });
  const failing = defineTask({
    ...inline,
    name: 'failing',
    retry: { attempts: 3, min: 100, max: 150, jitter: 'none' },
    run(input: { readonly times: number; readonly forGood?: boolean }, ctx) {
      note(input, ctx);
      if (input.forGood) throw new NonRetryableError('never');
      if (ctx.execution.attempt <= input.times) {
        throw Object.assign(new RangeError(`attempt ${ctx.execution.attempt}`), { code: 'E_OWN' });
      }
      return 'at last';
    },
  });
  const held = defineTask({
    ...inline,
    name: 'held',
    async run(input: unknown, ctx) {
      note(input, ctx);
      return new Promise((release, reject) => {
        gates.push({ release, ctx });
        ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason), { once: true });
      });
    },
  });
  const single = defineTask({
    ...inline,
    name: 'single',
    concurrency: 1,
    async run(input: unknown, ctx) {
      note(input, ctx);
      return new Promise((release) => gates.push({ release, ctx }));
    },
  });
  const atMostOnce = defineTask({
    ...inline,
    name: 'at-most-once',
    onLost: 'fail',
    async run(input: unknown, ctx) {
      note(input, ctx);
      return new Promise(() => {});
    },
  });
  const snoozing = defineTask({
    ...inline,
    name: 'snoozing',
    run(input: number, ctx) {
      note(input, ctx);
      return runs.length < input ? ctx.snooze(50) : ctx.execution.attempt;
    },
  });
  const quitting = defineTask({
    ...inline,
    name: 'quitting',
    run: (_input: unknown, ctx) => ctx.cancel('not worth it'),
  });
  const tasks = { echo, failing, held, single, atMostOnce, snoozing, quitting };
  const bed: TestBed = testBed(defineTasks(tasks));
  const inputs = (): unknown[] => runs.map((run) => run.input);
  return { ...tasks, bed, clock: bed.clock, runs, gates, inputs };
}

/** Waits for a promise on the bed's clock, generously. */
const soon = <T>(bed: TestBed, promise: Promise<T>): Promise<T> =>
  within(bed.clock, 10_000, promise);

/** What is left of a process after kill -9: nothing of it ever writes again. */
function kill(bed: TestBed): void {
  bed.faults.gate = new Promise(() => {});
}

async function closing(bed: TestBed, runtime: Runtime): Promise<void> {
  await soon(bed, runtime.close());
}

test('runs a task once and hands its result over', async () => {
  const { bed, echo, runs } = setup();
  const runtime = await bed.start();
  const handle = await soon(bed, runtime.submit(echo, { a: [1, 'two', null] }));
  assert.equal(handle.created, true);
  assert.deepEqual(await soon(bed, handle.result()), { a: [1, 'two', null] });
  assert.equal(runs.length, 1);
  assert.equal(runs[0]!.ctx.execution.attempt, 1);
  assert.equal(runs[0]!.ctx.execution.taskId, handle.id);
  assert.equal(await handle.status(), 'completed');
  await closing(bed, runtime);
});

test('acknowledges a task only when its segment is in the store', async () => {
  const { bed, echo, runs, clock } = setup();
  const runtime = await bed.start();
  let open = (): void => {};
  bed.faults.gate = new Promise((resolve) => {
    open = resolve;
  });
  let isAcknowledged = false;
  const submitted = runtime.submit(echo, 1).then((handle) => {
    isAcknowledged = true;
    return handle;
  });
  await clock.advance(1_000);
  assert.equal(isAcknowledged, false);
  assert.equal(runs.length, 0, 'nothing runs before it is stored');
  open();
  const handle = await soon(bed, submitted);
  assert.equal(await soon(bed, handle.result()), 1);
  await closing(bed, runtime);
});

test('a task that is due at submit is stored and claimed by one transaction', async () => {
  const { bed, echo, clock } = setup();
  const runtime = await bed.start();
  const handle = await soon(bed, runtime.submit(echo, 1));
  await soon(bed, handle.result());
  await clock.advance(100);
  const writes = bed.faults.sent.map((txn) =>
    txn.success.flatMap((op) => ('key' in op ? [`${op.type} ${op.key[0]}`] : [])).join(', '),
  );
  assert.deepEqual(writes, ['put h, put t, put s', 'put h, put z, delete t, delete s']);
  await closing(bed, runtime);
});

test('a flood of tasks shares few transactions', async () => {
  const { bed, echo } = setup();
  const runtime = await bed.start();
  const handles = await soon(
    bed,
    Promise.all(Array.from({ length: 2_000 }, (_, i) => runtime.submit(echo, i))),
  );
  const results = await soon(bed, Promise.all(handles.map((handle) => handle.result())));
  assert.deepEqual(
    results,
    handles.map((_, i) => i),
  );
  assert.ok(bed.faults.sent.length <= 30, `${bed.faults.sent.length} transactions`);
  for (const txn of bed.faults.sent) assert.ok(txn.success.length <= 128);
  await closing(bed, runtime);
});

test('a delayed task starts no earlier than its time, and then at once', async () => {
  const { bed, echo, runs, clock } = setup();
  const runtime = await bed.start();
  const startMs = clock.monoMs();
  await soon(bed, runtime.submit(echo, 'late', { delay: '5s' }));
  await clock.advance(startMs + 4_999 - clock.monoMs());
  assert.equal(runs.length, 0);
  await clock.advance(10);
  assert.equal(runs.length, 1);
  assert.ok(runs[0]!.atMs >= startMs + 5_000);
  await closing(bed, runtime);
});

test('`at` takes dates and epoch times; the past is now', async () => {
  const { bed, echo, runs, clock } = setup();
  const runtime = await bed.start();
  await soon(bed, runtime.submit(echo, 'past', { at: 0 }));
  await soon(bed, runtime.submit(echo, 'future', { at: new Date(clock.wallMs() + 60_000) }));
  await clock.advance(1_000);
  assert.deepEqual(
    runs.map((run) => run.input),
    ['past'],
  );
  await clock.advance(60_000);
  assert.deepEqual(
    runs.map((run) => run.input),
    ['past', 'future'],
  );
  await closing(bed, runtime);
});

test('higher priority starts first, equals in the order of their submission', async () => {
  const { bed, single, gates, inputs, clock } = setup();
  const runtime = await bed.start();
  await soon(bed, runtime.submit(single, 'first'));
  await clock.advance(10);
  for (const [name, priority] of [
    ['low', -5],
    ['a', 0],
    ['high', 9],
    ['b', 0],
  ] as const) {
    await soon(bed, runtime.submit(single, name, { priority }));
  }
  for (let i = 0; i < 5; i++) {
    gates[i]!.release(undefined);
    await clock.advance(20);
  }
  assert.deepEqual(inputs(), ['first', 'high', 'a', 'b', 'low']);
  await closing(bed, runtime);
});

test('`concurrency` bounds what runs of a task, and holds nothing else up', async () => {
  const { bed, single, echo, gates, runs, clock } = setup();
  const runtime = await bed.start();
  for (let i = 0; i < 4; i++) await soon(bed, runtime.submit(single, i));
  const other = await soon(bed, runtime.submit(echo, 'other'));
  assert.equal(await soon(bed, other.result()), 'other');
  assert.equal(runs.filter((run) => run.input !== 'other').length, 1);
  gates[0]!.release(0);
  await clock.advance(20);
  assert.equal(runs.filter((run) => run.input !== 'other').length, 2);
  for (let i = 1; i < 4; i++) {
    gates[i]!.release(i);
    await clock.advance(20);
  }
  await closing(bed, runtime);
});

test('a failed attempt is repeated after its backoff, with a higher token', async () => {
  const { bed, failing, runs } = setup();
  const runtime = await bed.start();
  const handle = await soon(bed, runtime.submit(failing, { times: 2 }));
  assert.equal(await soon(bed, handle.result()), 'at last');
  assert.deepEqual(
    runs.map((run) => run.ctx.execution.attempt),
    [1, 2, 3],
  );
  assert.ok(runs[1]!.atMs - runs[0]!.atMs >= 100);
  assert.ok(runs[2]!.atMs - runs[1]!.atMs >= 150, 'the second delay is bounded by max');
  const tokens = runs.map((run) => run.ctx.execution.token);
  assert.ok(tokens[0]! < tokens[1]! && tokens[1]! < tokens[2]!);
  assert.equal(new Set(runs.map((run) => run.ctx.execution.id)).size, 3);
  await closing(bed, runtime);
});

test('a task that fails every attempt ends as failed, with what the handler threw', async () => {
  const { bed, failing } = setup();
  const runtime = await bed.start();
  const handle = await soon(bed, runtime.submit(failing, { times: 9 }));
  await assert.rejects(soon(bed, handle.result()), (error) => {
    assert.ok(hasCode(error, 'ERR_MILLRACE_TASK_FAILED'));
    assert.match(error.message, /failed in attempt 3: attempt 3/);
    const cause = error.cause as Error & { code?: string };
    assert.deepEqual([cause.name, cause.message, cause.code], ['RangeError', 'attempt 3', 'E_OWN']);
    return true;
  });
  const settled = await handle.settled();
  assert.equal(settled.status, 'failed');
  await closing(bed, runtime);
});

test('NonRetryableError ends a task at its first attempt', async () => {
  const { bed, failing, runs } = setup();
  const runtime = await bed.start();
  const handle = await soon(bed, runtime.submit(failing, { times: 9, forGood: true }));
  await assert.rejects(soon(bed, handle.result()), { code: 'ERR_MILLRACE_TASK_FAILED' });
  assert.equal(runs.length, 1);
  await closing(bed, runtime);
});

test('a snoozed task runs again later without spending an attempt', async () => {
  const { bed, snoozing, runs } = setup();
  const runtime = await bed.start();
  const handle = await soon(bed, runtime.submit(snoozing, 3));
  assert.equal(await soon(bed, handle.result()), 1);
  assert.equal(runs.length, 3);
  assert.ok(runs[1]!.atMs - runs[0]!.atMs >= 50);
  await closing(bed, runtime);
});

test('a handler can end its task as cancelled', async () => {
  const { bed, quitting } = setup();
  const runtime = await bed.start();
  const handle = await soon(bed, runtime.submit(quitting, 1));
  const settled = await soon(bed, handle.settled());
  assert.equal(settled.status, 'cancelled');
  await assert.rejects(handle.result(), /not worth it/);
  await closing(bed, runtime);
});

test('cancelling: a pending task ends, a running one hears of it, an ended one stays', async () => {
  const { bed, echo, held, runs, clock } = setup();
  const runtime = await bed.start();
  const pending = await soon(bed, runtime.submit(echo, 'never', { delay: '1h' }));
  assert.equal(await soon(bed, pending.cancel('changed my mind')), 'cancelled');
  await assert.rejects(pending.result(), (error) => {
    return hasCode(error, 'ERR_MILLRACE_TASK_CANCELLED') && /changed my mind/.test(error.message);
  });
  const running = await soon(bed, runtime.submit(held, 'x'));
  await clock.advance(10);
  assert.equal(await soon(bed, running.cancel('stop it')), 'signalled');
  assert.equal((await soon(bed, running.settled())).status, 'cancelled');
  assert.equal(await soon(bed, running.cancel()), 'ended');
  await clock.advance(3_700_000);
  assert.deepEqual(
    runs.map((run) => run.input),
    ['x'],
  );
  await closing(bed, runtime);
});

test('a task that is not started within its ttl expires', async () => {
  const { bed, single, gates, inputs, clock } = setup();
  const runtime = await bed.start();
  await soon(bed, runtime.submit(single, 'long'));
  const waiting = await soon(bed, runtime.submit(single, 'too late', { ttl: '1s' }));
  await clock.advance(999);
  assert.equal(await waiting.status(), 'pending');
  await clock.advance(50);
  assert.equal((await soon(bed, waiting.settled())).status, 'expired');
  gates[0]!.release(undefined);
  await clock.advance(100);
  assert.deepEqual(inputs(), ['long']);
  await closing(bed, runtime);
});

test('the same idempotency key gives the same task: in one commit, later, and after a restart', async () => {
  const { bed, echo, inputs, clock } = setup();
  const runtime = await bed.start();
  const options = { idempotencyKey: 'order/7 ü' };
  const [first, twin] = await soon(
    bed,
    Promise.all([runtime.submit(echo, 1, options), runtime.submit(echo, 2, options)]),
  );
  assert.deepEqual([first!.created, twin!.created], [true, false]);
  assert.equal(twin!.id, first!.id);
  const later = await soon(bed, runtime.submit(echo, 3, options));
  assert.deepEqual([later.created, later.id], [false, first!.id]);
  assert.equal(await soon(bed, later.result()), 1);
  await closing(bed, runtime);

  const again = await bed.start();
  const restarted = await soon(bed, again.submit(echo, 4, options));
  assert.deepEqual([restarted.created, restarted.id], [false, first!.id]);
  assert.equal(await soon(bed, restarted.result()), 1);
  // Known for at least one retention, forgotten after two.
  await clock.advance(24 * 3_600_000);
  assert.equal((await soon(bed, again.submit(echo, 5, options))).created, false);
  await clock.advance(24 * 3_600_000);
  const fresh = await soon(bed, again.submit(echo, 6, options));
  assert.equal(fresh.created, true);
  await soon(bed, fresh.result());
  assert.deepEqual(inputs(), [1, 6]);
  await closing(bed, again);
});

test('keys of different tasks do not meet', async () => {
  const { bed, echo, quitting } = setup();
  const runtime = await bed.start();
  const options = { idempotencyKey: 'same' };
  const a = await soon(bed, runtime.submit(echo, 1, options));
  const b = await soon(bed, runtime.submit(quitting, 1, options));
  assert.deepEqual([a.created, b.created], [true, true]);
  await closing(bed, runtime);
});

test('after a crash: stored tasks go on, what ran is a loss and runs again with its attempt', async () => {
  const { bed, echo, held, gates, runs, clock } = setup();
  const first = await bed.start();
  const running = await soon(bed, first.submit(held, 'running'));
  const delayed = await soon(bed, first.submit(echo, 'delayed', { delay: '1m' }));
  await clock.advance(10);
  assert.equal(gates.length, 1);
  kill(bed);

  const second = await bed.start();
  assert.equal(second.stats().open, 2);
  await clock.advance(100);
  assert.equal(gates.length, 2, 'the task that ran, runs again');
  assert.equal(gates[1]!.ctx.execution.attempt, 1, 'and spends no attempt');
  assert.ok(gates[1]!.ctx.execution.token > gates[0]!.ctx.execution.token);
  gates[1]!.release('done');
  assert.equal(await soon(bed, second.handle(held, running.id).result()), 'done');
  assert.equal(runs.filter((run) => run.input === 'delayed').length, 0);
  await clock.advance(60_000);
  assert.equal(await soon(bed, second.handle(echo, delayed.id).result()), 'delayed');
  await closing(bed, second);
});

test('a task declared at-most-once fails instead of running again after a crash', async () => {
  const { bed, atMostOnce, runs, clock } = setup();
  const first = await bed.start();
  const handle = await soon(bed, first.submit(atMostOnce, 1));
  await clock.advance(10);
  assert.equal(runs.length, 1);
  kill(bed);
  const second = await bed.start();
  await assert.rejects(soon(bed, second.handle(atMostOnce, handle.id).result()), {
    code: 'ERR_MILLRACE_TASK_LOST',
  });
  assert.equal(runs.length, 1);
  await closing(bed, second);
});

test('a task that takes its process down three times goes to the dead letters', async () => {
  const { bed, held, runs, clock } = setup();
  let runtime = await bed.start();
  const { id } = await soon(bed, runtime.submit(held, 'poison'));
  for (let crash = 0; crash < 3; crash++) {
    await clock.advance(50);
    kill(bed);
    runtime = await bed.start();
  }
  await assert.rejects(soon(bed, runtime.handle(held, id).result()), {
    code: 'ERR_MILLRACE_TASK_LOST',
  });
  assert.equal(runs.length, 3);
  await closing(bed, runtime);
});

test('a lost answer is neither a lost task nor a second one', async () => {
  for (const fate of ['answer lost', 'request lost'] as const) {
    const { bed, echo, runs } = setup();
    const runtime = await bed.start();
    bed.faults.fates.push(fate, fate, 'ok', fate);
    const handle = await soon(bed, runtime.submit(echo, fate));
    assert.equal(await soon(bed, handle.result()), fate);
    assert.equal(runs.length, 1, fate);
    await closing(bed, runtime);
  }
});

test('a keyed task whose answer was lost is told from a duplicate', async () => {
  const { bed, echo, runs } = setup();
  const runtime = await bed.start();
  bed.faults.fates.push('answer lost');
  const first = await soon(bed, runtime.submit(echo, 1, { idempotencyKey: 'k' }));
  assert.equal(first.created, true);
  bed.faults.fates.push('answer lost');
  const second = await soon(bed, runtime.submit(echo, 2, { idempotencyKey: 'k' }));
  assert.deepEqual([second.created, second.id], [false, first.id]);
  await soon(bed, first.result());
  assert.equal(runs.length, 1);
  await closing(bed, runtime);
});

test('a keyed task whose answer was lost, and whose key cannot be read, is answered at the end', async () => {
  const { bed, echo } = setup();
  const runtime = await bed.start();
  bed.faults.fates.push('answer lost');
  const submitted = assert.rejects(runtime.submit(echo, 1, { idempotencyKey: 'k' }), (error) =>
    hasCode(error, 'ERR_MILLRACE_CLOSED'),
  );
  await bed.clock.advance(40);
  // The store takes writes and answers no reads any more.
  bed.faults.get = () => new Promise(() => {});
  await bed.clock.advance(1_000);
  await closing(bed, runtime);
  await submitted;
});

test('a keyed task whose answer was lost is taken up when the store can be read again', async () => {
  const { bed, echo, runs } = setup();
  const runtime = await bed.start();
  bed.faults.fates.push('answer lost');
  const submitted = runtime.submit(echo, 1, { idempotencyKey: 'k' });
  await bed.clock.advance(40);
  bed.faults.readsFail = true;
  await bed.clock.advance(1_000);
  assert.equal(runs.length, 0);
  bed.faults.readsFail = false;
  const handle = await soon(bed, submitted);
  assert.equal(handle.created, true);
  await soon(bed, handle.result());
  assert.equal(runs.length, 1);
  await closing(bed, runtime);
});

test('an unknown outcome is sent again unchanged', async () => {
  const { bed, echo } = setup();
  const runtime = await bed.start();
  bed.faults.fates.push('request lost');
  await soon(bed, runtime.submit(echo, 1));
  assert.equal(bed.faults.sent[0], bed.faults.sent[1]);
  await closing(bed, runtime);
});

test('a full store refuses submits, and keeps results until they fit', async () => {
  const { bed, echo, held, gates, clock } = setup();
  const runtime = await bed.start();
  const running = await soon(bed, runtime.submit(held, 1));
  await clock.advance(10);
  bed.faults.fates.push('full');
  await assert.rejects(soon(bed, runtime.submit(echo, 2)), { code: 'ERR_MILLRACE_STORE_FULL' });
  assert.equal(runtime.stats().open, 1);
  assert.equal(runtime.stats().openBytes, 1, 'what was refused gave its room back');
  bed.faults.fates.push('full', 'full');
  gates[0]!.release('kept');
  assert.equal(await soon(bed, running.result()), 'kept');
  await closing(bed, runtime);
});

test('a runtime whose store was taken over writes nothing more and says so', async () => {
  const { bed, echo, held, gates, clock } = setup();
  const first = await bed.start();
  const running = await soon(bed, first.submit(held, 1));
  await clock.advance(10);
  const second = await bed.start();
  await soon(bed, (await soon(bed, second.submit(echo, 'mine'))).result());
  const zombie = running.result();
  zombie.catch(() => {});
  gates[0]!.release('zombie');
  await assert.rejects(soon(bed, zombie), { code: 'ERR_MILLRACE_STORE_LOCKED' });
  await assert.rejects(soon(bed, first.submit(echo, 2)), { code: 'ERR_MILLRACE_STORE_LOCKED' });
  await clock.advance(100);
  gates[1]!.release('rightful');
  assert.equal(await soon(bed, second.handle(held, running.id).result()), 'rightful');
  await closing(bed, second);
});

test('close() lets running tasks finish, and keeps what it interrupts', async () => {
  const { bed, held, gates, runs, clock } = setup();
  const first = await bed.start({ shutdown: { soft: '1s', hard: '2s' } });
  const quick = await soon(bed, first.submit(held, 'quick'));
  const slow = await soon(bed, first.submit(held, 'slow'));
  await clock.advance(10);
  const quickResult = quick.result();
  const slowResult = slow.result();
  slowResult.catch(() => {});
  const closed = first.close();
  await clock.advance(500);
  gates[0]!.release('in time');
  await soon(bed, closed);
  assert.equal(await quickResult, 'in time');
  await assert.rejects(slowResult, { code: 'ERR_MILLRACE_CLOSED' });
  await assert.rejects(first.submit(held, 1), { code: 'ERR_MILLRACE_CLOSED' });

  const second = await bed.start();
  await clock.advance(50);
  assert.equal(runs.length, 3);
  assert.equal(runs[2]!.input, 'slow');
  assert.equal(runs[2]!.ctx.execution.attempt, 1, 'the interrupted attempt was not spent');
  gates[2]!.release('after all');
  assert.equal(await soon(bed, second.handle(held, slow.id).result()), 'after all');
  await closing(bed, second);
});

test('close() is idempotent, also before anything ran, and answers everybody who waits', async () => {
  const { bed, echo } = setup();
  const runtime = await bed.start();
  const delayed = await soon(bed, runtime.submit(echo, 1, { delay: '1h' }));
  const waiting = delayed.result();
  waiting.catch(() => {});
  await soon(bed, Promise.all([runtime.close(), runtime.close()]));
  await assert.rejects(waiting, { code: 'ERR_MILLRACE_CLOSED' });
  await runtime[Symbol.asyncDispose]();
  assert.equal(runtime.stats().delayed, 0, 'counts can still be read');
});

test('a full queue makes submitters wait in order, or refuses them', async () => {
  const { bed, held, gates, clock } = setup();
  const runtime = await bed.start({ queue: { maxTasks: 1 } });
  await soon(bed, runtime.submit(held, 0));
  const accepted: number[] = [];
  for (const i of [1, 2]) void runtime.submit(held, i).then(() => accepted.push(i));
  const aborter = new AbortController();
  const impatient = runtime.submit(held, 3, { signal: aborter.signal });
  await clock.advance(100);
  assert.deepEqual(accepted, []);
  assert.equal(runtime.stats().waiting, 3);
  aborter.abort(new Error('enough'));
  await assert.rejects(impatient, /enough/);
  gates[0]!.release(undefined);
  await clock.advance(100);
  assert.deepEqual(accepted, [1]);
  gates[1]!.release(undefined);
  await clock.advance(100);
  assert.deepEqual(accepted, [1, 2]);
  gates[2]!.release(undefined);
  await closing(bed, runtime);

  const strict = await bed.start({ queue: { maxTasks: 1, onFull: 'reject' } });
  await soon(bed, strict.submit(held, 0));
  await assert.rejects(strict.submit(held, 1), (error) => {
    return hasCode(error, 'ERR_MILLRACE_QUEUE_FULL') && error.details.retryAfterMs === 100;
  });
  kill(bed);
});

test('drain() waits for every accepted task: delayed ones and retries too', async () => {
  const { bed, echo, failing, clock } = setup();
  const runtime = await bed.start();
  await soon(bed, runtime.drain());
  await soon(bed, runtime.submit(echo, 1, { delay: 500 }));
  await soon(bed, runtime.submit(failing, { times: 1 }));
  await soon(bed, runtime.submit(echo, 1, { idempotencyKey: 'x' }));
  let isDrained = false;
  void runtime.drain().then(() => {
    isDrained = true;
  });
  await clock.advance(400);
  assert.equal(isDrained, false);
  await clock.advance(200);
  assert.equal(isDrained, true);
  assert.equal(runtime.stats().open, 0);
  assert.equal(runtime.stats().openBytes, 0);
  await closing(bed, runtime);
});

test('results are found by id while they are kept, and gone afterwards', async () => {
  const { bed, echo, failing, clock } = setup();
  const runtime = await bed.start({
    retention: { completed: { age: '10m' }, failed: { age: '1h' } },
  });
  const { id } = await soon(bed, runtime.submit(echo, 'kept'));
  const dead = await soon(bed, runtime.submit(failing, { times: 9 }));
  await soon(bed, runtime.drain());
  await clock.advance(9 * 60_000);
  assert.equal(await soon(bed, runtime.handle(echo, id).result()), 'kept');
  await clock.advance(4 * 60_000);
  await assert.rejects(soon(bed, runtime.handle(echo, id).result()), {
    code: 'ERR_MILLRACE_TASK_GONE',
  });
  await assert.rejects(soon(bed, runtime.handle(failing, dead.id).result()), {
    code: 'ERR_MILLRACE_TASK_FAILED',
  });
  await clock.advance(3 * 3_600_000);
  await assert.rejects(soon(bed, runtime.handle(failing, dead.id).result()), {
    code: 'ERR_MILLRACE_TASK_GONE',
  });
  await closing(bed, runtime);
});

test('dead letters go oldest first when they take more bytes than they may', async () => {
  const { bed, failing, clock } = setup();
  const input = { times: 9, forGood: true, text: 'x'.repeat(10_000) };
  const runtime = await bed.start({ retention: { failed: { bytes: '25KB' } } });
  const ids: string[] = [];
  for (let i = 0; i < 4; i++) {
    ids.push((await soon(bed, runtime.submit(failing, input))).id);
    await soon(bed, runtime.drain());
    await clock.advance(90_000);
  }
  const codes: unknown[] = [];
  for (const id of ids) {
    await soon(bed, runtime.handle(failing, id).result()).catch(({ code }) => codes.push(code));
  }
  const [gone, kept] = ['ERR_MILLRACE_TASK_GONE', 'ERR_MILLRACE_TASK_FAILED'];
  assert.deepEqual(codes, [gone, gone, kept, kept]);
  await closing(bed, runtime);
});

test('tenants share what runs by their weights, in the same priority only', async () => {
  const { bed, single, runs, gates, clock } = setup();
  const runtime = await bed.start({
    fairness: { weights: { free: 1, pro: 4 } },
    shutdown: { soft: 0, hard: 0 },
  });
  const submit = (input: string, tenant: string, priority = 0): Promise<unknown> =>
    soon(bed, runtime.submit(single, input, { tenant, priority }));
  await submit('first', 'free');
  // All are there before the next is chosen: the first one holds the only place.
  const submits = [];
  for (let i = 0; i < 40; i++) submits.push(submit('free', 'free'), submit('pro', 'pro'));
  submits.push(submit('urgent', 'free', 1));
  await Promise.all(submits);
  while (runs.length < 52) {
    gates[runs.length - 1]!.release(undefined);
    await clock.advance(50);
  }
  const order = runs.map(({ input }) => input);
  assert.deepEqual(order.slice(0, 2), ['first', 'urgent']);
  const share = order.slice(2).filter((input) => input === 'pro').length;
  assert.ok(share >= 39 && share <= 41, `40 of 50 are due to 'pro', not ${share}`);
  await closing(bed, runtime);
});

test('waiting for a result ends with its timeout or signal; the task goes on', async () => {
  const { bed, held, gates, clock } = setup();
  const runtime = await bed.start();
  const handle = await soon(bed, runtime.submit(held, 1));
  await assert.rejects(soon(bed, handle.result({ timeout: '2s' })), {
    code: 'ERR_MILLRACE_RESULT_TIMEOUT',
  });
  await assert.rejects(handle.result({ signal: AbortSignal.abort(new Error('gone')) }), /gone/);
  await clock.advance(10);
  gates[0]!.release('still here');
  assert.equal(await soon(bed, handle.result({ timeout: '2s' })), 'still here');
  await closing(bed, runtime);
});

test('close() ends within its budget when the store has gone silent, and answers everybody', async () => {
  const { bed, echo } = setup();
  const runtime = await bed.start({ shutdown: { soft: '1s', hard: '2s' } });
  bed.faults.gate = new Promise(() => {});
  const submitted = runtime.submit(echo, 1);
  const answered = assert.rejects(submitted, { code: 'ERR_MILLRACE_STORE_UNAVAILABLE' });
  await within(bed.clock, 8_000, runtime.close());
  await answered;
});

test('one transaction is in flight at a time', async () => {
  const { bed, echo } = setup();
  const runtime = await bed.start();
  let open = (): void => {};
  bed.faults.gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  const submitted: Promise<unknown>[] = [];
  for (let i = 0; i < 3; i++) {
    submitted.push(runtime.submit(echo, i));
    await bed.clock.settle();
    assert.equal(bed.faults.sent.length, 1);
  }
  bed.faults.gate = undefined;
  open();
  await soon(bed, Promise.all(submitted));
  await closing(bed, runtime);
});

test('a refusal after a lost answer proves nothing: the same commit goes on', async () => {
  const { bed, echo } = setup();
  const first = await bed.start();
  bed.faults.fates.push('answer lost', 'full', 'full');
  const a = await soon(bed, first.submit(echo, 'a', { delay: '1h' }));
  const b = await soon(bed, first.submit(echo, 'b', { delay: '1h' }));
  kill(bed);
  const second = await bed.start();
  assert.equal(second.stats().open, 2, 'both are in the store');
  for (const { id } of [a, b]) assert.equal(await second.handle(echo, id).status(), 'pending');
  await closing(bed, second);
});

test('a store without definite answers makes submits fail after a while, and work again after it', async () => {
  const { bed, echo, runs, clock } = setup();
  const runtime = await bed.start();
  bed.faults.fates.push(...Array.from({ length: 9 }, () => 'request lost' as const));
  const first = unavailable(runtime.submit(echo, 'first'));
  await clock.advance(1_000);
  const waiting = unavailable(runtime.submit(echo, 'waiting'));
  await clock.advance(6_000);
  assert.equal((await first).mayBeStored, true, 'its commit is on its way');
  assert.equal((await waiting).mayBeStored, undefined);
  const refused = await unavailable(runtime.submit(echo, 'at once'));
  assert.equal(refused.mayBeStored, undefined);
  assert.equal(runtime.stats().openBytes, 0, 'nobody has a place in the queue');
  await clock.advance(10_000);
  const after = await soon(bed, runtime.submit(echo, 'after'));
  assert.equal(await soon(bed, after.result()), 'after');
  // The commit has arrived after all.
  assert.deepEqual(
    runs.map((run) => run.input),
    ['first', 'after'],
  );
  assert.equal(runtime.stats().open, 0);
  assert.equal(runtime.stats().openBytes, 0);
  await closing(bed, runtime);
});

test('a keyed task that may be stored is submitted again, and is one task', async () => {
  for (const fate of ['request lost', 'answer lost'] as const) {
    const { bed, echo, runs, clock } = setup();
    const runtime = await bed.start();
    bed.faults.fates.push(fate, ...Array.from({ length: 9 }, () => 'request lost' as const));
    const options = { idempotencyKey: 'k' };
    // Two submissions of one commit: whoever joined the first hears the same.
    const both = [1, 2].map((n) => unavailable(runtime.submit(echo, n, options)));
    await clock.advance(7_000);
    for (const { mayBeStored } of await Promise.all(both)) assert.equal(mayBeStored, true);
    await clock.advance(10_000);
    const again = await soon(bed, runtime.submit(echo, 3, options));
    assert.equal(again.created, false);
    assert.equal(await soon(bed, again.result()), 1);
    assert.equal(runs.length, 1);
    assert.equal(runtime.stats().openBytes, 0);
    await closing(bed, runtime);
  }
});

test('what is given up as unclear is never answered twice, also when closing ends its commit', async () => {
  const { bed, echo, clock } = setup();
  const runtime = await bed.start({ shutdown: { soft: '1s', hard: '2s' } });
  bed.faults.isLost = () => true;
  const submitted = unavailable(runtime.submitMany(echo, [1, 2, 3]));
  await clock.advance(7_000);
  assert.equal((await submitted).mayBeStored, true);
  await within(bed.clock, 10_000, runtime.close());
});

/** @returns the details of the error that says so */
async function unavailable(promise: Promise<unknown>): Promise<Readonly<Record<string, unknown>>> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(isMillraceError(error) && error.code === 'ERR_MILLRACE_STORE_UNAVAILABLE', `${error}`);
  return error.details;
}

test('a store that fills up slows submits down, then refuses them, while tasks go on to their ends', async () => {
  const { bed, echo, held, gates } = setup();
  const usage = { bytes: 0, bytesMax: 1_000 };
  const store: StoreFactory = {
    ...bed.store,
    open: async (context) =>
      Object.assign(await bed.store.open(context), { usage: async () => usage }),
  };
  const runtime = await bed.start({ store });
  const running = await within(bed.clock, 1_000, runtime.submit(held, 1));
  await bed.clock.settle();
  usage.bytes = 700;
  await bed.clock.advance(10_000);
  const askedAtMs = bed.clock.monoMs();
  await within(bed.clock, 1_000, runtime.submit(echo, 'slow'));
  assert.ok(bed.clock.monoMs() - askedAtMs >= 100);
  usage.bytes = 900;
  await bed.clock.advance(10_000);
  await assert.rejects(runtime.submit(echo, 'refused'), (error) => {
    assert.ok(hasCode(error, 'ERR_MILLRACE_STORE_FULL'));
    assert.equal(
      (error as unknown as { details: { retryAfterMs: number } }).details.retryAfterMs,
      10_000,
    );
    return true;
  });
  gates[0]!.release('done');
  assert.equal(await within(bed.clock, 1_000, running.result()), 'done');
  usage.bytes = 100;
  await bed.clock.advance(10_000);
  await within(bed.clock, 1_000, runtime.submit(echo, 'again'));
  await within(bed.clock, 10_000, runtime.close());
});
