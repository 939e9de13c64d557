/**
 * Tasks that handlers submit.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ChildHandle } from '../src/core/children.js';
import { hasCode, NonRetryableError } from '../src/core/errors.js';
import { defineTask, defineTasks, type ExecutionContext } from '../src/core/task.js';
import type { RuntimeOptions } from '../src/runtime-options.js';
import { testBed, within } from './support/runtime.js';

type Body = (ctx: ExecutionContext) => unknown;

async function setup(options: Partial<RuntimeOptions> = {}, attempts = 2) {
  let runChild: ((input: number, ctx: ExecutionContext) => number | Promise<number>) | undefined;
  const joinings: { input: string; statuses: string[]; values: unknown[] }[] = [];
  let body: Body = () => undefined;
  const ran: { readonly input: number; readonly parent: string | undefined; tenant: unknown }[] =
    [];
  const child = defineTask({
    name: 'child',
    exec: 'inline',
    run: (input: number, ctx) => {
      ran.push({ input, parent: ctx.parentId, tenant: ctx.tenant });
      return runChild === undefined ? input * 2 : runChild(input, ctx);
    },
  });
  const joiner = defineTask({
    name: 'joiner',
    exec: 'inline',
    timeout: '1m',
    run: async (input: string, ctx) => {
      const ends = await ctx.joined<number>();
      joinings.push({
        input,
        statuses: ends.map(({ status }) => status),
        values: ends.flatMap((end) => (end.status === 'completed' ? [end.value] : [])),
      });
    },
  });
  const parent = defineTask({
    name: 'parent',
    exec: 'inline',
    retry: { attempts, min: 10, jitter: 'none' },
    run: (_: null, ctx) => body(ctx),
  });
  const bed = testBed(defineTasks({ child, parent, joiner }));
  const runtime = await bed.start(options);
  const soon = <T>(promise: Promise<T>): Promise<T> => within(bed.clock, 60_000, promise);
  return {
    child,
    childRuns: (run: typeof runChild) => {
      runChild = run;
    },
    joiner,
    joinings,
    ran,
    runtime,
    soon,
    clock: bed.clock,
    restart: () => bed.start(options),
    submit: (run: Body) => {
      body = run;
      return soon(runtime.submit(parent, null, { tenant: 'acme' }));
    },
  };
}

describe('ctx.submit', () => {
  test('submits a child that knows its parent and is for the same tenant', async () => {
    const { submit, child, ran, runtime, soon } = await setup();
    const handle = await submit(async (ctx) => {
      const submitted = await ctx.submit(child, 21);
      return [submitted.created, await submitted.result()];
    });
    assert.deepEqual(await soon(handle.result()), [true, 42]);
    assert.deepEqual(ran, [{ input: 21, parent: handle.id, tenant: 'acme' }]);
    await soon(runtime.close());
  });

  test('gives an execution that is repeated the children that are there', async () => {
    const { submit, child, ran, runtime, soon } = await setup();
    const ids: string[][] = [];
    const handle = await submit(async (ctx) => {
      const children = [
        await ctx.submit(child, 1),
        await ctx.submit(child, 2),
        await ctx.submit(child, 3, { key: 'last' }),
      ];
      ids.push(children.map(({ id }) => id));
      if (ctx.execution.attempt === 1) throw new Error('once more');
      return children.map(({ created }) => created);
    });
    assert.deepEqual(await soon(handle.result()), [false, false, false]);
    assert.deepEqual(ids[0], ids[1]);
    assert.equal(new Set(ids[0]).size, 3);
    await soon(runtime.drain());
    assert.deepEqual(ran.map(({ input }) => input).sort(), [1, 2, 3]);
    await soon(runtime.close());
  });

  test('gives each parent children of its own, also under the same key', async () => {
    const { submit, child, ran, runtime, soon } = await setup();
    const run: Body = (ctx) => ctx.submit(child, 1, { key: 'same' }).then(({ created }) => created);
    const [first, second] = [await submit(run), await submit(run)];
    assert.deepEqual(await soon(Promise.all([first.result(), second.result()])), [true, true]);
    await soon(runtime.drain());
    assert.deepEqual(ran.map(({ parent }) => parent).sort(), [first.id, second.id].sort());
    await soon(runtime.close());
  });

  test('does not wait for room in a queue that its parent fills', async () => {
    const { submit, child, runtime, soon } = await setup({ queue: { maxTasks: 1 } });
    const handle = await submit(async (ctx) => (await ctx.submit(child, 4)).result());
    assert.equal(await soon(handle.result()), 8);
    await soon(runtime.close());
  });

  test('more parents wait for children than tasks overlap on the main thread', async () => {
    const { child, runtime, soon, submit } = await setup();
    const run: Body = async (ctx) => (await ctx.submit(child, 1)).result();
    await submit(run);
    const many = await soon(
      runtime.submitMany(
        'parent',
        Array.from({ length: 3_000 }, () => null),
      ),
    );
    const counts = new Map<unknown, number>();
    const count = async (): Promise<void> => {
      for await (const end of many.results()) {
        counts.set(end.status, (counts.get(end.status) ?? 0) + 1);
      }
    };
    await soon(count());
    assert.deepEqual([...counts], [['completed', 3_000]]);
    await soon(runtime.close());
  });

  test('cancels a child, and hears of it', async () => {
    const { submit, child, runtime, soon } = await setup();
    const handle = await submit(async (ctx) => {
      const submitted = await ctx.submit(child, 1, { delay: '1h' });
      return [await submitted.cancel('not needed'), (await submitted.settled()).status];
    });
    assert.deepEqual(await soon(handle.result()), ['cancelled', 'cancelled']);
    await soon(runtime.close());
  });

  test('stops waiting when the parent is cancelled; the child goes on', async () => {
    const { submit, child, runtime, soon, clock } = await setup();
    let waitsFor: ChildHandle<number> | undefined;
    const handle = await submit(async (ctx) => {
      waitsFor = await ctx.submit(child, 1, { delay: '1h' });
      return waitsFor.result();
    });
    await clock.advance(100);
    assert.equal(await soon(handle.cancel('enough')), 'signalled');
    assert.equal((await soon(handle.settled())).status, 'cancelled');
    assert.equal(await soon(runtime.handle(child, waitsFor!.id).status()), 'pending');
    await soon(runtime.close());
  });

  test('refuses what it cannot submit with the error of runtime.submit', async () => {
    const { submit, child, runtime, soon } = await setup();
    const codes: unknown[] = [];
    const handle = await submit(async (ctx) => {
      const refused = async (promise: Promise<unknown>): Promise<void> => {
        codes.push(await promise.catch((error: { code?: unknown }) => error.code));
      };
      await refused(ctx.submit('nobody', 1));
      await refused(ctx.submit(child, 1, { delay: 'soon' as '1s' }));
      await refused(ctx.submit(child, 1, { key: 'k'.repeat(81) }));
      await refused(ctx.submit(child, 1, { idempotencyKey: 'x' } as object));
    });
    await soon(handle.result());
    assert.deepEqual(codes, [
      'ERR_MILLRACE_UNKNOWN_TASK',
      'ERR_MILLRACE_INVALID_DURATION',
      'ERR_MILLRACE_INVALID_OPTION',
      'ERR_MILLRACE_INVALID_OPTION',
    ]);
    await soon(runtime.close());
  });

  test('asked while the runtime closes, its parent is interrupted and keeps its attempt', async () => {
    const { submit, child, ran, runtime, soon, clock, restart } = await setup({
      shutdown: { soft: 50, hard: 100 },
    });
    const attempts: number[] = [];
    let goOn: (() => void) | undefined;
    const gate = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const handle = await submit(async (ctx) => {
      attempts.push(ctx.execution.attempt);
      await gate;
      return (await ctx.submit(child, 5)).result();
    });
    await clock.advance(10);
    const closed = runtime.close();
    goOn?.();
    await soon(closed);
    assert.deepEqual(ran, []);
    const next = await soon(restart());
    assert.equal(await soon(next.handle('parent', handle.id).result()), 10);
    assert.deepEqual(attempts, [1, 1]);
    await soon(next.close());
  });

  test('refuses an execution that is over', async () => {
    const { submit, child, runtime, soon } = await setup();
    let kept: ExecutionContext | undefined;
    const handle = await submit((ctx) => {
      kept = ctx;
    });
    await soon(handle.result());
    await assert.rejects(kept!.submit(child, 1), (error) =>
      hasCode(error, 'ERR_MILLRACE_STALE_EXECUTION'),
    );
    await soon(runtime.close());
  });

  test('is seen by inspect: a child names its parent', async () => {
    const { submit, child, runtime, soon } = await setup();
    let id = '';
    const handle = await submit(async (ctx) => {
      ({ id } = await ctx.submit(child, 1, { delay: '1h' }));
    });
    await soon(handle.result());
    assert.equal((await soon(runtime.inspect(id))).parent, handle.id);
    await soon(runtime.close());
  });
});

describe('a child that fails', () => {
  /** A parent with three attempts whose child fails, whatever it is submitted again. */
  async function failing(onFailure: 'keep' | 'renew' | 'fail', childFailures = 1) {
    const bed = await setup({}, 3);
    let left = childFailures;
    const ids: string[] = [];
    bed.childRuns(() => {
      if (left-- > 0) throw new NonRetryableError('no');
      return 7;
    });
    const handle = await bed.submit(async (ctx) => {
      const child = await ctx.submit(bed.child, 1, { onFailure });
      ids.push(child.id);
      return child.result();
    });
    const end = await bed.soon(handle.settled());
    await bed.soon(bed.runtime.close());
    return { end, ids };
  }

  test('stays failed for later executions of its parent', async () => {
    const { end, ids } = await failing('keep');
    assert.equal(end.status, 'failed');
    assert.deepEqual([ids.length, new Set(ids).size], [3, 1]);
  });

  test('is replaced in the next execution of its parent when told so', async () => {
    const { end, ids } = await failing('renew', 2);
    assert.deepEqual(end, { status: 'completed', value: 7 });
    assert.equal(new Set(ids).size, 3);
  });

  test('fails its parent for good when told so', async () => {
    const { end, ids } = await failing('fail');
    assert.equal(ids.length, 1);
    assert.ok(end.status === 'failed');
    const { cause } = end.error as { cause?: { message?: string; cause?: { code?: string } } };
    assert.match(cause?.message ?? '', /^child .* of type 'child' ended failed$/);
    assert.equal(cause?.cause?.code, 'ERR_MILLRACE_TASK_FAILED');
  });
});

