import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { ReadableStream } from 'node:stream/web';
import { describe, it, type TestContext } from 'node:test';
import type { TaskLine } from '../../../src/core/channels.js';
import { BatchPool, type BatchPoolOptions } from '../../../src/pool/index.js';
import type { Talk } from '../../fixtures/workers/talkers.js';

const TALKERS = new URL('../../fixtures/workers/talkers.js', import.meta.url);

function setup(t: TestContext, options: Partial<BatchPoolOptions> = {}): BatchPool<Talk, string> {
  const pool = new BatchPool<Talk, string>({ filename: TALKERS, threads: 1, ...options });
  t.after(() => pool.close({ grace: 0 }));
  return pool;
}

/** Lines published from now on. */
function lines(t: TestContext): TaskLine[] {
  const heard: TaskLine[] = [];
  const listener = (line: unknown): void => void heard.push(line as TaskLine);
  subscribe('millrace:task:log', listener);
  t.after(() => unsubscribe('millrace:task:log', listener));
  return heard;
}

describe('ctx.log', () => {
  it('lines of each item arrive in order, and before its result', async (t) => {
    const pool = setup(t);
    const heard = lines(t);
    const names = Array.from({ length: 20 }, (_, i) => `item ${i}`);
    for await (const name of pool.runMany(names.map((name) => ({ name, lines: 10 })))) {
      const mine = heard.filter((line) => line.message === name);
      assert.deepEqual(
        mine.map((line) => line.fields),
        Array.from({ length: 10 }, (_, i) => ({ i })),
      );
    }
    assert.equal(heard.length, 200);
    const { level, type, attempt, taskId, dropped } = heard[0]!;
    assert.deepEqual(
      { level, type, attempt, taskId, dropped },
      { level: 'info', type: 'item', attempt: 1, taskId: undefined, dropped: 0 },
    );
    assert.ok(Math.abs(Date.now() - heard[0]!.atMs) < 60_000);
  });

  it('nothing is sent while nobody listens', async (t) => {
    const pool = setup(t);
    assert.equal(await pool.run({ name: 'quiet', lines: 5_000 }), 'quiet');
    assert.equal(pool.stats().linesDropped, 0);
    const heard = lines(t);
    await pool.run({ name: 'loud', lines: 1 });
    assert.deepEqual(
      heard.map(({ message }) => message),
      ['loud'],
    );
  });

  it('a flood is cut, and says so', async (t) => {
    const pool = setup(t);
    const heard = lines(t);
    await pool.run({ name: 'flood', lines: 5_000 });
    const missing = heard.reduce((sum, { dropped }) => sum + dropped, 0);
    assert.equal(heard.length - 1 + missing, 5_000);
    assert.ok(missing > 0);
    assert.equal(pool.stats().linesDropped, missing);
  });

  for (const last of ['exit', 'throw outside'] as const) {
    it(`what was said before the thread died is heard (${last})`, async (t) => {
      const pool = setup(t, { onLost: 'fail' });
      const heard = lines(t);
      await assert.rejects(pool.run({ name: 'doomed', lines: 3, last }), {
        code: 'ERR_MILLRACE_TASK_LOST',
      });
      assert.deepEqual(
        heard.map(({ message }) => message),
        ['doomed', 'doomed', 'doomed', 'last words'],
      );
      assert.equal(await pool.run({ name: 'next' }), 'next');
    });
  }
});

describe('a thread that is killed while it computes', () => {
  for (const count of [3, 400]) {
    it(`what it had said is heard, once (${count} lines)`, async (t) => {
      const pool = setup(t, { timeout: '300ms' });
      const heard = lines(t);
      await assert.rejects(pool.run({ name: 'doomed', lines: count, last: 'hang' }), {
        code: 'ERR_MILLRACE_TASK_TIMEOUT',
      });
      assert.deepEqual(
        heard.slice(0, -1).map(({ fields }) => (fields as { i: number }).i),
        Array.from({ length: count }, (_, i) => i),
      );
      assert.equal(heard.at(-1)!.message, 'last words');
    });
  }
});

