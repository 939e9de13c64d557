/** `millrace retry` and `redrive` on embedded stores: in use, and not in use. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createRuntime, defineTask, defineTasks, fileStore } from '../../src/index.js';
import { setup as place } from './process.js';

const UNKNOWN = 'default.00.0mg2x9k1f.7c4k2m9p00000001.0f';

async function setup(t: TestContext) {
  const { folder, millrace } = place(t);
  let isBroken = true;
  const ran: number[] = [];
  const charge = defineTask({
    name: 'charge',
    exec: 'inline',
    retry: { attempts: 1 },
    run: (cents: number) => {
      if (isBroken)
        throw new Error(cents > 100 ? 'the card is over its limit' : 'the bank is down');
      ran.push(cents);
      return cents;
    },
  });
  const start = async () => {
    const runtime = await createRuntime({
      tasks: defineTasks({ charge }),
      store: fileStore(join(folder, 'data')),
      shutdown: { soft: 0, hard: 0 },
    });
    t.after(() => runtime.close());
    return runtime;
  };
  const runtime = await start();
  const fail = async (cents: number, tenant: string): Promise<string> => {
    const handle = await runtime.submit(charge, cents, { tenant });
    assert.equal((await handle.settled()).status, 'failed');
    return handle.id;
  };
  return {
    runtime,
    charge,
    ran,
    fail,
    start,
    repair: () => {
      isBroken = false;
    },
    ask: (...args: string[]) => millrace([...args, '--store', 'data']),
    asked: async <T = Record<string, unknown>>(...args: string[]): Promise<T> => {
      const { code, stdout, stderr } = await millrace([...args, '--store', 'data', '--json']);
      assert.equal(code, 0, stderr);
      return JSON.parse(stdout) as T;
    },
  };
}

test('retry lets single tasks run again, and counts what it cannot', async (t) => {
  const { runtime, charge, ran, fail, repair, ask, asked } = await setup(t);
  const [first, second] = [await fail(1, 'a'), await fail(2, 'a')];
  const dry = await ask('retry', first, second, '--dry-run');
  assert.equal(dry.code, 0, dry.stderr);
  assert.match(dry.stderr, /2 tasks would run again/);
  assert.equal(await runtime.handle(charge, first).status(), 'failed');
  repair();
  assert.deepEqual(await asked('retry', first), { redriven: 1, open: 0, ended: 0, gone: 0 });
  assert.equal(await runtime.handle(charge, first).result(), 1);
  assert.deepEqual(ran, [1]);
  const later = await runtime.submit(charge, 3, { delay: '1h' });
  const again = await ask('retry', first, second, later.id, UNKNOWN);
  assert.equal(again.code, 1);
  assert.match(
    again.stdout,
    /^1 task will run again, 1 waited or ran already, 1 had ended otherwise, 1 unknown$/m,
  );
  const wrong = await ask('retry', '42');
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /is not a task id/);
  assert.equal((await ask('retry')).code, 2);
  assert.equal((await ask('retry', UNKNOWN, '--dry-run')).code, 1);
});

test('redrive takes a filter, says which in a dry run, and stops at its limit', async (t) => {
  const { runtime, charge, ran, fail, repair, ask, asked } = await setup(t);
  for (const cents of [1, 2, 3]) await fail(cents, 'a');
  const limited = await fail(500, 'a');
  const other = await fail(4, 'b');
  const dry = await asked<{ tasks: { id: string }[] }>(
    ...['redrive', '--error', 'over its limit', '--dry-run'],
  );
  assert.deepEqual(
    dry.tasks.map(({ id }) => id),
    [limited],
  );
  repair();
  const two = ['redrive', '--tenant', 'a', '--error', 'the bank is down', '--limit', '2'];
  assert.deepEqual(await asked(...two), { redriven: 2, open: 0, ended: 0, gone: 0 });
  await runtime.drain();
  assert.equal(ran.length, 2);
  assert.equal((await asked<{ redriven: number }>('redrive', '--tenant', 'a')).redriven, 2);
  await runtime.drain();
  assert.deepEqual(
    [...ran].sort((a, b) => a - b),
    [1, 2, 3, 500],
  );
  assert.equal(await runtime.handle(charge, other).status(), 'failed');
  assert.equal((await asked<{ redriven: number }>('redrive', '--all')).redriven, 1);
  assert.equal((await asked<{ redriven: number }>('redrive', '--all')).redriven, 0);
  for (const unclear of [['redrive'], ['redrive', '--all', '--task', 'charge']]) {
    const refused = await ask(...unclear);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /either a filter .* or --all/);
  }
});

test('more tasks than are asked for at once: no more than the limit, then all of them', async (t) => {
  const { runtime, charge, ran, repair, asked } = await setup(t);
  const count = 600;
  await runtime.submitMany(
    charge,
    Array.from({ length: count }, (_, cents) => cents % 100),
  );
  await runtime.drain();
  repair();
  const some = await asked<{ redriven: number }>('redrive', '--all', '--limit', '300');
  assert.equal(some.redriven, 300);
  await runtime.drain();
  assert.equal(ran.length, 300);
  assert.equal((await asked<{ redriven: number }>('redrive', '--all')).redriven, count - 300);
  await runtime.drain();
  assert.equal(ran.length, count);
});

test('a store that nobody has is opened for it; the next process runs what was redriven', async (t) => {
  const { runtime, charge, ran, fail, repair, start, asked, ask } = await setup(t);
  const ids = [await fail(1, 'a'), await fail(2, 'a'), await fail(3, 'b')];
  await runtime.close();
  repair();
  assert.equal((await asked<{ redriven: number }>('retry', ids[0]!)).redriven, 1);
  assert.equal((await asked<{ redriven: number }>('redrive', '--tenant', 'a')).redriven, 1);
  assert.match((await ask('ls', '--state', 'failed')).stdout, new RegExp(ids[2]!));
  const next = await start();
  await next.drain();
  assert.deepEqual([...ran].sort(), [1, 2]);
  assert.equal(await next.handle(charge, ids[0]!).result(), 1);
  assert.equal(await next.handle(charge, ids[2]!).status(), 'failed');
});
