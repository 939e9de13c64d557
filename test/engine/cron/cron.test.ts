/** Cron entries on whole runtimes, in virtual time: once per fire, whatever becomes of the nodes. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { newIncarnation, requireTaskId, segmentRef } from '../../../src/core/ids.js';
import { seededRandom } from '../../../src/core/random.js';
import type { Store } from '../../../src/core/store.js';
import { defineTask, defineTasks } from '../../../src/core/task.js';
import type { ClosedFrame } from '../../../src/engine/closed-frame.js';
import { Cron } from '../../../src/engine/cron/cron.js';
import type { Accepted } from '../../../src/engine/submission.js';
import { memoryStore } from '../../../src/store/index.js';
import { type Cluster, cluster } from '../../../src/testing/cluster.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import { cronDefinition } from '../../support/cron-definition.js';
import { within } from '../../support/runtime.js';
import { scriptedEngine } from '../../support/scripted-engine.js';

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

const EVERY_SECOND = cronDefinition({ name: 'one', expression: '* * * * * *', payload: '{}' });

interface Ran {
  readonly taskId: string;
  readonly n: number;
  readonly atMs: number;
}

/** Nodes whose `work` notes what ran when, by the clock of the world. */
async function setup(t: TestContext, size: number) {
  const ran: Ran[] = [];
  const ended: { readonly taskId: string; readonly wasAborted: boolean }[] = [];
  let simulated: Cluster | undefined;
  const work = defineTask({
    name: 'work',
    exec: 'inline',
    run: async ({ n, tookMs = 0 }: { readonly n: number; readonly tookMs?: number }, ctx) => {
      const { taskId } = ctx.execution;
      ran.push({ taskId, n, atMs: simulated!.nowMs });
      for (let left = tookMs; left > 0 && !ctx.signal.aborted; left -= 1_000) {
        await simulated!.sleep(Math.min(left, 1_000));
      }
      ended.push({ taskId, wasAborted: ctx.signal.aborted });
      ctx.signal.throwIfAborted();
    },
  });
  const c = await cluster(size, {
    tasks: defineTasks({ work }),
    runtime: { session: { ttl: '3s' } },
  });
  simulated = c;
  t.after(() => c.close());
  /** When each fire's task first ran. */
  const fires = (): number[] => {
    const first = new Map<string, number>();
    for (const { taskId, atMs } of ran) if (!first.has(taskId)) first.set(taskId, atMs);
    return [...first.values()].sort((a, b) => a - b);
  };
  return { c, work, ran, ended, fires };
}

test('an entry fires once a minute, whoever of three nodes has it, and each task is on time', async (t) => {
  const { c, work, fires } = await setup(t, 3);
  for (const { runtime } of c.nodes) {
    await c.run(runtime.cron('minutely', '* * * * *', work, { n: 1 }));
  }
  await c.advance('10m');
  const times = fires();
  assert.equal(times.length, 10);
  for (let i = 1; i < times.length; i++) {
    const gapMs = times[i]! - times[i - 1]!;
    assert.ok(gapMs > MINUTE_MS - 200 && gapMs < MINUTE_MS + 200, `${gapMs} ms`);
  }
});

test('a fire happens once also while its owner is killed in that very second', async (t) => {
  const { c, work, fires } = await setup(t, 2);
  await c.run(c.nodes[0]!.runtime.cron('minutely', '* * * * *', work, { n: 1 }));
  await c.advance('1m');
  const [firstAtMs] = fires();
  for (let i = 0; i < 12; i++) {
    // All phases of a fire and its commit are met, from before it is due to after it is done.
    const minutes = Math.ceil((c.nowMs + 1_000 - firstAtMs!) / MINUTE_MS);
    await c.advance(firstAtMs! + minutes * MINUTE_MS + 2 * i - 16 - c.nowMs);
    const alive = c.nodes.filter(({ isAlive }) => isAlive);
    alive.at(i % 2)!.kill();
    await c.join();
    await c.advance('10s');
  }
  await c.advance('1m');
  const minutes = Math.floor((c.nowMs - firstAtMs!) / MINUTE_MS);
  assert.equal(fires().length, minutes + 1, 'one task for each minute');
});

test('an outage of all nodes is made up for as the entry says', async (t) => {
  const { c, work, ran } = await setup(t, 1);
  const [a] = c.nodes;
  for (const [n, catchUp] of (['none', 'one', 'all'] as const).entries()) {
    await c.run(a!.runtime.cron(`by ${catchUp}`, '0 * * * *', work, { n }, { catchUp }));
  }
  await c.run(a!.close());
  const before = ran.length;
  await c.advance(5 * HOUR_MS + 10 * MINUTE_MS);
  await c.join();
  await c.advance('1m');
  const made = ran.slice(before).map(({ n }) => n);
  const count = (n: number): number => made.filter((one) => one === n).length;
  assert.ok(count(0) <= 1, 'what nobody was there for is left out');
  assert.equal(count(1), 1, 'the latest one');
  assert.ok(count(2) === 5 || count(2) === 6, `each: ${count(2)}`);
});

