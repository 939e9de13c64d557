import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hasCode } from '../src/core/errors.js';
import { defineTask, defineTasks } from '../src/core/task.js';
import { createClient } from '../src/index.js';
import { testBed, within } from './support/runtime.js';

const stored = defineTask({ name: 'stored', exec: 'inline', run: (n: number) => n });
const fleeting = defineTask({
  name: 'fleeting',
  exec: 'inline',
  durability: 'volatile',
  retry: { attempts: 2, min: '1s', jitter: 'none' },
  run: (n: number, ctx) => {
    if (n === 0 && ctx.execution.attempt === 1) throw new Error('again');
    return n + ctx.execution.attempt / 10;
  },
});

async function setup() {
  const bed = testBed(defineTasks({ stored, fleeting }));
  const runtime = await bed.start();
  const soon = <T>(promise: Promise<T>): Promise<T> => within(bed.clock, 60_000, promise);
  return { ...bed, bed, runtime, soon };
}

describe('volatile tasks', () => {
  test('run, are retried and delayed like any other, and write nothing', async () => {
    const { bed, runtime, soon } = await setup();
    const before = bed.faults.sent.length;
    const one = await soon(runtime.submit(fleeting, 1));
    assert.equal(await soon(one.result()), 1.1);
    const again = await soon(runtime.submit(fleeting, 0, { delay: '5s' }));
    assert.equal(await again.status(), 'pending');
    assert.equal(await soon(again.result()), 0.2);
    const many = await soon(runtime.submitMany(fleeting, [1, 2, 3]));
    const values: unknown[] = [];
    const reading = (async () => {
      for await (const end of many.results()) values.push('value' in end && end.value);
    })();
    await soon(reading);
    assert.deepEqual(values, [1.1, 2.1, 3.1]);
    assert.equal(bed.faults.sent.length, before);
    await soon(runtime.close());
  });

  test('share the places with stored ones; counts and room are of both', async () => {
    const { runtime, soon } = await setup();
    const later = { delay: '10s' } as const;
    const handles = await soon(
      Promise.all([runtime.submit(stored, 1, later), runtime.submit(fleeting, 1, later)]),
    );
    assert.equal(runtime.stats().delayed, 2);
    assert.deepEqual(await soon(Promise.all(handles.map((handle) => handle.result()))), [1, 1.1]);
    await soon(runtime.drain());
    assert.deepEqual([runtime.stats().open, runtime.stats().openBytes], [0, 0]);
    await soon(runtime.close());
  });

  test('can be cancelled and taken up by id, and are gone with the process', async () => {
    const { bed, runtime, soon } = await setup();
    const handle = await soon(runtime.submit(fleeting, 1, { delay: '1h' }));
    const other = await soon(runtime.submit(fleeting, 2, { delay: '1h' }));
    assert.equal(await soon(runtime.handle(fleeting, handle.id).cancel('no')), 'cancelled');
    assert.equal((await soon(handle.settled())).status, 'cancelled');
    await soon(runtime.close());
    const next = await bed.start();
    await assert.rejects(soon(next.handle(fleeting, other.id).result()), (error) =>
      hasCode(error, 'ERR_MILLRACE_TASK_GONE'),
    );
    await soon(next.close());
  });

  test('closing lets running ones finish and forgets those that wait', async () => {
    const { runtime, soon } = await setup();
    const waiting = await soon(runtime.submit(fleeting, 1, { delay: '1h' }));
    const told = assert.rejects(waiting.result(), (error) => hasCode(error, 'ERR_MILLRACE_CLOSED'));
    await soon(runtime.close());
    await told;
  });

  test('a client cannot submit them: nobody would run them', async () => {
    await assert.rejects(createClient({ tasks: [fleeting] }), (error) =>
      hasCode(error, 'ERR_MILLRACE_INVALID_OPTION'),
    );
  });
});
