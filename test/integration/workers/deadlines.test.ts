import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { MillraceError } from '../../../src/core/errors.js';
import { BatchPool, type BatchPoolOptions } from '../../../src/pool/index.js';
import type { Order } from '../../fixtures/workers/items.js';

const ITEMS = new URL('../../fixtures/workers/items.js', import.meta.url);

interface Setup {
  readonly pool: BatchPool<Order, unknown>;
  /** A file that an item's runs are written to. */
  tally(name: string): string;
  /** How often the item with this tally ran. */
  runs(name: string): number;
}

function setup(t: TestContext, options: Partial<BatchPoolOptions> = {}): Setup {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-pool-'));
  const pool = new BatchPool<Order, unknown>({ filename: ITEMS, threads: 1, ...options });
  t.after(async () => {
    await pool.close({ grace: 0 });
    rmSync(folder, { recursive: true });
  });
  const tally = (name: string): string => join(folder, name);
  return {
    pool,
    tally,
    runs: (name) =>
      existsSync(tally(name)) ? readFileSync(tally(name), 'utf8').split('\n').length - 1 : 0,
  };
}

/** Resolves when the pool has its threads again and holds nothing. */
async function settled(pool: BatchPool<Order, unknown>, threads = 1): Promise<void> {
  // A replacement that is ready has no event of its own.
  while (pool.stats().threads < threads) await new Promise((resolve) => setTimeout(resolve, 2));
  const { pending, pendingBytes, queued, running, waiting } = pool.stats();
  assert.deepEqual(
    { pending, pendingBytes, queued, running, waiting },
    { pending: 0, pendingBytes: 0, queued: 0, running: 0, waiting: 0 },
  );
  assert.equal(pool.stats().threads, threads);
}

function codeOf(outcome: PromiseSettledResult<unknown>): unknown {
  return outcome.status === 'fulfilled'
    ? outcome.value
    : ((outcome.reason as MillraceError).code ?? outcome.reason);
}

