/** Items and results that are buffers, by themselves and among JSON. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { BatchPool } from '../../../src/pool/index.js';
import { Ask } from '../../fixtures/workers/buffers.js';

function setup(t: TestContext): BatchPool {
  const filename = new URL('../../fixtures/workers/buffers.js', import.meta.url);
  const pool = new BatchPool({ filename, threads: 1 });
  t.after(() => pool.close({ grace: 0 }));
  return pool;
}

function filled(ask: number, length: number, byte = 7): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length).fill(byte);
  bytes[0] = ask;
  return bytes;
}

describe('buffers', () => {
  it('arrive as what they are, in memory of their own', async (t) => {
    const pool = setup(t);
    const part = filled(Ask.TELL, 1_000).subarray(500, 600);
    part[0] = Ask.TELL;
    const [array, view, nothing, node] = await Promise.all([
      pool.run(filled(Ask.TELL, 4_096).buffer),
      pool.run(part),
      pool.run(new Uint8Array(0)),
      pool.run(Buffer.from([Ask.TELL, 200, 100])),
    ]);
    assert.deepEqual(array, { kind: 'ArrayBuffer', length: 4_096, sum: 4_095 * 7, memory: 4_096 });
    assert.deepEqual(view, { kind: 'Uint8Array', length: 100, sum: 99 * 7, memory: 100 });
    assert.deepEqual(nothing, { kind: 'Uint8Array', length: 0, sum: 0, memory: 0 });
    assert.deepEqual(node, { kind: 'Uint8Array', length: 3, sum: 300, memory: 3 });
  });

  it('come back as what they are, large ones too', async (t) => {
    const pool = setup(t);
    for (const length of [1, 4_096, 131_072, 131_073, 1_000_000]) {
      const bytes = filled(Ask.SAME, length);
      assert.deepEqual(await pool.run(bytes), bytes);
      bytes[0] = Ask.BUFFER;
      assert.deepEqual(await pool.run(bytes), bytes.buffer);
    }
  });

  it('mix with JSON in one batch, in both directions', async (t) => {
    const pool = setup(t);
    await pool.run(1);
    const items = Array.from({ length: 300 }, (_, index) => {
      if (index % 3 === 0) return filled(Ask.SAME, 1 + (index % 50), index % 256);
      if (index % 7 === 0) return undefined;
      return { index, text: index % 2 === 0 ? 'plain' : 'ü,"]€' };
    });
    const results: unknown[] = [];
    for await (const result of pool.runMany(items)) results.push(result);
    assert.deepEqual(results, items);
  });

  it('are the item as it was when it was handed over', async (t) => {
    const pool = setup(t);
    const bytes = filled(Ask.SAME, 100);
    const pending = pool.run(bytes);
    bytes.fill(9);
    assert.deepEqual(await pending, filled(Ask.SAME, 100));
  });

  it('a handler that gives its buffer away or fails harms no batch-mate', async (t) => {
    const pool = setup(t);
    await pool.run(1);
    const asks = [Ask.SAME, Ask.DETACH, Ask.SAME, Ask.FAIL, Ask.SAME];
    const settled = await Promise.allSettled(asks.map((ask) => pool.run(filled(ask, 64))));
    const same = { status: 'fulfilled', value: filled(Ask.SAME, 64) };
    assert.deepEqual(settled[0], same);
    assert.deepEqual(settled[1], { status: 'fulfilled', value: 'detached' });
    assert.deepEqual(settled[2], same);
    assert.equal(settled[3]?.status, 'rejected');
    assert.deepEqual(settled[4], same);
  });

  it('that are too large are refused, and hold no permit', async (t) => {
    const pool = setup(t);
    await assert.rejects(pool.run(new Uint8Array(64 * 1_024 ** 2 + 1)), {
      code: 'ERR_MILLRACE_PAYLOAD_TOO_LARGE',
    });
    assert.equal(pool.stats().pending, 0);
  });
});
