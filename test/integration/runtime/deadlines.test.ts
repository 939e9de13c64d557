/**
 * A whole runtime on real threads and its handlers at their worst: hanging, deaf, leaving with the thread.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createRuntime, memoryStore, type Runtime, type TaskContract } from '../../../src/index.js';
import { adaptive, inline, limited, type Order } from '../../fixtures/workers/limited.js';

const TASKS = new URL('../../fixtures/workers/limited.js', import.meta.url);

interface Setup {
  readonly runtime: Runtime;
  /** A file that an order's runs are written to, and how often it ran. */
  tally(name: string): string;
  runs(name: string): number;
  /** Submits them together and waits: values, or the codes of errors. */
  outcomes(task: TaskContract<Order, unknown>, orders: readonly Order[]): Promise<unknown[]>;
}

async function setup(t: TestContext): Promise<Setup> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-deadlines-'));
  const runtime = await createRuntime({
    tasks: TASKS,
    store: memoryStore(),
    threads: { max: 1 },
    shutdown: { soft: 0, hard: 0 },
  });
  t.after(async () => {
    await runtime.close();
    rmSync(folder, { recursive: true });
  });
  const tally = (name: string): string => join(folder, name);
  return {
    runtime,
    tally,
    runs: (name) =>
      existsSync(tally(name)) ? readFileSync(tally(name), 'utf8').split('\n').length - 1 : 0,
    async outcomes(task, orders) {
      const handles = await Promise.all(orders.map((order) => runtime.submit(task, order)));
      const settled = await Promise.all(handles.map((handle) => handle.settled()));
      return settled.map((one) =>
        one.status === 'completed' ? one.value : (one.error as { code?: unknown }).code,
      );
    },
  };
}

const TIMEOUT = 'ERR_MILLRACE_TASK_TIMEOUT';

test('one infinite loop among 64 tasks: 63 complete, one has timed out, soon after timeout and grace', async (t) => {
  const { outcomes, tally, runs } = await setup(t);
  await outcomes(limited, [{}]);
  const beganMs = performance.now();
  const found = await outcomes(
    limited,
    Array.from({ length: 64 }, (_, i) =>
      i === 40 ? { what: 'spin', tally: tally('spin') } : { echo: i, tally: tally(`mate${i}`) },
    ),
  );
  const tookMs = performance.now() - beganMs;
  assert.deepEqual(
    found,
    Array.from({ length: 64 }, (_, i) => (i === 40 ? TIMEOUT : i)),
  );
  assert.ok(tookMs >= 600, `${tookMs} ms`);
  t.diagnostic(`${Math.round(tookMs)} ms, of which 600 are timeout and grace`);
  // A second of slack for a machine that is busy with other tests.
  assert.ok(tookMs < 1_700, `${tookMs} ms`);
  assert.equal(runs('spin'), 1);
  for (let i = 0; i < 64; i++) if (i !== 40) assert.equal(runs(`mate${i}`), 1);
});

test('a handler that ends at its signal has timed out, and its thread lives on', async (t) => {
  const { outcomes, tally, runs } = await setup(t);
  const [thread] = await outcomes(limited, [{}]);
  const found = await outcomes(limited, [
    { what: 'heed', tally: tally('heed') },
    { what: 'wait', tally: tally('wait') },
  ]);
  assert.deepEqual(found, [TIMEOUT, thread]);
  assert.deepEqual([runs('heed'), runs('wait')], [1, 1]);
  assert.deepEqual(await outcomes(limited, [{}]), [thread], 'the same thread');
});

test('of two that overlap, the one that hangs is blamed, and the other completes', async (t) => {
  const { outcomes, tally, runs } = await setup(t);
  const orders = Array.from({ length: 5 }, (_, i): Order => {
    return i === 2 ? { what: 'hang', tally: tally('hang') } : { what: 'wait', echo: i };
  });
  const found = await outcomes(limited, orders);
  assert.deepEqual(found, [0, 1, TIMEOUT, 3, 4]);
  // Whether others ran when its thread was ended decides if it was a suspect first.
  assert.ok(runs('hang') <= 2, `${runs('hang')}`);
});

test('handlers that all hang are told apart: each runs alone before it is blamed', async (t) => {
  const { outcomes, tally, runs } = await setup(t);
  const names = ['a', 'b', 'c'];
  const found = await outcomes(
    limited,
    names.map((name) => ({ what: 'hang', tally: tally(name) })),
  );
  assert.deepEqual(found, [TIMEOUT, TIMEOUT, TIMEOUT]);
  assert.deepEqual(names.map(runs), [2, 2, 2]);
});

test('process.exit among mates: three losses, the last one alone, and nobody else ends', async (t) => {
  const { outcomes, tally, runs } = await setup(t);
  const orders = Array.from({ length: 40 }, (_, i): Order => {
    return i === 20
      ? { what: 'exit', tally: tally('exit') }
      : { echo: i, tally: tally(`mate${i}`) };
  });
  const found = await outcomes(limited, orders);
  assert.deepEqual(
    found,
    Array.from({ length: 40 }, (_, i) => (i === 20 ? 'ERR_MILLRACE_TASK_LOST' : i)),
  );
  assert.equal(runs('exit'), 3);
});

test('an adaptive limit comes from what the type has taken so far', async (t) => {
  const { outcomes } = await setup(t);
  const usual = Array.from({ length: 30 }, (_, i): Order => ({ echo: i }));
  await outcomes(adaptive, usual);
  const beganMs = performance.now();
  assert.deepEqual(await outcomes(adaptive, [{ what: 'spin' }, { echo: 1 }]), [TIMEOUT, 1]);
  const tookMs = performance.now() - beganMs;
  assert.ok(tookMs >= 150 && tookMs < 5_000, `${tookMs} ms, not the minute of its cap`);
});

test('on the main thread the signal is aborted; what does not heed it goes on', async (t) => {
  const { outcomes, runtime } = await setup(t);
  const deaf = await runtime.submit(inline, { what: 'wait', echo: 7 });
  assert.deepEqual(await outcomes(inline, [{ what: 'heed' }]), [TIMEOUT]);
  assert.equal(await deaf.result(), 7);
});
