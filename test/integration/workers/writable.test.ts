import assert from 'node:assert/strict';
import { ReadableStream } from 'node:stream/web';
import { describe, it, type TestContext } from 'node:test';
import { BatchPool, type BatchPoolOptions } from '../../../src/pool/index.js';
import type { Order } from '../../fixtures/workers/items.js';

const ITEMS = new URL('../../fixtures/workers/items.js', import.meta.url);

function setup(t: TestContext, options: Partial<BatchPoolOptions> = {}): BatchPool<Order, unknown> {
  const pool = new BatchPool<Order, unknown>({ filename: ITEMS, threads: 1, ...options });
  t.after(() => pool.close({ grace: 0 }));
  return pool;
}

function source(orders: Iterable<Order>): ReadableStream<Order> {
  return ReadableStream.from(orders) as ReadableStream<Order>;
}

describe('writable', () => {
  it('runs what is piped into it; the pipe is done when the last item is', async (t) => {
    const pool = setup(t, { admission: { maxTasks: 8 } });
    const seen: unknown[] = [];
    await source(Array.from({ length: 200 }, (_, echo) => ({ echo }))).pipeTo(
      pool.writable({
        onResult: (outcome, index) => {
          assert.equal(outcome.status, 'fulfilled');
          assert.equal(outcome.value, index);
          seen.push(outcome.value);
        },
      }),
    );
    assert.equal(seen.length, 200);
    assert.equal(pool.stats().pending, 0);
  });

  it('a source waits for the workers', async (t) => {
    const pool = setup(t, { admission: { maxTasks: 4 } });
    await pool.run({});
    let read = 0;
    function* endless(): Generator<Order> {
      for (;;) {
        read++;
        yield { untilAborted: true };
      }
    }
    const abort = new AbortController();
    const piped = source(endless()).pipeTo(pool.writable({ signal: abort.signal }));
    while (pool.stats().waiting === 0) await new Promise((resolve) => setImmediate(resolve));
    const other = pool.run({ echo: 'other' });
    assert.ok(read <= 8, `${read} items were read`);
    abort.abort(new Error('enough'));
    await assert.rejects(piped, /enough/);
    // Who waited behind the stream has its turn.
    assert.equal(await other, 'other');
    await pool.close();
    assert.equal(pool.stats().pending, 0);
    assert.equal(pool.stats().waiting, 0);
  });

  it('without onResult the first item that fails ends it', async (t) => {
    const pool = setup(t);
    function* orders(): Generator<Order> {
      yield { echo: 1 };
      yield { fail: 'no' };
      for (;;) yield { sleepMs: 1 };
    }
    await assert.rejects(source(orders()).pipeTo(pool.writable()), /no/);
    await pool.close();
    assert.equal(pool.stats().pending, 0);
  });

  it('with onResult every item has its outcome, also one that cannot be encoded', async (t) => {
    const pool = setup(t);
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    const outcomes = new Map<number, unknown>();
    await source([{ echo: 0 }, { fail: 'no' }, { echo: cycle }, { untilAborted: true }]).pipeTo(
      pool.writable({
        timeout: 30,
        onResult: (outcome, index) =>
          outcomes.set(
            index,
            outcome.status === 'fulfilled'
              ? outcome.value
              : (outcome.reason as { code: string }).code,
          ),
      }),
    );
    assert.deepEqual(
      [0, 1, 2, 3].map((index) => outcomes.get(index)),
      [0, 'ERR_ORDER', 'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE', 'ERR_MILLRACE_TASK_TIMEOUT'],
    );
  });

  it('ends with a pool that is closed, an onResult that throws, a signal that was aborted', async (t) => {
    const pool = setup(t);
    await assert.rejects(
      source([{ echo: 1 }]).pipeTo(pool.writable({ signal: AbortSignal.abort(new Error('late')) })),
      /late/,
    );
    const onResult = (): void => {
      throw new Error('mine');
    };
    await assert.rejects(
      source([{ echo: 1 }, { sleepMs: 50 }]).pipeTo(pool.writable({ onResult })),
      /mine/,
    );
    const writer = pool.writable({ onResult: () => {} }).getWriter();
    await writer.write({ echo: 1 });
    await pool.close();
    await assert.rejects(
      (async () => {
        await writer.write({ echo: 2 });
        await writer.write({ echo: 3 });
      })(),
      { code: 'ERR_MILLRACE_CLOSED' },
    );
    writer.closed.catch(() => {});
  });

  it('aborting a writer gives up what is under way', async (t) => {
    const pool = setup(t);
    const writer = pool.writable().getWriter();
    await writer.write({ untilAborted: true });
    await writer.abort(new Error('enough'));
    await assert.rejects(writer.closed, /enough/);
    await pool.close();
    assert.equal(pool.stats().pending, 0);
  });
});
