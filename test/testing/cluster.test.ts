import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { hasCode } from '../../src/core/errors.js';
import { defineTask, defineTasks } from '../../src/core/task.js';
import type { TaskHandle } from '../../src/task-handle.js';
import { type Cluster, type ClusterOptions, cluster } from '../../src/testing/cluster.js';

/** Nodes whose `work` tells where and with what it ran, and takes `tookMs` of virtual time. */
async function setup(t: TestContext, size: number, options: Partial<ClusterOptions> = {}) {
  const ran: { readonly n: number; readonly attempt: number; readonly atMs: number }[] = [];
  let simulated: Cluster | undefined;
  const work = defineTask({
    name: 'work',
    exec: 'inline',
    run: async ({ n, tookMs = 0 }: { readonly n: number; readonly tookMs?: number }, ctx) => {
      ran.push({ n, attempt: ctx.execution.attempt, atMs: simulated!.nowMs });
      if (tookMs > 0) await simulated!.sleep(tookMs);
      return n * 2;
    },
  });
  const started = await cluster(size, {
    tasks: defineTasks({ work }),
    runtime: { session: { ttl: '3s' } },
    ...options,
  });
  simulated = started;
  t.after(() => started.close());
  return { c: started, work, ran };
}

test('any node submits, any node waits', async (t) => {
  const { c, work } = await setup(t, 3);
  const [a, b] = c.nodes;
  const results = await c.run(async () => {
    const handle = await a!.runtime.submit(work, { n: 21 });
    return Promise.all([handle.result(), b!.runtime.handle(work, handle.id).result()]);
  });
  assert.deepEqual(results, [42, 42]);
});

test('what ran on a node that dies runs again on another, after its lease', async (t) => {
  const { c, work, ran } = await setup(t, 1);
  const [a] = c.nodes;
  const { id } = await c.run(a!.runtime.submit(work, { n: 1, tookMs: 1_000 }));
  await c.advance('100ms');
  const b = await c.join();
  a!.kill();
  assert.equal(a!.isAlive, false);
  assert.equal(await c.run(b.runtime.handle(work, id).result()), 2);
  assert.equal(ran.length, 2);
  const takeoverMs = ran[1]!.atMs - ran[0]!.atMs;
  assert.ok(takeoverMs > 2_000 && takeoverMs < 5_000, `${takeoverMs} ms`);
});

test('a node that is paused or cut off is replaced, and its late result is not taken twice', async (t) => {
  const { c, work } = await setup(t, 2);
  for (const stop of ['pause', 'partition'] as const) {
    const handles = await c.run(
      Promise.all([1, 2, 3, 4].map((n) => c.nodes[0]!.runtime.submit(work, { n, tookMs: 500 }))),
    );
    c.nodes[0]![stop]();
    const b = c.nodes[1]!.runtime;
    const values = await c.run(Promise.all(handles.map(({ id }) => b.handle(work, id).result())));
    assert.deepEqual(values, [2, 4, 6, 8]);
    c.heal();
    await c.advance('20s');
  }
});

test('a wall clock that jumps makes nothing early', async (t) => {
  const { c, work, ran } = await setup(t, 2);
  // Its shards are its own by then: a task that comes from elsewhere is due by its owner's wall clock.
  await c.advance('1s');
  const handle = await c.run(c.nodes[0]!.runtime.submit(work, { n: 1 }, { delay: '10s' }));
  const fromMs = c.nowMs;
  for (const node of c.nodes) node.jumpClock(60_000);
  await c.advance('1s');
  for (const node of c.nodes) node.jumpClock(-60_000);
  await c.run(handle.result());
  assert.ok(ran[0]!.atMs - fromMs >= 9_990);
});

test('a lease that is taken away costs no task', async (t) => {
  const { c, work } = await setup(t, 2);
  const handle = await c.run(c.nodes[0]!.runtime.submit(work, { n: 1 }, { delay: '2s' }));
  await c.nodes[0]!.loseLease();
  assert.equal(await c.run(handle.result()), 2);
});

test('a node that leaves hands over at once', async (t) => {
  const { c, work, ran } = await setup(t, 2);
  const handles = await c.run(
    Promise.all([1, 2, 3].map((n) => c.nodes[0]!.runtime.submit(work, { n }, { delay: '1s' }))),
  );
  await c.run(c.nodes[0]!.close());
  const b = c.nodes[1]!.runtime;
  await c.run(Promise.all(handles.map(({ id }) => b.handle(work, id).result())));
  assert.ok(ran.every(({ attempt }) => attempt === 1));
});

test('a node may only submit', async (t) => {
  const { c, work } = await setup(t, 1);
  const contract = defineTask<{ n: number }, number>({ name: 'work', exec: 'inline' });
  const producer = await c.join({ tasks: defineTasks({ contract }) });
  const value = await c.run(async () => (await producer.runtime.submit(work, { n: 4 })).result());
  assert.equal(value, 8);
});

test('faults of the network are drawn by the seed: the same seed is the same run', async (t) => {
  const faults = { answerLost: 0.2, latency: { minMs: 1, maxMs: 20 } };
  const run = async (seed: number): Promise<string> => {
    const { c, work, ran } = await setup(t, 2, { seed, faults });
    /** Again when nobody knows whether it is stored: the key makes one task of both. */
    const submit = async (n: number): Promise<TaskHandle<number>> => {
      try {
        const { runtime } = c.nodes[n % 2]!;
        return await runtime.submit(work, { n }, { idempotencyKey: `${n}` });
      } catch (error) {
        if (!hasCode(error, 'ERR_MILLRACE_STORE_UNAVAILABLE')) throw error;
        return submit(n);
      }
    };
    await c.run(async () => {
      for (let n = 0; n < 5; n++) await (await submit(n)).result();
    });
    assert.equal(ran.length, 5);
    return JSON.stringify([ran, c.nowMs]);
  };
  assert.equal(await run(3), await run(3));
  assert.notEqual(await run(3), await run(4));
});

test('what stays open is told, with what to do', async (t) => {
  const { c, work } = await setup(t, 1);
  c.nodes[0]!.kill();
  const never = c.run(c.nodes[0]!.runtime.submit(work, { n: 1 }), { within: '5s' });
  await assert.rejects(never, (error) => hasCode(error, 'ERR_MILLRACE_RESULT_TIMEOUT'));
});

test('a size and options that make no sense are refused', async () => {
  const tasks = defineTasks({});
  for (const size of [-1, 1.5, 101, Number.NaN]) {
    await assert.rejects(cluster(size, { tasks }), (e) =>
      hasCode(e, 'ERR_MILLRACE_INVALID_OPTION'),
    );
  }
  await assert.rejects(cluster(1, { tasks, sed: 1 } as never), /sed/);
});
