import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { BatchPool, type BatchPoolOptions } from '../../../src/pool/index.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import type { Order } from '../../fixtures/workers/items.js';

const ITEMS = new URL('../../fixtures/workers/items.js', import.meta.url);

function setup(t: TestContext, options: Partial<BatchPoolOptions> = {}): BatchPool<Order, unknown> {
  const pool = new BatchPool<Order, unknown>({ filename: ITEMS, threads: 1, ...options });
  t.after(() => pool.close({ grace: 0 }));
  return pool;
}

/** The thread an item ran in. */
async function thread(pool: BatchPool<Order, unknown>): Promise<number> {
  return ((await pool.run({ where: true })) as { threadId: number }).threadId;
}

describe('recycle', () => {
  it('replaces a thread after so many items, and nobody notices', async (t) => {
    const pool = setup(t, { recycle: { tasks: 50 } });
    const seen = new Set<number>();
    for (let i = 0; i < 400 || pool.stats().recycled < 2; i++) seen.add(await thread(pool));
    assert.ok(seen.size >= 3, `${seen.size} threads`);
    const { failed, lost, threads } = pool.stats();
    assert.deepEqual({ failed, lost }, { failed: 0, lost: 0 });
    assert.ok(threads >= 1);
  });

  it('one at a time: the pool is never short of a thread', async (t) => {
    const pool = setup(t, { threads: 3, recycle: { tasks: 20 }, batch: { max: 4 } });
    await pool.run({});
    while (pool.stats().threads < 3) await pool.run({});
    while (pool.stats().recycled < 4) {
      await Promise.all(Array.from({ length: 24 }, (_, echo) => pool.run({ echo })));
      const { threads } = pool.stats();
      assert.ok(threads === 3 || threads === 4, `${threads} threads`);
    }
    assert.equal(pool.stats().lost, 0);
  });

  it('a thread ends with the last item it has', async (t) => {
    const pool = setup(t, { recycle: { tasks: 2 }, onLost: 'fail' });
    await pool.run({});
    const slow = pool.run({ echo: 'slow', sleepMs: 300 });
    // In a batch of its own, so that others end before it.
    await new Promise((resolve) => setImmediate(resolve));
    await pool.run({});
    assert.equal(await slow, 'slow');
    while (pool.stats().recycled === 0) await pool.run({});
    assert.equal(pool.stats().lost, 0);
  });

  it('by age', async (t) => {
    const pool = setup(t, { recycle: { age: 50 } });
    const first = await thread(pool);
    while (pool.stats().recycled === 0) await pool.run({ sleepMs: 1 });
    assert.notEqual(await thread(pool), first);
  });

  it('by age, also while they are idle, and the thread in reserve; one at a time', async (t) => {
    const pool = setup(t, { threads: 2, recycle: { age: 150 }, timeout: '10s' });
    await pool.run({});
    while (pool.stats().threads < 2) await new Promise((resolve) => setTimeout(resolve, 2));
    const first = await thread(pool);
    // Nothing runs from here on.
    while (pool.stats().recycled < 6) {
      const { threads } = pool.stats();
      assert.ok(threads === 2 || threads === 3, `${threads} threads`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    assert.notEqual(await thread(pool), first);
    await pool.close();
    const { recycled } = pool.stats();
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(pool.stats().recycled, recycled);
  });

  it('by the growth of its heap', async (t) => {
    const pool = setup(t, { recycle: { heap: '16MB' } });
    const first = await thread(pool);
    await pool.run({ leakKb: 32_000 });
    // The thread looks once a second, and believes in growth after three looks.
    while (pool.stats().recycled === 0) await pool.run({ sleepMs: 5 });
    assert.notEqual(await thread(pool), first);
    assert.equal(pool.stats().recycled, 1);
  });

  it('refuses unusable limits', () => {
    for (const recycle of [{ tasks: 0 }, { heap: 'much' as never }, { age: 0 }]) {
      assert.throws(() => new BatchPool({ filename: ITEMS, recycle }), { name: 'MillraceError' });
    }
  });
});

describe('autoscale', () => {
  it('takes threads away from an idle pool, down to threads.min', async (t) => {
    const clock = new VirtualClock();
    const pool = new BatchPool<Order, unknown>(
      { filename: ITEMS, threads: { min: 1, max: 3 }, autoscale: true },
      clock,
    );
    t.after(() => pool.close({ grace: 0 }));
    await pool.run({});
    while (pool.stats().threads < 3) await new Promise((resolve) => setTimeout(resolve, 2));
    // The readings are of the real machine: it may be too busy to let a thread go for being idle, but then it lets
    // one go for being busy with something else.
    for (let i = 0; i < 100 && pool.stats().threads > 1; i++) {
      await clock.advance(10_000);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.equal(pool.stats().threads, 1);
    assert.equal(await pool.run({ echo: 'still' }), 'still');
    await pool.close();
    assert.equal(clock.sleeping, 0);
  });

  it('refuses what is not a yes or no', () => {
    assert.throws(() => new BatchPool({ filename: ITEMS, autoscale: 'yes' as never }), {
      code: 'ERR_MILLRACE_INVALID_OPTION',
    });
  });
});

describe('handler modules', () => {
  async function answer(t: TestContext, name: string, code: string): Promise<unknown> {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-module-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const filename = join(folder, name);
    writeFileSync(filename, code);
    const pool = setup(t, { filename });
    return pool.run({ echo: 20 });
  }

  it('CommonJS: module.exports is the handler', async (t) => {
    assert.equal(await answer(t, 'a.cjs', 'module.exports = (item) => item.echo + 1;'), 21);
  });

  it('CommonJS: what a compiler made of export default', async (t) => {
    const code = `Object.defineProperty(exports, '__esModule', { value: true });
      exports.default = async (item) => item.echo + 2;`;
    assert.equal(await answer(t, 'b.cjs', code), 22);
  });

  const stripsTypes = Boolean((process.features as { typescript?: unknown }).typescript);
  it('TypeScript, where Node strips types', { skip: !stripsTypes }, async (t) => {
    const code = 'export default (item: { echo: number }): number => item.echo + 3;';
    assert.equal(await answer(t, 'c.mts', code), 23);
  });

  it('TypeScript where Node does not: one clear error', { skip: stripsTypes }, async (t) => {
    await assert.rejects(answer(t, 'c.mts', 'export default (item: number): number => item;'), {
      code: 'ERR_MILLRACE_TASKS_MODULE',
      message: /c\.mts does not load: .*extension/,
    });
  });
});