describe('a child that goes with its parent', () => {
  test('is cancelled when the parent is cancelled, pending or running; others go on', async () => {
    const { submit, child, childRuns, runtime, soon, clock } = await setup();
    const children: ChildHandle<number>[] = [];
    let aborted: unknown;
    childRuns((_, ctx) => {
      const { signal } = ctx;
      return new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          aborted = signal.reason;
          reject(signal.reason);
        });
      });
    });
    const handle = await submit(async (ctx) => {
      const goes = { onParentEnd: 'cancel' } as const;
      children.push(
        await ctx.submit(child, 1, { ...goes, delay: '1h' }),
        await ctx.submit(child, 2, goes),
        await ctx.submit(child, 3, { delay: '1h' }),
      );
      return children[0]!.result();
    });
    await clock.advance(1_000);
    await soon(handle.cancel('enough'));
    assert.equal((await soon(handle.settled())).status, 'cancelled');
    await clock.advance(1_000);
    const statuses = await soon(
      Promise.all(children.map(({ id }) => runtime.handle(child, id).status())),
    );
    assert.deepEqual(statuses, ['cancelled', 'cancelled', 'pending']);
    assert.match(String(aborted), /its parent .* ended without having completed/);
    await soon(runtime.close());
  });

  test('goes on while its parent is only retried, and after it has completed', async () => {
    const { submit, child, ran, runtime, soon } = await setup();
    const handle = await submit(async (ctx) => {
      await ctx.submit(child, 1, { onParentEnd: 'cancel', delay: '1s' });
      if (ctx.execution.attempt === 1) throw new Error('once more');
    });
    await soon(handle.result());
    await soon(runtime.drain());
    assert.equal(ran.length, 1);
    await soon(runtime.close());
  });

  test('does not begin when another process has seen the parent fail', async () => {
    const { submit, child, ran, runtime, soon, clock, restart } = await setup({
      shutdown: { soft: 0, hard: 0 },
    });
    let id = '';
    const handle = await submit(async (ctx) => {
      // The next process knows of no child: there the parent fails before it submits one.
      if (id !== '') throw new Error('broken');
      ({ id } = await ctx.submit(child, 1, { onParentEnd: 'cancel', delay: '10m' }));
      await new Promise(() => {});
    });
    await clock.advance(100);
    await soon(runtime.close());
    const next = await soon(restart());
    assert.equal((await soon(next.handle('parent', handle.id).settled())).status, 'failed');
    assert.equal(await next.handle(child, id).status(), 'pending');
    const end = within(clock, 3_600_000, next.handle(child, id).settled());
    assert.equal((await end).status, 'cancelled');
    assert.deepEqual(ran, []);
    await soon(next.close());
  });
});

