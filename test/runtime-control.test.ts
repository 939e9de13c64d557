/**
 * What an operator may do to the tasks of a runtime.
 */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, test } from 'node:test';
import { hasCode } from '../src/core/errors.js';
import { defineTask, defineTasks } from '../src/core/task.js';
import { testBed, within } from './support/runtime.js';

const stored = defineTask({ name: 'stored', exec: 'inline', run: (n: number) => n });
const fleeting = defineTask({
  name: 'fleeting',
  exec: 'inline',
  durability: 'volatile',
  run: (n: number) => n,
});

async function listed<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function setup() {
  const bed = testBed(defineTasks({ stored, fleeting }));
  const runtime = await bed.start();
  const soon = <T>(promise: Promise<T>): Promise<T> => within(bed.clock, 60_000, promise);
  return { bed, runtime, soon };
}

describe('pause and resume', () => {
  test('show in stats and in a gauge, and hold for volatile tasks as well', async () => {
    const { bed, runtime, soon } = await setup();
    const events: object[] = [];
    const listen = (event: unknown): void => void events.push(event as object);
    subscribe('millrace:tasks:paused', listen);
    await soon(runtime.pause({ tenant: 'acme' }));
    await soon(runtime.pause({ task: stored }));
    assert.deepEqual(
      runtime.stats().paused.map(({ since, ...rest }) => [rest, since instanceof Date]),
      [
        [{ tenant: 'acme' }, true],
        [{ task: 'stored' }, true],
      ],
    );
    assert.match(runtime.metrics.prometheus(), /millrace_paused\{kind="tenant"\} 1/);
    const resting = await soon(runtime.submit(fleeting, 1, { tenant: 'acme' }));
    const other = await soon(runtime.submit(fleeting, 2));
    assert.equal(await soon(other.result()), 2);
    await bed.clock.advance(1_000);
    assert.equal(await resting.status(), 'pending');
    await soon(runtime.resume({ tenant: 'acme' }));
    assert.equal(await soon(resting.result()), 1);
    await soon(runtime.resume({ task: 'stored' }));
    assert.deepEqual(runtime.stats().paused, []);
    unsubscribe('millrace:tasks:paused', listen);
    const kinds = events.map((event) => {
      const { kind, name, isPaused, count } = event as Record<string, unknown>;
      return `${kind} ${name} ${isPaused} ${count}`;
    });
    assert.deepEqual(
      kinds.filter((kind, i) => kinds.indexOf(kind) === i),
      ['tenant acme true 1', 'task stored true 1', 'tenant acme false 0', 'task stored false 0'],
    );
    await soon(runtime.close());
  });

  test('want exactly one target that there is, of an open runtime', async () => {
    const { runtime, soon } = await setup();
    const refused = async (target: object, code: Parameters<typeof hasCode>[1]): Promise<void> => {
      await assert.rejects(soon(runtime.pause(target)), (error) => hasCode(error, code));
      await assert.rejects(soon(runtime.resume(target)), (error) => hasCode(error, code));
    };
    await refused({}, 'ERR_MILLRACE_INVALID_OPTION');
    await refused({ task: stored, tenant: 'acme' }, 'ERR_MILLRACE_INVALID_OPTION');
    await refused({ tenants: 'acme' }, 'ERR_MILLRACE_INVALID_OPTION');
    await refused({ tenant: '' }, 'ERR_MILLRACE_INVALID_OPTION');
    await refused({ queue: 'q'.repeat(201) }, 'ERR_MILLRACE_INVALID_OPTION');
    await refused({ task: 'none' }, 'ERR_MILLRACE_UNKNOWN_TASK');
    await soon(runtime.close());
    await refused({ task: stored }, 'ERR_MILLRACE_CLOSED');
  });
});

describe('dead letters', () => {
  test('are listed, counted and redriven, by id, by filter, up to a limit, or not at all', async () => {
    let isUp = false;
    const shaky = defineTask({
      name: 'shaky',
      exec: 'inline',
      retry: { attempts: 1 },
      run: (n: number, ctx) => {
        if (!isUp) throw new Error(`no ${n}`);
        return n * 10 + ctx.execution.version;
      },
    });
    const bed = testBed(defineTasks({ shaky, stored }));
    const runtime = await bed.start();
    const soon = <T>(promise: Promise<T>): Promise<T> => within(bed.clock, 60_000, promise);
    const many = await soon(runtime.submitMany(shaky, [1, 2, 3, 4], { tenant: 'acme' }));
    assert.equal(many.accepted, 4);
    await soon(runtime.drain());
    const letters = runtime.deadLetters(shaky);
    const seen = await soon(listed(letters));
    assert.deepEqual(
      seen.map(({ input, attempts, version, tenant, error }) => [
        input,
        attempts,
        version,
        tenant,
        (error.cause as Error).message,
      ]),
      [1, 2, 3, 4].map((n) => [n, 1, 0, 'acme', `no ${n}`]),
    );
    assert.equal(await soon(letters.count({ filter: ({ input }) => input > 2 })), 2);
    assert.equal(await soon(runtime.deadLetters(stored).count()), 0);
    isUp = true;
    assert.deepEqual(await soon(letters.redrive({ dryRun: true })), { matched: 4, ids: [] });
    assert.equal(await soon(letters.count()), 4);
    const last = seen[3]!.id;
    assert.deepEqual(await soon(letters.redrive({ ids: [last] })), { matched: 1, ids: [last] });
    assert.equal(await soon(runtime.handle(shaky, last).result()), 41);
    const odd = await soon(letters.redrive({ filter: ({ input }) => input % 2 === 1, limit: 1 }));
    assert.deepEqual(odd.ids, [seen[0]!.id]);
    assert.equal((await soon(letters.redrive())).ids.length, 2);
    await soon(runtime.drain());
    assert.equal(await soon(letters.count()), 0);
    assert.equal(await soon(runtime.handle(shaky, seen[1]!.id).result()), 21);
    assert.match(
      runtime.metrics.prometheus(),
      /millrace_tasks_redriven_total\{queue="default"\} 4/,
    );
    assert.throws(
      () => runtime.deadLetters('none'),
      (error) => hasCode(error, 'ERR_MILLRACE_UNKNOWN_TASK'),
    );
    for (const wrong of [{ limit: -1 }, { filter: 'all' }, { ids: 'x' }, { id: 'x' }]) {
      await assert.rejects(soon(letters.redrive(wrong as never)), (error) =>
        hasCode(error, 'ERR_MILLRACE_INVALID_OPTION'),
      );
    }
    await soon(runtime.close());
  });
});