describe('deadlines', () => {
  it('one infinite loop among 64 items: 63 complete, one is blamed, soon after timeout and grace', async (t) => {
    const { pool, tally, runs } = setup(t, { timeout: { adaptive: false, max: 500, grace: 100 } });
    await pool.run({});
    const beganMs = performance.now();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 64 }, (_, i) =>
        pool.run(
          i === 40 ? { spin: true, tally: tally('spin') } : { echo: i, tally: tally(`mate${i}`) },
        ),
      ),
    );
    const tookMs = performance.now() - beganMs;
    assert.deepEqual(
      outcomes.map(codeOf),
      Array.from({ length: 64 }, (_, i) => (i === 40 ? 'ERR_MILLRACE_TASK_TIMEOUT' : i)),
    );
    const { reason } = outcomes[40] as PromiseRejectedResult;
    assert.equal(reason.kind, 'deadline');
    assert.deepEqual(reason.details, { timeoutMs: 500 });
    assert.equal(runs('spin'), 1);
    for (let i = 0; i < 64; i++) if (i !== 40) assert.equal(runs(`mate${i}`), 1, `mate ${i}`);
    assert.ok(tookMs >= 600, `${tookMs} ms`);
    // The machine's load is in there; what is not is another start of a thread for each item.
    assert.ok(tookMs < 3_000, `${tookMs} ms`);
    assert.equal(pool.stats().timedOut, 1);
    await settled(pool);
  });

  it('a handler that heeds its signal keeps its thread', async (t) => {
    const { pool } = setup(t, { timeout: { adaptive: false, max: 30, grace: '20s' } });
    const before = (await pool.run({ where: true })) as { threadId: number };
    const [aborted, why, mate] = await Promise.allSettled([
      pool.run({ untilAborted: true }),
      pool.run({ whyAborted: true }),
      pool.run({ echo: 'mate' }),
    ]);
    assert.equal(codeOf(aborted!), 'ERR_MILLRACE_TASK_TIMEOUT');
    // What is returned in the grace period counts.
    assert.equal(codeOf(why!), 'ERR_MILLRACE_TASK_TIMEOUT');
    assert.equal(why!.status, 'fulfilled');
    assert.equal(codeOf(mate!), 'mate');
    const after = (await pool.run({ where: true })) as { threadId: number };
    assert.equal(after.threadId, before.threadId);
    await settled(pool);
  });

  it('the clock starts when the handler is called, not when the item is sent', async (t) => {
    const { pool } = setup(t, { timeout: 400 });
    await pool.run({});
    // Half a second and more of work in one batch, none of it above its limit.
    const results = await Promise.all(
      [1, 2, 3, 4, 5, 6].map((echo) => pool.run({ echo, busyMs: 120 })),
    );
    assert.deepEqual(results, [1, 2, 3, 4, 5, 6]);
    assert.equal(pool.stats().timedOut, 0);
  });

  it('suspects that overlapped run again alone, and only the one killed alone is blamed', async (t) => {
    const { pool, tally, runs } = setup(t, { timeout: { adaptive: false, max: 100, grace: 20 } });
    await pool.run({});
    const outcomes = await Promise.allSettled([
      pool.run({ deaf: true, tally: tally('deaf') }),
      ...[1, 2, 3].map((echo) =>
        pool.run({ echo, sleepMs: 300, tally: tally(`mate${echo}`) }, { timeout: '20s' }),
      ),
    ]);
    assert.deepEqual(outcomes.map(codeOf), ['ERR_MILLRACE_TASK_TIMEOUT', 1, 2, 3]);
    assert.deepEqual(['deaf', 'mate1', 'mate2', 'mate3'].map(runs), [2, 2, 2, 2]);
    assert.equal(pool.stats().lost, 0);
    await settled(pool);
  });

  it('what had not begun, also in a second batch, runs once', async (t) => {
    const { pool, tally, runs } = setup(t, {
      batch: { max: 4 },
      timeout: { adaptive: false, max: 100, grace: 10 },
    });
    await pool.run({});
    const outcomes = await Promise.allSettled([
      pool.run({ spin: true, tally: tally('spin') }),
      ...Array.from({ length: 11 }, (_, echo) => pool.run({ echo, tally: tally(`${echo}`) })),
    ]);
    assert.deepEqual(outcomes.map(codeOf), [
      'ERR_MILLRACE_TASK_TIMEOUT',
      ...Array.from({ length: 11 }, (_, echo) => echo),
    ]);
    for (let echo = 0; echo < 11; echo++) assert.equal(runs(`${echo}`), 1);
    assert.equal(runs('spin'), 1);
    await settled(pool);
  });

  it('an item may have a limit of its own, in a pool without one too', async (t) => {
    const { pool } = setup(t);
    const [own, none] = await Promise.allSettled([
      pool.run({ untilAborted: true }, { timeout: 20 }),
      pool.run({ echo: 'patient', sleepMs: 60 }),
    ]);
    assert.equal(codeOf(own!), 'ERR_MILLRACE_TASK_TIMEOUT');
    assert.equal(codeOf(none!), 'patient');
    const many = pool.runMany([{ untilAborted: true }, { echo: 2 }], {
      timeout: 20,
      settled: true,
    });
    const seen: unknown[] = [];
    for await (const outcome of many) seen.push(codeOf(outcome));
    assert.deepEqual(seen, ['ERR_MILLRACE_TASK_TIMEOUT', 2]);
    await settled(pool);
  });

  it('adaptive: the limit follows what has been measured', async (t) => {
    const { pool } = setup(t, { timeout: { min: 80, max: '1m', grace: '20s' } });
    // With nothing measured the limit is the longest.
    assert.equal(await pool.run({ echo: 'first', sleepMs: 150 }), 'first');
    await Promise.all(Array.from({ length: 400 }, () => pool.run({})));
    await assert.rejects(pool.run({ untilAborted: true }), (error: MillraceError) => {
      assert.equal(error.code, 'ERR_MILLRACE_TASK_TIMEOUT');
      const { timeoutMs } = error.details as { timeoutMs: number };
      assert.ok(timeoutMs >= 80 && timeoutMs < 60_000, `${timeoutMs} ms`);
      return true;
    });
  });

  it('an item nobody waits for any more still has its limit', async (t) => {
    const { pool } = setup(t, { timeout: { adaptive: false, max: 50, grace: 10 } });
    await pool.run({});
    const abort = new AbortController();
    const hung = pool.run({ spin: true }, { signal: abort.signal });
    const behind = pool.run({ echo: 'behind' });
    setImmediate(() => abort.abort(new Error('enough')));
    await assert.rejects(hung, /enough/);
    assert.equal(await behind, 'behind');
    await settled(pool);
  });

  it('refuses unusable limits', async (t) => {
    for (const timeout of [0, '5 minutes', { adaptive: 0.5 }, { min: -1 }, { max: 0 }]) {
      assert.throws(() => new BatchPool({ filename: ITEMS, timeout: timeout as never }), {
        name: 'MillraceError',
      });
    }
    const { pool } = setup(t);
    await assert.rejects(pool.run({}, { timeout: 0 }), { code: 'ERR_MILLRACE_INVALID_OPTION' });
  });
});