describe('ctx.submitMany', () => {
  test('submits children of one type, and tells their values in order', async () => {
    const { submit, child, ran, runtime, soon } = await setup();
    const handle = await submit(async (ctx) => {
      const children = await ctx.submitMany(child, [1, 2, 3]);
      return [children.ids.length, children.created, await children.results()];
    });
    assert.deepEqual(await soon(handle.result()), [3, 3, [2, 4, 6]]);
    assert.ok(ran.every(({ parent, tenant }) => parent === handle.id && tenant === 'acme'));
    await soon(runtime.close());
  });

  test('gives an execution that is repeated the same ones, group by group', async () => {
    const { submit, child, ran, runtime, soon } = await setup();
    const seen: (readonly string[])[] = [];
    const handle = await submit(async (ctx) => {
      const first = await ctx.submitMany(child, [1, 2]);
      const second = await ctx.submitMany(
        child,
        (async function* () {
          yield 3;
        })(),
      );
      const named = await ctx.submitMany(child, new Set([4]), { key: 'more' });
      seen.push([...first.ids, ...second.ids, ...named.ids]);
      if (ctx.execution.attempt === 1) throw new Error('once more');
      return first.created + second.created + named.created;
    });
    assert.equal(await soon(handle.result()), 0);
    assert.deepEqual(seen[0], seen[1]);
    assert.equal(new Set(seen[0]).size, 4);
    await soon(runtime.drain());
    assert.equal(ran.length, 4);
    await soon(runtime.close());
  });

  test('cancels them, and tells how all ended', async () => {
    const { submit, child, runtime, soon } = await setup();
    const handle = await submit(async (ctx) => {
      const children = await ctx.submitMany(child, [1, 2], { delay: '1h' });
      const cancelled = await children.cancel('not needed');
      return [cancelled, (await children.settled()).map(({ status }) => status)];
    });
    assert.deepEqual(await soon(handle.result()), [2, ['cancelled', 'cancelled']]);
    await soon(runtime.close());
  });

  test('refuses what is no iterable, and options that do not exist', async () => {
    const { submit, child, runtime, soon } = await setup();
    const codes: unknown[] = [];
    const handle = await submit(async (ctx) => {
      for (const [inputs, options] of [
        [7, {}],
        [[1], { key: '' }],
        [[1], { idempotencyKey: 'x' }],
        [[1], { onFailure: 'ignore' }],
        [[1], { onParentEnd: 'die' }],
      ] as const) {
        const refused = ctx.submitMany(child, inputs as never, options as never);
        codes.push(await refused.catch((error: { code?: unknown }) => error.code));
      }
    });
    await soon(handle.result());
    assert.deepEqual(codes, Array(5).fill('ERR_MILLRACE_INVALID_OPTION'));
    await soon(runtime.close());
  });
});