describe('ctx.progress', () => {
  it('reaches whoever runs the item, newest last, before its result', async (t) => {
    const pool = setup(t);
    const seen: unknown[] = [];
    let hasEnded = false;
    await pool
      .run(
        { name: 'a', progress: [0.1, 0.2, { pages: 3 }], everyMs: 70 },
        {
          onProgress: (value, index) => {
            assert.equal(hasEnded, false);
            seen.push([index, value]);
          },
        },
      )
      .then(() => {
        hasEnded = true;
      });
    assert.deepEqual(seen, [
      [0, 0.1],
      [0, 0.2],
      [0, { pages: 3 }],
    ]);
  });

  it('is heard while the handler computes', async (t) => {
    const pool = setup(t);
    await pool.run({ name: 'warm' });
    const gaps: number[] = [];
    let at = performance.now();
    const progress = Array.from({ length: 40 }, (_, i) => i);
    await pool.run(
      { name: 'busy', progress, everyMs: 10, busy: true },
      {
        onProgress: () => {
          gaps.push(performance.now() - at);
          at = performance.now();
        },
      },
    );
    // One message at the end would be a single call.
    assert.ok(gaps.length >= 4, `${gaps.length} values`);
    const elapsedMs = gaps.reduce((sum, gap) => sum + gap, 0);
    assert.ok(gaps.length <= elapsedMs / 50 + 3, `${gaps.length} values in ${elapsedMs} ms`);
  });

  it('says which item of many', async (t) => {
    const pool = setup(t);
    const talks = ['a', 'b', 'c'].map((name, i): Talk => ({ name, progress: [i] }));
    const seen = new Map<number, unknown>();
    const onProgress = (value: unknown, index: number): void => void seen.set(index, value);
    for await (const _ of pool.runMany(talks, { onProgress }));
    const expected = [
      [0, 0],
      [1, 1],
      [2, 2],
    ];
    assert.deepEqual([...seen].sort(), expected);
    seen.clear();
    await ReadableStream.from(talks).pipeTo(pool.writable({ onProgress }) as never);
    assert.deepEqual([...seen].sort(), expected);
  });

  it('with a value that is none fails the item with a typed error', async (t) => {
    const pool = setup(t);
    await assert.rejects(pool.run({ name: 'bad', last: 'cycle' }), {
      code: 'ERR_MILLRACE_PAYLOAD_NOT_SERIALIZABLE',
    });
  });

  it('of a lost thread is heard up to its last word, and then that of the next run', async (t) => {
    const pool = setup(t);
    const seen: unknown[] = [];
    await assert.rejects(
      pool.run(
        { name: 'doomed', progress: ['first'], everyMs: 60, last: 'exit' },
        { onProgress: (value) => seen.push(value) },
      ),
      { code: 'ERR_MILLRACE_TASK_LOST' },
    );
    assert.deepEqual(seen, ['first', 'last', 'first', 'last', 'first', 'last']);
  });

  it('an onProgress that throws is the item’s error, and frees its permit', async (t) => {
    const pool = setup(t);
    const onProgress = (): void => {
      throw new Error('mine');
    };
    const failing = pool.run({ name: 'a', progress: [1], everyMs: 5 }, { onProgress });
    await assert.rejects(failing, /mine/);
    await pool.close();
    assert.equal(pool.stats().pending, 0);
  });

  it('what is said after the end is ignored and counted', async (t) => {
    const pool = setup(t);
    const heard = lines(t);
    const seen: unknown[] = [];
    const onProgress = (value: unknown): void => void seen.push(value);
    await pool.run({ name: 'late', progress: [1], last: 'talk on' }, { onProgress });
    while (pool.stats().notesLate < 2) await pool.run({ name: 'wait' });
    assert.deepEqual(seen, [1]);
    assert.deepEqual(heard, []);
    // Also when the thread that counted is gone.
    await assert.rejects(pool.run({ name: 'doomed', last: 'exit' }), /./);
    assert.equal(pool.stats().notesLate, 2);
  });
});
