/**
 * Tasks that handlers submit.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ChildHandle } from '../src/core/children.js';
import { hasCode } from '../src/core/errors.js';
import { defineTask, defineTasks, type ExecutionContext } from '../src/core/task.js';
import type { RuntimeOptions } from '../src/runtime-options.js';
import { testBed, within } from './support/runtime.js';

type Body = (ctx: ExecutionContext) => unknown;

async function setup(options: Partial<RuntimeOptions> = {}) {
  let body: Body = () => undefined;
  const ran: { readonly input: number; readonly parent: string | undefined; tenant: unknown }[] =
    [];
  const child = defineTask({
    name: 'child',
    exec: 'inline',
    run: (input: number, ctx) => {
      ran.push({ input, parent: ctx.parentId, tenant: ctx.tenant });
      return input * 2;
    },
  });
  const parent = defineTask({
    name: 'parent',
    exec: 'inline',
    retry: { attempts: 2, min: 10, jitter: 'none' },
    run: (_: null, ctx) => body(ctx),
  });
  const bed = testBed(defineTasks({ child, parent }));
  const runtime = await bed.start(options);
  const soon = <T>(promise: Promise<T>): Promise<T> => within(bed.clock, 60_000, promise);
  return {
    child,
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
});