/** More than tasks overlap on the main thread. */
const JOININGS = 1_100;

describe('a task that joins children', () => {
  test('begins when all have ended, though its parent is long gone, and sees how', async () => {
    const { submit, child, childRuns, joiner, joinings, runtime, soon, clock } = await setup();
    childRuns((input) => {
      if (input === 2) throw new NonRetryableError('two is bad');
      return input * 2;
    });
    const handle = await submit(async (ctx) => {
      const children = await ctx.submitMany(child, [1, 2, 3], { delay: '1h' });
      await children.join(joiner, 'all of them');
    });
    await soon(handle.result());
    await clock.advance(3_000_000);
    assert.deepEqual(joinings, []);
    await clock.advance(700_000);
    assert.deepEqual(joinings, [
      { input: 'all of them', statuses: ['completed', 'failed', 'completed'], values: [2, 6] },
    ]);
    await soon(runtime.close());
  });

  test('fails at once for a child that fails, when told so', async () => {
    const { submit, child, childRuns, joiner, joinings, runtime, soon } = await setup();
    childRuns((input) => {
      if (input === 1) throw new NonRetryableError('one is bad');
      return input;
    });
    let id = '';
    const handle = await submit(async (ctx) => {
      const bad = await ctx.submitMany(child, [1, 2]);
      ({ id } = await bad.join(joiner, 'x', { ifChildFails: 'fail' }));
    });
    await soon(handle.result());
    const end = await soon(runtime.handle(joiner, id).settled());
    assert.ok(end.status === 'failed');
    assert.match(String((end.error as Error).cause), /which it joins, ended failed/);
    assert.deepEqual(joinings, []);
    await soon(runtime.close());
  });

  test('is there once, however often its parent runs, and waits on in the next process', async () => {
    const { submit, child, joiner, joinings, runtime, soon, clock, restart } = await setup({
      shutdown: { soft: 0, hard: 0 },
    });
    const ids = new Set<string>();
    const handle = await submit(async (ctx) => {
      const children = await ctx.submitMany(child, [1, 2], { delay: '10m' });
      ids.add((await children.join(joiner, 'x')).id);
      if (ctx.execution.attempt === 1) throw new Error('once more');
    });
    await soon(handle.result());
    assert.equal(ids.size, 1);
    await clock.advance(60_000);
    await soon(runtime.close());
    const next = await soon(restart());
    await clock.advance(700_000);
    assert.deepEqual(joinings, [
      { input: 'x', statuses: ['completed', 'completed'], values: [2, 4] },
    ]);
    await soon(next.close());
  });

  test('takes nobody a place while it waits, and its time does not run', async () => {
    const { submit, child, joiner, joinings, runtime, soon, clock } = await setup();
    const handle = await submit(async (ctx) => {
      const groups = await Promise.all(
        Array.from({ length: JOININGS }, (_, n) =>
          ctx.submitMany(child, [n], { delay: '1h', key: `group ${n}` }),
        ),
      );
      await Promise.all(groups.map((group, n) => group.join(joiner, '', { key: `join ${n}` })));
    });
    await soon(handle.result());
    await clock.advance(1_000);
    // Joining tasks have a timeout of a minute; others run beside them.
    const others = await soon(runtime.submitMany(child, Array(500).fill(1)));
    let ended = 0;
    const count = async (): Promise<void> => {
      for await (const { status } of others.results()) if (status === 'completed') ended++;
    };
    await soon(count());
    assert.equal(ended, 500);
    await clock.advance(3_700_000);
    assert.equal(joinings.length, JOININGS);
    await soon(runtime.close());
  });

  test('is cancelled while it waits', async () => {
    const { submit, child, joiner, joinings, runtime, soon, clock } = await setup();
    let id = '';
    const handle = await submit(async (ctx) => {
      const children = await ctx.submitMany(child, [1], { delay: '1h' });
      ({ id } = await children.join(joiner, 'x'));
    });
    await soon(handle.result());
    await clock.advance(1_000);
    await soon(runtime.handle(joiner, id).cancel('enough'));
    assert.equal((await soon(runtime.handle(joiner, id).settled())).status, 'cancelled');
    await clock.advance(3_700_000);
    assert.deepEqual(joinings, []);
    await soon(runtime.close());
  });

  test('joins a thousand, and no more; every other task joins none', async () => {
    const { submit, child, joiner, joinings, runtime, soon } = await setup();
    const handle = await submit(async (ctx) => {
      const many = await ctx.submitMany(child, Array(1_001).fill(1));
      const refused = await many.join(joiner, 'x').catch((error: Error) => error.message);
      const fit = await ctx.submitMany(child, Array(1_000).fill(1));
      await (await fit.join(joiner, 'fits')).result();
      return [refused, (await ctx.joined()).length];
    });
    const [refused, own] = (await soon(handle.result())) as [string, number];
    assert.match(refused, /at most 1000 to one joining task/);
    assert.equal(own, 0);
    assert.equal(joinings[0]?.statuses.length, 1_000);
    await soon(runtime.close());
  });
});