test('while the task before runs, a fire is left out, waits in line, or replaces it', async (t) => {
  const { c, work, ran, ended } = await setup(t, 2);
  const { runtime } = c.nodes[0]!;
  for (const [n, overlap] of (['skip', 'queue', 'replace'] as const).entries()) {
    const input = { n, tookMs: 150_000 };
    await c.run(runtime.cron(`by ${overlap}`, '* * * * *', work, input, { overlap }));
  }
  await c.advance('10m');
  const timesOf = (n: number): number[] => ran.filter((one) => one.n === n).map(({ atMs }) => atMs);
  const gaps = (times: readonly number[]): number[] =>
    times.slice(1).map((atMs, i) => Math.round((atMs - times[i]!) / 1_000));
  // Two and a half minutes each: the next full minute is the third; the line goes on at once; a replaced one has a minute.
  assert.deepEqual(gaps(timesOf(0)), [180, 180, 180]);
  assert.deepEqual(gaps(timesOf(1)), [150, 150, 150]);
  assert.ok(
    gaps(timesOf(2)).every((gap) => gap >= 60 && gap <= 62),
    String(gaps(timesOf(2))),
  );
  const replaced = new Set(ran.filter(({ n }) => n === 2).map(({ taskId }) => taskId));
  assert.ok(ended.filter(({ taskId }) => replaced.has(taskId)).every((one) => one.wasAborted));
});

test('the same definition writes nothing, another one replaces it, and a removed one is gone', async (t) => {
  const { c, work, ran } = await setup(t, 2);
  const [a, b] = c.nodes;
  const entries = async () =>
    (await c.store.connections[0]!.range({ from: 'e/', to: 'e0' })).entries;
  await c.run(a!.runtime.cron('one', '* * * * *', work, { n: 1 }));
  const [first] = await c.run(entries);
  await c.run(b!.runtime.cron('one', '* * * * *', work, { n: 1 }));
  assert.equal((await c.run(entries))[0]!.modRevision, first!.modRevision);

  const handle = await c.run(b!.runtime.cron('one', '*/2 * * * *', work, { n: 2 }));
  assert.equal((await c.run(entries)).length, 1);
  await c.advance('4m');
  assert.ok(ran.length > 0 && ran.every(({ n }) => n === 2));
  const listed = await c.run(a!.runtime.crons());
  assert.deepEqual(
    listed.map(({ name, expression, type, overlap }) => ({ name, expression, type, overlap })),
    [{ name: 'one', expression: '*/2 * * * *', type: 'work', overlap: 'skip' }],
  );
  assert.equal(listed[0]!.last!.taskId, ran.at(-1)!.taskId);
  assert.deepEqual(
    handle.next(3).map((date) => date.getUTCMinutes() % 2),
    [0, 0, 0],
  );

  assert.equal(await c.run(handle.remove()), true);
  assert.equal(await c.run(handle.remove()), false);
  assert.deepEqual(await c.run(a!.runtime.crons()), []);
  const before = ran.length;
  await c.advance('10m');
  assert.equal(ran.length, before);
});

test('a definition that goes to another queue leaves nothing in the old one', async (t) => {
  const { c, work } = await setup(t, 1);
  const other = defineTask({ name: 'other', queue: 'slow', exec: 'inline', run: () => {} });
  const b = await c.join({ tasks: defineTasks({ work, other }) });
  await c.run(b.runtime.cron('one', '* * * * *', work, { n: 1 }));
  await c.run(b.runtime.cron('one', '* * * * *', other, {}));
  const listed = await c.run(c.nodes[0]!.runtime.crons());
  assert.deepEqual(
    listed.map(({ name, queue }) => ({ name, queue })),
    [{ name: 'one', queue: 'slow' }],
  );
});

test("fires follow their node's wall clock when it jumps, and none is early by it", async (t) => {
  const { c, work, ran } = await setup(t, 1);
  const [node] = c.nodes;
  await c.run(node!.runtime.cron('hourly', '0 * * * *', work, { n: 1 }));
  // Forward over the next full hour: it fires within seconds.
  node!.jumpClock(HOUR_MS);
  await c.advance('10s');
  assert.equal(ran.length, 1);
  // Back again: the same hour does not fire twice.
  node!.jumpClock(-HOUR_MS);
  await c.advance(HOUR_MS - MINUTE_MS);
  assert.equal(ran.length, 1);
  await c.advance(HOUR_MS + 2 * MINUTE_MS);
  assert.equal(ran.length, 2);
});

