/**
 * Tasks that share a concurrency key: how many run at a time, on one node, on several, and while shards move.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { taskId } from '../../src/core/ids.js';
import { defineTask, defineTasks } from '../../src/core/task.js';
import { type Cluster, cluster } from '../../src/testing/cluster.js';
import { within } from '../support/runtime.js';
import { scriptedEngine } from '../support/scripted-engine.js';
import { Outcome } from '../support/scripted-pool.js';

test('one of a key runs at a time, in the order of becoming due, and others do not wait', async () => {
  const { clock, engine, pool, newTask, submitOne } = await scriptedEngine({}, 8);
  const submit = (payload: string, concurrencyKey?: string) =>
    within(clock, 1_000, submitOne({ ...newTask(payload), concurrencyKey }));
  const first = await submit('a1', 'default a');
  const second = await submit('a2', 'default a');
  await submit('a3', 'default a');
  await submit('b1', 'default b');
  await submit('c');
  await clock.advance(5);
  const begun = (): string[] =>
    pool.batches.flatMap(({ tasks }) =>
      tasks.map(({ payload }) => Buffer.from(payload).toString()),
    );
  assert.deepEqual(begun().sort(), ['a1', 'b1', 'c']);
  const id = taskId(second.segment, second.index);
  const task = await within(clock, 1_000, engine.inspect(id));
  const why = await within(clock, 1_000, engine.explain(task!));
  assert.equal(why.reason, 'concurrency-key');
  assert.match(why.message, /1 of 'work' may at a time/);
  const [batch] = pool.batches.filter(({ tasks }) =>
    tasks.some(({ payload }) => Buffer.from(payload).toString() === 'a1'),
  );
  const slot = batch!.tasks.findIndex(({ payload }) => Buffer.from(payload).toString() === 'a1');
  batch!.report([slot], Outcome.COMPLETED, '1');
  await clock.advance(5);
  assert.deepEqual(begun().sort(), ['a1', 'a2', 'b1', 'c']);
  assert.ok(first.isCreated);
});

/** Nodes that run `work` for `tookMs`, and notice how many of a key run at once. */
async function setup(t: TestContext, size: number, perKey = 1) {
  const running = new Map<string, number>();
  const most = new Map<string, number>();
  const order: number[] = [];
  let simulated: Cluster | undefined;
  const work = defineTask({
    name: 'work',
    exec: 'inline',
    concurrencyPerKey: perKey,
    run: async ({ key, n, tookMs }: { key: string; n: number; tookMs: number }) => {
      const count = (running.get(key) ?? 0) + 1;
      running.set(key, count);
      most.set(key, Math.max(most.get(key) ?? 0, count));
      order.push(n);
      await simulated!.sleep(tookMs);
      running.set(key, running.get(key)! - 1);
    },
  });
  const c = await cluster(size, {
    tasks: defineTasks({ work }),
    runtime: { session: { ttl: '3s' } },
  });
  simulated = c;
  t.after(() => c.close());
  const submit = (node: number, key: string, n: number, tookMs = 50) =>
    c.run(c.nodes[node]!.runtime.submit(work, { key, n, tookMs }, { concurrencyKey: key }));
  return { c, work, most, order, submit };
}

test('over several nodes it is as many and no more, wherever they are submitted', async (t) => {
  for (const perKey of [1, 3]) {
    const { c, most, order, submit } = await setup(t, 3, perKey);
    await c.advance('2s');
    for (let n = 0; n < 60; n++) await submit(n % 3, `key ${n % 2}`, n);
    await c.advance('10s');
    assert.equal(order.length, 60);
    assert.deepEqual([...most.values()], [perKey, perKey]);
  }
});

test('while nodes come and leave, what runs there is counted here', async (t) => {
  const { c, most, order, submit } = await setup(t, 2);
  await c.advance('2s');
  for (let n = 0; n < 30; n++) await submit(n % 2, `key ${n % 5}`, n, 400);
  await c.advance('500ms');
  await c.join();
  await c.advance('700ms');
  await c.join();
  await c.advance('700ms');
  const leaving = c.nodes[0]!.close();
  await c.run(leaving);
  await c.advance('30s');
  assert.equal(order.length, 30);
  assert.ok(
    [...most.values()].every((count) => count === 1),
    JSON.stringify([...most]),
  );
});

test('a node that dies with a task of a key holds up the others of it no longer than its lease', async (t) => {
  const { c, order, submit } = await setup(t, 2);
  await c.advance('2s');
  const victim = await submit(0, 'k', 0, 60_000);
  // Its shard's owner has it by then.
  await c.advance('100ms');
  await submit(1, 'k', 1);
  await c.advance('1s');
  assert.deepEqual(order, [0]);
  // The node that runs it dies: the next one of the key begins once that is known.
  const owner = c.nodes.find(({ runtime }) => runtime.stats().running > 0)!;
  owner.kill();
  await c.advance('90s');
  // What was lost is ready again behind the one that waited.
  assert.deepEqual(order, [0, 1, 0]);
  assert.ok(victim.id);
});