describe('losses', () => {
  it('an item runs again after its thread died, and again alone', async (t) => {
    const { pool, tally, runs } = setup(t);
    for (const times of [1, 2]) {
      const name = `exit${times}`;
      const order = { echo: times, tally: tally(name), exitUpTo: times };
      assert.deepEqual(await Promise.all([pool.run(order), pool.run({ echo: 0 })]), [times, 0]);
      assert.equal(runs(name), times + 1);
      await settled(pool);
    }
    assert.equal(pool.stats().lost, 0);
  });

  it('onLost fail: nothing that had begun begins again', async (t) => {
    const { pool, tally, runs } = setup(t, { onLost: 'fail' });
    const [lost, mate] = await Promise.allSettled([
      pool.run({ tally: tally('exit'), exitUpTo: 9 }),
      pool.run({ echo: 'mate' }),
    ]);
    assert.equal(codeOf(lost!), 'ERR_MILLRACE_TASK_LOST');
    assert.equal(codeOf(mate!), 'mate');
    assert.equal(runs('exit'), 1);
    await settled(pool);
  });
});

describe('crashes', () => {
  const crashes: readonly {
    readonly how: string;
    readonly culprit: Order;
    readonly code: string;
    readonly details: object;
    readonly runs: number;
    readonly options?: Partial<BatchPoolOptions>;
  }[] = [
    {
      how: 'process.exit() in a handler',
      culprit: { exit: 3 },
      code: 'ERR_MILLRACE_TASK_LOST',
      details: { reason: 'exit', exitCode: 3, begun: 1 },
      runs: 3,
    },
    {
      how: "an exception outside the handler's promise",
      culprit: { throwOutside: true },
      code: 'ERR_MILLRACE_TASK_LOST',
      details: { reason: 'uncaught', exitCode: 1, begun: 1 },
      runs: 3,
    },
    {
      how: "a rejection outside the handler's promise",
      culprit: { rejectOutside: true },
      code: 'ERR_MILLRACE_TASK_LOST',
      details: { reason: 'uncaught', exitCode: 1, begun: 1 },
      runs: 3,
    },
    {
      how: 'memory above resourceLimits',
      culprit: { hog: true },
      code: 'ERR_MILLRACE_TASK_LOST',
      details: { reason: 'out-of-memory', exitCode: 1, begun: 1 },
      runs: 3,
      options: { resourceLimits: { maxOldGenerationSizeMb: 24 } },
    },
    {
      how: 'a handler that never yields',
      culprit: { spin: true },
      code: 'ERR_MILLRACE_TASK_TIMEOUT',
      details: { timeoutMs: 200 },
      runs: 1,
      options: { timeout: { adaptive: false, max: 200, grace: 10 } },
    },
  ];
  for (const { how, culprit, code, details, runs: times, options } of crashes) {
    it(`${how}: the culprit has its error, its mates complete, the pool is whole`, async (t) => {
      const { pool, tally, runs } = setup(t, { threads: 2, ...options });
      await pool.run({});
      const outcomes = await Promise.allSettled([
        ...[0, 1, 2].map((echo) => pool.run({ echo, tally: tally(`${echo}`) })),
        pool.run({ ...culprit, tally: tally('culprit') }),
        ...[4, 5, 6].map((echo) => pool.run({ echo, tally: tally(`${echo}`) })),
      ]);
      assert.deepEqual(outcomes.map(codeOf), [0, 1, 2, code, 4, 5, 6]);
      assert.deepEqual((outcomes[3] as PromiseRejectedResult).reason.details, details);
      assert.equal(runs('culprit'), times);
      await settled(pool, 2);
      assert.equal(await pool.run({ echo: 'after' }), 'after');
      await pool.close();
      assert.equal(pool.stats().threads, 0);
    });
  }

  it('leave no handle behind: the process ends by itself', async (t) => {
    const { execFile } = await import('node:child_process');
    const { promisify } = await import('node:util');
    const index = new URL('../../../src/pool/index.js', import.meta.url).href;
    const code = `
      import { BatchPool } from '${index}';
      const pool = new BatchPool({ filename: new URL('${ITEMS.href}'), threads: 1, timeout: { adaptive: false, max: 50, grace: 10 } });
      const outcomes = await Promise.allSettled([pool.run({ spin: true }), pool.run({ exit: 1 }), pool.run({ echo: 1 })]);
      console.log(outcomes.map((outcome) => outcome.value ?? outcome.reason.code).join());`;
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--input-type=module', '-e', code],
      {
        timeout: 30_000,
      },
    );
    assert.equal(stdout, 'ERR_MILLRACE_TASK_TIMEOUT,ERR_MILLRACE_TASK_LOST,1\n');
    void t;
  });
});

