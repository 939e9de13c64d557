import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { MillraceError } from '../../../src/core/errors.js';
import { ThreadPool, type ThreadPoolOptions } from '../../../src/pool/thread-pool.js';
import { runBatch, SEGMENT } from '../../pool/batches.js';

const TASKS = new URL('../../fixtures/workers/tasks.js', import.meta.url);

async function setup(
  t: TestContext,
  options: Partial<ThreadPoolOptions> = {},
): Promise<ThreadPool> {
  const pool = new ThreadPool({ tasks: TASKS, threads: { max: 1 }, ...options });
  t.after(() => pool.stop());
  await pool.start();
  return pool;
}

/** Resolves when the pool takes batches (again). */
function free(pool: ThreadPool): Promise<void> {
  return new Promise((resolve) => {
    if (pool.freePlaces > 0) resolve();
    else pool.onFree = resolve;
  });
}

describe('ThreadPool', () => {
  it('runs a batch and brings values, errors and outcomes home', async (t) => {
    const pool = await setup(t);
    const batch = runBatch(pool, [
      { type: 'echo', input: { deep: ['ü', 1] } },
      { type: 'echo' },
      { type: 'fail' },
      { type: 'fail.for-good' },
      { type: 'nobody' },
      { type: 'execution' },
    ]);
    assert.equal(await batch.end, undefined);
    assert.deepEqual(batch.outcomes(), [
      'COMPLETED',
      'COMPLETED',
      'FAILED',
      'FAILED_FOR_GOOD',
      'FAILED_FOR_GOOD',
      'COMPLETED',
    ]);
    assert.deepEqual(batch.ended.get(0)?.value, { deep: ['ü', 1] });
    assert.equal(batch.ended.get(1)?.value, undefined);
    const error: Error & { code: string } = batch.error(2);
    assert.equal(error.name, 'TeapotError');
    assert.equal(error.code, 'ERR_TEAPOT');
    assert.equal(error.message, 'short and stout');
    assert.equal((error.cause as Error).name, 'RangeError');
    assert.equal((error.cause as Error).message, 'no more tea');
    assert.equal(batch.error(3).message, 'never again');
    assert.equal(batch.error(4).code, 'ERR_MILLRACE_UNKNOWN_TASK');
    assert.deepEqual(batch.ended.get(5)?.value, {
      id: `${SEGMENT}.05:2:local`,
      taskId: `${SEGMENT}.05`,
      attempt: 2,
      version: 1,
      token: '1005',
      tenant: 'acme',
    });
  });

  it('reports an early finisher before a slow batch-mate', async (t) => {
    const pool = await setup(t);
    const batch = runBatch(pool, [{ type: 'until.aborted' }, { type: 'echo', input: 1 }]);
    assert.equal((await batch.reported(1)).value, 1);
    assert.equal(batch.ended.has(0), false);
    batch.running.cancel(0, 'seen enough');
    assert.equal(await batch.end, undefined);
    assert.deepEqual(
      { ...batch.ended.get(0), runMs: 0 },
      { outcome: 'CANCELLED', value: 'seen enough', runMs: 0 },
    );
  });

  it("leaves the thread's event loop to its handlers", async (t) => {
    const pool = await setup(t);
    const batch = runBatch(pool, [{ type: 'tick', input: { times: 5 } }]);
    await batch.end;
    assert.equal(batch.ended.get(0)?.value, 5);
  });

  it('process.exit() in a handler loses that task, keeps what ended, returns what had not begun', async (t) => {
    const pool = await setup(t);
    const batch = runBatch(pool, [
      { type: 'echo', input: 'before' },
      { type: 'exit', input: { code: 7 } },
      { type: 'echo', input: 'after' },
    ]);
    const next = runBatch(pool, [{ type: 'echo' }]);
    const loss = await batch.end;
    assert.equal(loss?.code, 'ERR_MILLRACE_TASK_LOST');
    assert.deepEqual(loss?.details, { reason: 'exit', exitCode: 7 });
    assert.deepEqual(batch.outcomes(), ['COMPLETED', 'LOST', 'NOT_STARTED']);
    assert.equal(await next.end, undefined);
    assert.deepEqual(next.outcomes(), ['NOT_STARTED']);
    await free(pool);
    assert.equal(pool.threadCount, 1);
    const again = runBatch(pool, [{ type: 'echo', input: 'again' }]);
    await again.end;
    assert.equal(again.ended.get(0)?.value, 'again');
  });

  it('a module that does not load fails start() with its cause', async () => {
    const tasks = new URL('data:text/javascript,throw new RangeError("no luck")');
    const pool = new ThreadPool({ tasks, threads: { max: 2 } });
    await assert.rejects(pool.start(), (error: MillraceError) => {
      assert.equal(error.code, 'ERR_MILLRACE_TASKS_MODULE');
      assert.match(error.message, /does not load: no luck/);
      assert.equal((error.cause as Error).name, 'RangeError');
      return true;
    });
    await pool.stop();
  });
});
