/**
 * A rate over nodes that share a store, in a simulated cluster: how many begin, where, and what that costs the store.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { RateOptions } from '../../../src/core/rate.js';
import { defineTask, defineTasks } from '../../../src/core/task.js';
import { type Cluster, cluster } from '../../../src/testing/cluster.js';

async function setup(t: TestContext, size: number, rate: RateOptions) {
  const begunAtMs: number[] = [];
  let simulated: Cluster | undefined;
  const work = defineTask({
    name: 'work',
    exec: 'inline',
    rate,
    run: (_: number) => {
      begunAtMs.push(simulated!.nowMs);
    },
  });
  const c = await cluster(size, {
    tasks: defineTasks({ work }),
    runtime: { session: { ttl: '3s' } },
  });
  simulated = c;
  t.after(() => c.close());
  const [entry] = ['l/task/work'];
  return {
    c,
    work,
    begunAtMs,
    begunIn: (fromMs: number, toMs: number) =>
      begunAtMs.filter((atMs) => atMs >= fromMs && atMs < toMs).length,
    /** How often anything was written because of the rate. */
    writes: () => c.store.entries(entry!)[0]?.version ?? 0,
    shares: () =>
      (
        JSON.parse(Buffer.from(c.store.entries(entry!)[0]!.value).toString()) as {
          holders: { share: number }[];
        }
      ).holders.map(({ share }) => Math.round(share * 100) / 100),
  };
}

test('1 000 a second over three nodes: within 5 % over a minute, and no store operation for a task', async (t) => {
  const { c, work, begunIn, writes, shares } = await setup(t, 3, { limit: 1_000, per: '1s' });
  await c.advance('1s');
  for (const { runtime } of c.nodes) {
    await c.run(
      runtime.submitMany(
        work,
        Array.from({ length: 25_000 }, (_, n) => n),
      ),
    );
  }
  await c.advance('2s');
  const writesBefore = writes();
  const fromMs = c.nowMs;
  await c.advance('60s');
  const begun = begunIn(fromMs, c.nowMs);
  t.diagnostic(`${begun} in 60 s; shares ${shares()}; ${writes()} writes, ${writesBefore} before`);
  assert.ok(Math.abs(begun - 60_000) <= 3_000, `${begun} began`);
  // A few, as nodes run out of tasks at different times, however many tasks there are.
  assert.ok(writes() - writesBefore <= 20, `${writes() - writesBefore} writes`);
});

test('a node that has nothing to do leaves its share to those that have, and gets it back', async (t) => {
  const { c, work, begunIn } = await setup(t, 3, { limit: 100, per: '1s', burst: 1 });
  const [a, b] = c.nodes;
  await c.advance('1s');
  await c.run(
    a!.runtime.submitMany(
      work,
      Array.from({ length: 700 }, (_, n) => n),
    ),
  );
  await c.advance('2s');
  const fromMs = c.nowMs;
  await c.advance('2s');
  const alone = begunIn(fromMs, c.nowMs);
  assert.ok(alone >= 180 && alone <= 205, `${alone} began`);
  await c.run(
    b!.runtime.submitMany(
      work,
      Array.from({ length: 700 }, (_, n) => n),
    ),
  );
  const withB = c.nowMs;
  await c.advance('4s');
  const both = begunIn(withB, c.nowMs);
  assert.ok(both >= 370 && both <= 410, `${both} began`);
});

test('nodes that come and die never make it more than the rate and a burst', async (t) => {
  const rate = { limit: 200, per: '1s', burst: 20 } as const;
  const { c, work, begunAtMs } = await setup(t, 2, rate);
  await c.advance('1s');
  const submit = (node: number) =>
    c.run(
      c.nodes[node]!.runtime.submitMany(
        work,
        Array.from({ length: 3_000 }, (_, n) => n),
      ),
    );
  await submit(0);
  await c.advance('3s');
  await c.join();
  await submit(2);
  await c.advance('3s');
  c.nodes[0]!.kill();
  await c.advance('12s');
  await c.join();
  await submit(3);
  await c.advance('3s');
  for (const spanMs of [100, 1_000, 5_000]) {
    const allowed = (spanMs * rate.limit) / 1_000 + rate.burst;
    for (let i = 0, j = 0; i < begunAtMs.length; i++) {
      while (j < begunAtMs.length && begunAtMs[j]! - begunAtMs[i]! < spanMs) j++;
      assert.ok(j - i <= allowed + 4, `${j - i} began within ${spanMs} ms`);
    }
  }
  assert.ok(begunAtMs.length > 3_000);
});
