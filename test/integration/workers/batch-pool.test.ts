import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { MillraceError } from '../../../src/core/errors.js';
import { BatchPool, type BatchPoolOptions } from '../../../src/pool/index.js';
import type { Order } from '../../fixtures/workers/items.js';

const ITEMS = new URL('../../fixtures/workers/items.js', import.meta.url);

function setup(t: TestContext, options: Partial<BatchPoolOptions> = {}): BatchPool<Order, unknown> {
  const pool = new BatchPool<Order, unknown>({ filename: ITEMS, threads: 1, ...options });
  t.after(() => pool.close({ grace: 0 }));
  return pool;
}

function orders(count: number): Order[] {
  return Array.from({ length: count }, (_, echo) => ({ echo }));
}

describe('BatchPool', () => {
  describe('run', () => {
    it('resolves with what the handler returned, in a worker thread', async (t) => {
      const pool = setup(t);
      assert.deepEqual(await pool.run({ echo: { a: [1, 'ü', null] } }), { a: [1, 'ü', null] });
      assert.equal(await pool.run({}), undefined);
      const where = (await pool.run({ where: true })) as { isMainThread: boolean };
      assert.equal(where.isMainThread, false);
    });

    it('rejects with what the handler threw', async (t) => {
      const pool = setup(t);
      await assert.rejects(pool.run({ fail: 'too far' }), {
        name: 'RangeError',
        message: 'too far',
        code: 'ERR_ORDER',
      });
    });

    it('packs what was asked for in one go, and sends a lone item at once', async (t) => {
      const pool = setup(t);
      await pool.run({});
      assert.equal(pool.stats().batches, 1);
      await Promise.all(orders(64).map((order) => pool.run(order)));
      // How many depends on the time measured per item; 64 items never need 64 messages.
      assert.ok(pool.stats().batches < 20, `${pool.stats().batches} batches`);
    });

    it('refuses what cannot be encoded, and goes on', async (t) => {
      const pool = setup(t);
      const cycle: Record<string, unknown> = {};
      cycle.self = cycle;
      await assert.rejects(pool.run({ echo: cycle }), {
        code: 'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE',
      });
      assert.equal(await pool.run({ echo: 1 }), 1);
      assert.equal(pool.stats().pending, 0);
    });

    it('rejects at once when its signal aborts, and aborts the handler', async (t) => {
      const pool = setup(t);
      await pool.run({});
      const abort = new AbortController();
      const reason = new Error('enough');
      const asked = pool.run({ untilAborted: true }, { signal: abort.signal });
      const behind = pool.run({ echo: 'behind' });
      assert.equal(await behind, 'behind');
      abort.abort(reason);
      await assert.rejects(asked, reason);
      await assert.rejects(pool.run({}, { signal: AbortSignal.abort(reason) }), reason);
      // The permit comes home with the handler's end.
      await pool.close();
      assert.equal(pool.stats().pending, 0);
    });

    it('an item aborted before it left does not run', async (t) => {
      const pool = setup(t);
      const abort = new AbortController();
      const asked = pool.run({ exit: 1 }, { signal: abort.signal });
      abort.abort(new Error('never mind'));
      await assert.rejects(asked, /never mind/);
      assert.equal(await pool.run({ echo: 'alive' }), 'alive');
      assert.equal(pool.stats().pending, 0);
    });

    it('cannot snooze an item', async (t) => {
      const pool = setup(t);
      await assert.rejects(pool.run({ snooze: true }), { code: 'ERR_MILLRACE_TASK_FAILED' });
    });
  });

  describe('when a thread dies', () => {
    it('the culprit is lost, what ended is kept, what had not begun runs on the next thread', async (t) => {
      const pool = setup(t);
      const outcomes = await Promise.allSettled([
        pool.run({ echo: 'before' }),
        pool.run({ exit: 3 }),
        ...orders(20).map((order) => pool.run(order)),
      ]);
      const lost = outcomes.filter((outcome) => outcome.status === 'rejected');
      assert.equal(lost.length, 1);
      for (const { reason } of lost as PromiseRejectedResult[]) {
        assert.equal((reason as MillraceError).code, 'ERR_MILLRACE_TASK_LOST');
        assert.deepEqual((reason as MillraceError).details, {
          reason: 'exit',
          exitCode: 3,
          begun: 1,
        });
      }
      assert.equal(await pool.run({ echo: 'after' }), 'after');
      assert.equal(pool.stats().pending, 0);
      assert.equal(pool.stats().threads, 1);
    });
  });

  describe('admission', () => {
    it('lets producers wait their turn', async (t) => {
      const pool = setup(t, { admission: { maxTasks: 10 } });
      const results = await Promise.all(orders(100).map((order) => pool.run(order)));
      assert.deepEqual(
        results,
        orders(100).map((order) => order.echo),
      );
      assert.equal(pool.stats().waiting, 0);
    });

    it('or turns them away with the time after which to try again', async (t) => {
      const pool = setup(t, { admission: { maxTasks: 2, onFull: 'reject' } });
      const accepted = [pool.run({ echo: 1 }), pool.run({ echo: 2 })];
      await assert.rejects(pool.run({}), (error: MillraceError) => {
        assert.equal(error.code, 'ERR_MILLRACE_QUEUE_FULL');
        assert.equal(error.details.pendingTasks, 2);
        assert.ok((error.details.retryAfterMs as number) >= 1);
        return true;
      });
      assert.deepEqual(await Promise.all(accepted), [1, 2]);
      assert.equal(await pool.run({ echo: 3 }), 3);
    });

    it('a waiting producer can be aborted', async (t) => {
      const pool = setup(t, { admission: { maxTasks: 1 } });
      const first = pool.run({ sleepMs: 5 });
      const abort = new AbortController();
      const second = pool.run({}, { signal: abort.signal });
      assert.equal(pool.stats().waiting, 1);
      abort.abort(new Error('gone'));
      await assert.rejects(second, /gone/);
      assert.equal(pool.stats().waiting, 0);
      await first;
      assert.equal(pool.stats().pending, 0);
    });
  });

  describe('runMany', () => {
    it('yields results in the order of the items', async (t) => {
      const pool = setup(t, { threads: 2 });
      const items = orders(1_000).map((order, i) =>
        i % 97 === 0 ? { ...order, sleepMs: 2 } : order,
      );
      const results: unknown[] = [];
      for await (const result of pool.runMany(items)) results.push(result);
      assert.deepEqual(
        results,
        orders(1_000).map((order) => order.echo),
      );
      assert.equal(pool.stats().pending, 0);
    });

    it('carries any text', async (t) => {
      const pool = setup(t);
      const texts = [
        'ascii',
        'ü',
        '\u{1f600}',
        '\ud800',
        '',
        'x'.repeat(300_000),
        'y'.repeat(900_000),
      ];
      const results: unknown[] = [];
      for await (const result of pool.runMany(texts.map((echo) => ({ echo }))))
        results.push(result);
      assert.deepEqual(results, texts);
    });

    it('takes an async iterable', async (t) => {
      const pool = setup(t);
      async function* source(): AsyncGenerator<Order> {
        for (const order of orders(200)) yield order;
      }
      const results: unknown[] = [];
      for await (const result of pool.runMany(source())) results.push(result);
      assert.equal(results.length, 200);
    });

    it('keeps items and order apart over many windows, from an array as from any source', async (t) => {
      const pool = setup(t, { batch: { max: 8 } });
      const items = orders(1_000).map((order, index) => (index % 9 === 0 ? {} : order));
      function* source(): Generator<Order> {
        yield* items;
      }
      for (const from of [items, source()]) {
        let count = 0;
        for await (const result of pool.runMany(from)) assert.equal(result, items[count++]?.echo);
        assert.equal(count, items.length);
      }
      const failing = items.map((order, index) => (index % 7 === 0 ? { fail: `${index}` } : order));
      let count = 0;
      for await (const { status } of pool.runMany(failing, { settled: true })) {
        assert.equal(status, count++ % 7 === 0 ? 'rejected' : 'fulfilled');
      }
      assert.equal(count, items.length);
    });

    it('takes no items at all', async (t) => {
      const pool = setup(t);
      for await (const _ of pool.runMany([])) assert.fail('a result of nothing');
    });

    it('reads no further ahead than its window, however slow the consumer', async (t) => {
      const pool = setup(t, { batch: { max: 8 } });
      let read = 0;
      function* endless(): Generator<Order> {
        for (;;) yield { echo: read++ };
      }
      const stream = pool.runMany(endless());
      for (let i = 0; i < 10; i++) assert.equal((await stream.next()).value, i);
      await pool.run({ sleepMs: 5 });
      // 16 batches.
      assert.ok(read <= 10 + 128, `${read} items were read`);
      await stream.return?.();
      assert.deepEqual(await stream.next(), { done: true, value: undefined });
    });

    it('ends with the error of the first item that fails, in its turn, and closes its source', async (t) => {
      const pool = setup(t);
      let isClosed = false;
      function* source(): Generator<Order> {
        try {
          yield { echo: 0, sleepMs: 5 };
          yield { fail: 'first' };
          for (;;) yield { fail: 'later' };
        } finally {
          isClosed = true;
        }
      }
      const seen: unknown[] = [];
      await assert.rejects(async () => {
        for await (const result of pool.runMany(source())) seen.push(result);
      }, /first/);
      assert.deepEqual(seen, [0]);
      assert.equal(isClosed, true);
    });

    it('settled: has an outcome for every item', async (t) => {
      const pool = setup(t);
      const cycle: Record<string, unknown> = {};
      cycle.self = cycle;
      const items: Order[] = [{ echo: 1 }, { fail: 'no' }, { echo: cycle }, { echo: 4 }];
      const outcomes: PromiseSettledResult<unknown>[] = [];
      for await (const outcome of pool.runMany(items, { settled: true })) outcomes.push(outcome);
      assert.deepEqual(
        outcomes.map((outcome) =>
          outcome.status === 'fulfilled'
            ? outcome.value
            : (outcome.reason as { code: string }).code,
        ),
        [1, 'ERR_ORDER', 'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE', 4],
      );
    });

    it('a source that throws ends it after the results before', async (t) => {
      const pool = setup(t);
      function* source(): Generator<Order> {
        yield { echo: 1 };
        throw new Error('dry');
      }
      const seen: unknown[] = [];
      await assert.rejects(async () => {
        for await (const outcome of pool.runMany(source(), { settled: true })) seen.push(outcome);
      }, /dry/);
      assert.deepEqual(seen, [{ status: 'fulfilled', value: 1 }]);
    });

    it('leaving the loop, or its signal, gives up what is under way', async (t) => {
      const pool = setup(t);
      for await (const result of pool.runMany([{ echo: 1 }, { untilAborted: true }])) {
        assert.equal(result, 1);
        break;
      }
      const abort = new AbortController();
      const stream = pool.runMany([{ untilAborted: true }], { signal: abort.signal });
      const next = stream.next();
      abort.abort(new Error('enough'));
      await assert.rejects(next, /enough/);
      assert.deepEqual(await stream.next(), { done: true, value: undefined });
      await pool.close();
      assert.equal(pool.stats().pending, 0);
    });

    it('waits for admission without overtaking others', async (t) => {
      const pool = setup(t, { admission: { maxTasks: 4 } });
      const results: unknown[] = [];
      for await (const result of pool.runMany(orders(50))) results.push(result);
      assert.equal(results.length, 50);
      assert.equal(pool.stats().pending, 0);
    });
  });

  describe('resize', () => {
    it('adds threads, and takes them away when they are done', async (t) => {
      const pool = setup(t);
      await pool.run({});
      await pool.resize(3);
      assert.equal(pool.stats().threads, 3);
      const slow = [1, 2, 3].map((echo) => pool.run({ echo, sleepMs: 5 }));
      await pool.resize(1);
      assert.equal(pool.stats().threads, 1);
      assert.deepEqual(await Promise.all(slow), [1, 2, 3]);
      await assert.rejects(pool.resize(0), { code: 'ERR_MILLRACE_INVALID_OPTION' });
    });
  });

  describe('close', () => {
    it('waits for what was accepted, then refuses', async (t) => {
      const pool = setup(t);
      const accepted = orders(100).map((order) => pool.run({ ...order, sleepMs: 1 }));
      await Promise.all([pool.close(), pool.close()]);
      assert.equal((await Promise.all(accepted)).length, 100);
      await assert.rejects(pool.run({}), { code: 'ERR_MILLRACE_CLOSED' });
      await assert.rejects(pool.resize(2), { code: 'ERR_MILLRACE_CLOSED' });
      assert.equal(pool.stats().threads, 0);
    });

    it('kills what is not done within the grace period', async (t) => {
      const pool = setup(t);
      await pool.run({});
      const hung = pool.run({ busyMs: 60_000 });
      await Promise.all([
        assert.rejects(hung, (error: MillraceError) => {
          assert.equal(error.code, 'ERR_MILLRACE_TASK_LOST');
          assert.equal(error.details.reason, 'shutdown');
          return true;
        }),
        pool.close({ grace: 20 }),
      ]);
      assert.equal(pool.stats().pending, 0);
    });

    it('is what `await using` calls', async () => {
      const pool = new BatchPool<Order>({ filename: ITEMS, threads: 1 });
      await pool[Symbol.asyncDispose]();
      await assert.rejects(pool.run({}), { code: 'ERR_MILLRACE_CLOSED' });
    });
  });

  it('a module without a handler rejects everything with the reason', async (t) => {
    for (const [code, message] of [
      ['throw new Error("broken")', /does not load: broken/],
      ['export const x = 1', /no function as its default export/],
    ] as const) {
      const filename = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
      const pool = setup(t, { filename });
      const asked = [pool.run({}), pool.run({})];
      for (const one of asked) {
        await assert.rejects(one, { code: 'ERR_MILLRACE_TASKS_MODULE', message });
      }
      await assert.rejects(pool.run({}), { code: 'ERR_MILLRACE_TASKS_MODULE' });
      assert.equal(pool.stats().pending, 0);
    }
  });

  it('refuses unusable options', () => {
    const refused: [Partial<BatchPoolOptions>, RegExp][] = [
      [{ filename: '' }, /filename is ''/],
      [{ threads: 0 }, /threads.max is 0/],
      [{ batch: { max: 0 } }, /batch.max is 0/],
      [{ batch: { linger: '2s' } }, /batch.linger is '2s'/],
      [{ admission: { maxTasks: -1 } }, /admission.maxTasks is -1/],
      [{ admission: { onFull: 'drop' as never } }, /admission.onFull is 'drop'/],
      [{ thread: 2 } as never, /no option thread; did you mean threads\?/],
      [{ threads: { maximum: 2 } } as never, /no option threads.maximum; /],
      [{ batch: { size: 2 } } as never, /no option batch.size; known are max, linger/],
      [{ batch: 64 } as never, /batch is 64; give an object with max, linger/],
      [{ admission: { maxTask: 2 } } as never, /did you mean admission.maxTasks\?/],
      [{ timeout: { maximum: 2 } } as never, /no option timeout.maximum/],
      [{ recycle: { ages: 2 } } as never, /did you mean recycle.age\?/],
      [{ resourceLimits: { maxHeap: 2 } } as never, /no option resourceLimits.maxHeap/],
    ];
    for (const [options, message] of refused) {
      assert.throws(() => new BatchPool({ filename: ITEMS, ...options }), message);
    }
    assert.throws(() => new BatchPool(undefined as never), /BatchPool options is undefined/);
  });

  it('packs as it was last told to', async (t) => {
    const pool = setup(t, { batch: { max: 1 } });
    await Promise.all(orders(20).map((order) => pool.run(order)));
    assert.equal(pool.stats().batches, 20);
    pool.tune({ batch: { max: 64, linger: '1ms' } });
    await Promise.all(orders(20).map((order) => pool.run(order)));
    assert.ok(pool.stats().batches < 40, `${pool.stats().batches} batches`);
    // What is not named stays.
    pool.tune({ batch: { max: 1 } });
    const before = pool.stats().batches;
    const startAt = performance.now();
    await Promise.all(orders(20).map((order) => pool.run(order)));
    assert.equal(pool.stats().batches, before + 20);
    assert.ok(performance.now() - startAt >= 1);
    await pool.close();
    assert.throws(() => pool.tune({ batch: { max: 2 } }), { code: 'ERR_MILLRACE_CLOSED' });
  });

  it('refuses to be tuned to what cannot be meant, and packs on as before', async (t) => {
    const pool = setup(t, { batch: { max: 1 } });
    assert.throws(() => pool.tune({ batch: { max: 64, linger: '2s' } }), /batch.linger is '2s'/);
    assert.throws(() => pool.tune({ batch: { max: 0 } }), /batch.max is 0/);
    assert.throws(() => pool.tune({ batsh: {} } as never), /did you mean batch\?/);
    await Promise.all(orders(5).map((order) => pool.run(order)));
    assert.equal(pool.stats().batches, 5);
  });

  it('refuses unusable options of its methods too', async (t) => {
    const pool = setup(t);
    const refused = { code: 'ERR_MILLRACE_INVALID_OPTION', message: /did you mean timeout\?/ };
    const options = { timeot: 5 } as never;
    await assert.rejects(pool.run({}, options), refused);
    assert.throws(() => pool.runMany([], options), refused);
    assert.throws(() => pool.writable(options), refused);
    assert.throws(() => pool.close({ gracee: 5 } as never), { code: refused.code });
    assert.equal(await pool.run({ echo: 'open' }), 'open');
  });
});
