/**
 * What a handler leaves going on in its thread (timers, streams, servers, lines of a logger) goes on: between
 * batches, where a parked thread would stop it, and during long ones, where a batch without pauses would.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { BatchPool } from '../../../src/pool/index.js';
import type { Errand } from '../../fixtures/workers/background.js';

const FILENAME = new URL('../../fixtures/workers/background.js', import.meta.url);
const LIMIT_MS = 20_000;

function setup(t: TestContext): {
  pool: BatchPool<Errand, number>;
  file: (name: string) => string;
} {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-background-'));
  const pool = new BatchPool<Errand, number>({ filename: FILENAME, threads: 1 });
  t.after(async () => {
    await pool.close({ grace: 0 });
    rmSync(folder, { recursive: true });
  });
  return { pool, file: (name) => join(folder, name) };
}

/** Looks until the answer satisfies; the files of another thread have no event. */
async function until<T>(look: () => T, satisfies: (seen: T) => boolean): Promise<T> {
  const endMs = performance.now() + LIMIT_MS;
  for (;;) {
    const seen = look();
    if (satisfies(seen) || performance.now() > endMs) return seen;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function linesOf(file: string): number[] {
  try {
    const text = readFileSync(file, 'utf8');
    return text
      .split('\n')
      .slice(0, -1)
      .map((line) => (JSON.parse(line) as { line: number }).line);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Keeps the thread computing until the returned function is called, which resolves with the items it ran. */
function keepBusy(pool: BatchPool<Errand, number>): () => Promise<number> {
  let isEnding = false;
  function* work(): Generator<Errand> {
    while (!isEnding) yield { busyMs: 1 };
  }
  const ran = (async () => {
    let items = 0;
    for await (const _ of pool.runMany(work())) items++;
    return items;
  })();
  return () => {
    isEnding = true;
    return ran;
  };
}

for (const when of ['idle', 'busy'] as const) {
  describe(`while the thread is ${when}`, () => {
    const occupy = (pool: BatchPool<Errand, number>): (() => Promise<number>) =>
      when === 'busy' ? keepBusy(pool) : async () => 0;

    it('an interval ticks', async (t) => {
      const { pool } = setup(t);
      const before = await pool.run({ tickEveryMs: 5 });
      const end = occupy(pool);
      await new Promise((resolve) => setTimeout(resolve, 300));
      await end();
      const ticks = (await pool.run({ ticks: true })) - before;
      assert.ok(ticks >= 15, `${ticks} ticks in 300 ms`);
    });

    it('a stream flows to its end', async (t) => {
      const { pool, file } = setup(t);
      const text = 'all of it '.repeat(200_000);
      writeFileSync(file('text'), text);
      await pool.run({ gzip: { from: file('text'), to: file('text.gz') } });
      const end = occupy(pool);
      const unzipped = await until(
        () => {
          try {
            return gunzipSync(readFileSync(file('text.gz'))).toString();
          } catch {
            return undefined;
          }
        },
        (seen) => seen === text,
      );
      assert.equal(unzipped, text);
      await end();
    });

    it('a server answers', async (t) => {
      const { pool } = setup(t);
      const port = await pool.run({ listen: true });
      const end = occupy(pool);
      for (let i = 0; i < 3; i++) {
        const response = await fetch(`http://127.0.0.1:${port}/`);
        assert.equal(await response.text(), 'from the thread');
      }
      await end();
    });

    for (const by of ['destination', 'transport'] as const) {
      it(`lines of pino reach their file (${by})`, async (t) => {
        const { pool, file } = setup(t);
        const end = occupy(pool);
        const to = file('log');
        const lines = Array.from({ length: 50 }, (_, line) => line);
        await Promise.all(lines.map((line) => pool.run({ log: { to, by, line } })));
        const seen = await until(
          () => linesOf(to),
          ({ length }) => length === lines.length,
        );
        assert.deepEqual(seen, lines);
        await end();
      });
    }
  });
}
