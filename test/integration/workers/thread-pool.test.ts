import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import type { ChannelPayloads } from '../../../src/core/channels.js';
import type { MillraceError } from '../../../src/core/errors.js';
import { ThreadPool, type ThreadPoolOptions } from '../../../src/pool/thread-pool.js';
import { checkEntry } from '../../../src/pool/worker-thread.js';
import { batchOf, type Entry, runBatch, runFrame, SEGMENT } from '../../pool/batches.js';

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

/** Resolves when the pool has this many free places. */
async function allPlaces(pool: ThreadPool, count: number): Promise<void> {
  // onFree speaks of the first place only; for more there is no event.
  while (pool.freePlaces < count) await new Promise((resolve) => setTimeout(resolve, 2));
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

    // Also while no batch is there: an interval goes on in an idle thread.
    await runBatch(pool, [{ type: 'ticking.start' }]).end;
    await new Promise((resolve) => setTimeout(resolve, 60));
    const idle = runBatch(pool, [{ type: 'ticking.stop' }, { type: 'gzip', input: 100_000 }]);
    await idle.end;
    assert.ok((idle.ended.get(0)?.value as number) >= 5);
    const zipped = Number(idle.ended.get(1)?.value);
    assert.ok(zipped > 0 && zipped < 100_000, `${zipped} bytes`);
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
    assert.deepEqual(loss?.details, { reason: 'exit', exitCode: 7, begun: 1 });
    assert.deepEqual(batch.outcomes(), ['COMPLETED', 'LOST', 'NOT_STARTED']);
    assert.equal(await next.end, undefined);
    assert.deepEqual(next.outcomes(), ['NOT_STARTED']);
    await free(pool);
    assert.equal(pool.threadCount, 1);
    const again = runBatch(pool, [{ type: 'echo', input: 'again' }]);
    await again.end;
    assert.equal(again.ended.get(0)?.value, 'again');
  });

  describe('when a thread dies, its tasks are lost once and the pool is back at its size', () => {
    const deaths: readonly {
      readonly how: string;
      readonly entry: Entry;
      readonly reason: string;
      readonly causeCode?: string;
      readonly options?: Partial<ThreadPoolOptions>;
    }[] = [
      {
        how: 'an exception outside any handler',
        entry: { type: 'throw.outside' },
        reason: 'uncaught',
        causeCode: 'ERR_TEAPOT',
      },
      {
        how: 'a rejection nobody handles',
        entry: { type: 'reject.outside' },
        reason: 'uncaught',
        causeCode: 'ERR_TEAPOT',
      },
      {
        how: 'memory above its limit',
        entry: { type: 'hog' },
        reason: 'out-of-memory',
        causeCode: 'ERR_WORKER_OUT_OF_MEMORY',
        options: { resourceLimits: { maxOldGenerationSizeMb: 16 } },
      },
    ];
    for (const { how, entry, reason, causeCode, options } of deaths) {
      it(how, async (t) => {
        const pool = await setup(t, { threads: { max: 2 }, ...options });
        const lost: ChannelPayloads['millrace:pool:thread-lost'][] = [];
        const onLost = (message: unknown): void => {
          lost.push(message as (typeof lost)[number]);
        };
        subscribe('millrace:pool:thread-lost', onLost);
        t.after(() => unsubscribe('millrace:pool:thread-lost', onLost));

        const batch = runBatch(pool, [{ type: 'echo', input: 'before' }, entry]);
        const elsewhere = runBatch(pool, [{ type: 'echo.later', input: { ms: 1 } }]);
        const loss = await batch.end;
        assert.equal(loss?.code, 'ERR_MILLRACE_TASK_LOST');
        assert.equal(loss?.details.reason, reason);
        assert.equal((loss?.cause as { code?: string } | undefined)?.code, causeCode);
        // Also when memory runs out and the thread cannot send anything any more.
        assert.deepEqual(batch.outcomes(), ['COMPLETED', 'LOST']);
        assert.equal(await elsewhere.end, undefined);
        assert.deepEqual(elsewhere.outcomes(), ['COMPLETED']);
        assert.equal(lost.length, 1);
        assert.equal(lost[0]?.cause, loss);
        assert.ok(lost[0]!.threadId > 0);

        await allPlaces(pool, 4);
        assert.equal(pool.threadCount, 2);
        assert.equal(batch.ends, 1);
      });
    }
  });

  it('what ended just before a hang is not lost with the thread', async (t) => {
    const pool = await setup(t);
    const quick = { type: 'maybe.spin', input: { spin: false } };
    // So that the thread knows these tasks as quick, and sends nothing before the one that is not.
    await runBatch(pool, [quick, quick]).end;
    const batch = runBatch(pool, [
      ...Array.from({ length: 10 }, () => quick),
      { type: 'maybe.spin', input: { spin: true } },
      quick,
    ]);
    await pool.drain(100);
    assert.equal(batch.loss?.code, 'ERR_MILLRACE_TASK_LOST');
    assert.deepEqual(batch.outcomes(), [...Array(10).fill('COMPLETED'), 'LOST', 'NOT_STARTED']);
    assert.equal(batch.ended.get(9)?.value, 'out');
  });

  it('a batch larger than usual keeps its account of what has begun', async (t) => {
    const pool = await setup(t);
    const echoes = Array.from({ length: 1_000 }, (_, input) => ({ type: 'echo', input }));
    const whole = runBatch(pool, echoes);
    await whole.end;
    assert.equal(whole.ended.get(999)?.value, 999);
    const cut = runBatch(pool, [...echoes, { type: 'exit', input: { code: 0 } }, ...echoes]);
    assert.equal((await cut.end)?.details.exitCode, 0);
    const outcomes = cut.outcomes();
    assert.deepEqual(new Set(outcomes.slice(0, 1_000)), new Set(['COMPLETED']));
    assert.equal(outcomes[1_000], 'LOST');
    assert.deepEqual(new Set(outcomes.slice(1_001)), new Set(['NOT_STARTED']));
  });

  it('a frame that is none ends its batch with the reason, and the thread goes on', async (t) => {
    const pool = await setup(t);
    const bad = runFrame(pool, new Uint8Array(64), 0);
    assert.equal((await bad.end)?.code, 'ERR_MILLRACE_STORE_CORRUPT');
    assert.equal(await runFrame(pool, batchOf([]), 0).end, undefined);
    const good = runBatch(pool, [{ type: 'echo', input: 1 }]);
    await good.end;
    assert.equal(good.ended.get(0)?.value, 1);
    assert.equal(pool.freePlaces, 2);
  });

  it('a handler that waits leaves its place to other batches', async (t) => {
    const pool = await setup(t);
    const waiting = [1, 2].map(() => runBatch(pool, [{ type: 'until.aborted' }]));
    assert.equal(pool.freePlaces, 0);
    await allPlaces(pool, 2);
    const batch = runBatch(pool, [{ type: 'echo', input: 'here' }]);
    await batch.end;
    assert.equal(batch.ended.get(0)?.value, 'here');
    for (const one of waiting) one.running.cancel(0, 'done');
    await Promise.all(waiting.map((one) => one.end));
  });

  describe('start()', () => {
    it('rejects once with the cause when the module does not load', async () => {
      const tasks = new URL('data:text/javascript,throw new RangeError("no luck")');
      const pool = new ThreadPool({ tasks, threads: { max: 2 } });
      await assert.rejects(pool.start(), (error: MillraceError) => {
        assert.equal(error.code, 'ERR_MILLRACE_TASKS_MODULE');
        assert.match(error.message, /does not load: no luck/);
        assert.equal((error.cause as Error).name, 'RangeError');
        return true;
      });
      assert.equal(pool.threadCount, 0);
      await pool.stop();
    });

    it('rejects when the module exports no task, ends the thread, or never finishes loading', async () => {
      const modules: [string, RegExp, number][] = [
        ['export const nothing = 1', /exports no task/, 60_000],
        ['process.exit(4)', /the thread ended meanwhile/, 60_000],
        ['setTimeout(() => {}, 1e9); await new Promise(() => {})', /longer than 200 ms/, 200],
      ];
      for (const [code, message, loadTimeoutMs] of modules) {
        const tasks = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
        const pool = new ThreadPool({ tasks, threads: { max: 1 }, loadTimeoutMs });
        await assert.rejects(pool.start(), { code: 'ERR_MILLRACE_TASKS_MODULE', message });
        await pool.stop();
      }
    });

    it('and stop(): in any order, once or twice', async () => {
      const options = { tasks: TASKS, threads: { max: 1 } };
      const never = new ThreadPool(options);
      await Promise.all([never.drain(60_000), never.stop(), never.stop()]);
      const both = new ThreadPool(options);
      await Promise.all([both.start(), both.start(), both.stop(), both.stop()]);
      assert.equal(both.threadCount, 0);
      assert.equal(both.freePlaces, 0);
    });

    it('would say at once that the file that threads start from is missing', () => {
      checkEntry();
      assert.throws(() => checkEntry('/nowhere/worker-entry.js'), {
        code: 'ERR_MILLRACE_TASKS_MODULE',
        message: /\/nowhere\/worker-entry\.js is not there; .*--external:millrace/,
      });
    });

    it('refuses unusable options', () => {
      assert.throws(() => new ThreadPool({ tasks: TASKS, threads: { max: 0 } }), {
        code: 'ERR_MILLRACE_INVALID_OPTION',
      });
      assert.throws(() => new ThreadPool({ tasks: TASKS, placesPerThread: 0 }), {
        code: 'ERR_MILLRACE_INVALID_OPTION',
      });
    });
  });

  it('a replacement that cannot load its module is tried again later, and later', async (t) => {
    // The module loads once: its second thread finds the flag.
    const key = `MILLRACE_TEST_${process.pid}`;
    const code = `
      import tasks from '${TASKS.href}';
      if (process.env.${key}) process.exit(9);
      export default tasks;`;
    const tasks = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
    const pool = await setup(t, { tasks });
    process.env[key] = '1';
    t.after(() => delete process.env[key]);
    const deaths: number[] = [];
    const sawThree = new Promise<void>((resolve) => {
      const onLost = (): void => {
        deaths.push(performance.now());
        if (deaths.length === 4) resolve();
      };
      subscribe('millrace:pool:thread-lost', onLost);
      t.after(() => unsubscribe('millrace:pool:thread-lost', onLost));
    });
    await runBatch(pool, [{ type: 'exit', input: { code: 1 } }]).end;
    const held = setInterval(() => {}, 1_000);
    await sawThree;
    clearInterval(held);
    const pauses = deaths.slice(1).map((at, i) => at - deaths[i]!);
    assert.ok(pauses[1]! >= 100 && pauses[2]! >= 200, `pauses ${pauses}`);
    assert.equal(pool.freePlaces, 0);
  });

  it('shows from outside when a task began, on the clock of the main thread', async (t) => {
    const pool = await setup(t);
    // Some versions of Node start a thread's clock with the thread.
    await new Promise((resolve) => setTimeout(resolve, 50));
    const sentAtMs = performance.now();
    const tasks = [{ type: 'until.aborted' }, { type: 'spin' }, { type: 'echo' }];
    const running = pool.run(batchOf(tasks), { onResults: () => {}, onEnd: () => {} });
    while (running.startedAtMs(1) === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    const startedAtMs = running.startedAtMs(1);
    assert.ok(startedAtMs >= sentAtMs - 1, `${startedAtMs} before ${sentAtMs}`);
    assert.ok(startedAtMs <= performance.now() + 1);
    assert.ok(running.startedAtMs(0) <= startedAtMs);
    assert.equal(running.startedAtMs(2), 0);
    running.kill();
    await allPlaces(pool, 2);
    assert.equal(running.startedAtMs(1), -1);
  });

  it('says how many tasks had begun when a thread died, over all of its batches', async (t) => {
    const pool = await setup(t);
    const first = runBatch(pool, [{ type: 'until.aborted' }, { type: 'until.aborted' }]);
    await allPlaces(pool, 2);
    const second = runBatch(pool, [{ type: 'exit', input: { code: 1 } }, { type: 'echo' }]);
    assert.equal((await first.end)?.details.begun, 3);
    assert.equal((await second.end)?.details.begun, 3);
  });

  describe('the thread in reserve', () => {
    it('takes the place of one that dies, with no start in between', async (t) => {
      const pool = await setup(t);
      pool.keepReserve();
      await new Promise<void>((resolve) => {
        pool.onReserve = resolve;
      });
      assert.equal(pool.threadCount, 1);
      assert.equal(pool.freePlaces, 2);
      const cut = runBatch(pool, [{ type: 'exit', input: { code: 0 } }]);
      await cut.end;
      assert.equal(pool.freePlaces, 2);
      const next = runBatch(pool, [{ type: 'echo', input: 1 }]);
      await next.end;
      assert.deepEqual(next.outcomes(), ['COMPLETED']);
      // And another one gets ready behind it.
      while (!pool.isReserveFree) await new Promise((resolve) => setTimeout(resolve, 2));
      assert.equal(pool.threadCount, 1);
    });

    it('runs one batch at a time, and its death leaves the others alone', async (t) => {
      const pool = await setup(t);
      pool.keepReserve();
      await new Promise<void>((resolve) => {
        pool.onReserve = resolve;
      });
      let loss: MillraceError | undefined;
      await new Promise<void>((resolve) => {
        pool.runAlone(batchOf([{ type: 'exit', input: { code: 2 } }]), {
          onResults: () => {},
          onEnd: (error) => {
            loss = error;
            resolve();
          },
        });
        assert.equal(pool.isReserveFree, false);
        assert.equal(pool.freePlaces, 2);
      });
      assert.equal(loss?.details.exitCode, 2);
      assert.equal(pool.threadCount, 1);
      await new Promise<void>((resolve) => {
        pool.onReserve = resolve;
      });
      await pool.stop();
      assert.equal(pool.isReserveFree, false);
    });
  });

  describe('drain', () => {
    it('waits for what runs within the grace period', async (t) => {
      const pool = await setup(t);
      const batch = runBatch(pool, [{ type: 'echo.later', input: { ms: 20 } }]);
      await pool.drain(10_000);
      assert.deepEqual(batch.outcomes(), ['COMPLETED']);
      assert.equal(pool.threadCount, 0);
    });

    it('kills what is left after it, and a second drain may shorten it', async (t) => {
      const pool = await setup(t);
      const batch = runBatch(pool, [
        { type: 'until.aborted' },
        { type: 'echo', input: 'early' },
        { type: 'spin' },
        { type: 'echo', input: 'never' },
      ]);
      await batch.reported(1);
      const drained = pool.drain(60_000);
      await Promise.all([drained, pool.drain(20)]);
      assert.equal(batch.loss?.code, 'ERR_MILLRACE_TASK_LOST');
      assert.equal(batch.loss?.details.reason, 'shutdown');
      assert.deepEqual(batch.outcomes(), ['LOST', 'COMPLETED', 'LOST', 'NOT_STARTED']);
      assert.equal(batch.ends, 1);
    });
  });

  describe('the process', () => {
    const run = promisify(execFile);
    const program = (body: string): Promise<{ stdout: string }> => {
      const pool = new URL('../../../src/pool/thread-pool.js', import.meta.url).href;
      const batches = new URL('../../pool/batches.js', import.meta.url).href;
      const code = `
        import { ThreadPool } from '${pool}';
        import { runBatch } from '${batches}';
        const pool = new ThreadPool({ tasks: '${TASKS.href}', threads: { max: 2 } });
        ${body}`;
      return run(process.execPath, ['--input-type=module', '-e', code], { timeout: 20_000 });
    };

    it('ends by itself after stop()', async () => {
      const { stdout } = await program(`
        await pool.start();
        await runBatch(pool, [{ type: 'echo' }]).end;
        await pool.stop();
        await new Promise((resolve) => setImmediate(resolve));
        console.log(process.getActiveResourcesInfo().filter((it) => !/Pipe|TTY|Stdio/.test(it)).join());`);
      assert.equal(stdout, '\n');
    });

    it('ends by itself although an idle pool was never stopped', async () => {
      const { stdout } = await program(`
        await pool.start();
        await runBatch(pool, [{ type: 'echo' }]).end;
        console.log('idle');`);
      assert.equal(stdout, 'idle\n');
    });

    it('lives as long as a batch runs', async () => {
      const { stdout } = await program(`
        await pool.start();
        const batch = runBatch(pool, [{ type: 'echo.later', input: { ms: 300 } }]);
        batch.end.then(() => console.log(batch.outcomes().join()));`);
      assert.equal(stdout, 'COMPLETED\n');
    });

    it('lives until it has heard of the loss of a batch', async () => {
      const { stdout } = await program(`
        await pool.start();
        const batch = runBatch(pool, [{ type: 'exit', input: { code: 5 } }]);
        batch.end.then((loss) => console.log(loss.details.exitCode));`);
      assert.equal(stdout, '5\n');
    });
  });
});