test('a fire whose answer was lost runs all the same, once', async () => {
  const { engine, store, pool, clock } = await scriptedEngine();
  await within(clock, 1_000, engine.cron.define(EVERY_SECOND));
  store.fates.push('answer lost');
  await clock.advance(2_000);
  assert.equal(pool.batches.length, 1);
  const [entry] = await within(clock, 1_000, engine.cron.list());
  const { segment, index } = requireTaskId(entry!.last!.task);
  assert.deepEqual(
    pool.batches[0]!.tasks.map((task) => [task.segment, task.index]),
    [[segment, index]],
  );
});

test('a step that waits for the task it replaces is not taken when another node takes it meanwhile', async (t) => {
  const clock = new VirtualClock();
  const factory = memoryStore();
  const store = await factory.open({ clock });
  const fires: number[] = [];
  let owner = 'a';
  const join = async (node: string, cancel: () => Promise<void>): Promise<Cron> => {
    const random = seededRandom(node.charCodeAt(0));
    const incarnation = newIncarnation(() => random.u32());
    let count = 0;
    const cron = new Cron({
      clock,
      random: seededRandom(1),
      store,
      shardCount: 1,
      holder: { startsIn: () => owner === node },
      tasks: {
        async submit(task) {
          const ref = segmentRef(
            { queue: task.queue, shard: 0, dueAtMs: task.dueAtMs },
            incarnation,
            count++,
          );
          const put = { type: 'put', key: `t/${ref}`, value: Buffer.from(node) } as const;
          const frame = { ref, operation: put, home: { isInbox: false } } as unknown as ClosedFrame;
          const outcome = await store.txn({
            compares: [],
            success: [task.gate!.operation(frame)],
          });
          assert.ok(outcome.kind === 'done');
          await task.gate!.outcome(store, frame, outcome.results[0]);
          fires.push(task.dueAtMs);
          return { segment: ref, index: 0, task: 0 as Accepted['task'], isCreated: true };
        },
        isOpen: async () => true,
        untilEnded: () => new Promise(() => {}),
        cancel,
      },
    });
    await cron.start();
    t.after(() => cron.stop());
    return cron;
  };
  let cancelled = (): void => {};
  const a = await join(
    'a',
    () =>
      new Promise((resolve) => {
        cancelled = resolve;
      }),
  );
  const b = await join('b', async () => {});
  await within(
    clock,
    1_000,
    a.define(
      cronDefinition({
        expression: '* * * * * *',
        overlap: 'replace',
      }),
    ),
  );
  // One fire, and the next one waits for what it replaces.
  await clock.advance(2_500);
  assert.equal(fires.length, 1);
  owner = 'b';
  b.onShardsChanged();
  await clock.advance(3_000);
  const byB = fires.length;
  assert.ok(byB > 2);
  owner = 'nobody';
  cancelled();
  await clock.advance(3_000);
  assert.equal(fires.length, byB);
  assert.deepEqual(
    fires,
    [...new Set(fires)].sort((x, y) => x - y),
  );
});

test('a definition that still waits for the first list hears that its runtime closes', async () => {
  const silent = { range: () => new Promise<never>(() => {}) } as unknown as Store;
  const nobody = () => Promise.reject(new Error('nothing is fired here'));
  const cron = new Cron({
    clock: new VirtualClock(),
    random: seededRandom(1),
    store: silent,
    shardCount: 1,
    holder: { startsIn: () => true },
    tasks: { submit: nobody, isOpen: nobody, untilEnded: nobody, cancel: nobody },
  });
  await cron.start();
  const defined = cron.define(EVERY_SECOND);
  await cron.stop();
  await assert.rejects(defined, { code: 'ERR_MILLRACE_CLOSED' });
});

test('what cannot be an entry is refused with the option and the way out', async (t) => {
  const { c, work } = await setup(t, 1);
  const { runtime } = c.nodes[0]!;
  const cases: readonly [() => Promise<unknown>, RegExp][] = [
    [() => runtime.cron('', '* * * * *', work, { n: 1 }), /name is ''/],
    [() => runtime.cron('x', 'soon', work, { n: 1 }), /expression is 'soon'/],
    [() => runtime.cron('x', '0 0 30 2 *', work, { n: 1 }), /one that will ever be due/],
    [() => runtime.cron('x', '* * * * *', work, { n: 1 }, { tz: 'Nowhere' }), /tz is 'Nowhere'/],
    [
      () => runtime.cron('x', '* * * * *', work, { n: 1 }, { overlap: 'both' as 'skip' }),
      /overlap is 'both'; give 'skip' or 'queue' or 'replace'/,
    ],
    [
      () => runtime.cron('x', '* * * * *', work, { n: 1 }, { timezone: 'UTC' } as object),
      /no option timezone/,
    ],
    [() => runtime.cron('x', '* * * * *', 'nothing', {}), /no task 'nothing'/],
  ];
  for (const [attempt, message] of cases) {
    await assert.rejects(c.run(attempt), { message });
  }
  assert.deepEqual(await c.run(runtime.crons()), []);
});