describe('everything at once', () => {
  it('each item ends as it should, whatever runs beside it, and nothing is left', async (t) => {
    const { pool, tally } = setup(t, {
      threads: 2,
      batch: { max: 8 },
      timeout: { adaptive: false, max: 250, grace: 20 },
      recycle: { tasks: 60 },
    });
    const kinds: ((i: number) => { order: Order; ends: unknown; timeout?: number })[] = [
      (i) => ({ order: { echo: i }, ends: i }),
      (i) => ({ order: { echo: i, sleepMs: 5 }, ends: i }),
      (i) => ({ order: { echo: i }, ends: i }),
      (i) => ({ order: { echo: i, busyMs: 2 }, ends: i }),
      () => ({ order: { fail: 'no' }, ends: 'ERR_ORDER' }),
      (i) => ({ order: { echo: i, sleepMs: 30 }, ends: i, timeout: 20_000 }),
      (i) => ({ order: { echo: i }, ends: i }),
      () => ({ order: { untilAborted: true }, ends: 'ERR_MILLRACE_TASK_TIMEOUT' }),
    ];
    const bad: ((i: number) => { order: Order; ends: unknown; timeout?: number })[] = [
      () => ({ order: { spin: true }, ends: 'ERR_MILLRACE_TASK_TIMEOUT' }),
      () => ({ order: { deaf: true }, ends: 'ERR_MILLRACE_TASK_TIMEOUT' }),
      (i) => ({ order: { echo: i, tally: tally(`${i}`), exitUpTo: 1 }, ends: i }),
    ];
    const cases = Array.from({ length: 240 }, (_, i) =>
      i % 40 === 17 ? bad[((i / 40) % 3) | 0]!(i) : kinds[i % kinds.length]!(i),
    );
    const outcomes = await Promise.allSettled(
      cases.map(({ order, timeout }) => pool.run(order, timeout === undefined ? {} : { timeout })),
    );
    for (const [i, outcome] of outcomes.entries()) {
      assert.equal(codeOf(outcome), cases[i]!.ends, `item ${i} ${JSON.stringify(cases[i]!.order)}`);
    }
    await settled(pool, 2);
  });
});
